/**
 * Delta copies (sync.md section 4.5): from any store to any other, only what differs; a snapshot that is replaced on the way;
 * roots that are unequal in the end; a provider that has no list to offer. The bytes of the 1 % case are counted.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { utf8 } from "../../src/engine/base/bytes.ts";
import type { Op } from "../../src/engine/base/effects.ts";
import { nodeId } from "../../src/engine/base/ids.ts";
import { type DigestNode, digestTreeOf } from "../../src/engine/store/digest.ts";
import { replicatedKeys } from "../../src/engine/store/keys.ts";
import { applyBatch, treeSnapshot } from "../../src/engine/store/memory.ts";
import { syncRows } from "../../src/engine/sync/records.ts";
import { type Options, SyncCluster } from "./sync-cluster.ts";

const C = nodeId("c");
/** Of the digest tree: what the cluster's id begins with. */
const SEED = 0xc1c1c1c1;
const limits = { chunkBytes: 1 << 20, chunkKeys: 6, windowChunks: 3, windowBytes: 8 << 20 };
const marks = ({ world }: SyncCluster, name: string): number => world.trace.marks.get(name) ?? 0;

/** A cluster whose laggard was interrupted before: it is flagged, and its store has these changes of nobody's. */
function clusterWith(changes: readonly Op[], options: Options = {}): SyncCluster {
  const cluster = new SyncCluster({ mode: "delta", limits, ...options });
  cluster.begin();
  const flag = syncRows.putFlag({ provider: "b", transfer: new Uint8Array(8), isForced: false, isCleared: true });
  const local = [flag, syncRows.putFloor(4)];
  cluster.world.changeDisk(C, (disk) => ({ ...disk, dbs: { ...disk.dbs, local: applyBatch(disk.dbs.local, local, 0) } }));
  spoil(cluster, changes, 2);
  return cluster;
}

function spoil(cluster: SyncCluster, changes: readonly Op[], wroteAt: number): void {
  cluster.world.changeDisk(C, (disk) => ({ ...disk, dbs: { ...disk.dbs, replicated: applyBatch(disk.dbs.replicated, changes, wroteAt) } }));
}

/** Joined, and the checkers compared what it has with its version. */
function join(cluster: SyncCluster): void {
  cluster.start("c");
  cluster.runUntil(() => cluster.isJoined(C), 120_000);
  expect(cluster.world.violations).toEqual([]);
  expect(cluster.isJoined(C)).toBe(true);
}

const keyOf = (n: number): Uint8Array => utf8(`kv/${String(n).padStart(3, "0")}`);

