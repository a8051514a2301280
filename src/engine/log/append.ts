/**
 * What appending to a log, and cutting its unverified end, changes in the `log` database (merge.md section 6). Pure:
 * each function reads the snapshot and gives operations for one atomic batch. A batch appends once: two calls of one
 * function on one snapshot would not see each other. Rows depend on the entries alone, never on how they were batched.
 * Hot: values are written by tile and bundle, never by entry, but for the 255 entries at most behind the last bundle.
 */
import { concatBytes, equalBytes, readU64be, u64be } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES, type LogId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { logKeys } from "../store/keys.ts";
import { dropBundles, dropTail, putBundle, putTail, readBundle } from "./bundle-rows.ts";
import { BUNDLE_COUNT, bundleOffsets, joinBundles, sliceBundle } from "./entry.ts";
import { type Edge, edgeBytes, edgeRoot, foldEdge } from "./merkle.ts";
import { LogReader } from "./reader.ts";
import { hashCount, TILE_LEVELS, TILE_WIDTH } from "./tile.ts";

const TILE_BYTES = TILE_WIDTH * HASH_BYTES;

/**
 * Appends hashes to the tiles of one level, behind the first `count` that it has. The first tile keeps its stored prefix
 * and loses what lies behind it: an order whose end was replaced may be longer there.
 */
function appendHashes(snap: Snapshot, keyOf: (n: number) => Uint8Array, count: number, hashes: Uint8Array): Op[] {
  const ops: Op[] = [];
  let n = Math.floor(count / TILE_WIDTH);
  let kept = (count % TILE_WIDTH) * HASH_BYTES;
  for (let at = 0; at < hashes.length; n++) {
    const key = keyOf(n);
    const added = hashes.subarray(at, at + TILE_BYTES - kept);
    const value = new Uint8Array(kept + added.length);
    if (kept > 0) value.set(storedPrefix(snap, key, kept));
    value.set(added, kept);
    ops.push({ op: "put", key, value });
    at += added.length;
    kept = 0;
  }
  return ops;
}

function storedPrefix(snap: Snapshot, key: Uint8Array, length: number): Uint8Array {
  const stored = snap.get("log", key) ?? new Uint8Array(0);
  if (stored.length < length)
    throw new EngineError("LOG_RANGE", `a tile of ${stored.length / HASH_BYTES} hashes is to grow behind its first ${length / HASH_BYTES}`);
  return stored.subarray(0, length);
}

/** The order from `start` on: what was stored at or behind `start` in its tile is replaced. */
export function orderOps(snap: Snapshot, log: LogId, start: number, hashes: Uint8Array): Op[] {
  return appendHashes(snap, (n) => logKeys.order(log, n), start, hashes);
}

/** Upper tiles and edge after these leaves: each level from 1 up gets the roots of the tiles that filled below it. */
export function tileOps(snap: Snapshot, log: LogId, edge: Edge, hashes: Uint8Array): { ops: Op[]; edge: Edge } {
  const ops: Op[] = [];
  const grown = foldEdge(edge, hashes, (height, nodes) => {
    if (height === 0 || height % TILE_LEVELS !== 0) return;
    const level = height / TILE_LEVELS;
    ops.push(...appendHashes(snap, (n) => logKeys.tile(log, level, n), hashCount(level, edge.size), nodes));
  });
  return { ops, edge: grown };
}

/** The entries from `start` on, which is where the stored ones end: full bundles, and single rows behind the last one. */
export function entryOps(snap: Snapshot, log: LogId, start: number, bundle: Uint8Array, offsets: Uint32Array = bundleOffsets(bundle)): Op[] {
  const end = start + offsets.length - 1;
  const foldedTo = Math.floor(end / BUNDLE_COUNT) * BUNDLE_COUNT;
  const ops: Op[] = [];
  for (let first = start - (start % BUNDLE_COUNT); first < foldedTo; first += BUNDLE_COUNT) {
    const from = Math.max(first, start);
    const added = sliceBundle(bundle, offsets, { from: from - start, to: first + BUNDLE_COUNT - start });
    if (from > first) ops.push(dropTail(log, first, from));
    ops.push(...putBundle(log, first / BUNDLE_COUNT, from > first ? joinBundles([storedEntries(snap, log, first, from), added]) : added));
  }
  ops.push(...putTail(log, bundle, offsets, { start, from: Math.max(start, foldedTo), to: end }));
  return ops;
}

