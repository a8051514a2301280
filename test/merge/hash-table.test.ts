/** The set of hashes behind every dedup: against a Map of texts, with hashes ground into few slots. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { emptyTable, pickHashes, tableAdd, tableFind, tableHashes } from "../../src/engine/merge/hash-table.ts";
import { hexes } from "./fixture.ts";

/** Few distinct bytes: equal hashes and equal slots are common. */
const hash = fc.array(fc.constantFrom(0, 1, 255), { minLength: 6, maxLength: 6 }).map((bytes) => {
  const full = new Uint8Array(32);
  full.set(bytes.slice(0, 4));
  full.set(bytes.slice(4), 30);
  return full;
});

test("numbers hashes in the order they came, each once, however it grew", () => {
  fc.assert(
    fc.property(fc.array(hash, { maxLength: 400, size: "max" }), fc.nat(600), (list, hint) => {
      const table = emptyTable(hint);
      const oracle = new Map<string, number>();
      for (const each of list) {
        expect(tableFind(table, each, 0)).toBe(oracle.get(each.toHex()) ?? -1);
        if (!oracle.has(each.toHex())) oracle.set(each.toHex(), oracle.size);
        expect(tableAdd(table, each, 0)).toBe(oracle.get(each.toHex())!);
      }
      expect(hexes(tableHashes(table))).toEqual([...oracle.keys()]);
      expect(table.count).toBe(oracle.size);
    }),
  );
});

test("picks hashes also out of a view that begins anywhere", () => {
  const bytes = new Uint8Array(1 + 32 * 4).map((_, i) => i);
  const picked = pickHashes(bytes.subarray(1), [3, 0, 3]);
  expect(hexes(picked)).toEqual([3, 0, 3].map((i) => bytes.subarray(1 + i * 32, 33 + i * 32).toHex()));
});
