/**
 * Every file of a published log of the test entries, made level by level from what RFC 6962 and C2SP tlog-tiles say,
 * without the reader and the packed rows that the engine serves them from.
 */
import { signCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { leafHashes, rootOf } from "../../src/engine/log/merkle.ts";
import { TILE_WIDTH, tilePath, tilesOf, tileWidth } from "../../src/engine/log/tile.ts";
import { entriesOf } from "./grow.ts";
import { keyOf, seedOf } from "./note-vectors.ts";

const origin = "example.org/log";
const seed = seedOf(4);
export const LOG_KEY = { origin, vkey: keyOf(origin, 1, 4) };

/** Bytes by path below the log's address. */
export type Files = Map<string, Uint8Array>;

const known = new Map<number, Uint8Array>();
/** Leaf hashes of the test log's first `size` entries. */
export function hashesOf(size: number): Uint8Array {
  const hashes = known.get(size) ?? leafHashes(bundleOf(entriesOf(0, size)));
  known.set(size, hashes);
  return hashes;
}
export const headOf = (size: number): Uint8Array => signCheckpoint({ origin, size, root: rootOf(hashesOf(size)) }, seed);

export function filesOf(size: number): Files {
  const files: Files = new Map([["checkpoint", headOf(size)]]);
  let nodes = hashesOf(size);
  for (const { level } of tilesOf(size)) {
    const roots: Uint8Array[] = [];
    for (let n = 0; ; n++) {
      const width = tileWidth(level, n, size);
      if (width === 0) break;
      const tile = nodes.slice(n * TILE_WIDTH * 32, (n * TILE_WIDTH + width) * 32);
      files.set(tilePath(level, n, width), tile);
      if (level === 0) files.set(tilePath("entries", n, width), bundleOf(entriesOf(n * TILE_WIDTH, n * TILE_WIDTH + width)));
      if (width === TILE_WIDTH) roots.push(rootOf(tile));
    }
    nodes = Uint8Array.from(roots.flatMap((root) => [...root]));
  }
  return files;
}
