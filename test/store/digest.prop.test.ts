/**
 * The digest tree (sync.md section 2.6) against an oracle that knows only the definition: sort, cut into runs, hash, cut into
 * groups. Histories, deletions and comparing; a planted mistake is seen.
 */
import { afterEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { compareBytes, concatBytes, utf8 } from "../../src/engine/base/bytes.ts";
import type { Batch, Op } from "../../src/engine/base/effects.ts";
import { setMutant } from "../../src/engine/base/mutant.ts";
import { type DigestNode, DigestTree, differingRanges, digestTreeOf } from "../../src/engine/store/digest.ts";
import { applyBatch, treeSnapshot } from "../../src/engine/store/memory.ts";
import { emptyTree, type Tree, treeGet, treeIterate } from "../../src/engine/store/tree.ts";
import { del, delRange, put } from "../contract/store.ts";

const SEED = 7;
type Part = { readonly key: Uint8Array; readonly bytes: Uint8Array };

const hash16 = (bytes: Uint8Array): Uint8Array => new Uint8Array(Bun.SHA256.hash(bytes).buffer).slice(0, 16);
const zeroes = (key: Uint8Array): number =>
  Math.min(8, Math.floor((/0*$/.exec(Bun.hash.xxHash3(key, BigInt(SEED)).toString(2).padStart(64, "0").slice(32))?.[0].length ?? 0) / 4));

/** Level by level, each from the whole list below it. */
function oracle(tree: Tree): string {
  let level = 0;
  let parts: Part[] = [...treeIterate(tree)].map(([key, stored]) => ({
    key,
    bytes: concatBytes(Uint8Array.of(key.length >> 8, key.length & 255), key, stored.subarray(1, 17)),
  }));
  if (parts.length === 0) return hash16(Uint8Array.of(0)).toHex();
  for (;;) {
    const groups: Part[][] = [[]];
    for (const part of parts) {
      groups.at(-1)?.push(part);
      if (zeroes(part.key) >= level + 1) groups.push([]);
    }
    parts = groups
      .filter((group) => group.length > 0)
      .map((group) => ({ key: group.at(-1)?.key as Uint8Array, bytes: hash16(concatBytes(Uint8Array.of(level), ...group.map(({ bytes }) => bytes))) }));
    const isRoot = parts.length === 1 && parts.every(({ key }) => zeroes(key) < level + 2);
    if (isRoot) return (parts[0] as Part).bytes.toHex();
    level++;
  }
}

const keyOf = (n: number): Uint8Array => utf8(`k/${n}`);
const opArb = (keys: number): fc.Arbitrary<Op> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.tuple(fc.nat(keys), fc.nat(3)).map(([n, value]) => put(keyOf(n), String(value))) },
    { weight: 3, arbitrary: fc.nat(keys).map((n) => del(keyOf(n))) },
    { weight: 1, arbitrary: fc.tuple(fc.nat(keys), fc.nat(keys)).map(([a, b]) => delRange(keyOf(a), keyOf(b))) },
  );
const batchesArb = (keys: number) => fc.array(fc.array(opArb(keys), { maxLength: 40, size: "max" }), { maxLength: 8, size: "max" });
const filled = (count: number): Tree =>
  applyBatch(
    emptyTree,
    Array.from({ length: count }, (_, n) => put(keyOf(n), "0")),
    1,
  );

afterEach(() => setMutant(null));

