/**
 * `cairn bench …`: measures this build on this machine, with real processes and real fsyncs (merge.md section 8, sync.md
 * section 7). With --beside another program does the same work in alternation, A B A B, since only ratios of one run mean
 * anything on a busy machine; it prints one line of JSON with the same keys. What did not verify is never given a number.
 */
import { availableParallelism } from "node:os";
import { EngineError, errorTable } from "../engine/base/errors.ts";
import { hundredths, median } from "./bench-figures.ts";
import type { MergeNumbers, MergeRound, MergeSettings } from "./bench-merge.ts";
import { type CommandSpec, type Context, command } from "./spec.ts";
import { formatTable } from "./table.ts";

/** What the other program's line must have; further keys are passed on. */
type PeerNumbers = { readonly entries: number; readonly verified: boolean } & Readonly<Record<Compared, number>>;
const COMPARED = ["entriesPerSecond", "cpuMicrosPerEntry", "peakMemoryBytes"] as const satisfies readonly (keyof MergeNumbers)[];
type Compared = (typeof COMPARED)[number];

/** Some seconds: a dozen processes compile what they run. The other program is given as many before its clock starts. */
const WARM_UP_COUNT = 100_000;
const SINGLES_COUNT = 30;

const merge = command({
  name: "bench merge",
  summary: "Measure the merge on a cluster of its own, from submit to published by every frontend",
  args: [],
  options: [
    { name: "entries", form: "count", value: "N", default: "100000", means: "entries a round" },
    { name: "bytes", form: "count", value: "N", default: "200", means: "bytes of each entry, at least 8" },
    { name: "rounds", form: "count", value: "N", default: "4", means: "rounds, each on a fresh cluster" },
    { name: "k", form: "count", value: "K", default: "2", means: "so many of the two secondaries have verified what is signed" },
    {
      name: "storagequorum",
      form: "count",
      value: "N",
      default: "1",
      means: "so many storage nodes have an entry on disk before its receipt; a peer's add has one",
    },
    { name: "warm-up", form: "count", value: "N", default: String(WARM_UP_COUNT), means: "entries published before the clock starts, on both sides" },
    {
      name: "beside",
      form: "string",
      value: "CMD",
      means: "a program to alternate with; $BENCH_ENTRIES, $BENCH_WARM_UP, $BENCH_BYTES and $BENCH_COPIES tell it what to do",
    },
  ],
  errors: ["BAD_OPTION", "UNAVAILABLE", "TIMEOUT"],
  examples: ["cairn bench merge", "cairn bench merge --entries 1000000 --rounds 1 --json"],
  async run(ctx) {
    try {
      await benchMerge(ctx);
    } catch (error) {
      if (!ctx.signal.aborted) throw error; // told to stop: the signal is the status
    }
  },
});

type Options = Readonly<Record<"entries" | "bytes" | "rounds" | "k" | "storagequorum" | "warm-up", number>> & { readonly beside: string | undefined };

async function benchMerge(ctx: Pick<Context, "signal" | "note" | "answer" | "exitWith"> & { readonly options: Options }): Promise<void> {
  const { entries, bytes, rounds, k, storagequorum, "warm-up": warmUp, beside } = ctx.options;
  await checkOptions({ entries, bytes, k, storagequorum }, rounds);
  const { runMergeRound } = await import("./bench-merge.ts");
  const settings = { entries, bytes, k, storagequorum, warmUp, singles: SINGLES_COUNT, receipts: "batch", cores: availableParallelism(), rounds };
  const ours: MergeNumbers[] = [];
  const theirs: PeerNumbers[] = [];
  for (let round = 1; round <= rounds; round++) {
    const result: MergeRound = await runMergeRound({ ...settings, signal: ctx.signal, note: ctx.note });
    await ctx.answer({ event: "round", round, who: "cairn", settings, ...result }, roundText(round, result));
    if (!result.verified) return ctx.exitWith(errorTable.LOG_ROOT_MISMATCH.exit);
    ours.push(result);
    if (beside === undefined) continue;
    const peer = await runPeer(beside, settings, ctx.signal);
    await ctx.answer({ event: "round", round, who: "peer", ...peer }, `${round} peer   ${compareText(peer)}`);
    theirs.push(peer);
  }
  const total = totals(ours, theirs);
  await ctx.answer({ event: "total", settings, ...total }, formatTable(totalRows(total)));
}

