/**
 * `npm run campaign -- list | NAME`: what takes too long for a test run and is run before something is called done: all
 * seeds, all planted mistakes, the full crash grid, many real kills, the bench. A result is appended to
 * test/campaigns.md with its day, the machine and the figures, also when something broke; the exit status says which.
 */
import { existsSync } from "node:fs";
import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { type KillPoint, KillRun, planKills, pointText } from "../test/faults/kill-run.ts";
import { runSyncKills } from "../test/faults/sync-kill-run.ts";
import { runTrimReal } from "../test/faults/trim-run.ts";
import { runTrimLong } from "../test/sync/trim-long.ts";

const RESULTS = "test/campaigns.md";
const BINARY = "dist/cairn";
const SEEDS = 2_000;
const SYNC_SEEDS = 10_000;
const SYNC_KILLS = 40;
const TRIM_MINUTES = 10;
const TRIM_VIRTUAL_MS = 3_600_000;
/** Provider's growth in a sync, and what commits wait beside it, as sync.md section 7 wants them. */
const SYNC_GROWTH_MIB_MAX = 32;
const SYNC_P99_RATIO_MAX = 3;
const KV_MEASURED = ["put1", "put64", "read1", "read64"];
/** Throughput of the store against etcd's (sync.md section 7). */
const KV_RATIO = 2;
const KILLS = 100;
/** Another seed is another campaign: it draws other points. */
const KILL_SEED = 2_026;

type Outcome = { readonly isOk: boolean /** Lines of the result. */; readonly says: readonly string[] };
type Campaign = { readonly name: string; readonly means: string; run(words: readonly string[]): Promise<Outcome> };
type Row = Readonly<Record<string, unknown>>;

const campaigns: readonly Campaign[] = [
  { name: "merge-seeds", means: `${SEEDS} seeds of the merge (or: merge-seeds N|A..B)`, run: ([seeds]) => runSeeds("merge", seeds ?? String(SEEDS)) },
  { name: "merge-mutants", means: "each planted mistake, hunted from the first seed on", run: mergeMutants },
  { name: "merge-grid", means: "a crash at every boundary of a merge, of the node and of the cluster", run: mergeGrid },
  { name: "merge-kill", means: `${KILLS} kill -9 of real processes under load (or: merge-kill COUNT SEED)`, run: mergeKill },
  {
    name: "sync-seeds",
    means: `${SYNC_SEEDS} seeds of the replicated store (or: sync-seeds N|A..B)`,
    run: ([seeds]) => runSeeds("sync", seeds ?? String(SYNC_SEEDS)),
  },
  { name: "sync-kill", means: `${SYNC_KILLS} kill -9 at the steps of a synchronisation (or: sync-kill COUNT SEED)`, run: syncKill },
  {
    name: "sync-trim",
    means: `an hour of virtual time, and ${TRIM_MINUTES} minutes of real processes (or: sync-trim MINUTES), with nodes away in turn`,
    run: syncTrim,
  },
  { name: "merge-bench", means: "three rounds of a million entries beside Tessera, which wants Go (or: merge-bench --entries N …)", run: mergeBench },
  { name: "sync-bench", means: "a node copies 200,000 values while clients write, three rounds (or: sync-bench --rounds N …)", run: syncBench },
  { name: "kv-bench", means: "puts and reads of the replicated store beside etcd, which wants Go (or: kv-bench --lean --rounds N …)", run: kvBench },
];

const [name = "list", ...words] = process.argv.slice(2);
const campaign = campaigns.find((each) => each.name === name);
if (name === "list") for (const each of campaigns) process.stdout.write(`${each.name.padEnd(14)} ${each.means}\n`);
else if (campaign === undefined) {
  process.stderr.write(`no campaign is called ${name}: \`npm run campaign -- list\` names them\n`);
  process.exitCode = 2;
} else if (!existsSync(BINARY)) {
  process.stderr.write(`there is no ${BINARY}: \`npm run build\` makes it\n`);
  process.exitCode = 1;
} else await perform(campaign);

async function perform({ name: title, run }: Campaign): Promise<void> {
  const startedMs = performance.now();
  const started = new Date();
  const [load] = loadavg();
  const { isOk, says } = await run(words);
  const seconds = Math.round((performance.now() - startedMs) / 1_000);
  const cpu = cpus();
  const machine = `${cpu.length} × ${cpu[0]?.model ?? "unknown"}, ${Math.round(totalmem() / 1_024 ** 3)} GiB, load ${load?.toFixed(1)} before`;
  const head = [`## ${started.toISOString().slice(0, 16).replace("T", " ")} ${[title, ...words].join(" ")}: ${isOk ? "ok" : "FAILED"}`, ""];
  const facts = [`commit ${await commit()}`, machine, `${seconds} s`].map((fact) => `- ${fact}`);
  const text = [...head, ...facts, ...says.map((line) => `- ${line}`)].join("\n");
  await appendFile(RESULTS, `\n${text}\n`);
  process.stdout.write(`${text}\n`);
  process.exitCode = isOk ? 0 : 8;
}

