/**
 * One round of `bench merge` (merge.md section 8): a fresh cluster, entries submitted as fast as they are taken, until every
 * frontend serves a signed head over all of them; then single entries at a low rate; then the fsck of what is on the disks
 * and of what is served. A round that does not verify has no numbers. CPU and memory are of the time before the fsck.
 */
import { loadavg } from "node:os";
import { EngineError } from "../engine/base/errors.ts";
import { parseVkey, type Vkey } from "../engine/log/note.ts";
import { LogReader } from "../engine/log/reader.ts";
import { readerSource } from "../engine/log/reader-source.ts";
import { type LogSource, verifyLog } from "../engine/log/verify.ts";
import { rows } from "../engine/merge/records.ts";
import { loadNode } from "../engine/node/config.ts";
import { openDisk } from "../engine/node/disk.ts";
import { BenchCluster, type BenchNode, type Reached } from "./bench-cluster.ts";
import { submitAll, timeSingles } from "./bench-load.ts";
import { ownCpuMicros, type Usage, UsageWatch } from "./bench-usage.ts";

export type MergeSettings = { readonly entries: number; readonly bytes: number; readonly k: number };
export type MergeBench = MergeSettings & {
  readonly signal: AbortSignal;
  /** One line for people. */
  readonly note: (text: string) => void;
  /** Between the cluster's end and the fsck of its disks. */
  readonly beforeCheck?: (nodes: readonly BenchNode[]) => Promise<void>;
};

type Steps = keyof Reached;
/** A tenth of the way: what the cluster had taken so far. */
type Tenth = { readonly entries: number; readonly seconds: number; readonly cpuMicrosPerEntry: number; readonly peakMemoryBytes: number };
type Percentiles = { readonly p50: number; readonly p99: number };

/** The keys that both sides of a comparison have come first. */
export type MergeNumbers = {
  readonly entries: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly signedSeconds: number;
  /** First submit until every frontend serves a head over all of them. */
  readonly entriesPerSecond: number;
  /** Of all the cluster's processes together; the client is beside it. */
  readonly cpuMicrosPerEntry: number;
  /** Of the largest process. */
  readonly peakMemoryBytes: number;
  readonly copies: number;
  readonly verified: true;
  readonly ratesPerSecond: Readonly<Record<"submitted" | Steps, number>>;
  readonly clientCpuMicrosPerEntry: number;
  readonly cpuMicrosPerEntryByPart: Readonly<Record<string, number>>;
  readonly peakMemoryBytesByPart: Readonly<Record<string, number>>;
  readonly writtenBytesPerEntry: number;
  readonly tenths: readonly Tenth[];
  readonly addMs: Percentiles;
  readonly submitToSignedMs: Percentiles;
  readonly fsck: Readonly<Record<string, string>>;
  readonly loadBefore: number;
  readonly loadAfter: number;
};
export type MergeRound = MergeNumbers | { readonly verified: false; readonly fsck: Readonly<Record<string, string>> };

const POLL_MS = 25;
const SINGLES_COUNT = 30;
/** No entry moved for so long: the cluster hangs, and the round is over. */
const STUCK_MS = 60_000;

export async function runMergeRound(bench: MergeBench): Promise<MergeRound> {
  const loadBefore = loadavg()[0] ?? 0;
  await using cluster = await BenchCluster.start(bench.k);
  using watch = new UsageWatch(cluster.pid);
  const measured = await measure(bench, cluster, watch);
  const loadAfter = loadavg()[0] ?? 0;
  const singles = await timeSingles({ ...loadOf(bench, cluster), published: () => 0 }, SINGLES_COUNT);
  bench.note("fsck of a frontend, then of each disk");
  const fsck = await checkAll(bench, cluster);
  if (Object.values(fsck).some((verdict) => verdict !== "ok")) return { verified: false, fsck };
  return { ...measured, addMs: percentiles(singles.addMs), submitToSignedMs: percentiles(singles.signedMs), fsck, loadBefore, loadAfter };
}

