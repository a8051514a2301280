import { beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { concatBytes } from "../../src/engine/base/bytes.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { EMPTY_ROOT } from "../../src/engine/log/merkle.ts";
import { LogReader } from "../../src/engine/log/reader.ts";
import { codeOf } from "../thrown.ts";
import { cutTo, entriesOf, entryOf, growTo, LOG } from "./grow.ts";
import { MapSnapshot } from "./map-snapshot.ts";
import { naiveLeaf, naivePath, naiveProof, naiveRoot, rootFromPath, rootsFromProof, split32 } from "./naive.ts";

const SMALL = 300;
const BIG = 140_000; // three tile levels
const small = new MapSnapshot();
const big = new MapSnapshot();
const leaves = Array.from({ length: SMALL }, (_, i) => naiveLeaf(entryOf(i)));
beforeAll(() => {
  growTo(small, SMALL, [3, 77, 150]);
  growTo(big, BIG, [10_000, 55_555]);
});

test("every size up to 300: root and edge", () => {
  const reader = new LogReader(small, LOG);
  for (let size = 0; size <= SMALL; size++) expect(reader.rootAt(size)).toEqual(naiveRoot(leaves.slice(0, size)));
  expect(reader.rootAt(0)).toEqual(EMPTY_ROOT);
});

test("sizes up to 300: inclusion of every leaf (RFC 6962 section 2.1.1)", () => {
  const reader = new LogReader(small, LOG);
  for (const size of [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 100, 255, 256, 257, 299, 300]) {
    const tree = leaves.slice(0, size);
    const root = naiveRoot(tree);
    for (let index = 0; index < size; index++) {
      const path = split32(reader.inclusion(index, size));
      if (size <= 9 || index % 17 === 0) expect(path).toEqual(naivePath(index, tree));
      expect(rootFromPath(tree[index] as Uint8Array, index, size, path)).toEqual(root);
    }
  }
});

test("sizes up to 300: consistency from every smaller size (RFC 6962 section 2.1.2)", () => {
  const reader = new LogReader(small, LOG);
  const roots = Array.from({ length: SMALL + 1 }, (_, size) => naiveRoot(leaves.slice(0, size)));
  for (const size of [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 100, 255, 256, 257, 299, 300]) {
    for (let old = 1; old <= size; old++) {
      const proof = split32(reader.consistency(old, size));
      if (size <= 9 || old % 17 === 0) expect(proof).toEqual(naiveProof(old, leaves.slice(0, size)));
      if (old < size) expect(rootsFromProof(old, size, roots[old] as Uint8Array, proof)).toEqual([roots[old] as Uint8Array, roots[size] as Uint8Array]);
      else expect(proof).toEqual([]);
    }
    expect(reader.consistency(0, size).length).toBe(0);
  }
});

test("property: proofs in a big log lead to its roots", () => {
  const all = split32(new LogReader(big, LOG).orderHashes(0, BIG));
  expect(new LogReader(big, LOG).rootAt(BIG)).toEqual(naiveRoot(all));
  fc.assert(
    fc.property(fc.nat(BIG), fc.nat(BIG), fc.nat(BIG), (a, b, i) => {
      const reader = new LogReader(big, LOG);
      const [old, size] = [Math.min(a, b) + 1, Math.max(a, b) + 1].map((each) => Math.min(each, BIG)) as [number, number];
      const [oldRoot, root] = [reader.rootAt(old), reader.rootAt(size)];
      const index = i % size;
      expect(rootFromPath(all[index] as Uint8Array, index, size, split32(reader.inclusion(index, size)))).toEqual(root);
      if (old < size) expect(rootsFromProof(old, size, oldRoot, split32(reader.consistency(old, size)))).toEqual([oldRoot, root]);
    }),
    { numRuns: 200 },
  );
});

test("a proof reads a few tiles a level, whatever the size", () => {
  big.getCount = 0;
  new LogReader(big, LOG).inclusion(70_001, BIG);
  expect(big.getCount).toBeLessThanOrEqual(6); // two on each of three levels
  big.getCount = 0;
  new LogReader(big, LOG).rootAt(BIG);
  expect(big.getCount).toBeLessThanOrEqual(3);
});

test("partial tiles and bundles are prefixes of the stored ones", () => {
  const reader = new LogReader(small, LOG);
  const [bundle, tile] = [bundleOf(entriesOf(0, 256)), reader.tile(0, 0, 256)];
  for (const width of [1, 2, 100, 255, 256]) {
    expect(reader.tile(0, 0, width)).toEqual(tile.subarray(0, width * 32));
    const part = reader.entryBundle(0, width);
    expect(part).toEqual(bundleOf(entriesOf(0, width)));
    expect(part).toEqual(bundle.subarray(0, part.length));
  }
  expect(reader.entryBundle(1, 44)).toEqual(bundleOf(entriesOf(256, 300)));
  expect(codeOf(() => reader.entryBundle(1, 45))).toBe("LOG_RANGE");
  expect(codeOf(() => reader.tile(0, 1, 45))).toBe("LOG_RANGE");
  expect(codeOf(() => reader.tile(1, 0, 2))).toBe("LOG_RANGE");
});

test("what is handed out is a copy", () => {
  const reader = new LogReader(small, LOG);
  const roots = [reader.rootAt(SMALL), reader.rootAt(255)];
  for (const bytes of [
    reader.tile(0, 0, 256),
    reader.orderHashes(0, 300),
    reader.nodeAt(0, 3),
    reader.nodeAt(8, 0),
    reader.edgeAt(256).nodes,
    reader.hashAt(7),
  ])
    bytes?.fill(0);
  expect([reader.rootAt(SMALL), reader.rootAt(255)]).toEqual(roots);
});

test("property: entries of any range, within the bytes allowed but never none", () => {
  fc.assert(
    fc.property(fc.nat(SMALL - 1), fc.integer({ min: 1, max: SMALL }), fc.nat(3_000), (from, length, bytesMax) => {
      const end = Math.min(from + length, SMALL);
      const { bundle, to } = new LogReader(small, LOG).entries(from, end, bytesMax);
      expect(bundle).toEqual(bundleOf(entriesOf(from, to)));
      expect(new LogReader(small, LOG).entryHashes(from, end, bytesMax)).toEqual({ hashes: concatBytes(...entriesOf(from, to).map(naiveLeaf)), to });
      expect(to > from && to <= end).toBe(true);
      if (to > from + 1) expect(bundle.length).toBeLessThanOrEqual(bytesMax);
      if (to < end) expect(bundleOf(entriesOf(from, to + 1)).length).toBeGreaterThan(bytesMax);
    }),
  );
});

test("beyond what is there: LOG_RANGE", () => {
  const reader = new LogReader(small, LOG);
  const beyond = [
    () => reader.orderHashes(0, 301),
    () => reader.orderHashes(512, 513),
    () => reader.entries(300, 301, 100),
    () => reader.rootAt(301),
    () => reader.edgeAt(100_000),
    () => reader.nodeAt(8, 1),
    () => reader.inclusion(300, 300),
    () => reader.inclusion(-1, 300),
    () => reader.inclusion(0, 301),
    () => reader.inclusion(0, 0),
    () => reader.consistency(301, 301),
    () => reader.consistency(10, 9),
    () => reader.consistency(1, Number.NaN),
  ];
  for (const [i, call] of beyond.entries()) expect([i, codeOf(call)]).toEqual([i, "LOG_RANGE"]);
  expect(reader.hashAt(299)).toEqual(leaves[299] as Uint8Array);
  expect(reader.hashAt(300)).toBeNull();
  expect(reader.entries(300, 300, 100)).toEqual({ bundle: new Uint8Array(0), to: 300 });
  expect(reader.entries(290, 400, 1_000_000).to).toBe(300);
});

test("two logs in one store do not see each other", () => {
  const other = Uint8Array.of(9, 2, 3, 4, 5, 6, 7, 8);
  expect(codeOf(() => new LogReader(small, other).rootAt(1))).toBe("LOG_RANGE");
  const snap = new MapSnapshot();
  growTo(snap, 10);
  cutTo(snap, 0);
  expect(snap.rows.size).toBe(0);
});
