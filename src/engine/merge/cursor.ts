/**
 * The queue handler's cursors (merge.md sections 3 and 6): how far it has read each queue file, committed in the same
 * transaction as the entries that this covers; and, by size of the order, which sequence numbers of each storage node lie
 * below it, so that `dist` can tell storage nodes what is signed. The fetcher reads a cursor and never writes one.
 */
import { readU64be } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import type { LogId } from "../base/ids.ts";
import { logKeys } from "../store/keys.ts";
import { hashes, list, struct, text, u53 } from "../wire/codec.ts";
import { record } from "../wire/record.ts";

/** Entries that their storage node listed and nobody can serve: asked for again in every run, never forgotten. */
export const HELD_COUNT_MAX = 1_024;
const STORAGE_COUNT_MAX = 64;

export type Held = { readonly seqs: readonly number[]; readonly hashes: Uint8Array };
export type Cursor = {
  /** Disk of the storage node whose entries `seq` and `held` number. */
  readonly born: string;
  readonly generation: number;
  /** Lines before this byte of that generation are done: sequenced, repeats, or held. */
  readonly offset: number;
  /** The sequence number after the last line done. */
  readonly seq: number;
  readonly held: Held;
};
/** Below `seq`, everything this storage node listed from that disk is in the order. */
export type Covered = { readonly storage: string; readonly born: string; readonly seq: number };

export const NO_HELD: Held = { seqs: [], hashes: new Uint8Array(0) };

const born = text(64);
const cursorRecord = record("queue cursor", {
  born,
  generation: u53,
  offset: u53,
  seq: u53,
  heldSeqs: list(u53, HELD_COUNT_MAX),
  heldHashes: hashes(HELD_COUNT_MAX),
});
const coveredRecord = record("covered", { storages: list(struct({ storage: text(32), born, seq: u53 }), STORAGE_COUNT_MAX) });

export function readCursor(snap: Snapshot, log: LogId, storage: string): Cursor | null {
  const raw = snap.get("log", logKeys.cursor(log, storage));
  if (raw === undefined) return null;
  const { heldSeqs, heldHashes, ...rest } = cursorRecord.decode(raw);
  return { ...rest, held: { seqs: heldSeqs, hashes: heldHashes } };
}

/** The cursor where it is one in the file that begins so; else that file is read from its first line on. */
export const cursorIn = (cursor: Cursor | null, file: { readonly born: string; readonly generation: number }): Cursor | null =>
  cursor !== null && cursor.generation === file.generation && cursor.born === file.born ? cursor : null;

export function putCursor(log: LogId, storage: string, { held, ...rest }: Cursor): Op {
  const value = cursorRecord.encode({ ...rest, heldSeqs: held.seqs, heldHashes: held.hashes });
  return { op: "put", key: logKeys.cursor(log, storage), value };
}

export const putCovered = (log: LogId, size: number, storages: readonly Covered[]): Op => ({
  op: "put",
  key: logKeys.covered(log, size),
  value: coveredRecord.encode({ storages }),
});

/** What an order of `size` covers: the row of the largest batch end that is not above it. */
export function readCovered(snap: Snapshot, log: LogId, size: number): readonly Covered[] {
  const found = coveredRow(snap, log, size);
  return found === null ? [] : coveredRecord.decode(found.value).storages;
}

/** Removes the rows that no signed size can need any more: those before the one that `signedSize` uses. */
export function dropCovered(snap: Snapshot, log: LogId, signedSize: number): Op[] {
  const found = coveredRow(snap, log, signedSize);
  return found === null || found.size === 0 ? [] : [{ op: "delRange", key: logKeys.covered(log, 0), end: logKeys.covered(log, found.size) }];
}

function coveredRow(snap: Snapshot, log: LogId, size: number): { size: number; value: Uint8Array } | null {
  for (const [key, value] of snap.range("log", logKeys.covered(log, 0), logKeys.covered(log, size + 1), { reverse: true, limit: 1 }))
    return { size: readU64be(key, key.length - 8) ?? 0, value };
  return null;
}
