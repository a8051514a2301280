/**
 * Reads a log out of the packed rows of the `log` database (merge.md section 6): order, entries, tiles, and what
 * RFC 6962 section 2.1 derives from them. Nodes come from the stored upper tiles, so a root or a proof costs a tile or two a
 * level, whatever the size. A reader lives as long as its snapshot; it keeps the last few tiles and nothing else.
 * Never trusts a length: what is not there is LOG_RANGE. Never compares entries with the order: who serves them does.
 */
import { concatBytes } from "../base/bytes.ts";
import type { Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES, type Hash, type LogId } from "../base/ids.ts";
import { logKeys } from "../store/keys.ts";
import { peekBundle, readTail } from "./bundle-rows.ts";
import { BUNDLE_COUNT, bundleOffsets, sliceBundle } from "./entry.ts";
import { type Edge, edgeRoot, leafHashes, leafHashesAt, rootOf } from "./merkle.ts";
import { TILE_LEVELS, TILE_WIDTH } from "./tile.ts";

/** Tiles kept by one reader: both ends of a proof on every level there can be. 8 KiB each. */
const TILES_KEPT_MAX = 16;
/** Tile number and level in one safe integer: a tile number stays below 2^45. */
const LEVEL_STRIDE = 2 ** 45;

export class LogReader {
  private readonly snap: Snapshot;
  private readonly log: LogId;
  private readonly tiles = new Map<number, Uint8Array>();

  constructor(snap: Snapshot, log: LogId) {
    this.snap = snap;
    this.log = log;
  }

  /** The stored hashes of a tile, empty where there is none: a view that others share. */
  private stored(level: number, n: number): Uint8Array {
    const slot = level * LEVEL_STRIDE + n;
    const kept = this.tiles.get(slot);
    if (kept !== undefined) {
      this.tiles.delete(slot); // and back in as the newest
      this.tiles.set(slot, kept);
      return kept;
    }
    const key = level === 0 ? logKeys.order(this.log, n) : logKeys.tile(this.log, level, n);
    const value = this.snap.get("log", key) ?? new Uint8Array(0);
    this.tiles.set(slot, value);
    if (this.tiles.size > TILES_KEPT_MAX) for (const oldest of this.tiles.keys()) if (this.tiles.delete(oldest)) break;
    return value;
  }

  /** Hashes `[from, to)` of one tile, as a view; throws LOG_RANGE. */
  private cut(level: number, n: number, from: number, to: number): Uint8Array {
    const value = this.stored(level, n);
    if (to * HASH_BYTES > value.length)
      throw new EngineError("LOG_RANGE", `tile ${level}/${n}: hash ${to - 1} asked for, ${Math.floor(value.length / HASH_BYTES)} are there`);
    return value.subarray(from * HASH_BYTES, to * HASH_BYTES);
  }

  /** Leaf hashes `[from, to)`, 32 bytes each. Throws LOG_RANGE beyond the order. */
  orderHashes(from: number, to: number): Uint8Array {
    const hashes = new Uint8Array(Math.max(0, to - from) * HASH_BYTES);
    for (let at = from; at < to; ) {
      const n = Math.floor(at / TILE_WIDTH);
      const end = Math.min(to, (n + 1) * TILE_WIDTH);
      hashes.set(this.cut(0, n, at - n * TILE_WIDTH, end - n * TILE_WIDTH), (at - from) * HASH_BYTES);
      at = end;
    }
    return hashes;
  }

  /** The leaf hash at an index, or null beyond the order. */
  hashAt(index: number): Hash | null {
    const n = Math.floor(index / TILE_WIDTH);
    const at = (index - n * TILE_WIDTH) * HASH_BYTES;
    const value = this.stored(0, n);
    return at + HASH_BYTES <= value.length ? value.slice(at, at + HASH_BYTES) : null;
  }

  /** A tile cut to its first `width` hashes: a copy. Throws LOG_RANGE where it holds fewer. */
  tile(level: number, n: number, width: number): Uint8Array {
    return this.cut(level, n, 0, width).slice();
  }

