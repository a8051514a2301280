/**
 * `cairn sim run`: stories compared with what is written in them, or seeds of an area with every invariant looked at.
 */
import { readFile, writeFile } from "node:fs/promises";
import { EngineError } from "../engine/base/errors.ts";
import { type Area, areaNamed } from "../engine/sim/area.ts";
import { type CommandSpec, command } from "./spec.ts";

export const simRun = simRunOn(async () => (await import("../engine/sim/areas.ts")).areas);

export function simRunOn(load: () => Promise<readonly Area[]>): CommandSpec {
  return command({
    name: "sim run",
    summary: "Run stories and compare their answers, or run seeds and look for broken invariants",
    args: [{ name: "file", optional: true, many: true, means: "stories (fixtures/scenarios/AREA/STORY.txt)" }],
    options: [
      { name: "rewrite", form: "flag", means: "write the answers of now into the files" },
      {
        name: "break",
        form: "string",
        value: "WHAT",
        means: "stop a story or one seed at `message KIND b→c`, `mark NAME`, `commit NODE key=KEY`, a story at a condition too",
      },
      { name: "seed", form: "count", value: "N", means: "run this one seed" },
      { name: "seeds", form: "string", value: "N|A..B", means: "run the seeds 1 to N, or A to B" },
      { name: "area", form: "string", value: "AREA", default: "merge", means: "whose seeds" },
      { name: "shrink", form: "flag", means: "leave out what --seed can do without and still break the same invariant" },
      { name: "deeds", form: "string", value: "LIST", means: "run --seed with these of its deeds alone, as --shrink tells them" },
      { name: "mutants", form: "flag", means: "plant each known mistake and hunt it with the area's seeds (source tree only)" },
      { name: "events", form: "count", value: "N", means: "events of each seed before the faults stop" },
    ],
    errors: ["DIFFERENCES", "VIOLATION", "PARSE", "NOT_FOUND", "BAD_OPTION"],
    examples: [
      "cairn sim run fixtures/scenarios/merge/three-in-sequence.txt",
      "cairn sim run --area merge --seeds 200 --json",
      "cairn sim run --seed 7 --events 3000",
      "cairn sim run --area sync --seed 4355 --shrink",
      "cairn sim run fixtures/scenarios/sync/last-chunk.txt --break 'message sync.chunk b→c'",
    ],
    async run(ctx) {
      const { seed, seeds, area, events, rewrite, mutants, break: stop, shrink: isShrunk, deeds } = ctx.options;
      const files = ctx.args.file;
      const areas = await load();
      if (mutants) return hunt(ctx, areaNamed(files[0] ?? area, areas));
      if ([files.length > 0, seed !== undefined, seeds !== undefined].filter(Boolean).length !== 1)
        throw new EngineError("USAGE", "sim run: want stories, or --seed, or --seeds, and only one of them");
      if (isShrunk || deeds !== undefined) {
        if (seed === undefined || stop !== undefined || rewrite || (isShrunk && deeds !== undefined))
          throw new EngineError("USAGE", "sim run: --shrink and --deeds want one --seed, and stand alone");
        if (deeds === undefined) await shrink(ctx, { area: areaNamed(area, areas), seed, eventsMax: events });
        else await playDeeds(ctx, { area: areaNamed(area, areas), seed, eventsMax: events, deeds });
      } else if (stop !== undefined) {
        const [file] = files;
        if (rewrite || seeds !== undefined || files.length > 1)
          throw new EngineError("USAGE", "sim run --break: want one story or one --seed, and nothing is rewritten");
        if (file !== undefined) await playToBreak(ctx, { areas, file, what: stop });
        else await seedToStop(ctx, { area: areaNamed(area, areas), seed: seed ?? 0, events, what: stop });
      } else if (files.length > 0) {
        for (const file of files) if (!(await runStory(ctx, { areas, file, rewrite }))) ctx.exitWith(8);
      } else if (!(await runRange(ctx, { area: areaNamed(area, areas), events, seeds: seed === undefined ? (seeds ?? "") : `${seed}..${seed}` })))
        ctx.exitWith(8);
    },
  });
}

type Answering = { answer(value: object, text: string): Promise<void>; note(text: string): void; exitWith(status: number): void; readonly signal: AbortSignal };

/** Lets a signal in between two seeds. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** One line for each planted mistake: the first seed that sees it. */
async function hunt(ctx: Answering, area: Area): Promise<void> {
  const { hasMutants } = await import("../engine/base/mutant.ts");
  const { huntMutant, isHuntedBy, MUTANT_SEEDS_MAX, parseMutants, printMutant } = await import("../engine/sim/mutants.ts");
  if (!hasMutants) throw new EngineError("USAGE", "sim run --mutants: a release has no planted mistakes; run `npm run sim -- --mutants` in a source tree");
  const known = parseMutants(await readFile("fixtures/mutants.txt", "utf8")).filter(({ mutant }) => isHuntedBy(area, mutant));
  for (const { mutant } of known) {
    const found = await huntMutant(area, mutant, turn);
    if (found !== null) await ctx.answer(found, printMutant(found));
    else {
      await ctx.answer({ mutant, seed: null, invariant: null }, `${mutant}: not seen within ${MUTANT_SEEDS_MAX} seeds`);
      ctx.exitWith(8);
    }
  }
}

const readStory = (file: string): Promise<string> =>
  readFile(file, "utf8").catch((cause: unknown) => {
    throw new EngineError("NOT_FOUND", `story ${file} cannot be read`, { cause });
  });

