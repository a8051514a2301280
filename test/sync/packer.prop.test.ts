/** The packer (sync.md section 4.5): whatever the store, chunks tile the key space, keep their limits and give back every row. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { equalBytes } from "../../src/engine/base/bytes.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { encodeBatch, encodedOpBytes } from "../../src/engine/store/batch.ts";
import { applyBatch, treeSnapshot } from "../../src/engine/store/memory.ts";
import { emptyTree, type Tree, treeCount, treeIterate } from "../../src/engine/store/tree.ts";
import { pack, unpack } from "../../src/engine/sync/packer.ts";
import { del, put } from "../contract/store.ts";

const keyArb = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 3 }),
  fc.constantFrom(Uint8Array.of(0), Uint8Array.of(0xff), new Uint8Array(1_024).fill(0xff)),
);
const rowArb = fc.record({ key: keyArb, value: fc.uint8Array({ maxLength: 300 }), version: fc.maxSafeNat() });
const storeArb = fc
  .array(rowArb, { maxLength: 60, size: "max" })
  .map((rows) => rows.reduce((tree: Tree, { key, value, version }) => applyBatch(tree, [put(key, value)], version), emptyTree));

test("chunks follow each other without a hole, and their rows are the store's, versions and all", () => {
  fc.assert(
    fc.property(storeArb, fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 900 }), (tree, chunkKeys, chunkBytes) => {
      using view = treeSnapshot(tree, "memory");
      let copy: Tree = emptyTree;
      let lo: Uint8Array | null = new Uint8Array(0);
      let seen = 0;
      for (let chunks = 0; lo !== null; chunks++) {
        expect(chunks).toBeLessThanOrEqual(treeCount(tree));
        const { batch, hi, keyCount } = pack(view, lo, { chunkKeys, chunkBytes }, () => seen++);
        const rows = unpack(batch, lo, hi);
        expect(rows.length).toBe(keyCount);
        expect(keyCount).toBeLessThanOrEqual(chunkKeys);
        if (keyCount > 1) expect(rows.reduce((sum, op) => sum + encodedOpBytes(op), 0)).toBeLessThanOrEqual(chunkBytes);
        if (hi !== null) expect(keyCount).toBeGreaterThan(0);
        copy = applyBatch(copy, rows, 0);
        lo = hi;
      }
      expect(seen).toBe(treeCount(tree));
      const [a, b] = [[...treeIterate(tree)], [...treeIterate(copy)]];
      expect(b.length).toBe(a.length);
      for (const [at, [key, stored]] of a.entries()) expect(equalBytes(key, b[at]![0]) && equalBytes(stored, b[at]![1])).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test("what is no chunk of its cover is refused", () => {
  const row = (key: string, wroteAt = 1) => ({ op: "put", key: new TextEncoder().encode(key), value: new Uint8Array(1), wroteAt }) as const;
  const [b, d] = [new TextEncoder().encode("b"), new TextEncoder().encode("d")];
  const refused = (...batch: Parameters<typeof encodeBatch>[0]): void => expect(() => unpack(encodeBatch(batch, null), b, d)).toThrow(EngineError);
  refused(row("a"));
  refused(row("d"));
  refused(row("c"), row("b"));
  refused(row("c"), row("c"));
  refused(put("c", "a row that was not copied"));
  refused(del("c"));
  expect(() => unpack(encodeBatch([row("c")], new Uint8Array(32)), b, d)).toThrow("follows no batch");
  expect(unpack(encodeBatch([row("b"), row("c")], null), b, d)).toHaveLength(2);
  expect(unpack(encodeBatch([row("z")], null), b, null)).toHaveLength(1);
});
