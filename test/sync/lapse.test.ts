/**
 * A hold that lapses while its provider still waits to apply what the leader had (sync.md sections 4.3 and 4.4): a trim may
 * pass, so the hold that follows is another one, and the transfer counts on what that one says.
 */
import { expect, test } from "bun:test";
import { nodeId } from "../../src/engine/base/ids.ts";
import { SYNC_TIMING } from "../../src/engine/sync/state.ts";
import { SyncCluster } from "./sync-cluster.ts";

const [B, C] = [nodeId("b"), nodeId("c")];

test("a hold granted after a lapse and a trim is compared with its own first version", () => {
  const cluster = new SyncCluster({ keys: 30 });
  cluster.begin();
  const { network } = cluster.world;
  const marks = (name: string): number => cluster.world.trace.marks.get(name) ?? 0;
  cluster.runFor(SYNC_TIMING.holdWaitMs + 1_000);
  cluster.lagging.add(B);
  for (let n = 0; n < 8; n++) cluster.put(n);
  cluster.start("c");
  expect(cluster.runUntil(() => marks("sync.first-later") > 0, 5_000)).toBe(true);
  const renewals = { kind: "hold.renew", from: "b", to: "a" };
  network.hold(renewals);
  expect(cluster.runUntil(() => marks("hold.expired") > 0, 60_000)).toBe(true);
  for (let n = 0; n < 8; n++) cluster.put(n);
  expect(cluster.trim()).toBe(true);
  network.release(renewals);
  expect(cluster.runUntil(() => marks("hold.anew") > 0, 60_000)).toBe(true);
  cluster.endLag(B);
  cluster.runUntil(() => cluster.isJoined(C), 120_000);
  expect(cluster.world.violations).toEqual([]);
  expect(cluster.isJoined(C)).toBe(true);
});
