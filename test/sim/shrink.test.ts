/** A failing seed shrinks to the few deeds that matter, the same ones each time, and those alone break the same invariant. */
import { afterEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { setMutant } from "../../src/engine/base/mutant.ts";
import { mergeArea } from "../../src/engine/sim/merge-area.ts";
import { parseMutants } from "../../src/engine/sim/mutants.ts";
import { parseDeeds, printDeeds, runDeeds, shrinkSeed } from "../../src/engine/sim/shrink.ts";
import { syncArea } from "../../src/engine/sim/sync-area.ts";
import { Tape } from "../../src/engine/sim/tape.ts";
import { codeOf } from "../thrown.ts";

const quietly = async (): Promise<void> => {};
afterEach(() => setMutant(null));

const seeds = new Map(parseMutants(readFileSync("fixtures/mutants.txt", "utf8")).map(({ mutant, seed }) => [mutant, seed]));

for (const [area, mutant] of [
  [mergeArea, "merge.publish-before-swap"],
  [syncArea, "sync.ack-before-commit"],
] as const)
  test(`${mutant}: the deeds that are left break what the seed broke, and without the mistake nothing`, async () => {
    const seed = seeds.get(mutant) ?? 0;
    setMutant(mutant);
    const shrunk = await shrinkSeed(area, { seed, eventsMax: undefined }, quietly);
    if (shrunk === null) throw new Error("the seed sees its mistake");
    expect(shrunk.deeds.length).toBeLessThan(shrunk.deedCount / 4);
    expect(runDeeds(area, { seed, eventsMax: undefined }, shrunk.deeds).violation?.invariant).toBe(shrunk.invariant);
    setMutant(null);
    expect(runDeeds(area, { seed, eventsMax: undefined }, shrunk.deeds).violation).toBeNull();
  }, 120_000);

test("a tape that plays every deed is the run it recorded", () => {
  for (const area of [mergeArea, syncArea]) {
    const tape = new Tape();
    const recorded = area.runSeed?.(3, { eventsMax: 1_500, tape });
    const all = Array.from({ length: tape.deedCount }, (_, number) => number);
    expect(area.runSeed?.(3, { eventsMax: 1_500, tape: tape.rewind(all) })).toEqual(recorded);
    expect(area.runSeed?.(3, { eventsMax: 1_500 })).toEqual(recorded);
    expect(area.runSeed?.(3, { eventsMax: 1_500, tape: tape.rewind([]) })?.traceHash).not.toBe(recorded?.traceHash);
  }
});

test("a seed that breaks nothing does not shrink", async () => {
  expect(await shrinkSeed(mergeArea, { seed: 1, eventsMax: 300 }, quietly)).toBeNull();
});

test("deeds are printed as they are parsed", () => {
  expect(printDeeds([0, 1, 2, 7, 9, 10])).toBe("0..2,7,9..10");
  expect(parseDeeds("0..2,7,9..10")).toEqual([0, 1, 2, 7, 9, 10]);
  expect(parseDeeds(printDeeds([]))).toEqual([]);
  for (const text of ["", "1,", "3..1", "x", "1..9999999", "-1"]) expect(codeOf(() => parseDeeds(text))).toBe("BAD_OPTION");
});
