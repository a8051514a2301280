/**
 * The hash tree of RFC 6962 section 2.1: leaf SHA-256(00 ‖ entry), node SHA-256(01 ‖ left ‖ right), empty root
 * SHA-256(""). A growing tree is kept as its right edge: the roots of its complete subtrees, all that appending needs.
 * Hot: `leafHashes` and `foldEdge` see every entry of the log. They work in preallocated buffers, level by level, and
 * make no object per node. Never reads a store and never keeps a tree.
 */
import { HASH_BYTES, type Hash } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { bundleOffsets, LENGTH_BYTES } from "./entry.ts";

/** Roots of the complete subtrees of a tree of `size` leaves, largest first. Invariant: one node per set bit of `size`. */
export type Edge = { readonly size: number; readonly nodes: Uint8Array };
export const EMPTY_EDGE: Edge = { size: 0, nodes: new Uint8Array(0) };
export const EMPTY_ROOT: Hash = sha256(new Uint8Array(0));

const HASH_WORDS = HASH_BYTES / 4;
/** Folds of up to so many leaves share one buffer: a small one of its own would be moved for each view of it. */
const SHARED_LEAVES_MAX = 1_024;
/** Views of the leaf buffer are kept for lengths up to this one; a longer entry costs more to hash than a view to make. */
const LEAF_VIEW_BYTES_MAX = 4_096;
/** An entry up to this length is copied byte by byte: that is less than a call costs. */
const LOOP_BYTES_MAX = 32;

/**
 * 00 ‖ entry of up to 65,535 bytes, and the views of it that were used before. Behind it a part of the bundle at hand: moving
 * bytes within one array needs no view of each entry, and such a view costs a fifth of a short entry's hash.
 */
const LEAF_BYTES_MAX = 1 + 65_535;
const STAGE_BYTES = 262_144;
const leafInput = new Uint8Array(LEAF_BYTES_MAX + STAGE_BYTES);
const leafViews: Uint8Array[] = [];
/** 01 ‖ left ‖ right, placed so that the hashes lie on word boundaries. */
const nodeBuffer = new ArrayBuffer(8 + 2 * HASH_BYTES);
const nodeInput = new Uint8Array(nodeBuffer, 7);
const nodeWords = new Int32Array(nodeBuffer, 8);
nodeInput[0] = 1;
const output = new Uint8Array(HASH_BYTES);
const outputWords = new Int32Array(output.buffer);
const sharedWork = new Int32Array((1 + SHARED_LEAVES_MAX) * HASH_WORDS);
const sharedBytes = new Uint8Array(sharedWork.buffer);

function sha256(input: Uint8Array): Hash {
  const hash = new Uint8Array(HASH_BYTES);
  Bun.SHA256.hash(input, hash);
  return hash;
}

export function leafHash(entry: Uint8Array): Hash {
  const input = new Uint8Array(1 + entry.length);
  input.set(entry, 1);
  return sha256(input);
}

export function nodeHash(left: Hash, right: Hash): Hash {
  invariant(left.length === HASH_BYTES && right.length === HASH_BYTES, "a node has two hashes below it");
  nodeInput.set(left, 1);
  nodeInput.set(right, 1 + HASH_BYTES);
  return sha256(nodeInput);
}

function copyHash(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number): void {
  for (let i = 0; i < HASH_BYTES; i++) to[toAt + i] = from[fromAt + i] as number;
}

/** Leaf hashes of a bundle's entries, one after the other. Throws LOG_ENCODING where the bytes are no bundle. */
export const leafHashes = (bundle: Uint8Array): Uint8Array => leafHashesAt(bundle, bundleOffsets(bundle));

/** The same where the offsets are known: `bundleOffsets` of this very bundle. */
export function leafHashesAt(bundle: Uint8Array, offsets: Uint32Array): Uint8Array {
  const count = offsets.length - 1;
  const hashes = new Int32Array(count * HASH_WORDS);
  for (let from = 0; from < count; ) {
    const to = stagedEnd(offsets, from);
    const start = offsets[from] as number;
    leafInput.set(from === 0 && to === count ? bundle : bundle.subarray(start, offsets[to]), LEAF_BYTES_MAX);
    for (let i = from; i < to; i++) hashStaged(offsets, i, LEAF_BYTES_MAX - start, hashes);
    from = to;
  }
  return new Uint8Array(hashes.buffer);
}

/** The first record behind `from` that does not fit the stage beside it; the longest record fits it alone. */
function stagedEnd(offsets: Uint32Array, from: number): number {
  const count = offsets.length - 1;
  const limit = (offsets[from] as number) + STAGE_BYTES;
  if ((offsets[count] as number) <= limit) return count;
  let to = from + 1;
  while ((offsets[to + 1] as number) <= limit) to++;
  return to;
}

