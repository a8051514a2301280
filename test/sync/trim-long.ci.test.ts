/** A sample of the long trimming run in virtual time; the campaign `sync-trim` runs an hour of it, and ten minutes of real processes. */
import { expect, test } from "bun:test";
import { runTrimLong } from "./trim-long.ts";

for (const nodes of [3, 5] as const)
  test(`${nodes} nodes go on, trim, and copy to whoever was away too long`, () => {
    const { versions, first, copies, turns } = runTrimLong(nodes, 400_000, 1);
    expect(first).toBeGreaterThan(versions - 1_300);
    expect(copies).toBeGreaterThan(0);
    expect(turns).toBeGreaterThan(0);
  }, 240_000);
