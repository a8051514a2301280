/**
 * Planted mistakes (sync.md section 5.4): each breaks its invariant in the story made for it, and the same story holds
 * without it. One story for the rule that a mistake forgets; the checkers are those of every other run.
 */
import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { nodeId } from "../../src/engine/base/ids.ts";
import { setMutant } from "../../src/engine/base/mutant.ts";
import { applyBatch } from "../../src/engine/store/memory.ts";
import { requests } from "../../src/engine/wire/messages.ts";
import { CLUSTER, type Options, SyncCluster } from "./sync-cluster.ts";

const [A, B, C, D] = ["a", "b", "c", "d"].map(nodeId) as [
  ReturnType<typeof nodeId>,
  ReturnType<typeof nodeId>,
  ReturnType<typeof nodeId>,
  ReturnType<typeof nodeId>,
];
const limits = { chunkBytes: 1 << 20, chunkKeys: 6, windowChunks: 1, windowBytes: 8 << 20 };

type Scene = SyncCluster;
function scene(options: Options, begin: Parameters<SyncCluster["begin"]>[0] = {}): Scene {
  const cluster = new SyncCluster({ keys: 30, limits, ...options });
  cluster.begin(begin);
  return cluster;
}

const marks = ({ world }: SyncCluster, name: string): number => world.trace.marks.get(name) ?? 0;
const copied = (cluster: Scene, count: number): boolean => cluster.runUntil(() => (cluster.state(C).requester.durable?.number ?? 0) >= count, 60_000);
const whole = (cluster: Scene): void => void cluster.runUntil(() => cluster.isWhole(), 400_000);

/** Provider and, after a copy that was cut short, another one with a newer snapshot: keys were put and erased in between. */
function resumed(): Scene {
  const cluster = scene({ nodes: 5 });
  cluster.start("c");
  copied(cluster, 4);
  cluster.restarts = false;
  cluster.world.crashNode(B);
  for (let n = 0; n < 12; n++) n % 3 === 0 ? cluster.erase(n) : cluster.put(n);
  cluster.runUntil(() => cluster.isJoined(C), 200_000);
  cluster.restarts = true;
  whole(cluster);
  return cluster;
}

/** The whole way, with writes and trims beside it. */
function plain(options: Options = {}): Scene {
  const cluster = scene({ writeMs: 3, link: { delayMs: [1, 4] }, flushMs: [0, 9], ...options });
  cluster.start("c");
  cluster.runUntil(() => cluster.isJoined(C), 120_000);
  return cluster;
}