  /** Entries from `from` on as one bundle: up to `to`, at most `bytesMax` bytes but never less than one entry. Throws LOG_RANGE at a first entry that is not there. */
  entries(from: number, to: number, bytesMax: number): { bundle: Uint8Array; to: number } {
    let bundle = new Uint8Array(0);
    let used = 0;
    const end = this.eachRun(from, to, bytesMax, (run, left) => {
      if (used + run.length > bundle.length) bundle = grown(bundle, used, Math.min(bytesMax, used + run.length * left), used + run.length);
      bundle.set(run, used);
      used += run.length;
    });
    return { bundle: used === bundle.length ? bundle : bundle.subarray(0, used), to: end };
  }

  /** What the same entries hash to, as they are stored: nothing is copied but what is hashed. */
  entryHashes(from: number, to: number, bytesMax: number): { hashes: Uint8Array; to: number } {
    const hashes = new Uint8Array(Math.max(0, to - from) * HASH_BYTES);
    let used = 0;
    const end = this.eachRun(from, to, bytesMax, (run, _left, offsets) => {
      const found = offsets === null ? leafHashes(run) : leafHashesAt(run, offsets);
      hashes.set(found, used);
      used += found.length;
    });
    return { hashes: hashes.subarray(0, used), to: end };
  }

  /**
   * Stored neighbours from `from` on, a run a bundle, within those limits; gives where it stopped. `left`: so many runs of this
   * length are still to come, this one included. A run is lent: `take` neither keeps it nor reads anything. Offsets where the run is a whole bundle.
   */
  private eachRun(from: number, to: number, bytesMax: number, take: (run: Uint8Array, left: number, offsets: Uint32Array | null) => void): number {
    let at = from;
    for (let room = bytesMax; at < to; ) {
      const end = Math.min(to, (Math.floor(at / BUNDLE_COUNT) + 1) * BUNDLE_COUNT);
      const { found, offsets } = this.records(at, end);
      let count = offsets.length - 1;
      while (count > (at === from ? 1 : 0) && (offsets[count] as number) > room) count--;
      const bytes = offsets[count] as number;
      if (count > 0) take(bytes === found.length ? found : found.subarray(0, bytes), Math.ceil((to - at) / count), bytes === found.length ? offsets : null);
      room -= bytes;
      at += count;
      if (at < end) break; // no room left, or no entries
    }
    if (at === from && from < to) throw new EngineError("LOG_RANGE", `entry ${from} asked for: it is not stored here`);
    return at;
  }

  /** The entries of one full or partial bundle. Throws LOG_RANGE where fewer are stored. */
  entryBundle(n: number, width: number): Uint8Array {
    const end = n * BUNDLE_COUNT + width;
    const { bundle, to } = this.entries(n * BUNDLE_COUNT, end, Number.POSITIVE_INFINITY);
    if (to !== end) throw new EngineError("LOG_RANGE", `bundle ${n}: ${width} entries asked for, ${to - n * BUNDLE_COUNT} are there`);
    return bundle;
  }

  /** What is stored of entries `[from, to)` of one bundle, up to the first that is not there: lent. */
  private records(from: number, to: number): { found: Uint8Array; offsets: Uint32Array } {
    const n = Math.floor(from / BUNDLE_COUNT);
    const bundle = peekBundle(this.snap, this.log, n);
    if (bundle === undefined) return withOffsets(readTail(this.snap, this.log, from, to));
    const offsets = bundleOffsets(bundle);
    if (offsets.length !== BUNDLE_COUNT + 1) throw new EngineError("STORE_CORRUPT", `bundle ${n}: ${offsets.length - 1} entries, want ${BUNDLE_COUNT}`);
    if (to - from === BUNDLE_COUNT) return { found: bundle, offsets };
    return withOffsets(sliceBundle(bundle, offsets, { from: from - n * BUNDLE_COUNT, to: to - n * BUNDLE_COUNT }));
  }

  // ------------------------------------------------------------------ the tree

