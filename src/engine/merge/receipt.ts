/**
 * Receipts of the storage role (merge.md section 4). One signature covers a batch of up to 256 entries: a signed note
 * over origin, storage node, time, promise, and size and RFC 6962 root of the batch; each receipt carries the path there.
 * What is kept is the note, the hashes and the lengths; lines are rebuilt from it byte for byte, also years later.
 * Hot path: a line is about 1 KB of text an entry, put together in one buffer without a string per entry.
 */
import { concatBytes, fromUtf8, readU64be, toBase64, toHex, utf8 } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import type { LogId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { find } from "../log/hash-index.ts";
import { EMPTY_EDGE, foldEdge, nodeHash } from "../log/merkle.ts";
import { signNote } from "../log/note.ts";
import { logKeys } from "../store/keys.ts";
import { bytes, hashes, type Infer, u32, u53 } from "../wire/codec.ts";
import { record } from "../wire/record.ts";
import type { MergeConfig } from "./config.ts";
import { digitCount, putDigits, putHex } from "./text-bytes.ts";

/** Entries behind one signature: a path of 8 hashes. More would make each receipt longer, fewer each entry dearer. */
export const RECEIPT_COUNT_MAX = 256;

const rowFields = { timeMs: u53, promiseMs: u32, hashes: hashes(RECEIPT_COUNT_MAX), lengths: bytes(2 * RECEIPT_COUNT_MAX), note: bytes(8_192) };
const receiptRecord = record("receipt batch", rowFields);
/** `lengths`: bytes of each entry, uint16 big-endian. Invariant: as many lengths as hashes. */
export type ReceiptRow = Infer<typeof rowFields>;

/** Name of the key that signs receipts: under the origin, so that no other note can be taken for one. */
export const receiptKeyName = (origin: string, storage: string): string => `${origin}/receipt/${storage}`;

export const receiptCount = (row: ReceiptRow): number => row.hashes.length / 32;
export const entryLength = (row: ReceiptRow, i: number): number => ((row.lengths[2 * i] as number) << 8) | (row.lengths[2 * i + 1] as number);

/** The text that the note signs. Its first line is no origin of a log, so it can never be read as a checkpoint. */
export function receiptBody(
  config: Pick<MergeConfig, "origin" | "self">,
  batch: { timeMs: number; promiseMs: number; size: number; root: Uint8Array },
): string {
  const { timeMs, promiseMs, size, root } = batch;
  return `${config.origin}/receipt\nstorage ${config.self}\ntime ${timeMs}\npromise ${promiseMs}\nsize ${size}\nroot ${toBase64(root)}\n`;
}

/** Signs for one batch of entries. */
export function signReceipts(config: MergeConfig, batch: { hashes: Uint8Array; lengths: Uint8Array; timeMs: number }): ReceiptRow {
  invariant(batch.hashes.length / 32 === batch.lengths.length / 2, "a receipt batch has a length for each hash");
  const { timeMs } = batch;
  const { promiseMs } = config;
  const levels = pathLevels(batch.hashes);
  const body = receiptBody(config, { timeMs, promiseMs, size: batch.hashes.length / 32, root: levels[levels.length - 1] as Uint8Array });
  const note = signNote(body, { name: receiptKeyName(config.origin, config.self), type: 1, seed: config.receiptSeed });
  return { ...batch, promiseMs, note: utf8(note) };
}

export const putReceipts = (log: LogId, firstSeq: number, row: ReceiptRow): Op => ({
  op: "put",
  key: logKeys.receipt(log, firstSeq),
  value: receiptRecord.encode(row),
});

export const decodeReceipts = (raw: Uint8Array): ReceiptRow => receiptRecord.decode(raw);

export type ReceiptBatch = { readonly firstSeq: number; readonly row: ReceiptRow };

/** The batch that holds sequence number `seq`, or null. */
export function receiptsAt(snap: Snapshot, log: LogId, seq: number): ReceiptBatch | null {
  for (const [key, value] of snap.range("log", logKeys.receipt(log, 0), logKeys.receipt(log, seq + 1), { reverse: true, limit: 1 })) {
    const row = decodeReceipts(value);
    const firstSeq = keySeq(key);
    if (seq < firstSeq + receiptCount(row)) return { firstSeq, row };
  }
  return null;
}

/** Batches with entries in `[fromSeq, toSeq)`: the first one may begin before it. */
export function* receiptRows(snap: Snapshot, log: LogId, fromSeq: number, toSeq: number): Iterable<ReceiptBatch> {
  const first = receiptsAt(snap, log, fromSeq);
  if (first !== null) yield first;
  const from = first === null ? fromSeq : first.firstSeq + receiptCount(first.row);
  for (const [key, value] of snap.range("log", logKeys.receipt(log, from), logKeys.receipt(log, Math.max(from, toSeq))))
    yield { firstSeq: keySeq(key), row: decodeReceipts(value) };
}

/** Sequence number of each of the hashes in the storage role's index, -1 where there is none; one that `isGood` denies is passed over. */
export function findSeqs(snap: Snapshot, log: LogId, hashes: Uint8Array, isGood: (batch: ReceiptBatch, seq: number) => boolean): Float64Array {
  let last: ReceiptBatch | null = null;
  return find(snap, log, "j", hashes, (seq) => {
    if (last === null || seq < last.firstSeq || seq >= last.firstSeq + receiptCount(last.row)) last = receiptsAt(snap, log, seq);
    const at = last === null ? 0 : (seq - last.firstSeq) * 32;
    return last !== null && isGood(last, seq) ? last.row.hashes.subarray(at, at + 32) : null;
  });
}

function keySeq(key: Uint8Array): number {
  const seq = readU64be(key, key.length - 8);
  invariant(seq !== null, "a receipt's key ends in a sequence number");
  return seq;
}

/** A batch made ready to give lines: its constant pieces and its tree. */
export type ReceiptPrinter = {
  readonly row: ReceiptRow;
  readonly head: Uint8Array;
  readonly middle: Uint8Array;
  readonly size: Uint8Array;
  readonly tail: Uint8Array;
  /** Nodes of each level, leaves first; a last odd one moves up unchanged, as RFC 6962 splits at the largest power of two. */
  readonly levels: readonly Uint8Array[];
};

export function receiptPrinter(config: Pick<MergeConfig, "origin" | "self">, row: ReceiptRow): ReceiptPrinter {
  return {
    row,
    head: utf8(`{"receipt":1,"log":${JSON.stringify(config.origin)},"storage":"${config.self}","leafHash":"`),
    middle: utf8(`,"timeMs":${row.timeMs},"promiseMs":${row.promiseMs},"batch":{"index":`),
    size: utf8(`,"size":${receiptCount(row)},"path":[`),
    tail: utf8(`]},"note":${JSON.stringify(fromUtf8(row.note))}}\n`),
    levels: pathLevels(row.hashes),
  };
}

const bytesText = utf8(`","bytes":`);
const COMMA = 0x2c;
const QUOTE = 0x22;
const NUMBER_BYTES_MAX = 16;
const PATH_STEP_BYTES = 67; // quotes, 64 digits, a comma

/** No line of this printer is longer. */
export const lineBytesMax = (printer: ReceiptPrinter): number =>
  printer.head.length +
  64 +
  bytesText.length +
  2 * NUMBER_BYTES_MAX +
  printer.middle.length +
  printer.size.length +
  printer.levels.length * PATH_STEP_BYTES +
  printer.tail.length;

/**
 * Writes the line of entry i; returns the offset behind it. `before` is the entry whose line ends at `start`, or -1: the
 * upper part of its path and the note behind it are mostly the same, and copied at once.
 */
export function putReceiptLine(to: Uint8Array, start: number, printer: ReceiptPrinter, i: number, before: number): number {
  let at = put(to, start, printer.head);
  at = putHex(to, at, printer.row.hashes, i * 32, 32);
  at = putNumber(to, put(to, at, bytesText), entryLength(printer.row, i));
  at = putNumber(to, put(to, at, printer.middle), i);
  at = put(to, at, printer.size);
  const { levels, tail } = printer;
  const pathLevelCount = levels.length - 1;
  const sameFrom = before < 0 ? pathLevelCount : Math.min(pathLevelCount, 32 - Math.clz32(i ^ before));
  const sameCount = stepCount(levels, i, sameFrom);
  at = putPath(to, at, levels, i, sameFrom);
  if (sameCount === 0) return put(to, at, tail);
  if (stepCount(levels, i, 0) > sameCount) to[at++] = COMMA;
  const same = sameCount * PATH_STEP_BYTES - 1 + tail.length;
  to.copyWithin(at, start - same, start);
  return at + same;
}

/** Siblings on the path of a leaf from this level up: a last odd node has none. */
function stepCount(levels: readonly Uint8Array[], leaf: number, fromLevel: number): number {
  let count = 0;
  for (let level = fromLevel; level < levels.length - 1; level++) if (((leaf >> level) ^ 1) * 32 < (levels[level] as Uint8Array).length) count++;
  return count;
}

/**
 * The same promise for the entries at these indexes of a batch, once for all of them: the note signs size and root of
 * `leafHashes`, 64 digits each in one text, so each entry's own receipt follows. Seventy bytes an entry in place of a thousand.
 */
export function batchReceiptLine(config: Pick<MergeConfig, "origin" | "self">, row: ReceiptRow, indexes: readonly number[]): Uint8Array {
  const bytes: number[] = [];
  for (let i = 0; i < receiptCount(row); i++) bytes.push(entryLength(row, i));
  const line = {
    receipts: 1,
    log: config.origin,
    storage: config.self,
    timeMs: row.timeMs,
    promiseMs: row.promiseMs,
    indexes,
    bytes,
    leafHashes: toHex(row.hashes),
    note: fromUtf8(row.note),
  };
  return utf8(`${JSON.stringify(line)}\n`);
}

/** The path's steps below level `toLevel`. */
function putPath(to: Uint8Array, start: number, levels: readonly Uint8Array[], leaf: number, toLevel: number): number {
  let at = start;
  for (let level = 0; level < toLevel; level++) {
    const nodes = levels[level] as Uint8Array;
    const sibling = ((leaf >> level) ^ 1) * 32;
    if (sibling >= nodes.length) continue;
    if (at > start) to[at++] = COMMA;
    to[at++] = QUOTE;
    at = putHex(to, at, nodes, sibling, 32);
    to[at++] = QUOTE;
  }
  return at;
}

function put(to: Uint8Array, at: number, bytes: Uint8Array): number {
  to.set(bytes, at);
  return at + bytes.length;
}

function putNumber(to: Uint8Array, at: number, value: number): number {
  const end = at + digitCount(value);
  putDigits(to, end, value);
  return end;
}

/** Levels of the batch's tree from the leaves to the root. */
function pathLevels(leaves: Uint8Array): Uint8Array[] {
  const levels: Uint8Array[] = [];
  let last: Uint8Array | null = null; // a node above fewer leaves than its level has room for
  foldEdge(EMPTY_EDGE, leaves, (_, complete) => {
    levels.push(last === null ? complete.slice() : concatBytes(complete, last));
    const odd = complete.length % 64 === 0 ? null : complete.slice(complete.length - 32);
    last = odd === null || last === null ? (odd ?? last) : nodeHash(odd, last);
  });
  if (last !== null && levels.length > 0 && (levels[levels.length - 1] as Uint8Array).length > 32) levels.push(last);
  return levels;
}
