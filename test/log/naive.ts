/**
 * RFC 6962 section 2.1 written down as it is defined: recursive, over a list of entries, with `node:crypto`. Shares
 * nothing with the engine, so it can be its judge. The verifiers follow RFC 9162 sections 2.1.3.2 and 2.1.4.2.
 */
import { createHash } from "node:crypto";

const sha256 = (...parts: readonly Uint8Array[]): Uint8Array => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};
const ZERO = Uint8Array.of(0);
const ONE = Uint8Array.of(1);

export const naiveLeaf = (entry: Uint8Array): Uint8Array => sha256(ZERO, entry);
export const naiveNode = (left: Uint8Array, right: Uint8Array): Uint8Array => sha256(ONE, left, right);

function largestPowerBelow(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

/** MTH over leaf hashes. */
export function naiveRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0] as Uint8Array;
  const k = largestPowerBelow(leaves.length);
  return naiveNode(naiveRoot(leaves.slice(0, k)), naiveRoot(leaves.slice(k)));
}

/** PATH(m, D[n]). */
export function naivePath(m: number, leaves: readonly Uint8Array[]): Uint8Array[] {
  if (leaves.length <= 1) return [];
  const k = largestPowerBelow(leaves.length);
  return m < k ? [...naivePath(m, leaves.slice(0, k)), naiveRoot(leaves.slice(k))] : [...naivePath(m - k, leaves.slice(k)), naiveRoot(leaves.slice(0, k))];
}

/** PROOF(m, D[n]) for 0 < m ≤ n. */
export const naiveProof = (m: number, leaves: readonly Uint8Array[]): Uint8Array[] => subproof(m, leaves, true);

function subproof(m: number, leaves: readonly Uint8Array[], whole: boolean): Uint8Array[] {
  if (m === leaves.length) return whole ? [] : [naiveRoot(leaves)];
  const k = largestPowerBelow(leaves.length);
  return m <= k
    ? [...subproof(m, leaves.slice(0, k), whole), naiveRoot(leaves.slice(k))]
    : [...subproof(m - k, leaves.slice(k), false), naiveRoot(leaves.slice(0, k))];
}

export const split32 = (bytes: Uint8Array): Uint8Array[] => Array.from({ length: bytes.length / 32 }, (_, i) => bytes.slice(i * 32, i * 32 + 32));

/** The root that an audit path leads to, or null where it has the wrong length. */
export function rootFromPath(leaf: Uint8Array, index: number, size: number, path: readonly Uint8Array[]): Uint8Array | null {
  let [fn, sn, r] = [BigInt(index), BigInt(size) - 1n, leaf];
  for (const p of path) {
    if (sn === 0n) return null;
    if (fn & 1n || fn === sn) {
      r = naiveNode(p, r);
      while (!(fn & 1n) && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else r = naiveNode(r, p);
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n ? r : null;
}

/** Old and new root that a consistency proof leads to, or null; 0 < oldSize < newSize. */
export function rootsFromProof(oldSize: number, newSize: number, oldRoot: Uint8Array, proof: readonly Uint8Array[]): [old: Uint8Array, now: Uint8Array] | null {
  const powerOfTwo = (BigInt(oldSize) & (BigInt(oldSize) - 1n)) === 0n;
  const [first, ...rest] = powerOfTwo ? [oldRoot, ...proof] : proof;
  if (first === undefined) return null;
  let [fn, sn, fr, sr] = [BigInt(oldSize) - 1n, BigInt(newSize) - 1n, first, first];
  while (fn & 1n) [fn, sn] = [fn >> 1n, sn >> 1n];
  for (const c of rest) {
    if (sn === 0n) return null;
    if (fn & 1n || fn === sn) {
      [fr, sr] = [naiveNode(c, fr), naiveNode(c, sr)];
      while (!(fn & 1n) && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else sr = naiveNode(sr, c);
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n ? [fr, sr] : null;
}