  /** Root of the complete subtree of 2^level leaves that begins at leaf index · 2^level. */
  nodeAt(level: number, index: number): Hash {
    const span = 2 ** (level % TILE_LEVELS);
    const n = Math.floor((index * span) / TILE_WIDTH);
    const from = index * span - n * TILE_WIDTH;
    const nodes = this.cut(Math.floor(level / TILE_LEVELS), n, from, from + span);
    return span === 1 ? nodes.slice() : rootOf(nodes);
  }

  /** Edge of the tree over leaves `[from, to)`, where `from` is a multiple of a power of two not below their number. */
  private edgeOver(from: number, to: number): Edge {
    const nodes: Uint8Array[] = [];
    for (let at = from; at < to; ) {
      const level = levelBelow(to - at);
      nodes.push(this.nodeAt(level, at / 2 ** level));
      at += 2 ** level;
    }
    return { size: to - from, nodes: concatBytes(...nodes) };
  }

  private rootOver(from: number, to: number): Hash {
    return edgeRoot(this.edgeOver(from, to));
  }

  /** The right edge of the first `size` leaves, from the tiles. */
  edgeAt(size: number): Edge {
    return this.edgeOver(0, size);
  }

  /** The root of the first `size` leaves, from the tiles. */
  rootAt(size: number): Hash {
    return this.rootOver(0, size);
  }

  /** RFC 6962 section 2.1.1: the audit path of a leaf, leaf to root, 32 bytes a node. */
  inclusion(index: number, size: number): Uint8Array {
    this.mustHold(size);
    if (!(index >= 0 && index < size)) throw new EngineError("LOG_RANGE", `index ${index} in a tree of size ${size}`);
    const path: Hash[] = [];
    for (let from = 0, to = size; to - from > 1; ) {
      const middle = split(from, to);
      if (index < middle) {
        path.push(this.rootOver(middle, to));
        to = middle;
      } else {
        path.push(this.rootOver(from, middle));
        from = middle;
      }
    }
    return concatBytes(...path.reverse());
  }

  /** RFC 6962 section 2.1.2: proof that the tree of `newSize` extends that of `oldSize`. Empty where either is the whole of it. */
  consistency(oldSize: number, newSize: number): Uint8Array {
    this.mustHold(newSize);
    if (!(oldSize >= 0 && oldSize <= newSize)) throw new EngineError("LOG_RANGE", `old size ${oldSize} in a tree of size ${newSize}`);
    if (oldSize === 0) return new Uint8Array(0);
    const proof: Hash[] = [];
    let from = 0;
    let to = newSize;
    while (to !== oldSize) {
      const middle = split(from, to);
      if (oldSize <= middle) {
        proof.push(this.rootOver(middle, to));
        to = middle;
      } else {
        proof.push(this.rootOver(from, middle));
        from = middle;
      }
    }
    if (from > 0) proof.push(this.rootOver(from, to)); // else the verifier has it: it is the old root
    return concatBytes(...proof.reverse());
  }

  private mustHold(size: number): void {
    if (!Number.isSafeInteger(size) || size < 0 || (size > 0 && this.hashAt(size - 1) === null))
      throw new EngineError("LOG_RANGE", `tree size ${size}: the order here ends before it`);
  }
}

/** The first `used` bytes of a buffer in one of about `hint` bytes, never less than `least`. */
function grown(bundle: Uint8Array, used: number, hint: number, least: number): Uint8Array<ArrayBuffer> {
  const next = new Uint8Array(Math.max(hint, least));
  next.set(bundle.subarray(0, used));
  return next;
}

const withOffsets = (found: Uint8Array) => ({ found, offsets: bundleOffsets(found) });

/** The largest level of a complete subtree that `count` leaves begin with. */
function levelBelow(count: number): number {
  let level = 0;
  while (2 ** (level + 1) <= count) level++;
  return level;
}

/** Where RFC 6962 splits leaves `[from, to)`: the left side is the largest power of two below their number. */
const split = (from: number, to: number): number => from + 2 ** levelBelow(to - from - 1);
