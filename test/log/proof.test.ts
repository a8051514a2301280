/** RFC 9162 sections 2.1.3 and 2.1.4, C2SP tlog-proof: every proof of small trees, other implementations' paths, and lies. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { concatBytes, fromUtf8, utf8 } from "../../src/engine/base/bytes.ts";
import { signCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { EMPTY_ROOT, leafHash } from "../../src/engine/log/merkle.ts";
import { type Consistency, checkConsistency, checkInclusion, type Inclusion } from "../../src/engine/log/proof.ts";
import { encodeProof, type LogProof, openProof, parseProof } from "../../src/engine/log/proof-file.ts";
import { codeOf, failure } from "../thrown.ts";
import { naiveLeaf, naivePath, naiveProof, naiveRoot } from "./naive.ts";
import { invalid, keyOf, type ProofVector, seedOf, vectors } from "./note-vectors.ts";

const hex = (text = ""): Uint8Array => Uint8Array.fromHex(text);
const leaves = (count: number): Uint8Array[] => Array.from({ length: count }, (_, i) => naiveLeaf(utf8(String(i))));
const inclusion = (index: number, size: number): Inclusion => {
  const all = leaves(size);
  return { index, size, leaf: all[index] as Uint8Array, root: naiveRoot(all), path: concatBytes(...naivePath(index, all)) };
};
const consistency = (oldSize: number, newSize: number): Consistency => {
  const all = leaves(newSize);
  const path = oldSize === 0 ? [] : naiveProof(oldSize, all);
  return { oldSize, oldRoot: naiveRoot(all.slice(0, oldSize)), newSize, newRoot: naiveRoot(all), path: concatBytes(...path) };
};
const flipped = (bytes: Uint8Array, at: number): Uint8Array => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));

describe("paths made by another implementation", () => {
  for (const each of vectors<ProofVector>("from-go-proofs.json")) {
    test(each.comment, () => {
      const path = concatBytes(...each.path.map(hex));
      if (each.oldSize === undefined) checkInclusion({ index: each.index ?? 0, size: each.size, leaf: hex(each.leaf), root: hex(each.root), path });
      else checkConsistency({ oldSize: each.oldSize, oldRoot: hex(each.oldRoot), newSize: each.size, newRoot: hex(each.root), path });
    });
  }
});

describe("inclusion", () => {
  test("every leaf of every tree up to 20 leaves is proved, and at no other place", () => {
    for (let size = 1; size <= 20; size++) {
      for (let index = 0; index < size; index++) {
        const proof = inclusion(index, size);
        checkInclusion(proof);
        for (let other = 0; other < size; other++) if (other !== index) expect(codeOf(() => checkInclusion({ ...proof, index: other }))).toBe("LOG_PROOF");
      }
    }
  });
  test("a path with a hash more or less, a bit changed, or half a hash is refused", () => {
    for (const [index, size] of [
      [0, 1],
      [0, 2],
      [6, 7],
      [5, 11],
      [10, 11],
      [15, 16],
    ] as const) {
      const proof = inclusion(index, size);
      const { path } = proof;
      const wrong = [concatBytes(path, new Uint8Array(32)), concatBytes(path, new Uint8Array(1)), concatBytes(new Uint8Array(32), path)];
      if (path.length > 0) wrong.push(path.slice(32), path.slice(0, -32), ...Array.from({ length: path.length / 32 }, (_, i) => flipped(path, i * 32 + 5)));
      for (const each of wrong) expect(codeOf(() => checkInclusion({ ...proof, path: each }))).toBe("LOG_PROOF");
      expect(codeOf(() => checkInclusion({ ...proof, leaf: flipped(proof.leaf, 3) }))).toBe("LOG_PROOF");
    }
  });
  test("a path of another length is told apart from one that leads elsewhere", () => {
    const proof = inclusion(5, 11);
    expect(failure(() => checkInclusion({ ...proof, path: concatBytes(proof.path, new Uint8Array(32)) })).message).toContain("more than the path has");
    expect(failure(() => checkInclusion({ ...proof, path: proof.path.slice(32) })).message).toContain("fewer than the path has");
  });
  test("an index that is not below the size, or is no number of a leaf", () => {
    const proof = inclusion(0, 1);
    for (const index of [1, -1, 0.5, Number.NaN, 2 ** 53]) expect(codeOf(() => checkInclusion({ ...proof, index }))).toBe("LOG_PROOF");
    for (const size of [0, -1, Number.POSITIVE_INFINITY]) expect(codeOf(() => checkInclusion({ ...proof, size }))).toBe("LOG_PROOF");
  });
  test("sizes above 2^32 keep all their bits", () => {
    const size = 2 ** 40 + 1; // the last leaf stands alone on the right
    const [left, leaf] = [naiveLeaf(utf8("left")), naiveLeaf(utf8("last"))];
    const root = naiveRoot([left, leaf]);
    checkInclusion({ index: 2 ** 40, size, leaf, root, path: left });
    expect(codeOf(() => checkInclusion({ index: 2 ** 40 - 1, size, leaf, root, path: left }))).toBe("LOG_PROOF");
  });
  test("the error names both roots", () => {
    const proof = inclusion(2, 5);
    const { message } = failure(() => checkInclusion({ ...proof, root: new Uint8Array(32).fill(0xab) }));
    expect(message).toContain("ab".repeat(32));
    expect(message).toContain(proof.root.toHex());
  });
});

describe("consistency", () => {
  test("every pair of sizes up to 20 is proved, and with no other size", () => {
    for (let newSize = 0; newSize <= 20; newSize++) {
      for (let oldSize = 0; oldSize <= newSize; oldSize++) {
        const proof = consistency(oldSize, newSize);
        checkConsistency(proof);
        if (oldSize > 0 && oldSize < newSize) {
          expect(codeOf(() => checkConsistency({ ...proof, oldRoot: flipped(proof.oldRoot, 0) }))).toBe("LOG_PROOF");
          expect(codeOf(() => checkConsistency({ ...proof, newRoot: flipped(proof.newRoot, 31) }))).toBe("LOG_PROOF");
          expect(codeOf(() => checkConsistency({ ...proof, path: concatBytes(proof.path, new Uint8Array(32)) }))).toBe("LOG_PROOF");
          expect(codeOf(() => checkConsistency({ ...proof, path: proof.path.slice(32) }))).toBe("LOG_PROOF");
          for (let i = 0; i < proof.path.length; i += 32) expect(codeOf(() => checkConsistency({ ...proof, path: flipped(proof.path, i) }))).toBe("LOG_PROOF");
        }
      }
    }
  });
  test("equal sizes want equal roots and no hashes; an empty tree has one root", () => {
    const { oldRoot: root } = consistency(5, 5);
    const same = { oldSize: 5, newSize: 5, oldRoot: root, newRoot: root, path: new Uint8Array(0) };
    checkConsistency(same);
    expect(codeOf(() => checkConsistency({ ...same, newRoot: flipped(root, 1) }))).toBe("LOG_PROOF");
    expect(codeOf(() => checkConsistency({ ...same, path: root }))).toBe("LOG_PROOF");
    checkConsistency({ ...same, oldSize: 0, oldRoot: EMPTY_ROOT });
    expect(codeOf(() => checkConsistency({ ...same, oldSize: 0, oldRoot: root }))).toBe("LOG_PROOF");
  });
  test("a log that shrank is not consistent", () => {
    const proof = consistency(4, 6);
    expect(codeOf(() => checkConsistency({ ...proof, oldSize: 6, oldRoot: proof.newRoot, newSize: 4, newRoot: proof.oldRoot }))).toBe("LOG_PROOF");
  });
});

test("no path that fits a random tree fits another place or another root", () => {
  const size = fc.integer({ min: 2, max: 200 });
  fc.assert(
    fc.property(size, fc.nat(), fc.nat(), fc.nat(), (newSize, a, b, at) => {
      const [index, oldSize] = [a % newSize, 1 + (b % newSize)];
      const one = inclusion(index, newSize);
      checkInclusion(one);
      expect(codeOf(() => checkInclusion({ ...one, path: flipped(one.path, at % one.path.length) }))).toBe("LOG_PROOF");
      const two = consistency(oldSize, newSize);
      checkConsistency(two);
      if (two.path.length > 0) expect(codeOf(() => checkConsistency({ ...two, path: flipped(two.path, at % two.path.length) }))).toBe("LOG_PROOF");
    }),
    { numRuns: 60 },
  );
});

describe(".tlog-proof", () => {
  const origin = "example.org/log";
  const vkey = keyOf(origin, 1, 4);
  const { index, size, root, path } = inclusion(6, 13);
  const checkpoint = fromUtf8(signCheckpoint({ origin, size, root }, seedOf(4)));
  const proof: LogProof = { index, path, checkpoint, extra: null };

  for (const each of invalid("proof")) test(`${each.comment} is refused`, () => expect(codeOf(() => parseProof(each.text))).toBe(each.code));

  test("the text is the one of the specification", () => {
    const lines = encodeProof({ ...proof, extra: Uint8Array.of(0) }).split("\n");
    expect(lines.slice(0, 3)).toEqual(["c2sp.org/tlog-proof@v1", "extra AA==", "index 6"]);
    expect(lines[3]).toBe(path.slice(0, 32).toBase64());
    expect(lines[3 + path.length / 32]).toBe("");
    expect(lines.slice(4 + path.length / 32).join("\n")).toBe(checkpoint);
  });
  test("encode and parse are inverses, with and without extra data, and for a path of no hashes", () => {
    for (const extra of [null, new Uint8Array(0), new Uint8Array(999).fill(7)]) {
      for (const each of [path, new Uint8Array(0)]) expect(parseProof(encodeProof({ ...proof, path: each, extra }))).toEqual({ ...proof, path: each, extra });
    }
  });
  test("it proves the entry to somebody who has the verifier key alone", () => {
    expect(openProof(parseProof(encodeProof(proof)), { vkey, leaf: leafHash(utf8("6")) })).toEqual({ origin, size, root });
  });
  test("another entry, key, index or checkpoint is refused, each with its code", () => {
    const leaf = leafHash(utf8("6"));
    expect(codeOf(() => openProof(proof, { vkey, leaf: leafHash(utf8("7")) }))).toBe("LOG_PROOF");
    expect(codeOf(() => openProof({ ...proof, index: 7 }, { vkey, leaf }))).toBe("LOG_PROOF");
    expect(codeOf(() => openProof(proof, { vkey: keyOf(origin, 1, 5), leaf }))).toBe("LOG_SIGNATURE");
    const larger = fromUtf8(signCheckpoint({ origin, size: 14, root }, seedOf(4)));
    expect(codeOf(() => openProof({ ...proof, checkpoint: larger, index: 13 }, { vkey, leaf }))).toBe("LOG_PROOF");
    expect(codeOf(() => openProof({ ...proof, checkpoint: "" }, { vkey, leaf }))).toBe("LOG_ENCODING");
  });
});
