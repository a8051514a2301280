/**
 * What would be lost with the disks of some nodes (merge.md section 9): which signed entries, which unsigned ones, which
 * receipts, and who still has the bytes. Pure, over what the nodes told: a copy counts as far as it was verified, a silent
 * node's disk counts as there. An entry that is not signed yet is safe as long as one storage node that promised it is left.
 */
import type { MergeView, PrimaryView } from "./merge-view.ts";

/** Entries `[from, to)`. */
type Range = { readonly from: number; readonly to: number };

export type Burn = {
  readonly burned: readonly string[];
  /** Who has every signed entry, of those that are left. */
  readonly keepers: readonly string[];
  /** Null where nothing is. */
  readonly signedLost: Range | null;
  /** Sequenced, not signed, and in no order that is left: listed again under the old receipts where a storage node has them. */
  readonly unsignedLost: Range | null;
  /** Whether receipts for what is not in an order that is left may be broken. */
  readonly receiptsBroken: boolean;
  readonly storagesLost: readonly string[];
  readonly storagequorum: number | null;
  /** Only with all of these is something signed lost; empty where nothing is signed. */
  readonly smallest: readonly string[];
};

/** How much of the log each node has, bytes and all. */
export function copySizes({ nodes, primary }: MergeView, merge: PrimaryView): ReadonlyMap<string, number> {
  return new Map(
    nodes.map(({ id, publishedSize }) => {
      const position = merge.standings.find(({ secondary }) => secondary === id)?.size ?? 0;
      return [id, Math.max(id === primary ? merge.currentSize : 0, position, publishedSize ?? 0)];
    }),
  );
}

export function burn(view: MergeView, merge: PrimaryView, burned: readonly string[]): Burn {
  const sizes = [...copySizes(view, merge)];
  const signed = merge.signedSize ?? 0;
  const left = sizes.filter(([id]) => !burned.includes(id));
  const longest = Math.max(0, ...left.map(([, size]) => size));
  const storages = view.nodes.filter(({ roles }) => roles.includes("storage")).map(({ id }) => id);
  const storagesLost = storages.filter((id) => burned.includes(id));
  const { storagequorum } = view;
  const holders = sizes.filter(([, size]) => size >= signed).map(([id]) => id);
  return {
    burned,
    keepers: left.filter(([, size]) => size >= signed).map(([id]) => id),
    signedLost: rangeOf(longest, signed),
    unsignedLost: rangeOf(Math.max(longest, signed), merge.currentSize),
    receiptsBroken: storagequorum === null ? storagesLost.length > 0 : storagesLost.length >= storagequorum,
    storagesLost,
    storagequorum,
    smallest: signed === 0 ? [] : holders,
  };
}

const rangeOf = (from: number, to: number): Range | null => (from < to ? { from, to } : null);

export function burnText({ burned, keepers, signedLost, unsignedLost, receiptsBroken, storagesLost, storagequorum, smallest }: Burn, primary: string): string {
  const onlyAll = smallest.length === 0 ? "Nothing is signed yet." : `Something signed is lost only with all of: ${smallest.join(", ")}.`;
  if (burned.length === 0) return onlyAll;
  const promised = storagequorum === null ? "" : `each is on ${storagequorum} storage nodes, `;
  return [
    `If the disks of ${burned.join(", ")} were lost:`,
    `  signed    ${signedLost === null ? `nothing is lost, ${keepers.join(", ")} ${keepers.length === 1 ? "has" : "have"} it all` : `entries ${rangeText(signedLost)} are lost`}`,
    `  unsigned  ${unsignedLost === null ? "nothing is lost" : `entries ${rangeText(unsignedLost)} are in no order any more${receiptsBroken ? "" : ", and are merged again from the storage nodes"}`}`,
    `  receipts  ${receiptsBroken ? "those for entries in no order that is left may be broken" : "none is broken"}: ${promised}${storagesLost.length} of them lost`,
    ...(burned.includes(primary) ? [`  signing   stops: ${primary} is the primary, and the log's key was in its folder`] : []),
    onlyAll,
  ].join("\n");
}

const rangeText = ({ from, to }: Range): string => (to === from + 1 ? `${from}` : `${from} to ${to - 1}`);
