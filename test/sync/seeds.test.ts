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

  test("a store that was cleared waits for no majority that had what it lost: seed 4355", () => {
    expect(runSyncSeed(4_355).violation).toBeNull();
  }, 60_000);

  test("nothing is trimmed between the hold of a resumed copy and its snapshot: seed 5216", () => {
    expect(runSyncSeed(5_216).violation).toBeNull();
  }, 60_000);

  test("a newer snapshot is sent once the requester stands at that one: seed 5764", () => {
    expect(runSyncSeed(5_764).violation).toBeNull();
  }, 60_000);

  test("a vote that is under way throughout a sync is not forgotten by its end: seed 6149", () => {
    expect(runSyncSeed(6_149).violation).toBeNull();
  }, 60_000);

  test("one seed twice is one run", () => {
    const [one, other] = [runSyncSeed(5), runSyncSeed(5)];
    expect([other.traceHash, other.events]).toEqual([one.traceHash, one.events]);
  }, 60_000);
});
