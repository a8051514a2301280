/**
 * Bundles and single entries as rows of the `log` database (merge.md section 6). Up to 255 entries behind the last full
 * bundle are rows of their own; a full bundle is one row, or several where it is longer than a value may be: a value of
 * exactly VALUE_BYTES_MAX bytes goes on under the same key with one more byte. All parts of a bundle are one key range.
 */
import { concatBytes, readU64be } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import type { LogId } from "../base/ids.ts";
import { logKeys } from "../store/keys.ts";
import { VALUE_BYTES_MAX } from "../store/types.ts";
import { bundleOf, entryAt } from "./entry.ts";

const partKey = (log: LogId, n: number, part: number): Uint8Array =>
  part === 0 ? logKeys.bundle(log, n) : concatBytes(logKeys.bundle(log, n), Uint8Array.of(part));

/** Full bundle n, or undefined. Lent: gone with the next read, and not to be changed. */
export function peekBundle(snap: Snapshot, log: LogId, n: number): Uint8Array | undefined {
  const first = snap.peek("log", logKeys.bundle(log, n));
  return first === undefined || first.length < VALUE_BYTES_MAX ? first : joinParts(snap, log, n, first.slice());
}

/** A copy of it. */
export const readBundle = (snap: Snapshot, log: LogId, n: number): Uint8Array | undefined => peekBundle(snap, log, n)?.slice();

function joinParts(snap: Snapshot, log: LogId, n: number, first: Uint8Array): Uint8Array {
  const parts = [first];
  for (let last: Uint8Array | undefined = first; last?.length === VALUE_BYTES_MAX; ) {
    last = snap.get("log", partKey(log, n, parts.length));
    if (last !== undefined) parts.push(last);
  }
  return concatBytes(...parts);
}

export function putBundle(log: LogId, n: number, bundle: Uint8Array): Op[] {
  const ops: Op[] = [];
  for (let at = 0; at <= bundle.length; at += VALUE_BYTES_MAX)
    ops.push({ op: "put", key: partKey(log, n, ops.length), value: bundle.subarray(at, at + VALUE_BYTES_MAX) });
  return ops;
}

/** Removes full bundles `[from, to)`. */
export const dropBundles = (log: LogId, from: number, to: number): Op => ({ op: "delRange", key: logKeys.bundle(log, from), end: logKeys.bundle(log, to) });

/** Removes single entries `[from, to)`. */
export const dropTail = (log: LogId, from: number, to: number): Op => ({ op: "delRange", key: logKeys.tail(log, from), end: logKeys.tail(log, to) });

/** Single entries `[from, to)` as a bundle, up to the first that is not there. */
export function readTail(snap: Snapshot, log: LogId, from: number, to: number): Uint8Array {
  const entries: Uint8Array[] = [];
  for (const [key, entry] of snap.range("log", logKeys.tail(log, from), logKeys.tail(log, to))) {
    if (readU64be(key, key.length - 8) !== from + entries.length) break;
    entries.push(entry);
  }
  return bundleOf(entries);
}

/** Single entries `[from, to)` of a bundle whose first entry has index `start`. */
export function putTail(
  log: LogId,
  bundle: Uint8Array,
  offsets: Uint32Array,
  range: { readonly start: number; readonly from: number; readonly to: number },
): Op[] {
  const ops: Op[] = [];
  for (let index = range.from; index < range.to; index++)
    ops.push({ op: "put", key: logKeys.tail(log, index), value: entryAt(bundle, offsets, index - range.start) });
  return ops;
}