async function commit(): Promise<string> {
  const git = Bun.spawn(["git", "describe", "--always", "--dirty"], { stdout: "pipe", stderr: "ignore" });
  return (await git.stdout.text()).trim() || "unknown";
}

/** Rows of a command of ours; what it says on stderr passes through. */
async function rowsOf(command: readonly string[], onRow: (row: Row) => void): Promise<number> {
  const child = Bun.spawn([...command], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of child.stdout) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("{")) onRow(JSON.parse(line) as Row);
  }
  return child.exited;
}

async function runSeeds(area: string, seeds: string): Promise<Outcome> {
  let row: Row = {};
  const status = await rowsOf([BINARY, "sim", "run", "--area", area, "--seeds", seeds, "--json"], (each) => {
    row = each;
  });
  const violations = (row["violations"] ?? []) as readonly { reproduce: string; invariant: string }[];
  const summary = `${row["seeds"]} seeds, ${row["events"]} events, ${row["eventsPerSecond"]} events/s, ${violations.length} violations, trace ${row["traceHash"]}`;
  return { isOk: status === 0, says: [summary, ...violations.map(({ invariant, reproduce }) => `${invariant}: \`${reproduce}\``)] };
}

/** Planted mistakes are in a source tree only. */
async function mergeMutants(): Promise<Outcome> {
  const says: string[] = [];
  const status = await rowsOf([process.execPath, "src/cmd/main.ts", "sim", "run", "--mutants", "merge", "--json"], ({ mutant, seed, invariant }) => {
    says.push(seed === null ? `${mutant}: NOT SEEN` : `${mutant}: seed ${seed}, ${invariant}`);
    process.stderr.write(`${says.at(-1)}\n`);
  });
  return { isOk: status === 0, says };
}

async function mergeGrid(): Promise<Outcome> {
  const broken: string[] = [];
  let summary: Row = {};
  const status = await rowsOf([BINARY, "sim", "grid", "merge", "--json"], (row) => {
    if (row["event"] === "grid") summary = row;
    else if (row["violation"] !== null || row["outcome"] !== "ok") broken.push(`${row["at"]}: ${JSON.stringify(row["violation"])}: \`${row["reproduce"]}\``);
  });
  const { boundaries, cells, points, ok, violations } = summary;
  const says = [`${cells} cells: a crash at each of ${boundaries} boundaries (${points} kinds of point), ${ok} ok, ${violations} violations`, ...broken];
  return { isOk: status === 0 && broken.length === 0, says };
}

async function mergeKill([count, seed]: readonly string[]): Promise<Outcome> {
  const points = planKills(Number(count ?? KILLS), Number(seed ?? KILL_SEED));
  const tally = new Map<string, number>();
  let [point, done, slowestMs]: [KillPoint | null, number, number] = [null, 0, 0];
  await using run = await KillRun.open(BINARY, Number(seed ?? KILL_SEED));
  try {
    for (point of points) {
      const row = await run.kill(point);
      process.stdout.write(`${JSON.stringify(row)}\n`);
      for (const key of [
        `by a ${row.died}`,
        `of ${point.victim.kind === "node" ? `node ${point.victim.name}` : `the ${point.victim.kind}`}`,
        `with the ${row.scope}`,
      ])
        tally.set(key, (tally.get(key) ?? 0) + 1);
      slowestMs = Math.max(slowestMs, row.settledMs);
      done += 1;
    }
    point = null;
    const { entries, acknowledged, heads } = await run.finish();
    const each = [...tally].sort().map(([key, times]) => `${times} ${key}`);
    const held = `${acknowledged} acknowledged entries, all in a log of ${entries} that verifies on every node; ${heads} heads seen, all of one log`;
    return { isOk: true, says: [`${done} kills: ${each.join(", ")}`, held, `slowest return to a signed head: ${slowestMs} ms`] };
  } catch (error) {
    const where = point === null ? "at the end" : `at ${pointText(point)} (${point.scope})`;
    return { isOk: false, says: [`after ${done} kills, ${where}: ${error instanceof Error ? error.message : String(error)}`] };
  }
}

