/**
 * A copy that goes on where an earlier one stood (sync.md sections 4.4 and 4.5): until its provider has a snapshot, trimming is held
 * from the first version on, as for a fresh copy; what the earlier snapshot needs is less, and counts from then on.
 */
import { expect, test } from "bun:test";
import { nodeId } from "../../src/engine/base/ids.ts";
import { SYNC_TIMING } from "../../src/engine/sync/state.ts";
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
