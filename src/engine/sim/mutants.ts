/**
 * Planted mistakes against the seeds of an area (sync.md 5.4): each must be seen within 500 of them, and the seed that
 * saw it is kept in `fixtures/mutants.txt`, one line each: name, seed, the invariant's first word. Source tree only.
 */
import { EngineError } from "../base/errors.ts";
import { setMutant } from "../base/mutant.ts";
import type { Area, SeedReport } from "./area.ts";

export const MUTANT_SEEDS_MAX = 500;

export type KeptMutant = { readonly mutant: string; readonly seed: number; readonly invariant: string };

/** Lines of `fixtures/mutants.txt`; `#` opens a comment. */
export function parseMutants(text: string): readonly KeptMutant[] {
  return text.split("\n").flatMap((line, at) => {
    if (line === "" || line.startsWith("#")) return [];
    const [, mutant, seed, invariant] = /^([a-z]+\.[a-z-]+) (\d+) (\S+)$/.exec(line) ?? [];
    if (mutant === undefined || seed === undefined || invariant === undefined)
      throw new EngineError("PARSE", `mutants, line ${at + 1}: want NAME SEED INVARIANT, got ${line}`);
    return [{ mutant, seed: Number(seed), invariant }];
  });
}

export const printMutant = ({ mutant, seed, invariant }: KeptMutant): string => `${mutant} ${seed} ${invariant}`;

/** One seed with a mistake planted. */
export function runWithMutant(area: Area, mutant: string, seed: number): SeedReport {
  if (area.runSeed === undefined) throw new EngineError("NOT_FOUND", `area ${area.name} has no seed runs`);
  setMutant(mutant);
  try {
    return area.runSeed(seed);
  } finally {
    setMutant(null);
  }
}

/** The first seed that sees the mistake, or null; `between` is awaited after each seed. */
export async function huntMutant(area: Area, mutant: string, between: () => Promise<void>): Promise<KeptMutant | null> {
  for (let seed = 1; seed <= MUTANT_SEEDS_MAX; seed++) {
    const { violation } = runWithMutant(area, mutant, seed);
    if (violation !== null) return { mutant, seed, invariant: firstWord(violation.invariant) };
    await between();
  }
  return null;
}

/** Whether the seeds of an area hunt this mistake. */
export const isHuntedBy = (area: Area, mutant: string): boolean => (area.mutants ?? [area.name]).some((word) => mutant.startsWith(`${word}.`));

export const firstWord = (text: string): string => text.split(" ", 1)[0] ?? "";
