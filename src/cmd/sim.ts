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
      { name: "seed", form: "count", value: "N", means: "run this one seed" },
      { name: "seeds", form: "string", value: "N|A..B", means: "run the seeds 1 to N, or A to B" },
      { name: "area", form: "string", value: "AREA", default: "merge", means: "whose seeds" },
      { name: "events", form: "count", value: "N", means: "events of each seed before the faults stop" },
    ],
    errors: ["DIFFERENCES", "VIOLATION", "PARSE", "NOT_FOUND", "BAD_OPTION"],
    examples: [
      "cairn sim run fixtures/scenarios/merge/three-in-sequence.txt",
      "cairn sim run --area merge --seeds 200 --json",
      "cairn sim run --seed 7 --events 3000",
    ],
    async run(ctx) {
      const { seed, seeds, area, events, rewrite } = ctx.options;
      const files = ctx.args.file;
      if ([files.length > 0, seed !== undefined, seeds !== undefined].filter(Boolean).length !== 1)
        throw new EngineError("USAGE", "sim run: want stories, or --seed, or --seeds, and only one of them");
      const areas = await load();
      if (files.length > 0) {
        for (const file of files) if (!(await runStory(ctx, { areas, file, rewrite }))) ctx.exitWith(8);
      } else if (!(await runRange(ctx, { area: areaNamed(area, areas), events, seeds: seed === undefined ? (seeds ?? "") : `${seed}..${seed}` })))
        ctx.exitWith(8);
    },
  });
}

type Answering = { answer(value: object, text: string): Promise<void> };

/** Whether all was as written, or is now. */
async function runStory(ctx: Answering, { areas, file, rewrite }: { areas: readonly Area[]; file: string; rewrite: boolean }): Promise<boolean> {
  const { checkScript } = await import("../engine/sim/script.ts");
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new EngineError("NOT_FOUND", `story ${file} cannot be read`, { cause });
  });
  const { transcript, differences } = checkScript(file, text, areas);
  if (rewrite && transcript !== text) await writeFile(file, transcript);
  const isSame = differences.length === 0;
  const outcome = isSame ? "same" : rewrite ? "rewritten" : "different";
  await ctx.answer({ event: "story", file, outcome, differences }, [`${file}: ${outcome}`, ...differences].join("\n"));
  return isSame || rewrite;
}

async function runRange(ctx: Answering, { area, seeds, events }: { area: Area; seeds: string; events: number | undefined }): Promise<boolean> {
  const { parseSeeds, runSeeds } = await import("../engine/sim/seeds.ts");
  const startedMs = performance.now();
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve)); // lets a signal in between two seeds
  const report = await runSeeds(area, parseSeeds(seeds), events, turn);
  const eventsPerSecond = Math.round((report.events / Math.max(1, performance.now() - startedMs)) * 1_000);
  const { violations, traceHash } = report;
  const broken = violations.map(({ seed, invariant, at, reproduce }) => `seed ${seed}: ${invariant} (event ${at})\n  ${reproduce}`);
  const summary = `${area.name}: ${report.seeds} seeds, ${report.events} events, ${eventsPerSecond}/s, ${violations.length} violations, trace ${traceHash}`;
  const line = { event: "sim", area: area.name, seeds: report.seeds, events: report.events, eventsPerSecond, traceHash, violations, marks: report.marks };
  await ctx.answer(line, [summary, ...broken].join("\n"));
  return violations.length === 0;
}