async function checkOptions(
  { entries, bytes, k, storagequorum }: Pick<MergeSettings, "entries" | "bytes" | "k" | "storagequorum">,
  rounds: number,
): Promise<void> {
  const { ENTRY_BYTES_MIN } = await import("./bench-load.ts");
  const { ENTRY_BYTES_MAX } = await import("../engine/log/entry.ts");
  const bad = (what: string): EngineError => new EngineError("BAD_OPTION", what);
  if (bytes < ENTRY_BYTES_MIN || bytes > ENTRY_BYTES_MAX) throw bad(`--bytes ${bytes}: want ${ENTRY_BYTES_MIN} to ${ENTRY_BYTES_MAX}`);
  if (entries < 1) throw bad(`--entries ${entries}: want at least 1`);
  if (rounds < 1) throw bad(`--rounds ${rounds}: want at least 1`);
  if (storagequorum < 1 || storagequorum > 3) throw bad(`--storagequorum ${storagequorum}: the bench's cluster has 3 storage nodes`);
  if (k > 2) throw bad(`--k ${k}: the bench's cluster has 2 secondaries`);
}

// ------------------------------------------------------------------ the other program

async function runPeer(
  command: string,
  { entries, bytes, warmUp }: Pick<MergeSettings, "entries" | "bytes" | "warmUp">,
  signal: AbortSignal,
): Promise<PeerNumbers> {
  const { runBeside } = await import("./bench-beside.ts");
  const env = { BENCH_ENTRIES: String(entries), BENCH_WARM_UP: String(warmUp), BENCH_BYTES: String(bytes), BENCH_COPIES: "2" };
  const peer = await runBeside({ command, env, signal, wants: `${COMPARED.join(", ")} and verified:true`, read: readPeer });
  if (peer.entries !== entries) throw new EngineError("BAD_OPTION", `--beside ${command}: did ${peer.entries} entries, asked for ${entries}`);
  return peer;
}

function readPeer(value: unknown): PeerNumbers | null {
  const peer = value as PeerNumbers | null; // checked here
  return peer?.verified === true && [...COMPARED, "entries" as const].every((key) => Number.isFinite(peer[key])) ? peer : null;
}

// ------------------------------------------------------------------ what it comes to

type Summary = Readonly<Record<Compared, { readonly median: number; readonly best: number }>>;
type Totals = { readonly cairn: Summary; readonly peer?: Summary; readonly ratios?: Summary };

/** Ratios are of medians and of bests: entries/s above 1 are ours, the others below 1. */
function totals(ours: readonly MergeNumbers[], theirs: readonly PeerNumbers[]): Totals {
  const cairn = summary(ours);
  if (theirs.length === 0) return { cairn };
  const peer = summary(theirs);
  const ratio = (key: Compared) => ({ median: hundredths(cairn[key].median / peer[key].median), best: hundredths(cairn[key].best / peer[key].best) });
  return { cairn, peer, ratios: byKey(ratio) };
}

function summary(rounds: readonly Readonly<Record<Compared, number>>[]): Summary {
  return byKey((key) => {
    const values = rounds.map((each) => each[key]);
    return { median: hundredths(median(values)), best: key === "entriesPerSecond" ? Math.max(...values) : Math.min(...values) };
  });
}

const byKey = <T>(make: (key: Compared) => T): Readonly<Record<Compared, T>> =>
  Object.fromEntries(COMPARED.map((key) => [key, make(key)])) as Readonly<Record<Compared, T>>;

function totalRows({ cairn, peer, ratios }: Totals): unknown[][] {
  const rowOf = (name: string, { entriesPerSecond, cpuMicrosPerEntry, peakMemoryBytes }: Summary, memoryUnit: number): unknown[][] =>
    (["median", "best"] as const).map((which) => [
      `${name} ${which}`,
      entriesPerSecond[which],
      cpuMicrosPerEntry[which],
      hundredths(peakMemoryBytes[which] / memoryUnit),
    ]);
  return [
    ["", "entries/s", "CPU µs/entry", "largest MiB"],
    ...rowOf("cairn", cairn, 2 ** 20),
    ...(peer === undefined ? [] : rowOf("peer", peer, 2 ** 20)),
    ...(ratios === undefined ? [] : rowOf("ratio", ratios, 1)),
  ];
}

