/**
 * Tiles are proven before they are used: over logs of the sizes where tiles begin and end, judged by the naive tree, and
 * with each piece that is read changed in turn: none of the changes may reach an entry, a root or a proof.
 */
import { describe, expect, test } from "bun:test";
import { ProvenTiles } from "../../src/cmd/proven-tiles.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { checkConsistency, checkInclusion } from "../../src/engine/log/proof.ts";
import { LogReader } from "../../src/engine/log/reader.ts";
import { readerSource } from "../../src/engine/log/reader-source.ts";
import type { LogSource } from "../../src/engine/log/verify.ts";
import { entryOf, growTo, LOG } from "../log/grow.ts";
import { MapSnapshot } from "../log/map-snapshot.ts";
import { naiveLeaf, naiveRoot } from "../log/naive.ts";
import { foreignFiles } from "./crafted-log.ts";

const LARGEST = 65_536 + 300; // three levels of tiles
const snap = new MapSnapshot();
growTo(snap, LARGEST, [300, 1_000]);
const reader = new LogReader(snap, LOG);
const honest = readerSource(reader, new Uint8Array(0));
const headOf = (size: number) => ({ origin: "example.org/log", size, root: reader.rootAt(size) });

describe("an honest source", () => {
  for (const size of [1, 2, 255, 256, 257, 511, 512, 600, 65_535, 65_536, 65_537, LARGEST])
    test(`size ${size}: entries, roots and proofs`, async () => {
      const tiles = await ProvenTiles.open(honest, headOf(size));
      for (const index of [0, 1, 255, 256, 257, size - 2, size - 1].filter((each) => each >= 0 && each < size)) {
        const [found] = await tiles.entries(index, index + 1);
        expect(found).toEqual({ index, entry: entryOf(index), leafHash: naiveLeaf(entryOf(index)) });
        expect(await tiles.leafHash(index)).toEqual(naiveLeaf(entryOf(index)));
        const path = await tiles.compute((each) => each.inclusion(index, size));
        checkInclusion({ index, size, leaf: naiveLeaf(entryOf(index)), root: headOf(size).root, path });
      }
      for (const old of [0, 1, 255, 256, 600].filter((each) => each <= size)) {
        const [oldRoot, path] = await tiles.compute((each) => [each.rootAt(old), each.consistency(old, size)] as const);
        expect(oldRoot).toEqual(naiveRoot(Array.from({ length: old }, (_, i) => naiveLeaf(entryOf(i)))));
        checkConsistency({ oldSize: old, oldRoot, newSize: size, newRoot: headOf(size).root, path });
      }
    });

  test("an index at the head's size is out of range, and an empty log has a root", async () => {
    const tiles = await ProvenTiles.open(honest, headOf(300));
    await expect(tiles.leafHash(300)).rejects.toMatchObject({ code: "LOG_RANGE" });
    const empty = await ProvenTiles.open(honest, headOf(0));
    expect(await empty.compute((each) => each.rootAt(0))).toEqual(naiveRoot([]));
  });

  test("a partial tile may have grown full where it lies", async () => {
    const grown: LogSource = { read: async (path) => (path.includes(".p/") ? null : honest.read(path)) };
    const tiles = await ProvenTiles.open(grown, headOf(256 + 255 + 1 - 100));
    expect((await tiles.entries(300, 301))[0]?.entry).toEqual(entryOf(300));
  });
});

test("a source that lies about one piece, in any way, is found at that piece", async () => {
  const size = LARGEST;
  const use = async (source: LogSource): Promise<void> => {
    const tiles = await ProvenTiles.open(source, headOf(size));
    await tiles.entries(512, 768);
    await tiles.entries(size - 44, size);
    await tiles.compute((each) => each.consistency(65_700, size));
  };
  const read = new Set<string>();
  await use({
    read: (path) => {
      read.add(path);
      return honest.read(path);
    },
  });
  expect(read.size).toBeGreaterThan(6);
  const lies: ((bytes: Uint8Array) => Uint8Array | null)[] = [
    (bytes) => bytes.with(bytes.length - 1, (bytes.at(-1) ?? 0) ^ 1),
    (bytes) => bytes.with(0, (bytes[0] ?? 0) ^ 128),
    (bytes) => bytes.subarray(0, bytes.length - 1),
    () => new Uint8Array(0),
    () => null,
  ];
  for (const path of read)
    for (const lie of lies) {
      const lying: LogSource = {
        read: async (each) => {
          const bytes = await honest.read(each);
          return each === path && bytes !== null ? lie(bytes) : bytes;
        },
      };
      const failure = await use(lying).then(
        () => "believed",
        (error: unknown) => (error instanceof EngineError ? error.row.exit : String(error)),
      );
      expect([path, failure]).toEqual([path, 7]);
    }
});

test("another log that is whole in itself is not the one that was signed", async () => {
  for (const size of [1, 3, 200]) {
    const files = foreignFiles(Array.from({ length: size }, (_, i) => `other ${i}`));
    const source: LogSource = { read: async (path) => files.get(path) ?? null };
    await expect(ProvenTiles.open(source, headOf(size))).rejects.toMatchObject({ code: "LOG_ROOT_MISMATCH" });
  }
});
