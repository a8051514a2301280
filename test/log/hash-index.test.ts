import { expect, test } from "bun:test";
import fc from "fast-check";
import { concatBytes } from "../../src/engine/base/bytes.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { nextBelow, nextBytes, prng } from "../../src/engine/base/prng.ts";
import { FilterCache } from "../../src/engine/log/hash-filter.ts";
import { readManifest } from "../../src/engine/log/hash-manifest.ts";
import { compareRecords, type FullHashAt, type HashIndex, recordsOf, sortRecords } from "../../src/engine/log/hash-record.ts";
import { RUN_RECORDS_MIN, runsIndex } from "../../src/engine/log/hash-runs.ts";
import { LOG } from "./grow.ts";
import { treeIndex } from "./hash-tree.ts";
import { MapSnapshot } from "./map-snapshot.ts";
import { split32 } from "./naive.ts";

const AT = { log: LOG, space: "i" } as const;

/** The order that the index speaks of: what a log has, as an array. */
class Order {
  hashes: Uint8Array[] = [];
  readonly fullHashAt: FullHashAt = (index) => this.hashes[index] ?? null;
}

function insert(index: HashIndex, snap: MapSnapshot, order: Order, hashes: readonly Uint8Array[]): void {
  snap.apply(index.insertOps(snap, LOG, "i", concatBytes(...hashes), order.hashes.length));
  order.hashes.push(...hashes);
}

const find = (index: HashIndex, snap: MapSnapshot, order: Order, hashes: readonly Uint8Array[]): number[] => [
  ...index.find(snap, LOG, "i", concatBytes(...hashes), order.fullHashAt),
];

/** Random hashes, one in so many of which agrees with others in its first bytes. */
function someHashes(random: ReturnType<typeof prng>, count: number, oneIn = 10): Uint8Array[] {
  return Array.from({ length: count }, () => {
    const hash = nextBytes(random, 32);
    if (nextBelow(random, oneIn) === 0) hash.fill(7, 0, nextBelow(random, 17));
    return hash;
  });
}

for (const [name, make] of [
  ["runs", () => runsIndex(new FilterCache())],
  ["runs without a cache worth the name", () => runsIndex(new FilterCache(0))],
  ["plain rows", () => treeIndex],
] as const) {
  test(`${name}: property: every hash is found where it stands, and no other`, () => {
    const counts = fc.array(fc.oneof(fc.nat(40), fc.constantFrom(1, RUN_RECORDS_MIN - 1, RUN_RECORDS_MIN, 3_000)), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(counts, fc.nat(), (batches, seed) => {
        const random = prng(seed);
        const [index, snap, order] = [make(), new MapSnapshot(), new Order()];
        for (const count of batches) insert(index, snap, order, someHashes(random, count));
        expect(find(index, snap, order, order.hashes)).toEqual(order.hashes.map((_, i) => i));
        expect(find(index, snap, order, someHashes(random, 500))).toEqual(new Array(500).fill(-1));
      }),
      { numRuns: 12 },
    );
  });

  test(`${name}: an end that was cut is not found, and what came in its place is`, () => {
    const random = prng(3);
    const [index, snap, order] = [make(), new MapSnapshot(), new Order()];
    insert(index, snap, order, someHashes(random, 3_000));
    const cut = order.hashes.splice(1_000);
    expect(find(index, snap, order, cut)).toEqual(cut.map(() => -1));
    const refusing = (at: number): Uint8Array => {
      const hash = order.hashes[at];
      if (hash === undefined) throw new EngineError("LOG_RANGE", `order ends before ${at}`);
      return hash;
    };
    expect(new Set(index.find(snap, LOG, "i", concatBytes(...cut), refusing))).toEqual(new Set([-1]));
    const [again, fresh] = [cut.slice(0, 500).reverse(), someHashes(random, 1_500)];
    insert(index, snap, order, [...again, ...fresh]);
    expect(find(index, snap, order, order.hashes)).toEqual(order.hashes.map((_, i) => i));
    expect(find(index, snap, order, cut.slice(500))).toEqual(cut.slice(500).map(() => -1));
  });

  test(`${name}: hashes that share all that a record keeps of them are told apart`, () => {
    const random = prng(4);
    const [index, snap, order] = [make(), new MapSnapshot(), new Order()];
    const alike = Array.from({ length: 700 }, () => nextBytes(random, 32).fill(9, 0, 20)); // more than two blocks of one prefix
    insert(index, snap, order, [...someHashes(random, 900), ...alike.slice(0, 600), ...someHashes(random, 900)]);
    expect(find(index, snap, order, order.hashes)).toEqual(order.hashes.map((_, i) => i));
    expect(find(index, snap, order, alike.slice(600))).toEqual(new Array(100).fill(-1));
  });

  test(`${name}: spaces and logs do not see each other; nothing asked, nothing done`, () => {
    const random = prng(5);
    const [index, snap, order] = [make(), new MapSnapshot(), new Order()];
    insert(index, snap, order, someHashes(random, 2_000));
    const hashes = concatBytes(...order.hashes);
    expect(new Set(index.find(snap, LOG, "j", hashes, order.fullHashAt))).toEqual(new Set([-1]));
    expect(new Set(index.find(snap, Uint8Array.of(9, 2, 3, 4, 5, 6, 7, 8), "i", hashes, order.fullHashAt))).toEqual(new Set([-1]));
    expect(index.find(snap, LOG, "i", new Uint8Array(0), order.fullHashAt).length).toBe(0);
    expect(index.insertOps(snap, LOG, "i", new Uint8Array(0), 2_000)).toEqual([]);
  });
}

