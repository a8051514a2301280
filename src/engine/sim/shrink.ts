/**
 * Makes a failing seed small (sync.md section 5.5): leaves out deeds as long as the same invariant still breaks, in halves,
 * then ever smaller parts, down to single ones (delta debugging). What is left is one line that shows it again. Deterministic:
 * the same seed shrinks to the same deeds.
 */
import { EngineError } from "../base/errors.ts";
import type { Area, SeedReport } from "./area.ts";
import { firstWord } from "./mutants.ts";
import { seedToViolation } from "./seeds.ts";
import { Tape } from "./tape.ts";

/** Runs of the seed; each is a fraction of a second. */
const TRIES_MAX = 400;

export type Shrunk = {
  readonly seed: number;
  readonly invariant: string;
  /** Deeds of the whole run, and those that are left. */
  readonly deedCount: number;
  readonly deeds: readonly number[];
  /** At which event it broke, before and now. */
  readonly at: { readonly whole: number; readonly shrunk: number };
  readonly tries: number;
};

type Wanted = { readonly seed: number; readonly eventsMax: number | undefined };

/** Null where the seed breaks nothing. `between` is told of each try, and may end it by throwing. */
export async function shrinkSeed(area: Area, { seed, eventsMax }: Wanted, between: (left: number, tries: number) => Promise<void>): Promise<Shrunk | null> {
  const tape = new Tape();
  const whole = runOn(area, { seed, eventsMax }, tape).violation;
  if (whole === null) return null;
  const name = firstWord(whole.invariant);
  let best = { deeds: Array.from({ length: tape.deedCount }, (_, number) => number), violation: whole };
  let tries = 0;
  for (let parts = 2; best.deeds.length > 0 && tries < TRIES_MAX; ) {
    const size = Math.ceil(best.deeds.length / parts);
    let smaller: typeof best | null = null;
    // the last deeds first: what came long before the break matters least often, but what came after it never
    for (let from = best.deeds.length - size; smaller === null && from > -size && tries < TRIES_MAX; from -= size) {
      const deeds = best.deeds.filter((_, at) => at < from || at >= from + size);
      const { violation } = runOn(area, { seed, eventsMax }, tape.rewind(deeds));
      tries++;
      await between(best.deeds.length, tries);
      if (violation !== null && firstWord(violation.invariant) === name) smaller = { deeds, violation };
    }
    if (smaller !== null) {
      best = smaller;
      parts = Math.max(2, parts - 1);
    } else if (size <= 1) break;
    else parts = Math.min(best.deeds.length, parts * 2);
  }
  const { deeds, violation } = best;
  return { seed, invariant: violation.invariant, deedCount: tape.deedCount, deeds, at: { whole: whole.at, shrunk: violation.at }, tries };
}

/** A seed with these deeds alone. */
export function runDeeds(area: Area, wanted: Wanted, deeds: readonly number[]): SeedReport {
  return runOn(area, wanted, tapeOf(area, wanted).rewind(deeds));
}

/** What was said up to the break, and what was under way then. */
export function deedsToStop(area: Area, { seed, eventsMax }: Wanted, deeds: readonly number[]): ReturnType<typeof seedToViolation> {
  return seedToViolation(area, seed, { eventsMax, tape: tapeOf(area, { seed, eventsMax }).rewind(deeds) });
}

function tapeOf(area: Area, wanted: Wanted): Tape {
  const tape = new Tape();
  runOn(area, wanted, tape);
  return tape;
}

function runOn(area: Area, { seed, eventsMax }: Wanted, tape: Tape): SeedReport {
  if (area.runSeed === undefined) throw new EngineError("NOT_FOUND", `area ${area.name} has no seed runs`);
  return area.runSeed(seed, { eventsMax, tape });
}

/** `3,17..20`, as the command takes them. */
export function printDeeds(deeds: readonly number[]): string {
  const parts: string[] = [];
  for (let at = 0; at < deeds.length; ) {
    const from = deeds[at] as number;
    let to = from;
    while (deeds[at + 1] === to + 1) to = deeds[++at] as number;
    parts.push(to === from ? `${from}` : `${from}..${to}`);
    at++;
  }
  return parts.length === 0 ? "none" : parts.join(",");
}

const DEEDS_MAX = 100_000;

/** Throws BAD_OPTION. */
export function parseDeeds(text: string): readonly number[] {
  if (text === "none") return [];
  const deeds = new Set<number>();
  for (const part of text.split(",")) {
    const [, first, last = first] = /^(\d{1,6})(?:\.\.(\d{1,6}))?$/.exec(part) ?? [];
    if (first === undefined || Number(last) < Number(first) || Number(last) >= DEEDS_MAX)
      throw new EngineError("BAD_OPTION", `--deeds ${text}: want numbers and ranges below ${DEEDS_MAX}, like 3,17..20, or none`);
    for (let number = Number(first); number <= Number(last); number++) deeds.add(number);
  }
  return [...deeds].sort((a, b) => a - b);
}
