import { expect, test } from "bun:test";
import fc from "fast-check";
import { hashCount, parseTilePath, type TileLevel, tilePath, tilesOf, tileWidth } from "../../src/engine/log/tile.ts";
import { vectorLines } from "./vectors.ts";

const lines = vectorLines("tile-paths.txt");
const levelOf = (text: string | undefined): TileLevel => (text === "entries" ? "entries" : Number(text));

test("paths of the vectors, both ways (C2SP tlog-tiles, Tiles)", () => {
  const paths = lines.map((line) => line.split(" ")).filter(([kind]) => kind === "path");
  expect(paths.length).toBeGreaterThan(5);
  for (const [, level, n, width, text = ""] of paths) {
    const address = { level: levelOf(level), n: Number(n), width: Number(width) };
    expect(tilePath(address.level, address.n, address.width)).toBe(text);
    expect(parseTilePath(text)).toEqual(address);
  }
});

test("what is not the one path of a tile is refused", () => {
  const invalid = lines.filter((line) => line.startsWith("invalid")).map((line) => line.slice(8));
  expect(invalid.length).toBeGreaterThan(20);
  for (const text of invalid) expect({ text, is: parseTilePath(text) }).toEqual({ text, is: null });
});

test("tiles of the trees in the vectors", () => {
  for (const [kind, size, ...rows] of lines.map((line) => line.split(" "))) {
    if (kind === "tree") expect(tilesOf(Number(size)).map((row) => `${row.level}:${row.fullCount}+${row.width}`)).toEqual(rows);
  }
});

test("property: each tile has one path, and a path that parses is the one its tile is written with", () => {
  const level = fc.oneof(fc.nat(63), fc.constant("entries" as const));
  fc.assert(
    fc.property(level, fc.maxSafeNat(), fc.integer({ min: 1, max: 256 }), (at, n, width) => {
      expect(parseTilePath(tilePath(at, n, width))).toEqual({ level: at, n, width });
    }),
  );
  const piece = fc.constantFrom("tile/", "0/", "x", "000", "001", "1", "/", ".p/", "entries", "7", "255");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
      const text = pieces.join("");
      const address = parseTilePath(text);
      if (address !== null) expect(tilePath(address.level, address.n, address.width)).toBe(text);
    }),
    { numRuns: 2_000 },
  );
});

test("property: width of each tile, against counting hashes one by one", () => {
  fc.assert(
    fc.property(fc.nat(70_000), fc.nat(2), fc.nat(300), (size, level, n) => {
      let count = 0;
      for (let i = 0; i < 256; i++) if ((n * 256 + i + 1) * 256 ** level <= size) count++;
      expect(tileWidth(level, n, size)).toBe(count);
      expect(hashCount(level, size)).toBe(Math.floor(size / 256 ** level));
    }),
  );
});
