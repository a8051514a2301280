/**
 * A set of leaf hashes that remembers the order they came in: open addressing over the hashes' own first bytes, in typed
 * arrays. Finds repeats within a batch without an object or a string per entry (hot path of storage role and queue handler).
 * Plain data. Somebody who grinds hashes into one slot slows one bounded batch down; nothing else depends on the slots.
 */
import { viewOf } from "../base/bytes.ts";

export type HashTable = {
  count: number;
  /** Room for `slots.length / 2` hashes; the first `count` are taken. */
  hashes: Uint8Array;
  /** Number of a hash plus one, 0 where free. Invariant: a power of two, at most half full. */
  slots: Int32Array;
};

const SLOTS_MIN = 64;

export const emptyTable = (countHint = 0): HashTable => {
  let slots = SLOTS_MIN;
  while (slots < countHint * 2) slots *= 2;
  return { count: 0, hashes: new Uint8Array(slots * 16), slots: new Int32Array(slots) };
};

/** The hashes taken so far, in the order they came: a view. */
export const tableHashes = (table: HashTable): Uint8Array => table.hashes.subarray(0, table.count * 32);

/** Number of the hash at `from[at …]`, or -1. */
export function tableFind(table: HashTable, from: Uint8Array, at: number): number {
  return (table.slots[slotOf(table, from, at)] as number) - 1;
}

/** Number of the hash at `from[at …]`, which is new where it equals the count before. */
export function tableAdd(table: HashTable, from: Uint8Array, at: number): number {
  if (table.count * 2 >= table.slots.length) grow(table);
  const slot = slotOf(table, from, at);
  const known = table.slots[slot] as number;
  if (known !== 0) return known - 1;
  for (let i = 0; i < 32; i++) table.hashes[table.count * 32 + i] = from[at + i] as number;
  table.slots[slot] = ++table.count;
  return table.count - 1;
}

/** The slot that holds this hash, or the free one where it belongs. */
function slotOf(table: HashTable, from: Uint8Array, at: number): number {
  const mask = table.slots.length - 1;
  let slot = (((from[at] as number) << 24) | ((from[at + 1] as number) << 16) | ((from[at + 2] as number) << 8) | (from[at + 3] as number)) & mask;
  for (;;) {
    const number = table.slots[slot] as number;
    if (number === 0 || equalAt(table.hashes, (number - 1) * 32, from, at)) return slot;
    slot = (slot + 1) & mask;
  }
}

/** Whether two 32-byte hashes inside larger arrays are equal. */
export function equalAt(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number): boolean {
  for (let i = 0; i < 32; i++) if (a[aAt + i] !== b[bAt + i]) return false;
  return true;
}

function grow(table: HashTable): void {
  const larger = new Uint8Array(table.hashes.length * 2);
  larger.set(tableHashes(table));
  table.hashes = larger;
  table.slots = new Int32Array(table.slots.length * 2);
  for (let i = 0; i < table.count; i++) table.slots[slotOf(table, larger, i * 32)] = i + 1;
}

/** Makes room in an array of hashes: a copy of the chosen ones, in order. */
export function pickHashes(hashes: Uint8Array, chosen: readonly number[]): Uint8Array {
  const words = wordsOf(hashes);
  const picked = new Int32Array(chosen.length * 8);
  for (let i = 0; i < chosen.length; i++) for (let word = 0; word < 8; word++) picked[i * 8 + word] = words[(chosen[i] as number) * 8 + word] as number;
  return new Uint8Array(picked.buffer);
}

/** Hashes as machine words, copied only where they do not lie on a word boundary. */
function wordsOf(hashes: Uint8Array): Int32Array {
  const aligned = hashes.byteOffset % 4 === 0 ? hashes : hashes.slice();
  const view = viewOf(aligned);
  return new Int32Array(view.buffer, view.byteOffset, aligned.length / 4);
}