const stories: Readonly<Record<string, { readonly sees: string; run(): Scene }>> = {
  "sync.flag-after-clear": {
    sees: "I8",
    run() {
      const cluster = scene({});
      cluster.world.crashAt({ node: C, kind: "commit", when: "after", nth: 1 });
      cluster.start("c");
      whole(cluster);
      return cluster;
    },
  },
  "sync.ack-before-commit": { sees: "I10", run: plain },
  "sync.promise-cleared": { sees: "I4", run: plain },
  "sync.floor-ignored": {
    sees: "I12",
    // a forced sync of a node that had more than the best ranked provider
    run() {
      const cluster = scene({ nodes: 5 }, { laggard: null });
      cluster.lagging.add(A);
      cluster.elect(B);
      for (let n = 0; n < 5; n++) cluster.put(n);
      cluster.runUntil(() => false, 100);
      cluster.tell(C, { kind: "sync.force" });
      cluster.runUntil(() => cluster.isFlagged(C) && !cluster.isJoined(C), 30_000);
      cluster.runUntil(() => cluster.isJoined(C), 60_000);
      return cluster;
    },
  },
  "sync.no-hold": {
    sees: "I7",
    run() {
      const cluster = scene({});
      cluster.runUntil(() => false, 61_000); // the new leader's wait
      cluster.start("c");
      copied(cluster, 2);
      for (let n = 0; n < 20; n++) cluster.put(n);
      cluster.trim();
      cluster.runUntil(() => cluster.isJoined(C), 120_000);
      return cluster;
    },
  },
  "sync.hold-never-ends": {
    sees: "I7",
    run() {
      const cluster = scene({ nodes: 5 });
      cluster.start("c");
      copied(cluster, 2);
      cluster.restarts = false;
      cluster.world.crashNode(B);
      cluster.runUntil(() => false, 40_000);
      return cluster;
    },
  },
  "sync.grant-without-lease": {
    sees: "I7",
    // a deposed leader that has not heard of its successor, and a provider that has not either
    run() {
      const cluster = scene({ nodes: 5 });
      cluster.elect(D);
      cluster.beliefs.set(A, { epoch: 2, leader: A, isSettled: true, hasLeases: false });
      cluster.beliefs.set(B, { epoch: 2, leader: A });
      cluster.runUntil(() => false, 62_000);
      cluster.start("c");
      cluster.runUntil(() => marks(cluster, "sync.streaming") > 0, 5_000);
      for (let n = 0; n < 20; n++) cluster.put(n);
      cluster.trim();
      cluster.beliefs.clear();
      cluster.runUntil(() => cluster.isJoined(C), 120_000);
      return cluster;
    },
  },
  "sync.first-compared-early": {
    sees: "broken",
    // the provider has not applied the trim that the leader speaks of
    run() {
      const cluster = scene({});
      cluster.runUntil(() => false, 61_000);
      cluster.lagging.add(B);
      for (let n = 0; n < 8; n++) cluster.put(n);
      cluster.trim();
      cluster.start("c");
      cluster.runUntil(() => marks(cluster, "sync.first-later") > 0, 5_000);
      cluster.endLag(B);
      cluster.runUntil(() => cluster.isJoined(C), 120_000);
      return cluster;
    },
  },
  "sync.new-leader-trims": {
    sees: "I7",
    run() {
      const cluster = scene({ nodes: 5 });
      cluster.start("c");
      copied(cluster, 2);
      cluster.world.network.hold({ kind: "hold.req", from: "b", to: "d" });
      cluster.world.crashNode(A);
      for (let n = 0; n < 20; n++) cluster.put(n);
      cluster.elect(D);
      cluster.runUntil(() => cluster.state(D).leading !== null, 1_000);
      cluster.trim();
      for (const frame of cluster.world.network.release({ kind: "hold.req", from: "b", to: "d" })) cluster.world.courier.launch(frame, 0);
      cluster.runUntil(() => cluster.isJoined(C), 120_000);
      return cluster;
    },
  },
  "sync.live-iterator": { sees: "I9", run: plain },
  "sync.cover-gap": { sees: "I9", run: plain },
  "sync.forgotten-erase": { sees: "I", run: resumed },
  "sync.resume-from-newest": { sees: "I", run: resumed },
  "sync.old-chunk-applied": {
    sees: "I",
    // a chunk of a transfer that was given up arrives while the next one stands at the same key, after that key changed
    run() {
      const cluster = scene({ isResuming: false });
      const { network, courier } = cluster.world;
      const chunks = { kind: "sync.chunk", from: "*", to: "c" };
      network.hold(chunks);
      cluster.start("c");
      cluster.runUntil(() => network.held.length > 0, 5_000);
      const [old] = network.held;
      if (old === undefined) throw new Error("no chunk was held");
      courier.pluck(old);
      for (let n = 0; n < 30; n++) cluster.put(n);
      cluster.world.crashNode(B);
      cluster.runUntil(() => network.held.length > 0, 60_000);
      courier.launch(courier.copyOf(old), 0);
      cluster.runUntil(() => false, 100);
      for (const frame of network.release(chunks)) courier.launch(frame, 0);
      cluster.runUntil(() => cluster.isJoined(C), 120_000);
      return cluster;
    },
  },
  "sync.flag-off-unverified": {
    sees: "I8",
    // a row that was damaged before its checksum was made
    run() {
      const cluster = scene({});
      cluster.start("c");
      copied(cluster, 3);
      cluster.checkers.damaged = true;
      const wrong = [{ op: "put", key: utf8("kv/000"), value: utf8("of nobody") }] as const;
      cluster.world.changeDisk(C, (disk) => ({ ...disk, dbs: { ...disk.dbs, replicated: applyBatch(disk.dbs.replicated, wrong, 3) } }));
      cluster.runUntil(() => cluster.isJoined(C), 200_000);
      return cluster;
    },
  },
  "sync.delta-keeps-stale": { sees: "I9", run: () => plain({ mode: "delta", keys: 120 }) },
  "sync.serve-flagged": { sees: "I8", run: plain },
  "sync.provide-flagged": {
    sees: "I8",
    run() {
      const cluster = scene({});
      cluster.start("c");
      copied(cluster, 2);
      cluster.beliefs.set(C, { leader: A });
      const scope = { cluster: CLUSTER, epoch: cluster.epoch, birth: CLUSTER };
      const ask = { kind: "sync.req", ...scope, mode: 0, last: 0, floor: 0, resume: null, limits } as const;
      expect(requests.decode(requests.encode(ask))).toEqual(ask);
      cluster.world.request(C, ask);
      cluster.runUntil(() => cluster.isJoined(C), 120_000);
      return cluster;
    },
  },
};

afterEach(() => setMutant(null));

describe("planted mistakes", () => {
  for (const [name, { sees, run }] of Object.entries(stories)) {
    test(`${name} breaks ${sees}`, () => {
      setMutant(name);
      const { violations } = run().world;
      expect(violations.length === 0 ? "nothing broke" : (violations[0]?.invariant.split(" ", 1)[0] ?? "")).toStartWith(sees);
    });
    test(`without ${name} the same story holds`, () => {
      const cluster = run();
      expect(cluster.world.violations).toEqual([]);
      if (name !== "sync.hold-never-ends") expect(cluster.isJoined(C)).toBe(true);
    });
  }

  test("the stories met what they are about", () => {
    expect(marks(resumed(), "sync.resumed")).toBeGreaterThan(0);
    const wrong = stories["sync.flag-off-unverified"]?.run() as Scene;
    expect(marks(wrong, "sync.mismatch")).toBeGreaterThan(0);
    expect(marks(stories["sync.first-compared-early"]?.run() as Scene, "sync.first-later")).toBeGreaterThan(0);
    expect(marks(stories["sync.old-chunk-applied"]?.run() as Scene, "sync.foreign-chunk")).toBeGreaterThan(0);
  });

  test("every mistake of synchronisation in the sources has a story", () => {
    const named = new Set<string>();
    for (const file of new Bun.Glob("src/engine/sync/*.ts").scanSync())
      for (const [, each = ""] of readFileSync(file, "utf8").matchAll(/mutant\("(sync\.[a-z-]+)"\)/g)) named.add(each);
    expect(Object.keys(stories).sort()).toEqual([...named].sort());
  });
});