function roundText(round: number, result: MergeRound): string {
  const verdicts = Object.entries(result.fsck).map(([what, verdict]) => `${what} ${verdict}`);
  if (!result.verified) return [`${round} cairn  does not verify, no numbers`, ...verdicts.map((each) => `  ${each}`)].join("\n");
  const parts = Object.entries(result.cpuMicrosPerEntryByPart).map(([part, micros]) => `${part} ${micros}`);
  const rates = Object.entries(result.ratesPerSecond).map(([step, rate]) => `${step} ${Math.round(rate)}`);
  return [
    `${round} cairn  ${compareText(result)}, ${result.writtenBytesPerEntry} bytes written an entry, load ${result.loadBefore.toFixed(1)} to ${result.loadAfter.toFixed(1)}`,
    `  entries/s until ${rates.join(", ")}`,
    `  CPU µs/entry ${parts.join(", ")}; client ${result.clientCpuMicrosPerEntry}`,
    `  add p50 ${result.addMs.p50Ms} ms, p99 ${result.addMs.p99Ms} ms; submit to signed p50 ${result.submitToSignedMs.p50Ms} ms, p99 ${result.submitToSignedMs.p99Ms} ms`,
    `  fsck: ${verdicts.join(", ")}`,
  ].join("\n");
}

const compareText = ({ entriesPerSecond, cpuMicrosPerEntry, peakMemoryBytes }: Readonly<Record<Compared, number>>): string =>
  `${Math.round(entriesPerSecond)} entries/s, ${hundredths(cpuMicrosPerEntry)} µs CPU an entry, largest process ${Math.round(peakMemoryBytes / 2 ** 20)} MiB`;

const kv = command({
  name: "bench kv",
  summary: "Measure puts and linearizable reads of the replicated store on a cluster of its own, and how soon it writes again without its leader",
  args: [],
  options: [
    { name: "seconds", form: "count", value: "N", default: "3", means: "how long each of the four is measured" },
    { name: "bytes", form: "count", value: "N", default: "256", means: "bytes of each value" },
    { name: "rounds", form: "count", value: "N", default: "4", means: "rounds, each on a fresh cluster" },
    { name: "kills", form: "count", value: "N", default: "0", means: "kills of the leader in the last round" },
    { name: "via", form: "string", value: "leader|spread", default: "leader", means: "every client asks the leader, or they are spread over the nodes" },
    {
      name: "beside",
      form: "string",
      value: "CMD",
      means: "a program that brings the clients for both sides: it loads $BENCH_NODES, or a store of its own where there are none",
    },
  ],
  errors: ["BAD_OPTION", "UNAVAILABLE", "TIMEOUT"],
  examples: ["cairn bench kv", "cairn bench kv --rounds 1 --kills 5 --json"],
  async run(ctx) {
    const { benchKv } = await import("./bench-kv.ts");
    try {
      await benchKv(ctx);
    } catch (error) {
      if (!ctx.signal.aborted) throw error; // told to stop: the signal is the status
    }
  },
});

const sync = command({
  name: "bench sync",
  summary: "Measure how fast a node copies a whole store while clients write, on a cluster of its own",
  args: [],
  options: [
    { name: "keys", form: "count", value: "N", default: "200000", means: "so many values are in the store" },
    { name: "bytes", form: "count", value: "N", default: "1024", means: "bytes of each value" },
    { name: "rounds", form: "count", value: "N", default: "1", means: "rounds, each on a fresh cluster" },
    { name: "seconds", form: "count", value: "N", default: "5", means: "how long writes are measured without a copy" },
    {
      name: "beside",
      form: "string",
      value: "CMD",
      means: "a program that copies a store of its own; $BENCH_KEYS, $BENCH_BYTES and $BENCH_SECONDS tell it what to do",
    },
  ],
  errors: ["BAD_OPTION", "UNAVAILABLE", "TIMEOUT"],
  examples: ["cairn bench sync", "cairn bench sync --keys 20000 --rounds 3 --json"],
  async run(ctx) {
    const { benchSync } = await import("./bench-sync.ts");
    try {
      await benchSync(ctx);
    } catch (error) {
      if (!ctx.signal.aborted) throw error; // told to stop: the signal is the status
    }
  },
});

export const benchCommands: readonly CommandSpec[] = [merge, kv, sync];
