/**
 * The hash index as plain rows: 16 bytes of a hash → the 6-byte indexes it was inserted at. Every insert touches a random
 * page of the store's tree, so it gets dearer as the log grows: it is the oracle of the sorted runs, not their rival.
 */
import { concatBytes, equalBytes, viewOf } from "../../src/engine/base/bytes.ts";
import type { Op, Snapshot } from "../../src/engine/base/effects.ts";
import { HASH_BYTES, type LogId } from "../../src/engine/base/ids.ts";
import { confirm, type HashIndex, type IndexSpace, newSearch } from "../../src/engine/log/hash-record.ts";
import { logKeys } from "../../src/engine/store/keys.ts";

const KEY_HASH_BYTES = 16;
const INDEX_BYTES = 6;

const rowKey = (log: LogId, space: IndexSpace, hashes: Uint8Array, i: number): Uint8Array =>
  logKeys.index(log, space, hashes.subarray(i * HASH_BYTES, i * HASH_BYTES + KEY_HASH_BYTES));

function indexBytes(index: number): Uint8Array {
  const bytes = new Uint8Array(INDEX_BYTES);
  viewOf(bytes).setUint16(0, Math.floor(index / 0x1_0000_0000));
  viewOf(bytes).setUint32(2, index % 0x1_0000_0000);
  return bytes;
}

function indexesOf(value: Uint8Array): number[] {
  const view = viewOf(value);
  return Array.from({ length: value.length / INDEX_BYTES }, (_, i) => view.getUint16(i * INDEX_BYTES) * 0x1_0000_0000 + view.getUint32(i * INDEX_BYTES + 2));
}

export const treeIndex: HashIndex = {
  find(snap, log, space, hashes, fullHashAt) {
    const search = newSearch(hashes, fullHashAt);
    for (let i = 0; i < search.found.length; i++) {
      const value = snap.get("log", rowKey(log, space, hashes, i));
      if (value !== undefined) indexesOf(value).some((index) => confirm(search, i, index));
    }
    return search.found;
  },

  insertOps(snap, log, space, hashes, firstIndex) {
    const values = new Map<string, { key: Uint8Array; value: Uint8Array }>();
    for (let i = 0; i * HASH_BYTES < hashes.length; i++) {
      const key = rowKey(log, space, hashes, i);
      const name = key.toHex();
      const before = values.get(name)?.value ?? stored(snap, key);
      const added = indexBytes(firstIndex + i);
      values.set(name, { key, value: holds(before, added) ? before : concatBytes(before, added) });
    }
    return Array.from(values.values(), ({ key, value }): Op => ({ op: "put", key, value }));
  },
};

const stored = (snap: Snapshot, key: Uint8Array): Uint8Array => snap.get("log", key) ?? new Uint8Array(0);

function holds(value: Uint8Array, index: Uint8Array): boolean {
  for (let at = 0; at < value.length; at += INDEX_BYTES) if (equalBytes(value.subarray(at, at + INDEX_BYTES), index)) return true;
  return false;
}
