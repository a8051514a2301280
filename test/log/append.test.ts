import { expect, test } from "bun:test";
import fc from "fast-check";
import { decodeEdge, encodeEdge, entryOps, orderCutOps, orderOps, tileOps } from "../../src/engine/log/append.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { EMPTY_EDGE, foldEdge, leafHashes } from "../../src/engine/log/merkle.ts";
import { LogReader } from "../../src/engine/log/reader.ts";
import { keyOwner, logKeys } from "../../src/engine/store/keys.ts";
import { VALUE_BYTES_MAX } from "../../src/engine/store/types.ts";
import { codeOf } from "../thrown.ts";
import { cutTo, entriesOf, growOps, growTo, LOG, storedEdge } from "./grow.ts";
import { MapSnapshot } from "./map-snapshot.ts";

const sizes = fc.oneof(fc.nat(800), fc.constantFrom(0, 1, 255, 256, 257, 511, 512, 513, 768));
const batches = fc.array(fc.oneof(fc.nat(300), fc.constantFrom(1, 255, 256, 257)), { maxLength: 6 });
const grown = (size: number, split: readonly number[] = []): MapSnapshot => {
  const snap = new MapSnapshot();
  growTo(snap, size, split);
  return snap;
};

test("rows of a log of 600 entries (merge.md section 6)", () => {
  const snap = grown(600);
  const count = new Map<string, number>();
  for (const name of snap.rows.keys()) {
    const { what } = keyOwner(
      "log",
      Uint8Array.from(name, (char) => char.charCodeAt(0)),
    );
    count.set(what, (count.get(what) ?? 0) + 1);
  }
  expect(Object.fromEntries(count)).toEqual({ order: 3, bundle: 2, "tail entry": 600 - 512, tile: 1, edge: 1 });
  expect(snap.get("log", logKeys.order(LOG, 2))?.length).toBe(88 * 32);
  expect(snap.get("log", logKeys.tile(LOG, 1, 0))?.length).toBe(2 * 32);
});

test("a batch that covers whole bundles writes no single rows", () => {
  const ops = growOps(new MapSnapshot(), entriesOf(0, 1_024));
  expect(ops.filter((op) => op.op === "put" && keyOwner("log", op.key).what === "tail entry")).toEqual([]);
  expect(ops.length).toBe(4 + 4 + 1 + 1);
});

test("property: any split into batches leaves the same rows as one batch", () => {
  fc.assert(
    fc.property(sizes, batches, (size, split) => {
      expect(grown(size, split).dump()).toEqual(grown(size).dump());
    }),
    { numRuns: 60 },
  );
});

test("a third tile level fills as it should: 65,536 + 300 entries in uneven batches", () => {
  const snap = grown(65_836, [1, 300, 40_000, 255]);
  const reader = new LogReader(snap, LOG);
  expect(reader.tile(1, 0, 256).length).toBe(256 * 32);
  expect(reader.tile(1, 1, 1)).toEqual(reader.nodeAt(8, 256));
  expect(reader.tile(2, 0, 1)).toEqual(reader.nodeAt(16, 0));
  expect(codeOf(() => reader.tile(2, 0, 2))).toBe("LOG_RANGE");
  expect(reader.edgeAt(65_836)).toEqual(foldEdge(EMPTY_EDGE, reader.orderHashes(0, 65_836)));
});

test("property: cut, then append, is the same as never having had the end", () => {
  fc.assert(
    fc.property(sizes, sizes, sizes, batches, (a, b, c, split) => {
      const [kept, first] = [Math.min(a, b), Math.max(a, b)];
      const snap = grown(first, split);
      cutTo(snap, kept);
      expect(snap.dump()).toEqual(grown(kept).dump());
      growTo(snap, Math.max(kept, c), split);
      expect(snap.dump()).toEqual(grown(Math.max(kept, c)).dump());
    }),
    { numRuns: 60 },
  );
});

test("property: cut and append of other entries in one batch, each from the snapshot before it", () => {
  fc.assert(
    fc.property(sizes, sizes, fc.nat(600), (a, b, count) => {
      const [kept, first] = [Math.min(a, b), Math.max(a, b)];
      const other = entriesOf(10_000, 10_000 + count);
      const bundle = bundleOf(other);
      const snap = grown(first);
      const edge = kept === 0 ? EMPTY_EDGE : new LogReader(snap, LOG).edgeAt(kept);
      const tiles = tileOps(snap, LOG, edge, leafHashes(bundle));
      snap.apply([
        ...orderCutOps(snap, LOG, kept, first),
        ...orderOps(snap, LOG, kept, leafHashes(bundle)),
        ...entryOps(snap, LOG, kept, bundle),
        ...tiles.ops,
        { op: "put", key: logKeys.edge(LOG), value: encodeEdge(tiles.edge) },
      ]);
      const want = grown(kept);
      want.apply(growOps(want, other));
      expect(snap.dump()).toEqual(want.dump());
    }),
    { numRuns: 60 },
  );
});

test("a cut of a copy whose entries and tiles end before its order", () => {
  const snap = grown(300);
  const hashes = leafHashes(bundleOf(entriesOf(300, 900)));
  snap.apply(orderOps(snap, LOG, 300, hashes));
  snap.apply(orderCutOps(snap, LOG, 300, 900));
  expect(snap.dump()).toEqual(grown(300).dump());
});

test("a bundle longer than a value may be is stored in parts, and its cut leaves none behind", () => {
  const huge = Array.from({ length: 257 }, (_, i) => new Uint8Array(65_535).fill(i));
  const snap = new MapSnapshot();
  snap.apply(growOps(snap, huge.slice(0, 100)));
  snap.apply(growOps(snap, huge.slice(100)));
  for (const value of snap.rows.values()) expect(value.length).toBeLessThanOrEqual(VALUE_BYTES_MAX);
  expect(new LogReader(snap, LOG).entryBundle(0, 256)).toEqual(bundleOf(huge.slice(0, 256)));
  cutTo(snap, 1);
  const want = new MapSnapshot();
  want.apply(growOps(want, huge.slice(0, 1)));
  expect(snap.dump()).toEqual(want.dump());
});

test("appending behind what is not there is refused", () => {
  const snap = grown(10);
  const hashes = leafHashes(bundleOf(entriesOf(0, 300)));
  expect(codeOf(() => orderOps(snap, LOG, 20, hashes))).toBe("LOG_RANGE");
  expect(codeOf(() => entryOps(snap, LOG, 20, bundleOf(entriesOf(0, 300))))).toBe("LOG_RANGE");
});

test("property: the edge row comes back, and none with a damaged root or node does", () => {
  fc.assert(
    fc.property(sizes, fc.nat(), fc.nat(254), (size, at, flip) => {
      const edge = storedEdge(grown(size));
      const raw = encodeEdge(edge);
      expect(decodeEdge(raw)).toEqual(edge);
      const damaged = raw.slice();
      const place = 8 + (at % (raw.length - 8)); // a wrong size with as many set bits is for the store's checksum to find
      damaged[place] = (damaged[place] as number) ^ (flip + 1);
      expect(codeOf(() => decodeEdge(damaged))).toBe("STORE_CORRUPT");
      expect(codeOf(() => decodeEdge(raw.subarray(0, at % raw.length)))).toBe("STORE_CORRUPT");
    }),
    { numRuns: 50 },
  );
});