async function playToBreak(ctx: Answering, { areas, file, what }: { areas: readonly Area[]; file: string; what: string }): Promise<void> {
  const { runToBreak } = await import("../engine/sim/script.ts");
  const transcript = runToBreak(await readStory(file), areas, what);
  if (transcript === null) throw new EngineError("NOT_FOUND", `${file}: no run of it meets the break ${what}`);
  await ctx.answer({ event: "break", file, break: what, transcript: transcript.trimEnd().split("\n") }, transcript);
}

type SeedToStop = { readonly area: Area; readonly seed: number; readonly events: number | undefined; readonly what: string };

async function seedToStop(ctx: Answering, { area, seed, events, what }: SeedToStop): Promise<void> {
  const { seedToBreak } = await import("../engine/sim/seeds.ts");
  const stop = seedToBreak(area, seed, what, { eventsMax: events });
  if (stop === null) throw new EngineError("NOT_FOUND", `${area.name} seed ${seed} does not meet the break ${what}`);
  const { at, nowMs, trace, queue } = stop;
  const head = `${area.name} seed ${seed}: break ${what} at event ${at}, ${nowMs} ms`;
  await ctx.answer({ event: "break", area: area.name, seed, break: what, ...stop }, [...trace, head, ...queue].join("\n"));
}

type SeedRun = { readonly area: Area; readonly seed: number; readonly eventsMax: number | undefined };

async function shrink(ctx: Answering, { area, ...wanted }: SeedRun): Promise<void> {
  const { printDeeds, shrinkSeed } = await import("../engine/sim/shrink.ts");
  const between = async (left: number, tries: number): Promise<void> => {
    ctx.note(`${left} deeds, ${tries} tries`);
    await turn();
    ctx.signal.throwIfAborted();
  };
  const shrunk = await shrinkSeed(area, wanted, between);
  if (shrunk === null) throw new EngineError("NOT_FOUND", `${area.name} seed ${wanted.seed} breaks no invariant`);
  const { invariant, deedCount, deeds, at, tries } = shrunk;
  const events = wanted.eventsMax === undefined ? "" : ` --events ${wanted.eventsMax}`;
  const reproduce = `cairn sim run --area ${area.name} --seed ${wanted.seed}${events} --deeds ${printDeeds(deeds)}`;
  const text = `seed ${wanted.seed}: ${invariant}\n  ${deeds.length} of ${deedCount} deeds are left after ${tries} tries; it breaks at event ${at.shrunk}, before at ${at.whole}\n  ${reproduce}`;
  await ctx.answer({ event: "shrunk", area: area.name, ...shrunk, reproduce }, text);
  ctx.exitWith(8);
}

async function playDeeds(ctx: Answering, { area, seed, eventsMax, deeds }: SeedRun & { readonly deeds: string }): Promise<void> {
  const { deedsToStop, parseDeeds } = await import("../engine/sim/shrink.ts");
  const stop = deedsToStop(area, { seed, eventsMax }, parseDeeds(deeds));
  if (stop === null) {
    await ctx.answer({ event: "deeds", area: area.name, seed, violation: null }, `${area.name} seed ${seed} with deeds ${deeds}: no violation`);
    return;
  }
  const { violation, at, nowMs, trace, queue } = stop;
  const head = `${area.name} seed ${seed}: ${violation} at event ${at}, ${nowMs} ms`;
  await ctx.answer({ event: "deeds", area: area.name, seed, ...stop }, [...trace, head, ...queue].join("\n"));
  ctx.exitWith(8);
}

/** Whether all was as written, or is now. */
async function runStory(ctx: Answering, { areas, file, rewrite }: { areas: readonly Area[]; file: string; rewrite: boolean }): Promise<boolean> {
  const { checkScript } = await import("../engine/sim/script.ts");
  const text = await readStory(file);
  const { transcript, differences } = checkScript(file, text, areas);
  if (rewrite && transcript !== text) await writeFile(file, transcript);
  const isSame = differences.length === 0;
  const outcome = isSame ? "same" : rewrite ? "rewritten" : "different";
  await ctx.answer({ event: "story", file, outcome, differences }, [`${file}: ${outcome}`, ...differences].join("\n"));
  return isSame || rewrite;
}

async function runRange(ctx: Answering, { area, seeds, events }: { area: Area; seeds: string; events: number | undefined }): Promise<boolean> {
  const { parseSeeds, runSeeds } = await import("../engine/sim/seeds.ts");
  const { runJobs, SEEDS_A_JOB } = await import("./sim-jobs.ts");
  const startedMs = performance.now();
  const range = parseSeeds(seeds);
  const count = range.to - range.from;
  const progress = (done: number): void => ctx.note(`${done} of ${count} seeds`);
  const report =
    count <= SEEDS_A_JOB ? await runSeeds(area, range, events, turn) : await runJobs(range, { area: area.name, events, signal: ctx.signal }, progress);
  const eventsPerSecond = Math.round((report.events / Math.max(1, performance.now() - startedMs)) * 1_000);
  const { violations, traceHash } = report;
  const broken = violations.map(({ seed, invariant, at, reproduce }) => `seed ${seed}: ${invariant} (event ${at})\n  ${reproduce}`);
  const summary = `${area.name}: ${report.seeds} seeds, ${report.events} events, ${eventsPerSecond}/s, ${violations.length} violations, trace ${traceHash}`;
  const line = { event: "sim", area: area.name, seeds: report.seeds, events: report.events, eventsPerSecond, traceHash, violations, marks: report.marks };
  await ctx.answer(line, [summary, ...broken].join("\n"));
  return violations.length === 0;
}
