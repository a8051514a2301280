/**
 * Checks inclusion and consistency proofs, by the algorithms of RFC 9162 sections 2.1.3.2 and 2.1.4.2, over the trees of
 * RFC 6962. A path is its hashes one after the other, 32 bytes each, leaf to root. Reads nothing but its arguments, so a
 * proof can be checked offline. What does not lead to the root is LOG_PROOF, with both roots.
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES, type Hash, type TreeSize } from "../base/ids.ts";
import { EMPTY_ROOT, nodeHash } from "./merkle.ts";

/** A tree of at most 2^53 leaves has no longer path; a consistency proof has one hash more at most. */
export const PATH_COUNT_MAX = 54;

export type Inclusion = { readonly index: number; readonly size: TreeSize; readonly leaf: Hash; readonly root: Hash; readonly path: Uint8Array };
export type Consistency = {
  readonly oldSize: TreeSize;
  readonly oldRoot: Hash;
  readonly newSize: TreeSize;
  readonly newRoot: Hash;
  readonly path: Uint8Array;
};

const half = (value: number): number => Math.floor(value / 2);

/** Throws LOG_PROOF unless the leaf hash lies at `index` of the tree with this size and root. */
export function checkInclusion({ index, size, leaf, root, path }: Inclusion): void {
  const what = `inclusion of index ${index} in size ${size}`;
  if (!isSize(size) || !isSize(index) || index >= size) throw new EngineError("LOG_PROOF", `${what}: want an index below the size`);
  const hashes = hashesOf(path, what);
  let place = index; // of the node computed so far, and of the last node, on the level reached
  let last = size - 1;
  let node = leaf;
  for (const sibling of hashes) {
    if (last === 0) throw new EngineError("LOG_PROOF", `${what}: ${hashes.length} hashes, more than the path has`);
    if (place % 2 === 1 || place === last) {
      node = nodeHash(sibling, node);
      for (; place % 2 === 0 && place !== 0; place = half(place)) last = half(last); // levels on which the last node has no sibling
    } else node = nodeHash(node, sibling);
    place = half(place);
    last = half(last);
  }
  if (last !== 0) throw new EngineError("LOG_PROOF", `${what}: ${hashes.length} hashes, fewer than the path has`);
  mustEqual(node, root, what);
}

/** Throws LOG_PROOF unless the new tree begins with the whole of the old one. */
export function checkConsistency({ oldSize, oldRoot, newSize, newRoot, path }: Consistency): void {
  const what = `consistency of size ${oldSize} with ${newSize}`;
  if (!isSize(oldSize) || !isSize(newSize) || oldSize > newSize) throw new EngineError("LOG_PROOF", `${what}: want an old size that is not above the new one`);
  const hashes = hashesOf(path, what);
  if (oldSize === 0 || oldSize === newSize) {
    if (hashes.length > 0) throw new EngineError("LOG_PROOF", `${what}: ${hashes.length} hashes, want none`);
    mustEqual(oldSize === 0 ? EMPTY_ROOT : newRoot, oldRoot, `${what}, old root`);
    return;
  }
  let place = oldSize - 1;
  let last = newSize - 1;
  for (; place % 2 === 1; place = half(place)) last = half(last);
  // A complete old tree is a node of the new one: the proof leaves it out, as the verifier has its root.
  const [first, ...rest] = place === 0 ? [oldRoot, ...hashes] : hashes;
  if (first === undefined) throw new EngineError("LOG_PROOF", `${what}: no hashes, fewer than the path has`);
  let [oldNode, newNode] = [first, first];
  for (const sibling of rest) {
    if (last === 0) throw new EngineError("LOG_PROOF", `${what}: ${hashes.length} hashes, more than the path has`);
    if (place % 2 === 1 || place === last) {
      oldNode = nodeHash(sibling, oldNode);
      newNode = nodeHash(sibling, newNode);
      for (; place % 2 === 0 && place !== 0; place = half(place)) last = half(last);
    } else newNode = nodeHash(newNode, sibling);
    place = half(place);
    last = half(last);
  }
  if (last !== 0) throw new EngineError("LOG_PROOF", `${what}: ${hashes.length} hashes, fewer than the path has`);
  mustEqual(oldNode, oldRoot, `${what}, old root`);
  mustEqual(newNode, newRoot, `${what}, new root`);
}

const isSize = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

function hashesOf(path: Uint8Array, what: string): Hash[] {
  const count = path.length / HASH_BYTES;
  if (!Number.isInteger(count) || count > PATH_COUNT_MAX)
    throw new EngineError("LOG_PROOF", `${what}: ${path.length} bytes of path, want at most ${PATH_COUNT_MAX} hashes of ${HASH_BYTES}`);
  return Array.from({ length: count }, (_, i) => path.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES));
}

function mustEqual(computed: Hash, wanted: Hash, what: string): void {
  if (!equalBytes(computed, wanted)) throw new EngineError("LOG_PROOF", `${what}: the path leads to root ${toHex(computed)}, want ${toHex(wanted)}`);
}