function storedEntries(snap: Snapshot, log: LogId, from: number, to: number): Uint8Array {
  const stored = new LogReader(snap, log).entries(from, to, Number.POSITIVE_INFINITY);
  if (stored.to !== to) throw new EngineError("LOG_RANGE", `entries are to be stored behind ${to}, but ${stored.to} is not there`);
  return stored.bundle;
}

/**
 * Drops order, entries and upper tiles of `[from, to)`, the end of the log. A tile keeps its prefix; a bundle that is
 * cut inside becomes single rows again. What is left is what a log that never had that end would hold.
 */
export function orderCutOps(snap: Snapshot, log: LogId, from: number, to: number): Op[] {
  invariant(from <= to, `a cut of [${from}, ${to})`);
  if (from === to) return [];
  return [...cutHashes(snap, (n) => logKeys.order(log, n), from, to), ...cutTiles(snap, log, from, to), ...cutEntries(snap, log, from, to)];
}

/** Keeps the first `from` of the `to` hashes that a level has. */
function cutHashes(snap: Snapshot, keyOf: (n: number) => Uint8Array, from: number, to: number): Op[] {
  const ops: Op[] = [];
  const firstDropped = Math.ceil(from / TILE_WIDTH);
  const end = Math.ceil(to / TILE_WIDTH);
  const kept = (from % TILE_WIDTH) * HASH_BYTES;
  const stored = kept === 0 ? undefined : snap.get("log", keyOf(firstDropped - 1));
  if (stored !== undefined && stored.length > kept) ops.push({ op: "put", key: keyOf(firstDropped - 1), value: stored.subarray(0, kept) });
  if (firstDropped < end) ops.push({ op: "delRange", key: keyOf(firstDropped), end: keyOf(end) });
  return ops;
}

function cutTiles(snap: Snapshot, log: LogId, from: number, to: number): Op[] {
  const ops: Op[] = [];
  for (let level = 1; hashCount(level, to) > 0; level++)
    if (hashCount(level, from) < hashCount(level, to))
      ops.push(...cutHashes(snap, (n) => logKeys.tile(log, level, n), hashCount(level, from), hashCount(level, to)));
  return ops;
}

function cutEntries(snap: Snapshot, log: LogId, from: number, to: number): Op[] {
  const n = Math.floor(from / BUNDLE_COUNT);
  const end = Math.floor(to / BUNDLE_COUNT);
  const ops: Op[] = n < end ? [dropBundles(log, n, end), dropTail(log, from, to)] : [dropTail(log, from, to)];
  const inside = from % BUNDLE_COUNT;
  const cut = inside === 0 ? undefined : readBundle(snap, log, n);
  if (cut !== undefined) ops.push(...putTail(log, cut, bundleOffsets(cut), { start: n * BUNDLE_COUNT, from: from - inside, to: from }));
  return ops;
}

/** The `edge` row: size, root, nodes. The root is there to be compared: it follows from the nodes. */
export function encodeEdge(edge: Edge): Uint8Array {
  return concatBytes(u64be(edge.size), edgeRoot(edge), edge.nodes);
}

/** Throws STORE_CORRUPT where size, root and nodes do not belong together. */
export function decodeEdge(raw: Uint8Array): Edge {
  const size = raw.length >= 8 + HASH_BYTES ? readU64be(raw) : null;
  if (size === null) throw new EngineError("STORE_CORRUPT", `edge: ${raw.length} bytes without a size and a root`);
  const nodes = raw.slice(8 + HASH_BYTES);
  if (nodes.length !== edgeBytes(size)) throw new EngineError("STORE_CORRUPT", `edge of size ${size}: ${nodes.length} bytes of nodes, want ${edgeBytes(size)}`);
  const edge = { size, nodes };
  if (!equalBytes(edgeRoot(edge), raw.subarray(8, 8 + HASH_BYTES)))
    throw new EngineError("STORE_CORRUPT", `edge of size ${size}: its nodes do not lead to its root`);
  return edge;
}
