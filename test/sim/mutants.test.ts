/**
 * The checkers see what they are for: each planted mistake of `fixtures/mutants.txt` breaks its invariant at its seed,
 * the same seed holds without it, and no mistake in the sources is without a line.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { areas } from "../../src/engine/sim/areas.ts";
import { firstWord, isHuntedBy, parseMutants, runWithMutant } from "../../src/engine/sim/mutants.ts";

const kept = parseMutants(readFileSync(new URL("../../fixtures/mutants.txt", import.meta.url), "utf8"));
describe("planted mistakes", () => {
  for (const { mutant, seed, invariant } of kept) {
    test(`${mutant} is seen by seed ${seed}`, () => {
      const area = areas.find((each) => isHuntedBy(each, mutant));
      const { violation } = runWithMutant(area!, mutant, seed);
      expect(violation === null ? "nothing broke" : firstWord(violation.invariant)).toBe(invariant);
    }, 60_000);
  }

  test("every mistake of the merge, of Paxos and of synchronisation in the sources has a line", () => {
    const named = new Set<string>();
    for (const file of new Bun.Glob("src/engine/**/*.ts").scanSync())
      for (const [, name = ""] of readFileSync(file, "utf8").matchAll(/mutant\("((?:merge|paxos|sync)\.[a-z-]+)"\)/g)) named.add(name);
    expect([...named].sort()).toEqual(kept.map(({ mutant }) => mutant).sort());
  });
});