test("runs: many batches of all sizes, against the plain rows, across merges of three levels", () => {
  const random = prng(1);
  const [runs, plain] = [new MapSnapshot(), new MapSnapshot()];
  const [order, other] = [new Order(), new Order()];
  const index = runsIndex(new FilterCache());
  let runCountMax = 0;
  let opCountMax = 0;
  for (let batch = 0; order.hashes.length < 120_000; batch++) {
    const hashes = someHashes(random, [1, 30, 1_100, 2_000][nextBelow(random, 4)] as number, 1_000);
    opCountMax = Math.max(opCountMax, runs.applyCount(index.insertOps(runs, LOG, "i", concatBytes(...hashes), order.hashes.length)));
    order.hashes.push(...hashes);
    insert(treeIndex, plain, other, hashes);
    runCountMax = Math.max(runCountMax, readManifest(runs, AT).runs.length);
    if (batch % 20 > 0) continue;
    const asked = Array.from({ length: 300 }, () =>
      nextBelow(random, 2) === 0 ? nextBytes(random, 32) : (order.hashes[nextBelow(random, order.hashes.length)] as Uint8Array),
    );
    expect(find(index, runs, order, asked)).toEqual(find(treeIndex, plain, other, asked));
  }
  expect(find(index, runs, order, order.hashes)).toEqual(order.hashes.map((_, i) => i));
  expect(Math.max(...readManifest(runs, AT).runs.map((run) => run.level))).toBeGreaterThanOrEqual(3);
  expect(runCountMax).toBeLessThan(25); // four levels of at most six or so
  expect(opCountMax).toBeLessThan(150); // 3,023 records at most, and twice as many for each of four merges, in blocks of 250
}, 60_000);

test("runs: what merges leave behind is removed", () => {
  const random = prng(2);
  const [snap, order, index] = [new MapSnapshot(), new Order(), runsIndex(new FilterCache())];
  for (let batch = 0; batch < 100; batch++) insert(index, snap, order, someHashes(random, 2_000, 1_000));
  let bytes = 0;
  for (const value of snap.rows.values()) bytes += value.length;
  // each record is in one run, and at times in an output or a run that is leaving: 16 bytes and a filter's 12 bits each
  expect(bytes).toBeLessThan(order.hashes.length * 17.5 * 2.5);
});

test("runs: what is inserted again where it stands is kept once by the next merge", () => {
  const random = prng(7);
  const [snap, index, order] = [new MapSnapshot(), runsIndex(new FilterCache()), new Order()];
  insert(index, snap, order, someHashes(random, 1_500));
  for (let again = 0; again < 9; again++) snap.apply(index.insertOps(snap, LOG, "i", concatBytes(...order.hashes), 0));
  const counts = readManifest(snap, AT).runs.map((run) => run.recordCount);
  expect(new Set(counts)).toEqual(new Set([1_500]));
  expect(counts.length).toBeLessThan(10);
  expect(find(index, snap, order, order.hashes)).toEqual(order.hashes.map((_, i) => i));
});

test("runs: a new hash is answered without reading a run", () => {
  const random = prng(6);
  const [snap, order, index] = [new MapSnapshot(), new Order(), runsIndex(new FilterCache())];
  for (let batch = 0; batch < 30; batch++)
    insert(
      index,
      snap,
      order,
      Array.from({ length: 2_000 }, () => nextBytes(random, 32)),
    );
  const asked = Array.from({ length: 4_096 }, () => nextBytes(random, 32));
  find(index, snap, order, asked); // filters are read now
  snap.rangeCount = 0;
  find(index, snap, order, asked);
  const runs = readManifest(snap, AT).runs.length;
  expect(snap.rangeCount).toBeLessThan(asked.length * runs * 0.012);
});

test("runs: the cache keeps the filters of living runs, and no more than its limit", () => {
  const random = prng(8);
  for (const bytesMax of [1_000_000, 50_000, 0]) {
    const cache = new FilterCache(bytesMax);
    const [snap, order, index] = [new MapSnapshot(), new Order(), runsIndex(cache)];
    for (let batch = 0; batch < 40; batch++) {
      insert(index, snap, order, someHashes(random, 1_500, 1_000));
      find(index, snap, order, order.hashes.slice(-1_000));
      expect(cache.bytes).toBeLessThanOrEqual(bytesMax);
    }
    if (bytesMax === 1_000_000) expect(cache.bytes).toBeLessThan(order.hashes.length * 2.1); // 16 bits a record
    if (bytesMax > 0) expect(cache.bytes).toBeGreaterThan(bytesMax === 50_000 ? 10_000 : order.hashes.length * 1.9);
  }
});

test("property: records come out in order, without repeats, whatever the hashes share", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(3), fc.nat(2), fc.nat(3)), { maxLength: 60 }), fc.nat(2 ** 47), (shapes, first) => {
      const hashes = shapes.map(([high, middle, low]) => new Uint8Array(32).fill(high, 0, 1).fill(middle, 5, 6).fill(low, 9, 10));
      const records = concatBytes(...hashes.map((hash, i) => recordsOf(hash, first + (i % 5))));
      const want = [...new Set(Array.from({ length: hashes.length }, (_, i) => records.subarray(i * 16, i * 16 + 16).toHex()))].sort();
      const sorted = sortRecords(records);
      expect(sorted.toHex()).toBe(want.join(""));
      for (let at = 16; at < sorted.length; at += 16)
        expect(compareRecords(new DataView(sorted.buffer), at - 16, new DataView(sorted.buffer), at)).toBeLessThan(0);
    }),
  );
  expect(split32(sortRecords(new Uint8Array(0))).length).toBe(0);
});
