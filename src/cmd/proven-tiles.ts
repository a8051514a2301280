/**
 * Tiles of a published log that are proven before they are used: the partial tiles of a head are its right edge and must
 * give the signed root; every full tile must fold to its hash in a proven tile above it. So any entry, proof or older
 * root costs a few tiles, whatever the size, and whoever serves them can lie about none.
 * Memory: the partial tiles, and the last few full ones.
 */
import { concatBytes, equalBytes, readU64be, toHex } from "../engine/base/bytes.ts";
import type { Db, Snapshot } from "../engine/base/effects.ts";
import { EngineError } from "../engine/base/errors.ts";
import { HASH_BYTES, type Hash, type LogId } from "../engine/base/ids.ts";
import type { Checkpoint } from "../engine/log/checkpoint.ts";
import { BUNDLE_COUNT, bundleCount, bundleOffsets, entryAt } from "../engine/log/entry.ts";
import { EMPTY_EDGE, edgeRoot, foldEdge, leafHashes, rootOf } from "../engine/log/merkle.ts";
import { LogReader } from "../engine/log/reader.ts";
import { TILE_WIDTH, type TileLevel, tilePath, tilesOf, tileWidth } from "../engine/log/tile.ts";
import type { LogSource } from "../engine/log/verify.ts";

/** Full tiles kept: a proof touches two on each level. 8 KiB each. */
const TILES_KEPT_MAX = 64;
/** The reader puts a log's id before its keys; there is only one log here. */
const ONLY_LOG: LogId = new Uint8Array(8);
const ORDER_TAG = 0x6f;

export type ProvenEntry = { readonly index: number; readonly leafHash: Hash; readonly entry: Uint8Array };

export class ProvenTiles {
  readonly head: Checkpoint;
  private readonly source: LogSource;
  /** By path. Partial tiles stay, full ones make room for newer ones. */
  private readonly partial = new Map<string, Uint8Array>();
  private readonly full = new Map<string, Uint8Array>();

  private constructor(source: LogSource, head: Checkpoint) {
    this.source = source;
    this.head = head;
  }

  /** Reads the right edge of a head whose signature was verified. Throws LOG_ROOT_MISMATCH where it gives another root. */
  static async open(source: LogSource, head: Checkpoint): Promise<ProvenTiles> {
    const tiles = new ProvenTiles(source, head);
    const edges: Uint8Array[] = [];
    for (const { level, fullCount, width } of tilesOf(head.size)) {
      if (width === 0) continue;
      const hashes = await tiles.fetchTile(level, fullCount, width);
      tiles.partial.set(tilePath(level, fullCount), hashes);
      edges.unshift(foldEdge(EMPTY_EDGE, hashes).nodes);
    }
    const root = edgeRoot({ size: head.size, nodes: concatBytes(...edges) });
    if (!equalBytes(root, head.root))
      throw new EngineError(
        "LOG_ROOT_MISMATCH",
        `size ${head.size}: the right edge of the tiles gives ${toHex(root)}, the checkpoint says ${toHex(head.root)}`,
      );
    return tiles;
  }

  /** Entries `[from, to)` of one bundle, each hashed into its place. */
  async entries(from: number, to: number): Promise<readonly ProvenEntry[]> {
    const n = Math.floor(from / BUNDLE_COUNT);
    const [bundle, hashes] = await Promise.all([this.fetchBundle(n), this.tile(0, n)]);
    const found = leafHashes(bundle);
    const offsets = bundleOffsets(bundle);
    return Array.from({ length: to - from }, (_, i) => {
      const at = from + i - n * BUNDLE_COUNT;
      const leafHash = hashAt(found, at);
      const wanted = hashAt(hashes, at);
      if (!equalBytes(leafHash, wanted))
        throw new EngineError("LOG_ENTRY_MISMATCH", `entry ${from + i} hashes to ${toHex(leafHash)}, ${tilePath(0, n)} says ${toHex(wanted)}`);
      return { index: from + i, leafHash, entry: entryAt(bundle, offsets, at) };
    });
  }

