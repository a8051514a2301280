/** Table A of sync.md on a cluster without Paxos: the seed profile and the default, then crashes at every boundary. */
import { describe, expect, test } from "bun:test";
import { SEED_LIMITS } from "../../src/engine/sync/state.ts";
import { SyncCheckers } from "./sync-checkers.ts";
import { type Options, SyncCluster } from "./sync-cluster.ts";

const SEED_PROFILE: Options = { isResuming: false, holdsAll: true, limits: { ...SEED_LIMITS, chunkKeys: 6 } };

describe("a laggard", () => {
  for (const [name, options] of [
    ["in the seed profile", SEED_PROFILE],
    ["with a window and resume", {}],
  ] satisfies [string, Options][])
    test(`is brought back ${name}`, () => {
      const cluster = new SyncCluster({ ...options, writeMs: 300, recording: true });
      const checkers = new SyncCheckers(cluster);
      cluster.begin();
      cluster.start("c");
      const done = cluster.runUntil(() => cluster.isWhole() && cluster.world.nowMs > 5_000, 120_000);
      if (process.env["SHOW"] !== undefined) console.log(cluster.world.trace.since(0).join("\n"));
      expect(cluster.world.violations).toEqual([]);
      expect(done).toBe(true);
      expect(checkers.damaged).toBe(false);
    });
});
