/**
 * Records of the hash index (merge.md section 6): 10 bytes of a hash and a 6-byte index, big-endian, so that byte order is
 * the order by hash, then by index. 80 bits do not name a hash for certain: every hit is a candidate, to be compared with
 * the full hash. Hot: sorting and searching work on arrays of records, never on an object per record.
 */
import { viewOf } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES, type Hash, type LogId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";

/** `i`: leaf hash → index in the log; `j`: leaf hash → sequence number of a storage node. */
export type IndexSpace = "i" | "j";
/** The hash that stands at an index; null or LOG_RANGE where none does any more. */
export type FullHashAt = (index: number) => Hash | null;

/** From hashes to indexes. What `fullHashAt` denies is passed over: other hashes that begin alike, and an end that was cut. */
export interface HashIndex {
  /** For each hash the index where `fullHashAt` has it, or −1. A log has no hash twice: where there were two, it is one of them. */
  find(snap: Snapshot, log: LogId, space: IndexSpace, hashes: Uint8Array, fullHashAt: FullHashAt): Float64Array;
  /** Operations that make the hashes found at `firstIndex` and on. One call a batch. */
  insertOps(snap: Snapshot, log: LogId, space: IndexSpace, hashes: Uint8Array, firstIndex: number): Op[];
}

export const RECORD_BYTES = 16;
const RECORD_WORDS = RECORD_BYTES / 4;
export const PREFIX_BYTES = 10;
const INDEX_LIMIT = 2 ** 48;

/** The first 6 bytes of a hash or record as a number, and the 4 behind them. */
export const prefixHigh = (view: DataView, at: number): number => view.getUint32(at) * 0x1_0000 + view.getUint16(at + 4);
export const prefixLow = (view: DataView, at: number): number => view.getUint32(at + 6);
const recordIndex = (view: DataView, at: number): number => view.getUint16(at + 10) * 0x1_0000_0000 + view.getUint32(at + 12);

/** Records of hashes that stand at `firstIndex` and on, unsorted. */
export function recordsOf(hashes: Uint8Array, firstIndex: number): Uint8Array {
  const count = hashes.length / HASH_BYTES;
  invariant(firstIndex >= 0 && firstIndex + count <= INDEX_LIMIT, `index ${firstIndex} + ${count} in 6 bytes`);
  const records = new Uint8Array(count * RECORD_BYTES);
  const view = viewOf(records);
  for (let i = 0; i < count; i++) {
    for (let byte = 0; byte < PREFIX_BYTES; byte++) records[i * RECORD_BYTES + byte] = hashes[i * HASH_BYTES + byte] as number;
    const upper = Math.floor((firstIndex + i) / 0x1_0000_0000);
    view.setUint16(i * RECORD_BYTES + 10, upper);
    view.setUint32(i * RECORD_BYTES + 12, firstIndex + i - upper * 0x1_0000_0000);
  }
  return records;
}

/** The leading 32 bits are sorted by, in digits of 11, 11 and 10 bits. */
const DIGIT_BITS = 11;
const DIGIT_MASK = (1 << DIGIT_BITS) - 1;
const digitStarts = new Uint32Array(1 << DIGIT_BITS);

/**
 * Numbers of the items `[0, count)` in ascending order of the 4 bytes at `i · stride`, a digit at a time from the lowest up;
 * items that agree in them stay in the order given.
 */
export function sortedByHash(view: DataView, count: number, stride: number): Uint32Array {
  const keys = new Uint32Array(count);
  for (let i = 0; i < count; i++) keys[i] = view.getUint32(i * stride);
  let items = new Uint32Array(count);
  for (let i = 0; i < count; i++) items[i] = i;
  let sorted = new Uint32Array(count);
  for (let shift = 0; shift < 32; shift += DIGIT_BITS) {
    sortByDigit(keys, items, sorted, shift);
    [items, sorted] = [sorted, items];
  }
  return items;
}

function sortByDigit(keys: Uint32Array, from: Uint32Array, to: Uint32Array, shift: number): void {
  digitStarts.fill(0);
  for (let i = 0; i < keys.length; i++) {
    const digit = ((keys[i] as number) >>> shift) & DIGIT_MASK;
    digitStarts[digit] = (digitStarts[digit] as number) + 1;
  }
  for (let digit = 0, start = 0; digit <= DIGIT_MASK; digit++) {
    const count = digitStarts[digit] as number;
    digitStarts[digit] = start;
    start += count;
  }
  for (let i = 0; i < from.length; i++) {
    const item = from[i] as number;
    const digit = ((keys[item] as number) >>> shift) & DIGIT_MASK;
    const at = digitStarts[digit] as number;
    to[at] = item;
    digitStarts[digit] = at + 1;
  }
}