const loadOf = (bench: MergeBench, cluster: BenchCluster) => ({
  nodes: cluster.nodes,
  entryCount: bench.entries,
  entryBytes: bench.bytes,
  signal: bench.signal,
});

// ------------------------------------------------------------------ the race

type Race = { readonly startedMs: number; readonly doneMs: Partial<Record<"submitted" | Steps, number>>; reached: Reached; readonly tenths: Tenth[] };
type Measured = Omit<MergeNumbers, "addMs" | "submitToSignedMs" | "fsck" | "loadBefore" | "loadAfter">;

async function measure(bench: MergeBench, cluster: BenchCluster, watch: UsageWatch): Promise<Measured> {
  const before = watch.byPart();
  const clientBefore = ownCpuMicros();
  const race: Race = { startedMs: performance.now(), doneMs: {}, reached: { sequenced: 0, verified: 0, signed: 0, published: 0 }, tenths: [] };
  const submitted = submitAll({ ...loadOf(bench, cluster), published: () => race.reached.published }).then(() => {
    race.doneMs.submitted = performance.now();
  });
  await Promise.all([submitted, follow(bench, cluster, race, () => costs(before, watch.byPart(), Math.max(1, race.reached.published)))]);
  const { parts, cpuMicrosPerEntry, peakMemoryBytes, writtenBytesPerEntry } = costs(before, watch.byPart(), bench.entries);
  const secondsTo = (step: "submitted" | Steps): number => ((race.doneMs[step] ?? race.startedMs) - race.startedMs) / 1_000;
  const rate = (step: "submitted" | Steps): number => round(bench.entries / secondsTo(step));
  return {
    entries: bench.entries,
    bytes: bench.bytes,
    seconds: secondsTo("published"),
    signedSeconds: secondsTo("signed"),
    entriesPerSecond: rate("published"),
    cpuMicrosPerEntry,
    peakMemoryBytes,
    copies: cluster.nodes.length - 1,
    verified: true,
    ratesPerSecond: {
      submitted: rate("submitted"),
      sequenced: rate("sequenced"),
      verified: rate("verified"),
      signed: rate("signed"),
      published: rate("published"),
    },
    clientCpuMicrosPerEntry: round((ownCpuMicros() - clientBefore) / bench.entries),
    cpuMicrosPerEntryByPart: Object.fromEntries([...parts].map(([part, usage]) => [part, round(usage.cpuMicros / bench.entries)])),
    peakMemoryBytesByPart: Object.fromEntries([...parts].map(([part, usage]) => [part, usage.peakBytes])),
    writtenBytesPerEntry,
    tenths: race.tenths,
  };
}

/** Looks until every frontend serves all entries; notes when each stage got there, and what was spent at each tenth. */
async function follow({ entries, signal, note }: MergeBench, cluster: BenchCluster, race: Race, spent: () => Costs): Promise<void> {
  let movedMs = performance.now();
  const tenthOf = (count: number): number => Math.floor((count * 10) / entries);
  while (race.reached.published < entries) {
    signal.throwIfAborted();
    const before = race.reached;
    race.reached = await cluster.reached();
    const nowMs = performance.now();
    for (const step of ["sequenced", "verified", "signed", "published"] as const) if (race.reached[step] >= entries) race.doneMs[step] ??= nowMs;
    if (race.reached.sequenced > before.sequenced || race.reached.published > before.published) movedMs = nowMs;
    if (nowMs - movedMs > STUCK_MS) throw new EngineError("TIMEOUT", `nothing moved for ${STUCK_MS} ms: ${JSON.stringify(race.reached)} of ${entries}`);
    if (tenthOf(race.reached.published) > tenthOf(before.published)) takeTenth(race, spent(), (nowMs - race.startedMs) / 1_000, note);
    await Bun.sleep(POLL_MS);
  }
}

