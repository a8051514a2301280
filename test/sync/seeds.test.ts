/** Seeds of members that must be copied to: nothing breaks, a seed is a run, and copies do happen in them. */
import { describe, expect, test } from "bun:test";
import { runSyncSeed } from "../../src/engine/sim/sync-seed.ts";

const SEEDS = 12;

describe("seeds of synchronisation", () => {
  test(`${SEEDS} seeds break nothing, and stores are copied in them`, () => {
    let copies = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { violation, marks } = runSyncSeed(seed);
      expect(violation === null ? "" : `seed ${seed}: ${violation.invariant}`).toBe("");
      copies += marks.get("sync.flag-off") ?? 0;
    }
    expect(copies).toBeGreaterThan(SEEDS);
  }, 120_000);

  for (const [seed, what] of [
    [4_355, "a store that was cleared waits for no majority that had what it lost"],
    [5_216, "nothing is trimmed between the hold of a resumed copy and its snapshot"],
    [5_764, "a newer snapshot is sent once the requester stands at that one"],
    [6_149, "a vote that is under way throughout a sync is not forgotten by its end"],
  ] as const)
    test(`${what}: seed ${seed}`, () => {
      expect(runSyncSeed(seed).violation).toBeNull();
    }, 60_000);

  test("one seed twice is one run", () => {
    const [one, other] = [runSyncSeed(5), runSyncSeed(5)];
    expect([other.traceHash, other.events]).toEqual([one.traceHash, one.events]);
  }, 60_000);
});