/** The records in order, without repeats. */
export function sortRecords(records: Uint8Array): Uint8Array {
  const count = records.length / RECORD_BYTES;
  const order = sortedByHash(viewOf(records), count, RECORD_BYTES);
  const from = wordsOf(records);
  const sorted = new Uint32Array(count * RECORD_WORDS);
  for (let i = 0; i < count; i++) copyRecord(from, order[i] as number, sorted, i);
  return withoutRepeats(settle(new Uint8Array(sorted.buffer)));
}

/** The bytes of records or hashes as words, for copying and comparing: a view where they lie on a word boundary. */
export function wordsOf(records: Uint8Array): Uint32Array {
  const aligned = records.byteOffset % 4 === 0 ? records : records.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}

export function copyRecord(from: Uint32Array, fromRecord: number, to: Uint32Array, toRecord: number): void {
  for (let word = 0; word < RECORD_WORDS; word++) to[toRecord * RECORD_WORDS + word] = from[fromRecord * RECORD_WORDS + word] as number;
}

/** Moves each record down until it is in place: next to no work, for only records with the same high bits can be out of it. */
function settle(records: Uint8Array): Uint8Array {
  const view = viewOf(records);
  for (let i = RECORD_BYTES; i < records.length; i += RECORD_BYTES) {
    for (let at = i; at > 0 && compareRecords(view, at - RECORD_BYTES, view, at) > 0; at -= RECORD_BYTES) {
      const lower = records.slice(at, at + RECORD_BYTES);
      records.copyWithin(at, at - RECORD_BYTES, at);
      records.set(lower, at - RECORD_BYTES);
    }
  }
  return records;
}

function withoutRepeats(records: Uint8Array): Uint8Array {
  const view = viewOf(records);
  let end = Math.min(RECORD_BYTES, records.length);
  for (let at = end; at < records.length; at += RECORD_BYTES) {
    if (compareRecords(view, end - RECORD_BYTES, view, at) === 0) continue;
    if (at !== end) records.copyWithin(end, at, at + RECORD_BYTES);
    end += RECORD_BYTES;
  }
  return end === records.length ? records : records.slice(0, end);
}

export function compareRecords(a: DataView, aAt: number, b: DataView, bAt: number): number {
  return prefixHigh(a, aAt) - prefixHigh(b, bAt) || prefixLow(a, aAt) - prefixLow(b, bAt) || recordIndex(a, aAt) - recordIndex(b, bAt);
}

export const samePrefix = (a: DataView, aAt: number, b: DataView, bAt: number): boolean =>
  prefixHigh(a, aAt) === prefixHigh(b, bAt) && prefixLow(a, aAt) === prefixLow(b, bAt);

/** Byte offset of the first record whose prefix is not below the one at `hashAt` of `hash`. */
function lowerBound(records: DataView, hash: DataView, hashAt: number): number {
  const high = prefixHigh(hash, hashAt);
  const low = prefixLow(hash, hashAt);
  let from = 0;
  let to = records.byteLength / RECORD_BYTES;
  while (from < to) {
    const middle = (from + to) >>> 1;
    const difference = prefixHigh(records, middle * RECORD_BYTES) - high || prefixLow(records, middle * RECORD_BYTES) - low;
    if (difference < 0) from = middle + 1;
    else to = middle;
  }
  return from * RECORD_BYTES;
}

/** Hashes that are looked for, and where they were found so far: −1 until then. */
export type Search = { readonly hashes: Uint8Array; readonly view: DataView; readonly fullHashAt: FullHashAt; readonly found: Float64Array };

export function newSearch(hashes: Uint8Array, fullHashAt: FullHashAt): Search {
  return { hashes, view: viewOf(hashes), fullHashAt, found: new Float64Array(hashes.length / HASH_BYTES).fill(-1) };
}

/** Whether the full hash at an index is hash i. */
export function confirm({ hashes, fullHashAt, found }: Search, i: number, index: number): boolean {
  const full = fullHash(fullHashAt, index);
  if (full === null) return false;
  for (let byte = 0; byte < HASH_BYTES; byte++) if (full[byte] !== hashes[i * HASH_BYTES + byte]) return false;
  found[i] = index;
  return true;
}

/** The index may speak of an end of the log that was cut since. */
function fullHash(fullHashAt: FullHashAt, index: number): Hash | null {
  try {
    return fullHashAt(index);
  } catch (error) {
    if (error instanceof EngineError && error.code === "LOG_RANGE") return null;
    throw error;
  }
}

/** Looks for hash i in a sorted part of an index: each record with its first bytes is a candidate. */
export function searchRecords(search: Search, i: number, records: DataView): void {
  const hashAt = i * HASH_BYTES;
  for (let at = lowerBound(records, search.view, hashAt); at < records.byteLength; at += RECORD_BYTES)
    if (!samePrefix(records, at, search.view, hashAt) || confirm(search, i, recordIndex(records, at))) return;
}