  async leafHash(index: number): Promise<Hash> {
    if (index >= this.head.size) throw new EngineError("LOG_RANGE", `index ${index} is not below size ${this.head.size}`);
    return hashAt(await this.tile(0, Math.floor(index / TILE_WIDTH)), index % TILE_WIDTH);
  }

  /** Runs a computation over the tree; a tile that it misses is fetched and proven, then it runs again. */
  async compute<T>(work: (reader: LogReader) => T): Promise<T> {
    for (;;) {
      try {
        return work(new LogReader(this.rows(), ONLY_LOG));
      } catch (error) {
        if (!(error instanceof MissingTile)) throw error;
        await this.tile(error.level, error.n);
      }
    }
  }

  /** The tiles at hand as the rows that a LogReader reads. */
  private rows(): Snapshot {
    const get = (_db: Db, key: Uint8Array): Uint8Array | undefined => {
      const [level, n] = key[8] === ORDER_TAG ? [0, readU64be(key, 9) ?? 0] : [key[9] ?? 0, readU64be(key, 10) ?? 0];
      const path = tilePath(level, n);
      const hashes = this.partial.get(path) ?? this.full.get(path);
      if (hashes === undefined && tileWidth(level, n, this.head.size) > 0) throw new MissingTile(level, n);
      return hashes;
    };
    return {
      get,
      peek: get,
      row: () => undefined,
      wroteAt: () => undefined,
      range: () => [],
      fileSize: () => null,
      fileRead: () => null,
      fileList: () => [],
    };
  }

  private async tile(level: number, n: number): Promise<Uint8Array> {
    const path = tilePath(level, n);
    const known = this.partial.get(path) ?? this.full.get(path);
    if (known !== undefined) return known;
    const [hashes, above] = await Promise.all([this.fetchTile(level, n, TILE_WIDTH), this.tile(level + 1, Math.floor(n / TILE_WIDTH))]);
    const root = rootOf(hashes);
    const wanted = hashAt(above, n % TILE_WIDTH);
    if (!equalBytes(root, wanted)) throw new EngineError("LOG_ROOT_MISMATCH", `${path} folds to ${toHex(root)}, the tile above it says ${toHex(wanted)}`);
    this.full.set(path, hashes);
    if (this.full.size > TILES_KEPT_MAX) for (const oldest of this.full.keys()) if (this.full.delete(oldest)) break;
    return hashes;
  }

  private async fetchTile(level: number, n: number, width: number): Promise<Uint8Array> {
    const { path, bytes } = await this.fetch(level, n, width);
    if (bytes.length < width * HASH_BYTES || bytes.length % HASH_BYTES !== 0)
      throw new EngineError("LOG_ENCODING", `${path}: ${bytes.length} bytes, want ${width * HASH_BYTES}`);
    return bytes.subarray(0, width * HASH_BYTES);
  }

  private async fetchBundle(n: number): Promise<Uint8Array> {
    const width = tileWidth("entries", n, this.head.size);
    const { path, bytes } = await this.fetch("entries", n, width);
    const count = bundleCount(bytes);
    if (count < width) throw new EngineError("LOG_ENCODING", `${path}: ${count} entries, want ${width}`);
    return bytes;
  }

  /** A partial piece, or the full one that took its place when the log grew: it begins with the same bytes. */
  private async fetch(level: TileLevel, n: number, width: number): Promise<{ path: string; bytes: Uint8Array }> {
    for (const each of width === TILE_WIDTH ? [TILE_WIDTH] : [width, TILE_WIDTH]) {
      const path = tilePath(level, n, each);
      const bytes = await this.source.read(path);
      if (bytes !== null) return { path, bytes };
    }
    throw new EngineError("LOG_ENCODING", `${tilePath(level, n, width)}: missing; the checkpoint's size ${this.head.size} needs it`);
  }
}

/** Never leaves this file: what a computation over the tree stopped at. */
class MissingTile extends Error {
  readonly level: number;
  readonly n: number;
  constructor(level: number, n: number) {
    super(`tile ${level}/${n}`);
    this.level = level;
    this.n = n;
  }
}

const hashAt = (hashes: Uint8Array, at: number): Hash => hashes.slice(at * HASH_BYTES, (at + 1) * HASH_BYTES);
