import { expect, test } from "bun:test";
import fc from "fast-check";
import { concatBytes } from "../../src/engine/base/bytes.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { EMPTY_EDGE, EMPTY_ROOT, edgeRoot, foldEdge, leafHash, leafHashes, nodeHash, rootOf } from "../../src/engine/log/merkle.ts";
import { naiveLeaf, naiveNode, naivePath, naiveProof, naiveRoot, split32 } from "./naive.ts";
import { vectorLines } from "./vectors.ts";

const leavesOf = (count: number): Uint8Array[] => Array.from({ length: count }, (_, i) => naiveLeaf(Uint8Array.of(i >> 8, i)));

test("roots of the vectors, and the oracle's paths and proofs too (RFC 6962 section 2.1)", () => {
  const entries: Uint8Array[] = [];
  let checked = 0;
  for (const [kind, a = "", b = "", ...rest] of vectorLines("tree-roots.txt").map((line) => line.split(" "))) {
    const leaves = entries.map(naiveLeaf);
    if (kind === "leaf") entries.push(a === "-" ? new Uint8Array(0) : Uint8Array.fromHex(a));
    if (kind === "root") expect(rootOf(leafHashes(bundleOf(entries.slice(0, Number(a))))).toHex()).toBe(b);
    if (kind === "path") expect(naivePath(Number(a), leaves.slice(0, Number(b))).map((hash) => hash.toHex())).toEqual(rest);
    if (kind === "proof") expect(naiveProof(Number(a), leaves.slice(0, Number(b))).map((hash) => hash.toHex())).toEqual(rest);
    checked++;
  }
  expect(checked).toBe(25);
});

test("leaf and node hashes have their own prefixes", () => {
  const [left, right] = [naiveLeaf(Uint8Array.of(1)), naiveLeaf(Uint8Array.of(2))];
  expect(leafHash(Uint8Array.of(1))).toEqual(left);
  expect(nodeHash(left, right)).toEqual(naiveNode(left, right));
  expect(nodeHash(left, right)).not.toEqual(leafHash(concatBytes(left, right)));
  expect(EMPTY_ROOT).toEqual(naiveRoot([]));
  expect(edgeRoot(EMPTY_EDGE)).toEqual(EMPTY_ROOT);
});

test("a hash handed out is never written to again", () => {
  const root = rootOf(concatBytes(...leavesOf(5)));
  const hashes = leafHashes(bundleOf([Uint8Array.of(1), Uint8Array.of(2)]));
  const [rootBefore, hashesBefore] = [root.toHex(), hashes.toHex()];
  edgeRoot(EMPTY_EDGE)[0] = 9;
  rootOf(concatBytes(...leavesOf(9)));
  leafHashes(bundleOf([Uint8Array.of(3), Uint8Array.of(4)]));
  expect([root.toHex(), hashes.toHex(), EMPTY_ROOT.toHex()]).toEqual([rootBefore, hashesBefore, naiveRoot([]).toHex()]);
});

test("property: leaf hashes of a bundle of any entries, also from inside a larger buffer", () => {
  const lengths = fc.oneof(fc.nat(300), fc.constantFrom(0, 1, 4_095, 4_096, 4_097, 65_535));
  fc.assert(
    fc.property(fc.array(lengths, { maxLength: 12 }), fc.nat(9), fc.nat(255), (list, offset, fill) => {
      const entries = list.map((length, i) => new Uint8Array(length).fill(fill + i));
      const bundle = concatBytes(new Uint8Array(offset), bundleOf(entries)).subarray(offset);
      const before = bundle.slice();
      expect(split32(leafHashes(bundle))).toEqual(entries.map(naiveLeaf));
      expect(bundle).toEqual(before);
    }),
  );
});

test("leaf hashes of a bundle far longer than what is hashed at a time: empty, short, long and longest entries in turn", () => {
  const lengths = [0, 1, 200, 65_535, 31, 32, 33, 70, 65_534, 5_000];
  const entries = Array.from({ length: 80 }, (_, i) => new Uint8Array(lengths[i % lengths.length] as number).fill(i));
  expect(split32(leafHashes(bundleOf(entries))).map((hash) => hash.toHex())).toEqual(entries.map((entry) => naiveLeaf(entry).toHex()));
});

test("every size up to 300: root, and appending one leaf at a time ends with the same edge", () => {
  const leaves = leavesOf(300);
  let edge = EMPTY_EDGE;
  for (let size = 0; size <= 300; size++) {
    const whole = foldEdge(EMPTY_EDGE, concatBytes(...leaves.slice(0, size)));
    expect(edge).toEqual(whole);
    expect(edgeRoot(edge)).toEqual(naiveRoot(leaves.slice(0, size)));
    if (size < 300) edge = foldEdge(edge, leaves[size] as Uint8Array);
  }
});

test("property: any split into batches gives the same edge, and each level is told exactly its new nodes", () => {
  const leaves = leavesOf(3_000);
  fc.assert(
    fc.property(fc.array(fc.nat(700), { minLength: 1, maxLength: 5 }), fc.nat(3), (batches, offset) => {
      let edge = EMPTY_EDGE;
      const levels: Uint8Array[][] = [];
      for (const count of batches.filter((each, i) => batches.slice(0, i + 1).reduce((sum, one) => sum + one, 0) <= 3_000 && each >= 0)) {
        const hashes = concatBytes(new Uint8Array(offset), ...leaves.slice(edge.size, edge.size + count)).subarray(offset);
        edge = foldEdge(edge, hashes, (level, nodes) => {
          levels[level] ??= [];
          levels[level]?.push(...split32(nodes));
        });
      }
      expect(edgeRoot(edge)).toEqual(naiveRoot(leaves.slice(0, edge.size)));
      for (const [level, nodes] of levels.entries()) {
        expect(nodes.length).toBe(Math.floor(edge.size / 2 ** level));
        const pick = nodes.length - 1;
        if (pick >= 0) expect(nodes[pick]).toEqual(naiveRoot(leaves.slice(pick * 2 ** level, (pick + 1) * 2 ** level)));
      }
    }),
    { numRuns: 40 },
  );
});

test("an edge near the largest size there can be still folds", () => {
  const size = 2 ** 53 - 2;
  const nodes = concatBytes(...leavesOf(52));
  const edge = foldEdge({ size, nodes }, naiveLeaf(Uint8Array.of(1)));
  expect(edge.size).toBe(2 ** 53 - 1);
  expect(edge.nodes).toEqual(concatBytes(nodes, naiveLeaf(Uint8Array.of(1))));
  expect(() => foldEdge(edge, naiveLeaf(Uint8Array.of(2)))).toThrow("tree's size");
  expect(() => foldEdge({ size: 3, nodes: leavesOf(1)[0] as Uint8Array }, new Uint8Array(0))).toThrow("an edge has a node");
});