async function syncKill([count, seed]: readonly string[]): Promise<Outcome> {
  const tally = new Map<string, number>();
  let [done, slowestMs] = [0, 0];
  const one = (key: string): void => void tally.set(key, (tally.get(key) ?? 0) + 1);
  const says = (): string =>
    `${done} kills: ${[...tally]
      .sort()
      .map(([key, times]) => `${times} ${key}`)
      .join(", ")}; slowest return of all three ${slowestMs} ms`;
  try {
    const { writes } = await runSyncKills(BINARY, Number(count ?? SYNC_KILLS), Number(seed ?? KILL_SEED), (row) => {
      process.stdout.write(`${JSON.stringify(row)}\n`);
      done += 1;
      slowestMs = Math.max(slowestMs, row.backMs);
      one(`of the ${row.who}`);
      one(row.phase === null ? "before or behind it" : `while it was ${row.phase}`);
    });
    return { isOk: true, says: [says(), `${writes} keys as they were acknowledged, on every node; all stores equal`] };
  } catch (error) {
    return { isOk: false, says: [says(), error instanceof Error ? error.message : String(error)] };
  }
}

async function syncTrim([minutes]: readonly string[]): Promise<Outcome> {
  const says: string[] = [];
  try {
    for (const nodes of [3, 5] as const) {
      const { versions, first, copies, turns } = runTrimLong(nodes, TRIM_VIRTUAL_MS, KILL_SEED);
      says.push(
        `an hour of virtual time, ${nodes} nodes: ${versions} versions, trimmed below ${first}; away in ${turns} turns, ${copies} copies, stores equal after each`,
      );
    }
    const { writes, versions, first, turns } = await runTrimReal(BINARY, Number(minutes ?? TRIM_MINUTES), (turn) =>
      process.stdout.write(`${JSON.stringify(turn)}\n`),
    );
    says.push(`real processes: ${writes} writes, ${versions} versions, trimmed below ${first}; stores equal after each of ${turns.length} turns`);
    for (const { node, by, behind, backMs, fileBytes } of turns)
      says.push(
        `${node} by ${by}: ${behind} versions beyond its reach, ready ${backMs} ms after its start, largest store ${Math.round(fileBytes / 2 ** 20)} MiB`,
      );
    return { isOk: true, says };
  } catch (error) {
    return { isOk: false, says: [...says, error instanceof Error ? error.message : String(error)] };
  }
}

/** The options given, and those that were not. */
function withDefaults(options: readonly string[], defaults: Readonly<Record<string, number>>): string[] {
  return [...options, ...Object.entries(defaults).flatMap(([name, value]) => (options.includes(name) ? [] : [name, String(value)]))];
}

