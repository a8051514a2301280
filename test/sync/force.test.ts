/**
 * A forced sync clears its store only when enough others have all it had (sync.md section 4.2), and only members that vote
 * are others: a disk that took a lost one's place has the versions, and could decide nothing while this node abstains.
 */
import { expect, test } from "bun:test";
import { nodeId } from "../../src/engine/base/ids.ts";
import { SyncCluster } from "./sync-cluster.ts";

const [A, B, C] = [nodeId("a"), nodeId("b"), nodeId("c")];

function forced(learners: readonly (typeof B)[]): SyncCluster {
  const cluster = new SyncCluster({ keys: 30 });
  cluster.begin({ laggard: null });
  for (const id of learners) cluster.learners.add(id);
  cluster.tell(C, { kind: "sync.force" });
  cluster.runFor(20_000);
  return cluster;
}

test("two others that vote are enough of three", () => {
  expect(forced([]).world.trace.marks.get("sync.confirmed")).toBe(1);
});

test("a new disk without a vote does not count, and the store stays", () => {
  const cluster = forced([B]);
  const { marks } = cluster.world.trace;
  expect([marks.get("sync.force-refused"), marks.get("sync.confirmed")]).toEqual([1, undefined]);
  expect(cluster.isFlagged(C)).toBe(false);
});

test("a version stored between the grant and the flag counts: it is not cleared before enough others have it", () => {
  const cluster = new SyncCluster({ keys: 30, flushMs: [20, 20] });
  cluster.begin({ laggard: null });
  for (const id of [A, C]) cluster.lagging.add(id);
  cluster.put(1);
  cluster.tell(C, { kind: "sync.force" });
  expect(cluster.runUntil(() => cluster.state(C).requester.phase === "clearing" && !cluster.isFlagged(C), 5_000)).toBe(true);
  cluster.endLag(C);
  cluster.runFor(5_000);
  expect([cluster.state(C).requester.floor, cluster.world.trace.marks.get("sync.confirmed")]).toEqual([cluster.last, undefined]);
});

test("a store that was cleared is copied to without asking once more: it has nothing left, and no map that says who votes now", () => {
  const cluster = new SyncCluster({ keys: 30 });
  cluster.begin({ laggard: null });
  cluster.tell(C, { kind: "sync.force" });
  expect(cluster.runUntil(() => cluster.state(C).requester.flag?.isCleared === true, 5_000)).toBe(true);
  cluster.world.crashNode(C);
  for (const id of [A, B]) cluster.learners.add(id);
  cluster.runUntil(() => cluster.isUp(C) && cluster.isJoined(C), 60_000);
  expect([cluster.isFlagged(C), cluster.history(C).last, cluster.world.violations]).toEqual([false, cluster.last, []]);
});

test("a majority that had it all and goes before the clear is not waited for: the store goes back into service", () => {
  const cluster = new SyncCluster({ keys: 30, flushMs: [20, 20] });
  cluster.begin({ laggard: null });
  cluster.restarts = false;
  cluster.tell(C, { kind: "sync.force" });
  expect(cluster.runUntil(() => cluster.state(C).requester.phase === "clearing", 5_000)).toBe(true);
  cluster.world.crashNode(cluster.state(C).requester.provider === A ? B : A);
  cluster.runFor(10_000);
  expect([cluster.isFlagged(C), cluster.isJoined(C), cluster.history(C).last]).toEqual([false, true, cluster.last]);
});
