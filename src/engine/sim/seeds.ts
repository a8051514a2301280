/**
 * Seed runs of one area: each seed is a run of its own, and one hash over all of them says whether two campaigns were
 * the same. What broke is told with the command that shows it again. Reads no clock: the caller does.
 */
import { EngineError } from "../base/errors.ts";
import type { Area, SeedOptions, SeedReport } from "./area.ts";
import { breakOf } from "./breaks.ts";
import { parseCalls } from "./grammar.ts";
import { queueLines } from "./verbs.ts";
import { Words } from "./words.ts";
import type { WorldFace } from "./world-face.ts";

export type SeedRange = { readonly from: number /** Not included. */; readonly to: number };

export type SeedsReport = {
  readonly seeds: number;
  readonly events: number;
  readonly traceHash: string;
  readonly violations: readonly { readonly seed: number; readonly invariant: string; readonly at: number; readonly reproduce: string }[];
  /** How often each mark was hit, by name. */
  readonly marks: Readonly<Record<string, number>>;
};

/** A campaign of more seeds than this is several campaigns. */
const SEEDS_COUNT_MAX = 1_000_000;

/** `20` is the seeds 1 to 20, `100..200` those from 100 up to and with 200. */
export function parseSeeds(text: string): SeedRange {
  const [, first, last] = /^(\d{1,9})(?:\.\.(\d{1,9}))?$/.exec(text) ?? [];
  const range = last === undefined ? { from: 1, to: Number(first) + 1 } : { from: Number(first), to: Number(last) + 1 };
  if (first === undefined || range.to <= range.from || range.to - range.from > SEEDS_COUNT_MAX)
    throw new EngineError("BAD_OPTION", `--seeds ${text}: want a count, or A..B with A not above B, at most ${SEEDS_COUNT_MAX} seeds`);
  return range;
}

/** Runs one seed after the other; `between` is awaited after each, so that a signal can end it. */
export async function runSeeds(area: Area, range: SeedRange, eventsMax: number | undefined, between: () => Promise<void>): Promise<SeedsReport> {
  if (area.runSeed === undefined) throw new EngineError("NOT_FOUND", `area ${area.name} has no seed runs`);
  const hash = new Bun.CryptoHasher("sha256");
  const marks = new Map<string, number>();
  const broken: SeedReport[] = [];
  let events = 0;
  for (let seed = range.from; seed < range.to; seed++) {
    const report = area.runSeed(seed, { eventsMax });
    events += report.events;
    hash.update(report.traceHash);
    for (const [name, count] of report.marks) marks.set(name, (marks.get(name) ?? 0) + count);
    if (report.violation !== null) broken.push(report);
    await between();
  }
  return {
    seeds: range.to - range.from,
    events,
    traceHash: hash.digest("hex").slice(0, 16),
    violations: broken.flatMap((report) => violationOf(area, report, eventsMax)),
    marks: Object.fromEntries([...marks].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}

/** Where a seed's run met a break: what was said up to there, and what is under way. */
export type SeedStop = { readonly at: number; readonly nowMs: number; readonly trace: readonly string[]; readonly queue: readonly string[] };
const STOP_LINES_MAX = 60;

/** One seed up to its first event that meets the break, said as the verb `break` wants it; null where none does. */
export function seedToBreak(area: Area, seed: number, what: string, how: SeedOptions = {}): SeedStop | null {
  if (area.runSeed === undefined) throw new EngineError("NOT_FOUND", `area ${area.name} has no seed runs`);
  const words = (parseCalls(`break ${what}`)[0] ?? []).slice(1);
  let stop: SeedStop | null = null;
  const onWorld = (world: WorldFace): void => {
    const isHit = breakOf(world, new Words("break", words), noCondition).watch();
    const { check } = world;
    world.trace.recording = true;
    world.check = () => {
      if (stop !== null || !isHit()) return check?.() ?? null;
      stop = stopOf(world);
      return `break ${what}`; // whatever is told ends the run
    };
  };
  area.runSeed(seed, { ...how, onWorld });
  return stop;
}

/** One seed up to where it breaks an invariant; null where it breaks none. */
export function seedToViolation(area: Area, seed: number, how: SeedOptions): (SeedStop & { readonly violation: string }) | null {
  if (area.runSeed === undefined) throw new EngineError("NOT_FOUND", `area ${area.name} has no seed runs`);
  const worlds: WorldFace[] = [];
  const onWorld = (world: WorldFace): void => {
    world.trace.recording = true;
    worlds.push(world);
  };
  const { violation } = area.runSeed(seed, { ...how, onWorld });
  const last = worlds.at(-1);
  return violation === null || last === undefined ? null : { violation: violation.invariant, ...stopOf(last) };
}

const stopOf = (world: WorldFace): SeedStop => ({
  ...{ at: world.eventCount, nowMs: world.nowMs },
  ...{ trace: world.trace.since(world.trace.position - STOP_LINES_MAX), queue: queueLines(world) },
});

function noCondition(text: string): never {
  throw new EngineError("BAD_OPTION", `--break ${text}: in a seed want message KIND, mark NAME or commit NODE; conditions are for stories`);
}

function violationOf(area: Area, { seed, violation }: SeedReport, eventsMax: number | undefined): SeedsReport["violations"][number][] {
  const events = eventsMax === undefined ? "" : ` --events ${eventsMax}`;
  return violation === null
    ? []
    : [{ seed, invariant: violation.invariant, at: violation.at, reproduce: `cairn sim run --area ${area.name} --seed ${seed}${events}` }];
}