/** Beside Tessera; fails where its entries a second are not reached at the median. */
async function mergeBench(options: readonly string[]): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), "cairn-peer-"));
  const peer = join(folder, "peer");
  const says: string[] = [];
  let ratio = 0;
  try {
    const built = await Bun.spawn(["go", "build", "-o", peer, "./cmd/peer"], { cwd: "test/interop", stdin: "ignore", stdout: "inherit", stderr: "inherit" })
      .exited;
    if (built !== 0) return { isOk: false, says: [`the peer could not be built: go build ended with ${built}`] };
    const words = ["bench", "merge", "--beside", peer, ...withDefaults(options, { "--entries": 1_000_000, "--rounds": 3 })];
    const status = await rowsOf([BINARY, ...words, "--json"], (row) => {
      says.push(benchLine(row));
      if (row["event"] === "total") ratio = (row as BenchTotal).ratios?.["entriesPerSecond"]?.median ?? 0;
    });
    return { isOk: status === 0 && ratio >= 1, says };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Builds etcd and the program that loads it, and runs ours beside them; the folder is removed afterwards. */
async function besideEtcd(bench: (peer: string) => Promise<Outcome>): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), "cairn-peer-"));
  try {
    const peer = ["go", "build", "-o", `${folder}/`, "./kvpeer"];
    const etcd = ["go", "build", "-o", join(folder, "etcd"), "go.etcd.io/etcd/server/v3"];
    for (const build of [peer, etcd]) {
      const built = await Bun.spawn(build, { cwd: "test/interop/etcd", stdin: "ignore", stdout: "inherit", stderr: "inherit" }).exited;
      if (built !== 0) return { isOk: false, says: [`the peer could not be built: ${build.join(" ")} ended with ${built}`] };
    }
    return await bench(join(folder, "kvpeer"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** With one client program for both; fails where a ratio is not the one asked for (sync.md section 7). */
function kvBench(options: readonly string[]): Promise<Outcome> {
  return besideEtcd(async (peer) => {
    const says: string[] = [];
    let ratios: Readonly<Record<string, number>> = {};
    const own = options.filter((word) => word !== "--lean");
    const beside = own.length < options.length ? `${peer} -lean` : peer; // clients of both that write to the socket themselves
    const words = ["bench", "kv", "--beside", beside, ...withDefaults(own, { "--rounds": 5, "--kills": 20 })];
    const status = await rowsOf([BINARY, ...words, "--json"], (row) => {
      says.push(...kvLines(row));
      ratios = (row as KvTotal).ratios ?? {};
    });
    return { isOk: status === 0 && Object.values(ratios).length > 0 && Object.values(ratios).every((ratio) => ratio >= KV_RATIO), says };
  });
}

/** Fails where the copy is slower than etcd's, its provider grows or others wait longer than they may (sync.md section 7). */
function syncBench(options: readonly string[]): Promise<Outcome> {
  return besideEtcd(async (peer) => {
    const says: string[] = [];
    let total: Row = {};
    const words = ["bench", "sync", "--beside", peer, ...withDefaults(options, { "--rounds": 3 })];
    const status = await rowsOf([BINARY, ...words, "--json"], (row) => {
      if (row["event"] === "total") total = row;
      says.push(syncLine(row));
    });
    const isWithin =
      Number(total["payloadRatio"]) >= 1 && Number(total["providerGrowthMiB"]) <= SYNC_GROWTH_MIB_MAX && Number(total["p99Ratio"]) <= SYNC_P99_RATIO_MAX;
    return { isOk: status === 0 && isWithin, says };
  });
}

function syncLine(row: Row): string {
  if (row["event"] !== "round")
    return `median: ${row["payloadMiBPerSecond"]} MiB/s of payload, ${row["payloadRatio"]} of the peer's; provider grew by ${row["providerGrowthMiB"]} MiB, writes wait p99 ${row["duringP99Ms"]} ms, ${row["p99Ratio"]} times what they wait without`;
  const [idle, during] = [row["idle"], row["during"]] as readonly { readonly p99Ms: number }[];
  const who = row["who"] === "peer" ? String(row["peer"]) : `cairn, provider ${row["provider"]} grew by ${row["providerGrowthMiB"]} MiB`;
  return `round ${row["round"]}: ${Number(row["seconds"]).toFixed(2)} s, ${Number(row["payloadMiBPerSecond"]).toFixed(2)} MiB/s, ${who}, p99 ${during?.p99Ms} ms during, ${idle?.p99Ms} ms without`;
}

type KvTotal = { readonly ratios?: Readonly<Record<string, number>> } & Readonly<Record<"cairn" | "peer", KvSide | undefined>>;
type KvSide = { readonly peer: string; readonly killed: { readonly times: number; readonly p50Ms: number; readonly p99Ms: number } | null };

function kvLines(row: Row): readonly string[] {
  if (row["event"] === "round") {
    const rates = KV_MEASURED.map((key) => [key, row[key] as { readonly perSecond: number; readonly p50Ms: number; readonly p99Ms: number }] as const);
    const figures = rates.map(([key, { perSecond, p50Ms, p99Ms }]) => `${key} ${Math.round(perSecond)}/s (p50 ${p50Ms} ms, p99 ${p99Ms} ms)`);
    return [`round ${row["round"]} ${row["who"]}: ${figures.join(", ")}`];
  }
  const { cairn, peer, ratios } = row as KvTotal;
  const killed = [cairn, peer].flatMap((side) =>
    side === undefined || side.killed === null
      ? []
      : [`${side.peer}: leader killed ${side.killed.times} times, a write again after p50 ${side.killed.p50Ms} ms, p99 ${side.killed.p99Ms} ms`],
  );
  return [...killed, `ours ÷ the peer's, at the median: ${KV_MEASURED.map((key) => `${key} ${ratios?.[key]}`).join(", ")}`];
}

type BenchTotal = { readonly ratios?: Readonly<Record<string, { readonly median: number; readonly best: number }>> };
type BenchRow = Readonly<Record<"entriesPerSecond" | "cpuMicrosPerEntry" | "peakMemoryBytes", number>> & {
  readonly submitToSignedMs?: { readonly p50Ms: number; readonly p99Ms: number };
  readonly tenths?: readonly { readonly entries: number; readonly peakMemoryBytes: number }[];
};

function benchLine(row: Row): string {
  if (row["event"] === "total") {
    const ratios = Object.entries((row as BenchTotal).ratios ?? {}).map(([what, { median, best }]) => `${what} ${median} (best ${best})`);
    return `ours ÷ the peer's, at the median: ${ratios.join(", ")}`;
  }
  const { entriesPerSecond, cpuMicrosPerEntry, peakMemoryBytes, submitToSignedMs, tenths } = row as BenchRow;
  const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20);
  const memory =
    tenths === undefined ? `${mebibytes(peakMemoryBytes)} MiB` : `${tenths.map((each) => mebibytes(each.peakMemoryBytes)).join(" ")} MiB by tenths`;
  const late = submitToSignedMs === undefined ? "" : `, submit to signed p50 ${submitToSignedMs.p50Ms} ms, p99 ${submitToSignedMs.p99Ms} ms`;
  return `round ${row["round"]} ${row["who"]}: ${Math.round(entriesPerSecond)} entries/s, ${cpuMicrosPerEntry.toFixed(1)} µs CPU an entry, ${memory}${late}`;
}
