/** What a copy says of itself (sync.md section 4.7): percent by rows, rate by the last whole second, ETA, what holds it up. */
import { describe, expect, test } from "bun:test";
import { treeCount } from "../../src/engine/store/tree.ts";
import { beginWrite, count, endWrite, newProgress, progressStatus } from "../../src/engine/sync/progress.ts";
import { statusOf } from "../../src/engine/sync/status.ts";
import { SyncCluster } from "./sync-cluster.ts";

const nothing = { keyCount: 0, liveBytes: 0 };
const all = { keys: 1_000, bytes: 100_000 };

describe("progress", () => {
  test("a hundred rows of 10,000 bytes in each second", () => {
    const progress = newProgress(all, nothing, 5_000);
    expect(progressStatus(progress, 5_000)).toMatchObject({ percent: 0, bytesPerS: 0, etaMs: null });
    for (let upMs = 5_100; upMs <= 7_000; upMs += 100) count(progress, 10, 1_000, upMs);
    expect(progressStatus(progress, 7_050)).toMatchObject({ keysDone: 200, bytesDone: 20_000, percent: 20, bytesPerS: 10_000, etaMs: 8_000 });
    // nothing more comes: the rate falls, the ETA grows
    const late = progressStatus(progress, 27_000);
    expect(late.bytesPerS).toBe(0);
    expect(late.etaMs).toBeNull();
  });

  test("what was here before counts, and an estimate never says that all is done", () => {
    const progress = newProgress(all, { keyCount: 600, liveBytes: 60_000 }, 0);
    expect(progressStatus(progress, 0).percent).toBe(60);
    count(progress, 900, 1, 500);
    expect(progressStatus(progress, 500)).toMatchObject({ percent: 99, etaMs: 0 });
    expect(progressStatus(newProgress({ keys: 0, bytes: 0 }, nothing, 0), 1).percent).toBe(0);
  });

  test("own commits that take most of the time are what limits", () => {
    const progress = newProgress(all, nothing, 0);
    beginWrite(progress, 100);
    expect(progressStatus(progress, 150).limitedBy).toBe("peer");
    expect(progressStatus(progress, 250).limitedBy).toBe("disk");
    endWrite(progress, 200);
    expect(progressStatus(progress, 250).limitedBy).toBe("peer");
  });

  test("a laggard knows how much is to come from its first chunk on, and in the end all came", () => {
    const cluster = new SyncCluster({ writeMs: null, limits: { chunkBytes: 1 << 20, chunkKeys: 6, windowChunks: 1, windowBytes: 1 << 20 } });
    cluster.begin();
    cluster.start("c");
    const [, , c] = cluster.ids;
    if (c === undefined) throw new Error("three nodes");
    const state = (): ReturnType<typeof statusOf> => statusOf(cluster.state(c), cluster.upMs());
    let percent = 0;
    let keys = 0;
    cluster.runUntil(() => {
      const copy = state().copy?.progress;
      if (copy !== undefined && copy !== null) {
        expect(copy.percent).toBeGreaterThanOrEqual(percent);
        percent = copy.percent;
        keys = copy.keysDone;
        expect(copy.keys).toBe(treeCount(cluster.model.trees.at(-1) ?? null));
      }
      return cluster.isJoined(c);
    }, 60_000);
    expect([percent, keys]).toEqual([99, treeCount(cluster.model.trees.at(-1) ?? null)]);
  });
});