describe("delta copies", () => {
  const key = fc.oneof(
    fc.nat(400).map(keyOf),
    fc.nat(3).map((n) => utf8("zz".repeat(n + 1))),
    fc.constant(new Uint8Array(1_024).fill(0xff)),
  );
  const change = fc.oneof(
    { weight: 4, arbitrary: fc.record({ op: fc.constant("put" as const), key, value: fc.uint8Array({ maxLength: 30 }) }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant("del" as const), key }) },
    { weight: 1, arbitrary: fc.tuple(key, key).map(([from, end]) => ({ op: "delRange" as const, key: from, end })) },
  );
  test("whatever is here, what is there comes of it", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 120, size: "max" }), fc.integer({ min: 1, max: 300 }), (changes, keys) => {
        // paxos/last stays: without it the store counts as empty, and is copied whole
        const kept = changes.filter((each) => each.op !== "delRange" || !covers(each, replicatedKeys.last()));
        const cluster = clusterWith(kept, { keys, writeMs: null });
        join(cluster);
        expect(marks(cluster, "sync.walked")).toBe(1);
        expect(marks(cluster, "sync.cleared")).toBe(0);
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  test("a key put, one changed and one erased: as many rows cross, and what is deleted here only goes", () => {
    const cluster = clusterWith([], { keys: 300, writeMs: null, recording: true });
    spoil(cluster, [{ op: "put", key: keyOf(999), value: utf8("of nobody") }], 3);
    join(cluster);
    const said = cluster.world.trace.since(0).find((line) => line.includes("[sync.walked]")) ?? "";
    const [, taken, dropped] = /rows taken: (\d+), dropped: (\d+)/.exec(said) ?? [];
    expect(Number(taken)).toBeLessThan(60);
    expect(Number(dropped)).toBeGreaterThan(0);
  });

  test("own rows that make a whole run go too, where the runs beside them are equal", () => {
    const cluster = clusterWith([], { keys: 300, writeMs: null });
    const tree = cluster.model.trees[cluster.last] ?? null;
    const runsOf = (changes: readonly Op[]): readonly DigestNode[] => leaves(digestTreeOf(treeSnapshot(applyBatch(tree, changes, 2), "runs"), SEED));
    const put = (key: Uint8Array): Op => ({ op: "put", key, value: utf8("of nobody") });
    const extra = runsOf([])
      .flatMap(({ end }) => Array.from({ length: 60 }, (_, n) => new Uint8Array([...(end ?? []), n])))
      .find((key) => runsOf([put(key)]).some(({ end, rowCount }) => rowCount === 1 && end !== null && Buffer.compare(end, key) === 0));
    if (extra === undefined) throw new Error("no key makes a run of its own");
    cluster.world.changeDisk(C, (disk) => ({ ...disk, dbs: { ...disk.dbs, replicated: applyBatch(tree, [put(extra)], 2) } }));
    join(cluster);
    expect(marks(cluster, "sync.walked")).toBe(1);
  });

  test("an empty store is copied whole, whatever the mode", () => {
    const cluster = clusterWith([{ op: "delRange", key: utf8(""), end: utf8("zzzz") }]);
    join(cluster);
    expect(marks(cluster, "sync.cleared")).toBe(1);
    expect(marks(cluster, "sync.walked")).toBe(0);
  });

  test("a newer snapshot on the way: the walk begins again, and passes what is equal already", () => {
    const cluster = clusterWith([], { keys: 300, writeMs: 5_000 });
    const { network } = cluster.world;
    const held = { kind: "sync.range-want", from: "c", to: "b" };
    cluster.start("c");
    cluster.runUntil(() => (cluster.state(C).requester.durable?.number ?? 0) >= 2, 10_000);
    network.hold(held);
    cluster.runUntil(() => network.held.length > 0, 10_000);
    // the requester asks again and again, which keeps the transfer alive; then one question arrives
    cluster.runUntil(() => false, 601_000);
    for (const frame of network.release(held)) cluster.world.courier.launch(frame, 0);
    cluster.runUntil(() => cluster.isWhole(), 120_000);
    expect(cluster.world.violations).toEqual([]);
    expect(marks(cluster, "sync.snapshot")).toBe(2);
    expect(marks(cluster, "sync.walked")).toBe(1);
    expect(marks(cluster, "sync.abandoned")).toBe(0);
  });

  test("a forced one that is cut short does not go back into service: its store is a mixture", () => {
    const cluster = new SyncCluster({ mode: "delta", limits, nodes: 5, keys: 200, isResuming: false });
    cluster.begin({ laggard: null });
    for (let n = 0; n < 40; n++) cluster.put(n * 5);
    cluster.lagging.add(C);
    for (let n = 0; n < 40; n++) cluster.put(n * 5 + 1);
    cluster.tell(C, { kind: "sync.force" });
    cluster.runUntil(() => (cluster.state(C).requester.durable?.number ?? 0) >= 1, 30_000);
    cluster.restarts = false;
    for (const id of cluster.ids) if (cluster.state(id).transfers.size > 0) cluster.world.crashNode(id);
    cluster.runUntil(() => cluster.state(C).requester.phase === "probing", 60_000);
    expect([cluster.isFlagged(C), marks(cluster, "sync.withdrawn")]).toEqual([true, 0]);
    cluster.restarts = true;
    cluster.lagging.clear();
    cluster.runUntil(() => cluster.isWhole(), 120_000);
    expect(cluster.world.violations).toEqual([]);
    expect(cluster.isWhole()).toBe(true);
  });

  test("a run that is too long to be listed: the provider says so, and the store is copied whole", () => {
    const cluster = new SyncCluster({ mode: "delta", limits: { ...limits, chunkKeys: 2_000 } });
    // keys between two neighbours, none of which ends a run
    const isPlain = (key: Uint8Array): boolean => (Bun.hash.xxHash3(key, BigInt(SEED)) & 0xfn) !== 0n;
    const keys = Array.from({ length: 4_500 }, (_, n) => utf8(`kv/000/${n}`)).filter(isPlain);
    cluster.decide(keys.map((key) => ({ op: "put", key, value: utf8("crowded") }) as const));
    expect(keys.length).toBeGreaterThan(4_096);
    cluster.begin();
    join(cluster);
    expect([marks(cluster, "sync.kept"), marks(cluster, "sync.walked"), marks(cluster, "sync.cleared")]).toEqual([1, 0, 1]);
  });

  /** A copy whose store is spoiled when its fourth chunk is durable; `plan` is told when the roots prove unequal. */
  function mended(plan: (cluster: SyncCluster) => void): SyncCluster {
    const cluster = new SyncCluster({ limits, keys: 80 });
    cluster.begin();
    cluster.start("c");
    cluster.runUntil(() => (cluster.state(C).requester.durable?.number ?? 0) >= 4, 10_000);
    cluster.checkers.damaged = true;
    spoil(cluster, [{ op: "put", key: keyOf(1), value: utf8("of nobody") }], 3);
    cluster.runUntil(() => marks(cluster, "sync.mismatch") > 0, 10_000);
    plan(cluster);
    cluster.runUntil(() => cluster.isWhole() && cluster.world.crashPointCount === 0, 300_000);
    expect([cluster.world.violations, cluster.isWhole()]).toEqual([[], true]);
    return cluster;
  }

  test("unequal roots: only what differs is fetched again", () => {
    const cluster = mended(() => {});
    expect([marks(cluster, "sync.mismatch"), marks(cluster, "sync.walked"), marks(cluster, "sync.alarm"), marks(cluster, "sync.cleared")]).toEqual([
      1, 1, 0, 1,
    ]);
  });

  test("… and whoever dies at any step of that, no wrong row is served in the end", () => {
    for (const id of ["c", "b"].map(nodeId)) {
      let count = 0;
      mended(({ world }) => {
        world.onBoundary = ({ node, when }) => void (node === id && when === "after" && world.nowMs < 5_000 && count++);
      });
      expect(count).toBeGreaterThan(10);
      for (let nth = 1; nth <= count; nth++) mended(({ world }) => world.crashAt({ node: id, nth, when: "after", keep: nth % 2 === 0 ? "all" : "none" }));
    }
  }, 60_000);
});

const leaves = (node: DigestNode): readonly DigestNode[] => (node.level === 0 ? [node] : node.children.flatMap(leaves));

const covers = ({ key, end }: { readonly key: Uint8Array; readonly end: Uint8Array }, at: Uint8Array): boolean =>
  Buffer.compare(key, at) <= 0 && Buffer.compare(at, end) < 0;