/** Hashes entry i, which lies `shift` behind its place in the bundle. */
function hashStaged(offsets: Uint32Array, i: number, shift: number, hashes: Int32Array): void {
  const from = shift + (offsets[i] as number) + LENGTH_BYTES;
  const to = shift + (offsets[i + 1] as number);
  if (to - from > LOOP_BYTES_MAX) leafInput.copyWithin(1, from, to);
  else for (let at = from; at < to; at++) leafInput[1 + at - from] = leafInput[at] as number;
  Bun.SHA256.hash(leafView(1 + to - from), output);
  copyWords(outputWords, 0, hashes, i * HASH_WORDS, HASH_WORDS);
}

function leafView(length: number): Uint8Array {
  const known = leafViews[length];
  if (known !== undefined) return known;
  const view = leafInput.subarray(0, length);
  if (length <= LEAF_VIEW_BYTES_MAX) leafViews[length] = view;
  return view;
}

function copyWords(from: Int32Array, fromAt: number, to: Int32Array, toAt: number, count: number): void {
  for (let i = 0; i < count; i++) to[toAt + i] = from[fromAt + i] as number;
}

/** Hashes the node above slots `left` and `left + 1` of `work` into slot `parent`. */
function hashPair(work: Int32Array, left: number, parent: number): void {
  copyWords(work, left * HASH_WORDS, nodeWords, 0, 2 * HASH_WORDS);
  Bun.SHA256.hash(nodeInput, output);
  copyWords(outputWords, 0, work, parent * HASH_WORDS, HASH_WORDS);
}

/**
 * The edge after appending leaf hashes. `eachLevel` is told, from level 0 up, the nodes that these leaves completed
 * there: indexes `[⌊old / 2^level⌋, ⌊new / 2^level⌋)` of that level, as a view that is valid during the call.
 */
export function foldEdge(edge: Edge, hashes: Uint8Array, eachLevel?: (level: number, nodes: Uint8Array) => void): Edge {
  invariant(hashes.length % HASH_BYTES === 0, "a list of hashes has whole hashes");
  invariant(edge.nodes.length === edgeBytes(edge.size), "an edge has a node for each set bit of its size");
  let fresh = hashes.length / HASH_BYTES; // nodes completed on this level: slots [1, 1 + fresh)
  const size = edge.size + fresh;
  invariant(Number.isSafeInteger(size), "a tree's size is a safe integer");
  const work = fresh <= SHARED_LEAVES_MAX ? sharedWork : new Int32Array((1 + fresh) * HASH_WORDS); // slot 0 takes the edge's own node of a level
  const bytes = fresh <= SHARED_LEAVES_MAX ? sharedBytes : new Uint8Array(work.buffer);
  bytes.set(hashes, HASH_BYTES);
  const nodes = new Uint8Array(edgeBytes(size));
  let oldEnd = edge.nodes.length;
  let newEnd = nodes.length;
  for (let level = 0, before = edge.size; fresh > 0; level++, before = Math.floor(before / 2)) {
    eachLevel?.(level, bytes.subarray(HASH_BYTES, HASH_BYTES * (1 + fresh)));
    const joins = before % 2;
    if (joins === 1) {
      oldEnd -= HASH_BYTES;
      copyHash(edge.nodes, oldEnd, bytes, 0);
    }
    const first = 1 - joins;
    const pairs = Math.floor((fresh + joins) / 2);
    if ((fresh + joins) % 2 === 1) {
      newEnd -= HASH_BYTES;
      copyHash(bytes, fresh * HASH_BYTES, nodes, newEnd);
    }
    for (let pair = 0; pair < pairs; pair++) hashPair(work, first + 2 * pair, 1 + pair);
    fresh = pairs;
  }
  invariant(oldEnd === newEnd, "the old nodes that stay fill the room that is left");
  for (let at = 0; at < oldEnd; at += HASH_BYTES) copyHash(edge.nodes, at, nodes, at);
  return { size, nodes };
}

/** The root of the tree with this edge. */
export function edgeRoot(edge: Edge): Hash {
  if (edge.nodes.length === 0) return EMPTY_ROOT.slice();
  let at = edge.nodes.length - HASH_BYTES;
  copyHash(edge.nodes, at, output, 0);
  while (at > 0) {
    at -= HASH_BYTES;
    copyHash(edge.nodes, at, nodeInput, 1);
    copyHash(output, 0, nodeInput, 1 + HASH_BYTES);
    Bun.SHA256.hash(nodeInput, output);
  }
  return output.slice();
}

/** The root of a tree of these leaf hashes, or of the subtree above equally high nodes. */
export function rootOf(hashes: Uint8Array): Hash {
  return edgeRoot(foldEdge(EMPTY_EDGE, hashes));
}

/** Length of the nodes of an edge of this size: one hash per set bit. */
export const edgeBytes = (size: number): number => HASH_BYTES * bitCount(size);

/** Number of set bits of a safe integer. */
function bitCount(value: number): number {
  let count = 0;
  for (let rest = value; rest > 0; rest = Math.floor(rest / 2)) count += rest % 2;
  return count;
}
