/**
 * Tiles and their paths (C2SP tlog-tiles, merge.md section 4). Tile n of level L holds up to 256 hashes; hash i is the
 * root of leaves `[(256n + i)·256^L, (256n + i + 1)·256^L)`. A partial tile is a prefix of the full one and has its width
 * in its path. Every tile has one path: what is spelt otherwise is refused, so a cache never holds one tile twice.
 */
import { invariant } from "../base/invariant.ts";

/** Levels of the tree that one tile spans. */
export const TILE_LEVELS = 8;
export const TILE_WIDTH = 256;
const TILE_LEVEL_MAX = 63;

/** A tile of hashes, or the bundle of the entries below a tile of level 0. */
export type TileLevel = number | "entries";
/** Width 256 is a full tile. */
export type TileAddress = { readonly level: TileLevel; readonly n: number; readonly width: number };
/** One level of a tree: full tiles `[0, fullCount)`, and behind them a partial one where `width` is not 0. */
type TileRow = { readonly level: number; readonly fullCount: number; readonly width: number };

/** Path below the log's address: `tile/0/x001/x234/067`, `tile/entries/000.p/17`. */
export function tilePath(level: TileLevel, n: number, width: number = TILE_WIDTH): string {
  invariant(Number.isSafeInteger(n) && n >= 0 && width >= 1 && width <= TILE_WIDTH, `tile ${level}/${n} of width ${width}`);
  const digits = String(n);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, "0").replace(/\d{3}(?=\d)/g, "x$&/");
  return `tile/${level}/${groups}${width === TILE_WIDTH ? "" : `.p/${width}`}`;
}

const PATH = /^tile\/(entries|0|[1-9][0-9]?)\/((?:x[0-9]{3}\/)*[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/;

/** The tile that a path names, or null where it is not the one path of a tile. */
export function parseTilePath(text: string): TileAddress | null {
  const match = PATH.exec(text);
  if (match === null) return null;
  const [, levelText, groups = "", widthText] = match;
  const level = levelText === "entries" ? "entries" : Number(levelText);
  const n = Number(groups.replace(/[x/]/g, ""));
  const width = widthText === undefined ? TILE_WIDTH : Number(widthText);
  if (groups.startsWith("x000") || !Number.isSafeInteger(n)) return null;
  if (level !== "entries" && level > TILE_LEVEL_MAX) return null;
  if (widthText !== undefined && width >= TILE_WIDTH) return null;
  return { level, n, width };
}

/** Number of hashes that a tree of `size` leaves has on a tile level: one per full tile of the level below. */
export function hashCount(level: TileLevel, size: number): number {
  return level === "entries" ? size : Math.floor(size / TILE_WIDTH ** level);
}

/** Width of tile n in a tree of `size` leaves: 256, a partial width, or 0 where there is none. */
export function tileWidth(level: TileLevel, n: number, size: number): number {
  return Math.min(TILE_WIDTH, Math.max(0, hashCount(level, size) - n * TILE_WIDTH));
}

/** The tiles of a tree, level by level from the leaves up; none for an empty tree. */
export function tilesOf(size: number): readonly TileRow[] {
  const rows: TileRow[] = [];
  for (let level = 0, count = size; count > 0; level++, count = Math.floor(count / TILE_WIDTH))
    rows.push({ level, fullCount: Math.floor(count / TILE_WIDTH), width: count % TILE_WIDTH });
  return rows;
}
