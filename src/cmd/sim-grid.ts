/**
 * `cairn sim grid merge` (merge.md section 9): one fixed run of the merge, crashed after each of its boundaries, of the
 * node where it happens or of the whole cluster, then started again. A long grid is cut into jobs that are this command
 * on a part of it; lines come in the order of the boundaries however many ran at once.
 */
import { availableParallelism } from "node:os";
import { EngineError } from "../engine/base/errors.ts";
import { selfCommand, selfEnvironment } from "../engine/node/self.ts";
import type { GridCell, GridScope } from "../engine/sim/merge-grid.ts";
import { command } from "./spec.ts";

/** Some five seconds of work: little is lost when a grid is stopped. */
const CELLS_A_JOB = 48;
const SCOPES: readonly GridScope[] = ["node", "cluster"];

type Range = { readonly scope: GridScope; readonly from: number /** Included. */; readonly to: number; readonly every: number };
type CellLine = GridCell & { readonly event: "cell"; readonly reproduce: string };

export const simGrid = command({
  name: "sim grid",
  summary: "Crash one run of the merge after each effect and each flush, and see it finish what it promised",
  args: [{ name: "area", means: "whose run: merge" }],
  options: [
    { name: "scope", form: SCOPES, means: "who crashes: the node where it happens or all of them (else one after the other)" },
    { name: "from", form: "count", value: "A", default: "1", means: "the first boundary" },
    { name: "to", form: "count", value: "B", means: "the last boundary (the run's last)" },
    { name: "every", form: "count", value: "N", default: "1", means: "only each Nth boundary" },
  ],
  errors: ["VIOLATION", "NOT_FOUND", "BAD_OPTION"],
  examples: ["cairn sim grid merge", "cairn sim grid merge --every 20 --json", "cairn sim grid merge --scope node --from 117 --to 117"],
  async run(ctx) {
    const { gridBoundaries, boundaryText } = await import("../engine/sim/merge-grid.ts");
    const { scope, from, every, to: last } = ctx.options;
    if (ctx.args.area !== "merge") throw new EngineError("NOT_FOUND", `grid ${ctx.args.area}: only merge has a crash grid`);
    const at = gridBoundaries().map(boundaryText);
    const to = last ?? at.length;
    if (from < 1 || to < from || to > at.length || every < 1)
      throw new EngineError("BAD_OPTION", `--from ${from} --to ${to} --every ${every}: want boundaries of 1 to ${at.length}, and every 1 or more`);
    const { signal } = ctx;
    const startedMs = performance.now();
    const points = new Set<string>();
    const total = { cells: 0, ok: 0, violations: 0 };
    for await (const line of cellsOf(
      (scope === undefined ? SCOPES : [scope]).map((each) => ({ scope: each, from, to, every })),
      at,
      signal,
    )) {
      await ctx.answer(line, cellText(line));
      points.add(line.at);
      total.cells += 1;
      total[line.violation === null && line.outcome === "ok" ? "ok" : "violations"] += 1;
    }
    const seconds = Math.round((performance.now() - startedMs) / 100) / 10;
    const { cells, ok, violations } = total;
    const summary = { event: "grid", area: "merge", boundaries: at.length, cells, points: points.size, ok, violations, seconds };
    await ctx.answer(summary, `merge: ${cells} cells at ${points.size} kinds of point, ${ok} ok, ${violations} violations, ${seconds} s`);
    if (violations > 0) ctx.exitWith(8);
  },
});

function cellText({ boundary, scope, at, outcome, violation, reproduce }: CellLine): string {
  const cell = `${String(boundary).padStart(4)}  ${scope.padEnd(7)}  ${at}`;
  if (violation !== null) return `${cell}: ${violation.invariant} (event ${violation.at})\n  ${reproduce}`;
  return outcome === "ok" ? `${cell}: ok` : `${cell}: not reached\n  ${reproduce}`;
}

/** The cells of all ranges in order; short grids run here, long ones in several processes. */
async function* cellsOf(ranges: readonly Range[], at: readonly string[], signal: AbortSignal): AsyncIterable<CellLine> {
  const jobs = ranges.flatMap(cut);
  if (jobs.length <= ranges.length) {
    for (const range of ranges) yield* cellsHere(range, at, signal);
    return;
  }
  const started: Promise<readonly CellLine[]>[] = [];
  const start = (): void => {
    const job = jobs[started.length];
    if (job === undefined || signal.aborted) return;
    const running = runJob(job, signal);
    running.then(start, () => {}); // its failure is met below, in its turn
    started.push(running);
  };
  for (let i = 0; i < availableParallelism(); i++) start();
  for (let i = 0; i < jobs.length && !signal.aborted; i++) yield* (await started[i]) ?? [];
}

async function* cellsHere({ scope, from, to, every }: Range, at: readonly string[], signal: AbortSignal): AsyncIterable<CellLine> {
  const { runCell } = await import("../engine/sim/merge-grid.ts");
  for (let boundary = from; boundary <= to && !signal.aborted; boundary += every) {
    const cell = runCell(boundary, at[boundary - 1] ?? "", scope);
    yield { event: "cell", ...cell, reproduce: `cairn sim grid merge --scope ${scope} --from ${boundary} --to ${boundary}` };
    await new Promise((resolve) => setImmediate(resolve)); // lets a signal in
  }
}

function cut({ scope, from, to, every }: Range): Range[] {
  const stride = CELLS_A_JOB * every;
  const starts = Array.from({ length: Math.ceil((to - from + 1) / stride) }, (_, i) => from + i * stride);
  return starts.map((start) => ({ scope, from: start, to: Math.min(start + stride - 1, to), every }));
}

async function runJob({ scope, from, to, every }: Range, signal: AbortSignal): Promise<readonly CellLine[]> {
  const words = ["--scope", scope, "--from", String(from), "--to", String(to), "--every", String(every)];
  const child = Bun.spawn(selfCommand("sim", "grid", "merge", ...words, "--json"), {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
    env: selfEnvironment(),
  });
  const stop = (): void => child.kill();
  signal.addEventListener("abort", stop, { once: true });
  const text = await new Response(child.stdout).text();
  const status = await child.exited;
  signal.removeEventListener("abort", stop);
  if (signal.aborted) return [];
  if (status !== 0 && status !== 8) throw new EngineError("FAILED", `boundaries ${from} to ${to} ended with status ${child.signalCode ?? status}`);
  const lines = text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as CellLine | { readonly event: "grid" }]));
  return lines.filter((line) => line.event === "cell");
}