describe("digest tree", () => {
  test("is what the definition says, kept up over any history, asked at any time", () => {
    fc.assert(
      fc.property(batchesArb(600), fc.constantFrom(0, 40, 600), fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }), (batches, start, asks) => {
        let rows = filled(start);
        const kept = new DigestTree(SEED);
        for (const [at, batch] of batches.entries()) {
          rows = applyBatch(rows, batch, at + 2);
          kept.touch(batch);
          if (asks[at] !== true) continue;
          using snap = treeSnapshot(rows, "memory");
          expect(kept.tree(snap).digest.toHex()).toBe(oracle(rows));
        }
        using snap = treeSnapshot(rows, "memory");
        expect(shape(kept.tree(snap))).toEqual(shape(digestTreeOf(snap, SEED)));
      }),
      { numRuns: 150 },
    );
  });

  test("equal rows give equal trees whatever their history", () => {
    fc.assert(
      fc.property(batchesArb(300), (batches) => {
        const rows = batches.reduce((tree: Tree, batch) => applyBatch(tree, batch, 9), emptyTree);
        const again = [...treeIterate(rows)].toReversed().map(([key]) => put(key, treeGet(rows, key)?.slice(17) as Uint8Array));
        using one = treeSnapshot(rows, "memory");
        using other = treeSnapshot(applyBatch(emptyTree, again, 9), "memory");
        expect(digestTreeOf(one, SEED).digest).toEqual(digestTreeOf(other, SEED).digest);
      }),
    );
  });

  test("a commit costs the paths of its keys, not the store", () => {
    let rows = filled(20_000);
    const kept = new DigestTree(SEED);
    {
      using snap = treeSnapshot(rows, "memory");
      kept.tree(snap);
    }
    const batch = [put(keyOf(77), "new"), del(keyOf(15_000))];
    rows = applyBatch(rows, batch, 2);
    kept.touch(batch);
    using snap = treeSnapshot(rows, "memory");
    let rowsRead = 0;
    const counting = { ...bound(snap), peekStored: (...range: Parameters<typeof snap.peekStored>) => count(snap.peekStored(...range), () => rowsRead++) };
    expect(kept.tree(counting).digest.toHex()).toBe(oracle(rows));
    expect(rowsRead).toBeGreaterThan(0);
    expect(rowsRead).toBeLessThan(400);
  });

  test("a tree that does not hear of deletions is wrong", () => {
    setMutant("digest.forgets-deletes");
    let rows = filled(100);
    const kept = new DigestTree(SEED);
    using before = treeSnapshot(rows, "memory");
    kept.tree(before);
    rows = applyBatch(rows, [del(keyOf(50))], 2);
    kept.touch([del(keyOf(50))]);
    using after = treeSnapshot(rows, "memory");
    expect(kept.tree(after).digest.toHex()).not.toBe(oracle(rows));
  });
});

describe("comparing two trees", () => {
  const treeOf = (rows: Tree): DigestNode => {
    using snap = treeSnapshot(rows, "memory");
    return digestTreeOf(snap, SEED);
  };

  test("the ranges hold every key that differs, in order and apart; equal trees give none", () => {
    fc.assert(
      fc.property(fc.constantFrom(0, 30, 2_000), batchesArb(2_200), batchesArb(2_200), (start, one, other) => {
        const apply = (batches: Batch[]): Tree => batches.reduce((tree: Tree, batch) => applyBatch(tree, batch, 2), filled(start));
        const [a, b] = [apply(one), apply(other)];
        const ranges = [...differingRanges(treeOf(a), treeOf(b))];
        for (const [at, { after }] of ranges.entries()) {
          const before = ranges[at - 1];
          if (before !== undefined) expect(compareBytes(before.upTo as Uint8Array, after as Uint8Array)).toBeLessThanOrEqual(0);
        }
        const keys = new Set([...treeIterate(a), ...treeIterate(b)].map(([key]) => key.toHex()));
        for (const hex of keys) {
          const key = Uint8Array.fromHex(hex);
          const isEqual = treeGet(a, key)?.toHex() === treeGet(b, key)?.toHex();
          const isIn = ranges.some(({ after, upTo }) => (after === null || compareBytes(key, after) > 0) && (upTo === null || compareBytes(key, upTo) <= 0));
          if (!isEqual) expect(isIn).toBe(true);
        }
        if (ranges.length > 0) expect(treeOf(a).digest).not.toEqual(treeOf(b).digest);
      }),
      { numRuns: 60 },
    );
  });

  test("d differences cost about d times the height, equal stores one digest", () => {
    const rows = filled(50_000);
    const whole = treeOf(rows);
    const compared = (b: Tree): number => {
      let count = 0;
      for (const _ of differingRanges(whole, treeOf(b), () => count++));
      return count;
    };
    expect(compared(rows)).toBe(1);
    expect(compared(applyBatch(rows, [put(keyOf(3), "x")], 2))).toBeLessThan(400);
    const ten = Array.from({ length: 10 }, (_, n) => put(keyOf(n * 4_999), "x"));
    expect(compared(applyBatch(rows, ten, 2))).toBeLessThan(3_000);
  });
});

const shape = (node: DigestNode): unknown => [node.level, node.end?.toHex(), node.rowCount, node.digest.toHex(), node.children.map(shape)];

function bound(snap: ReturnType<typeof treeSnapshot>): ReturnType<typeof treeSnapshot> {
  return {
    get: (key) => snap.get(key),
    peek: (key) => snap.peek(key),
    row: (key) => snap.row(key),
    wroteAt: (key) => snap.wroteAt(key),
    iterate: (...range) => snap.iterate(...range),
    stored: (...range) => snap.stored(...range),
    peekStored: (...range) => snap.peekStored(...range),
    [Symbol.dispose]: () => {},
  };
}

function* count<T>(rows: Iterable<T>, tick: () => void): Generator<T> {
  for (const row of rows) {
    tick();
    yield row;
  }
}
