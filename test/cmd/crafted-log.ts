/** A log made by hand, of another key than any cluster's: a proof in it with cosignatures, for checks that need no node. */
import { concatBytes, fromUtf8, utf8 } from "../../src/engine/base/bytes.ts";
import { publicKeyOf } from "../../src/engine/base/ed25519.ts";
import { signCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { cosign } from "../../src/engine/log/cosignature.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { vkeyOf } from "../../src/engine/log/note.ts";
import { encodeProof } from "../../src/engine/log/proof-file.ts";
import { tilePath } from "../../src/engine/log/tile.ts";
import { naiveLeaf, naivePath, naiveRoot } from "../log/naive.ts";

const ORIGIN = "elsewhere.example/log";
const seedOf = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const witnessName = (i: number): string => `witness-${i}.example`;

export const foreignVkey = vkeyOf(ORIGIN, 1, publicKeyOf(seedOf(1)));
export const witnessVkey = (i: number): string => vkeyOf(witnessName(i), 4, publicKeyOf(seedOf(10 + i)));

/** The proof of `entry` as the third of seven, in a head that these witnesses cosigned. */
export function foreignProof(entry: string, witnesses: readonly number[]): string {
  const leaves = ["a", "b", entry, "d", "e", "f", "g"].map((each) => naiveLeaf(utf8(each)));
  let note = fromUtf8(signCheckpoint({ origin: ORIGIN, size: leaves.length, root: naiveRoot(leaves) }, seedOf(1)));
  for (const i of witnesses) note += cosign({ name: witnessName(i), seed: seedOf(10 + i), note, timeSeconds: 1_700_000_000 });
  return encodeProof({ index: 2, path: concatBytes(...naivePath(2, leaves)), checkpoint: note, extra: null });
}

/** Every file of this log with these entries, at most 255 of them. */
export function foreignFiles(entries: readonly string[]): ReadonlyMap<string, Uint8Array> {
  const leaves = entries.map((each) => naiveLeaf(utf8(each)));
  return new Map([
    ["checkpoint", signCheckpoint({ origin: ORIGIN, size: leaves.length, root: naiveRoot(leaves) }, seedOf(1))],
    [tilePath(0, 0, leaves.length), concatBytes(...leaves)],
    [tilePath("entries", 0, leaves.length), bundleOf(entries.map(utf8))],
  ]);
}
