/**
 * A copy that goes on where it stood (sync.md sections 4.3 to 4.5). Until its provider has a snapshot, trimming is held from the first
 * version on, as for a fresh copy; what the earlier snapshot needs is less, and counts from then on. And a newer snapshot is
 * sent only once the requester said where it stands with that one.
 */
import { expect, test } from "bun:test";
import { nodeId } from "../../src/engine/base/ids.ts";
import { MIB, SYNC_TIMING } from "../../src/engine/sync/state.ts";
import { SyncCluster } from "./sync-cluster.ts";

const [B, C] = [nodeId("b"), nodeId("c")];

test("nothing is trimmed between the hold of a resumed copy and its snapshot", () => {
  const cluster = new SyncCluster({ keys: 30 });
  cluster.begin();
  cluster.runFor(SYNC_TIMING.holdWaitMs + 1_000);
  cluster.start("c");
  expect(cluster.runUntil(() => (cluster.state(C)?.requester.durable?.number ?? 0) > 0, 5_000)).toBe(true);
  cluster.world.crashNode(C);
  cluster.lagging.add(B);
  for (let n = 0; n < 9; n++) cluster.put(n);
  expect(cluster.runUntil(() => cluster.world.trace.marks.has("sync.first-later"), 10_000)).toBe(true);
  for (let n = 0; n < 9; n++) cluster.put(n);
  expect(cluster.trim()).toBe(false);
  cluster.endLag(B);
  expect(cluster.runUntil(() => cluster.isJoined(C), 120_000)).toBe(true);
  expect([cluster.world.violations, cluster.world.trace.marks.has("sync.resumed")]).toEqual([[], true]);
  expect(cluster.runUntil(cluster.isWhole, 120_000) && cluster.trim()).toBe(true);
});

test("where a copy stands with an older snapshot says nothing of the newer one", () => {
  const cluster = new SyncCluster({ keys: 30, flushMs: [5, 5] });
  cluster.begin();
  const { courier, network, trace } = cluster.world;
  const starts = { kind: "sync.start", from: "b", to: "c" };
  const release = (): void => {
    for (const [at, frame] of network.release(starts).entries()) courier.launch(frame, at);
  };
  network.hold(starts);
  cluster.start("c");
  expect(cluster.runUntil(() => trace.marks.has("sync.start-again"), 10_000)).toBe(true);
  for (let n = 0; n < 9; n++) cluster.put(n);
  cluster.fileBytes = 64 * MIB; // the snapshot is too old when the first of the two is answered
  release();
  network.hold(starts);
  cluster.runFor(SYNC_TIMING.stallMs / 2);
  release();
  expect(cluster.runUntil(() => cluster.isJoined(C), 120_000)).toBe(true);
  expect([cluster.world.violations, trace.marks.has("sync.snapshot-old"), trace.marks.has("sync.late-ack")]).toEqual([[], true, true]);
});
