/**
 * Seeds over several processes: a range is cut into jobs of a fixed size, each job is `cairn sim run` on its own, and
 * the hash over the jobs' hashes is the same however many ran at once.
 */
import { availableParallelism } from "node:os";
import { EngineError } from "../engine/base/errors.ts";
import { selfCommand, selfEnvironment } from "../engine/node/self.ts";
import type { SeedRange, SeedsReport } from "../engine/sim/seeds.ts";

/** Some ten seconds of work: little is lost when a campaign is stopped. */
export const SEEDS_A_JOB = 50;

type Job = { readonly area: string; readonly events: number | undefined; readonly signal: AbortSignal };

export async function runJobs(range: SeedRange, job: Job, onProgress: (seeds: number) => void): Promise<SeedsReport> {
  const starts = Array.from({ length: Math.ceil((range.to - range.from) / SEEDS_A_JOB) }, (_, i) => range.from + i * SEEDS_A_JOB);
  const reports: SeedsReport[] = new Array(starts.length);
  let next = 0;
  let done = 0;
  const worker = async (): Promise<void> => {
    while (next < starts.length && !job.signal.aborted) {
      const at = next++;
      const from = starts[at] as number;
      reports[at] = await runJob({ from, to: Math.min(from + SEEDS_A_JOB, range.to) }, job);
      done += (reports[at] as SeedsReport).seeds;
      onProgress(done);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return joined(reports.filter((report) => report !== undefined));
}

async function runJob({ from, to }: SeedRange, { area, events, signal }: Job): Promise<SeedsReport> {
  const words = ["sim", "run", "--area", area, "--seeds", `${from}..${to - 1}`, "--json", ...(events === undefined ? [] : ["--events", String(events)])];
  const child = Bun.spawn(selfCommand(...words), { stdin: "ignore", stdout: "pipe", stderr: "inherit", env: selfEnvironment() });
  const stop = (): void => child.kill();
  signal.addEventListener("abort", stop, { once: true });
  const text = await new Response(child.stdout).text();
  const status = await child.exited;
  signal.removeEventListener("abort", stop);
  if (status !== 0 && status !== 8) throw new EngineError("FAILED", `seeds ${from}..${to - 1} ended with status ${child.signalCode ?? status}`);
  return JSON.parse(text) as SeedsReport;
}

function joined(reports: readonly SeedsReport[]): SeedsReport {
  const hash = new Bun.CryptoHasher("sha256");
  const marks = new Map<string, number>();
  for (const report of reports) {
    hash.update(report.traceHash);
    for (const [name, count] of Object.entries(report.marks)) marks.set(name, (marks.get(name) ?? 0) + count);
  }
  return {
    seeds: reports.reduce((sum, report) => sum + report.seeds, 0),
    events: reports.reduce((sum, report) => sum + report.events, 0),
    traceHash: hash.digest("hex").slice(0, 16),
    violations: reports.flatMap((report) => report.violations),
    marks: Object.fromEntries([...marks].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}
