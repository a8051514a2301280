/** Comparing stores (sync.md Table B row 5): each differing key once, with what each side holds. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { compareBytes, concatBytes, utf8 } from "../../src/engine/base/bytes.ts";
import type { Op } from "../../src/engine/base/effects.ts";
import { diffSnapshots, digestSnapshot } from "../../src/engine/store/diff.ts";
import { localKeys } from "../../src/engine/store/keys.ts";
import { applyBatch, treeSnapshot } from "../../src/engine/store/memory.ts";
import { emptyTree, type Tree, treeGet, treePut } from "../../src/engine/store/tree.ts";
import { del, put } from "../contract/store.ts";

const snapshotOf = (...batches: Op[][]) =>
  treeSnapshot(
    batches.reduce((tree: Tree, batch, n) => applyBatch(tree, batch, n + 1), emptyTree),
    "memory",
  );

test("differences come in key order, with kind, owner, length and version of each side", () => {
  const register = localKeys.register(new Uint8Array(8).fill(0x61));
  using a = snapshotOf([put("a", "1"), put("same", "x"), put("z", "1"), put(register, "r")]);
  using b = snapshotOf([put("same", "x"), put("z", "1")], [put("b", "22"), put("z", "333"), put(register, "r")]);
  const seen = [...diffSnapshots("local", { a, b })].map(({ kind, key, owner, a: left, b: right }) => ({
    kind,
    key: new TextDecoder().decode(key),
    owner,
    left,
    right,
  }));
  expect(seen).toEqual([
    { kind: "only-in-a", key: "a", owner: "unknown", left: { valueBytes: 1, wroteAt: 1 }, right: null },
    { kind: "only-in-b", key: "b", owner: "unknown", left: null, right: { valueBytes: 2, wroteAt: 2 } },
    { kind: "changed", key: "merge/register/aaaaaaaa", owner: "merge", left: { valueBytes: 1, wroteAt: 1 }, right: { valueBytes: 1, wroteAt: 2 } },
    { kind: "changed", key: "z", owner: "unknown", left: { valueBytes: 1, wroteAt: 1 }, right: { valueBytes: 3, wroteAt: 2 } },
  ]);
  expect([...diffSnapshots("local", { a, b }, { from: utf8("b"), to: utf8("c") })].map(({ kind }) => kind)).toEqual(["only-in-b"]);
});

test("the differences are exactly what two lists of rows disagree on, and digests are equal where there is none", () => {
  const opArb = fc.oneof(
    fc.record({ op: fc.constant("put" as const), key: fc.uint8Array({ minLength: 1, maxLength: 1, max: 9 }), value: fc.uint8Array({ maxLength: 1, max: 1 }) }),
    fc.record({ op: fc.constant("del" as const), key: fc.uint8Array({ minLength: 1, maxLength: 1, max: 9 }) }),
  );
  const sideArb = fc.array(opArb, { maxLength: 30, size: "max" });
  fc.assert(
    fc.property(sideArb, sideArb, (left, right) => {
      using a = snapshotOf(left);
      using b = snapshotOf(right);
      const want: string[] = [];
      for (let n = 0; n <= 9; n++) {
        const [x, y] = [a.get(Uint8Array.of(n)), b.get(Uint8Array.of(n))];
        if (x === undefined && y !== undefined) want.push(`${n} only-in-b`);
        if (x !== undefined && y === undefined) want.push(`${n} only-in-a`);
        if (x !== undefined && y !== undefined && compareBytes(x, y) !== 0) want.push(`${n} changed`);
      }
      expect([...diffSnapshots("local", { a, b })].map(({ key, kind }) => `${key[0]} ${kind}`)).toEqual(want);
      expect(Buffer.compare(digestSnapshot(a), digestSnapshot(b)) === 0).toBe(want.length === 0);
    }),
  );
});

test("the digest is SHA-256 over length, key, version and checksum of each row", () => {
  const tree = applyBatch(applyBatch(emptyTree, [put("a", "1"), put("long key", new Uint8Array(5_000))], 258), [put("b", ""), del("a")], 2 ** 40 + 5);
  using snap = treeSnapshot(tree, "memory");
  const part = (key: string, wroteAt: string): Uint8Array =>
    concatBytes(Uint8Array.of(0, key.length), utf8(key), Uint8Array.fromHex(wroteAt), (treeGet(tree, utf8(key)) as Uint8Array).subarray(1, 9));
  const rows = concatBytes(part("b", "0000010000000005"), part("long key", "0000000000000102"));
  expect(digestSnapshot(snap)).toEqual(new Uint8Array(Bun.SHA256.hash(rows).buffer));
});

test("many rows digest alike however they came there", () => {
  const rows = Array.from({ length: 5_000 }, (_, n) => put(`key/${n * 7}`, `value ${n}`));
  using a = treeSnapshot(applyBatch(emptyTree, rows, 1), "memory");
  using b = treeSnapshot(applyBatch(emptyTree, rows.toReversed(), 1), "memory");
  expect(digestSnapshot(a)).toEqual(digestSnapshot(b));
  const shorter = treePut(emptyTree, utf8("x"), new Uint8Array(17));
  using damaged = treeSnapshot(shorter, "memory");
  expect(() => digestSnapshot(damaged)).toThrow("memory: key x");
});