function takeTenth(race: Race, { cpuMicrosPerEntry, peakMemoryBytes }: Costs, seconds: number, note: (text: string) => void): void {
  const { published } = race.reached;
  race.tenths.push({ entries: published, seconds: round(seconds), cpuMicrosPerEntry, peakMemoryBytes });
  note(
    `${published} published after ${seconds.toFixed(1)} s, ${cpuMicrosPerEntry} µs CPU an entry, largest process ${Math.round(peakMemoryBytes / 2 ** 20)} MiB`,
  );
}

type Costs = {
  readonly parts: ReadonlyMap<string, Usage>;
  readonly cpuMicrosPerEntry: number;
  readonly peakMemoryBytes: number;
  readonly writtenBytesPerEntry: number;
};

function costs(before: ReadonlyMap<string, Usage>, after: ReadonlyMap<string, Usage>, entries: number): Costs {
  const parts = new Map<string, Usage>();
  let cpuMicros = 0;
  let writtenBytes = 0;
  let peakMemoryBytes = 0;
  for (const [part, usage] of [...after].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const was = before.get(part);
    const spent = { ...usage, cpuMicros: usage.cpuMicros - (was?.cpuMicros ?? 0), writtenBytes: usage.writtenBytes - (was?.writtenBytes ?? 0) };
    parts.set(part, spent);
    cpuMicros += spent.cpuMicros;
    writtenBytes += spent.writtenBytes;
    peakMemoryBytes = Math.max(peakMemoryBytes, usage.peakBytes);
  }
  return { parts, cpuMicrosPerEntry: round(cpuMicros / entries), peakMemoryBytes, writtenBytesPerEntry: round(writtenBytes / entries) };
}

const round = (value: number): number => Math.round(value * 100) / 100;

function percentiles(values: readonly number[]): Percentiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => round(sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? 0);
  return { p50: at(0.5), p99: at(0.99) };
}

// ------------------------------------------------------------------ the fsck

/** By what was checked: `ok`, or the error that the fsck ended with. */
async function checkAll(bench: MergeBench, cluster: BenchCluster): Promise<Record<string, string>> {
  const vkey = parseVkey(cluster.vkey);
  const last = cluster.nodes[cluster.nodes.length - 1] as BenchNode;
  const fsck: Record<string, string> = {};
  fsck[`frontend ${last.id}`] = await verdict(bench, () => verifyLog(httpSource(last.log), { vkey }));
  await cluster.stop();
  await bench.beforeCheck?.(cluster.nodes);
  for (const [at, node] of cluster.nodes.entries())
    fsck[`${at === 0 ? "primary" : "secondary"} ${node.id}`] = await verdict(bench, () => verifyDisk(node, vkey));
  return fsck;
}

async function verdict(bench: MergeBench, check: () => ReturnType<typeof verifyLog>): Promise<string> {
  bench.signal.throwIfAborted();
  try {
    const { checkpoint } = await check();
    return checkpoint.size >= bench.entries ? "ok" : `the head's size is ${checkpoint.size}, ${bench.entries} entries were submitted`;
  } catch (error) {
    if (error instanceof EngineError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

async function verifyDisk({ id, dir }: BenchNode, vkey: Vkey): ReturnType<typeof verifyLog> {
  const { merge } = await loadNode(dir);
  const disk = await openDisk(dir, { create: false });
  try {
    using snap = disk.snapshot();
    const head = rows.published(snap, merge.log);
    if (head === null) throw new EngineError("NOT_FOUND", `${id} has published no head`);
    return await verifyLog(readerSource(new LogReader(snap, merge.log), head.note), { vkey });
  } finally {
    await disk.close();
  }
}

const httpSource = (address: string): LogSource => ({
  async read(path) {
    const answer = await fetch(`${address}/${path}`);
    const body = new Uint8Array(await answer.arrayBuffer());
    if (answer.ok) return body;
    if (answer.status === 404) return null;
    throw new EngineError("UNAVAILABLE", `${address}/${path} answered ${answer.status}`);
  },
});
