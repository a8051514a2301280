/**
 * One round of `bench merge` (merge.md section 8): a fresh cluster, warmed up; entries submitted as fast as they are taken, until every
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
import { hundredths, type Waits, waitsOf } from "./bench-figures.ts";
import { type Load, submitAll, timeSingles } from "./bench-load.ts";
import { ownCpuMicros, type Usage, UsageWatch } from "./bench-usage.ts";

export type MergeSettings = {
  readonly entries: number;
  readonly bytes: number;
  readonly k: number;
  readonly storagequorum: number;
  /** Entries published before the clock starts: links are open then and code is compiled, as in a cluster that has run for a minute. */
  readonly warmUp: number;
  /** Entries submitted one at a time, to see how long one takes. */
  readonly singles: number;
};
export type MergeBench = MergeSettings & {
  readonly signal: AbortSignal;
  /** One line for people. */
  readonly note: (text: string) => void;
  /** Between the cluster's end and the fsck of its disks. */
  readonly beforeCheck?: (nodes: readonly BenchNode[]) => Promise<void>;
};

/** A tenth of the way: what the cluster had taken so far; memory is the largest process's peak within that tenth. */
type Tenth = { readonly entries: number; readonly seconds: number; readonly cpuMicrosPerEntry: number; readonly peakMemoryBytes: number };

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
  readonly ratesPerSecond: Readonly<Record<"submitted" | keyof Reached, number>>;
  readonly clientCpuMicrosPerEntry: number;
  readonly cpuMicrosPerEntryByPart: Readonly<Record<string, number>>;
  readonly peakMemoryBytesByPart: Readonly<Record<string, number>>;
  readonly writtenBytesPerEntry: number;
  readonly tenths: readonly Tenth[];
  readonly addMs: Waits;
  readonly submitToSignedMs: Waits;
  readonly fsck: Readonly<Record<string, string>>;
  readonly loadBefore: number;
  readonly loadAfter: number;
};
export type MergeRound = MergeNumbers | { readonly verified: false; readonly fsck: Readonly<Record<string, string>> };

const POLL_MS = 25;
/** No entry moved for so long: the cluster hangs, and the round is over. */
const STUCK_SECONDS = 60;

export async function runMergeRound(bench: MergeBench): Promise<MergeRound> {
  const loadBefore = loadavg()[0] ?? 0;
  const { k, storagequorum } = bench;
  await using cluster = await BenchCluster.start("--backupquorum", String(k), "--storagequorum", String(storagequorum));
  const { nodes } = cluster;
  const load = { nodes, entryBytes: bench.bytes, signal: bench.signal };
  await race(bench, cluster, { ...load, from: 0, to: bench.warmUp }, () => {});
  using watch = new UsageWatch(cluster.pid);
  const end = bench.warmUp + bench.entries;
  const measured = await measure(bench, cluster, watch, { ...load, from: bench.warmUp, to: end });
  const loadAfter = loadavg()[0] ?? 0;
  const singles = await timeSingles({ ...load, from: end }, bench.singles);
  bench.note("fsck of a frontend, then of each disk");
  const fsck = await checkAll(bench, cluster);
  if (Object.values(fsck).some((verdict) => verdict !== "ok")) return { verified: false, fsck };
  return { ...measured, addMs: waitsOf(singles.addMs), submitToSignedMs: waitsOf(singles.signedMs), fsck, loadBefore, loadAfter };
}

// ------------------------------------------------------------------ the race

type Stage = "submitted" | keyof Reached;
type Work = Omit<Load, "published">;
/** When each stage had all entries, in seconds from the first submit. */
type Times = Readonly<Record<Stage, number>>;
type Measured = Omit<MergeNumbers, "addMs" | "submitToSignedMs" | "fsck" | "loadBefore" | "loadAfter">;

async function measure(bench: MergeBench, cluster: BenchCluster, watch: UsageWatch, work: Work): Promise<Measured> {
  const before = watch.byPart();
  watch.peakSinceLast();
  const clientBefore = ownCpuMicros();
  const tenths: Tenth[] = [];
  const tenthOf = (count: number): number => Math.floor((count * 10) / bench.entries);
  const seconds = await race(bench, cluster, work, (published, sinceSeconds) => {
    const entries = published - work.from;
    if (tenthOf(entries) === tenthOf(tenths.at(-1)?.entries ?? 0)) return;
    const { cpuMicrosPerEntry } = costs(before, watch.byPart(), entries);
    const { part, bytes: peakMemoryBytes } = watch.peakSinceLast();
    tenths.push({ entries, seconds: hundredths(sinceSeconds), cpuMicrosPerEntry, peakMemoryBytes });
    bench.note(
      `${entries} published after ${sinceSeconds.toFixed(1)} s, ${cpuMicrosPerEntry} µs CPU an entry, largest process ${part} with ${mebibytes(peakMemoryBytes)} MiB`,
    );
  });
  const { parts, cpuMicrosPerEntry, peakMemoryBytes, writtenBytesPerEntry } = costs(before, watch.byPart(), bench.entries);
  const rate = (stage: Stage): number => hundredths(bench.entries / seconds[stage]);
  return {
    entries: bench.entries,
    bytes: bench.bytes,
    seconds: seconds.published,
    signedSeconds: seconds.signed,
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
    clientCpuMicrosPerEntry: hundredths((ownCpuMicros() - clientBefore) / bench.entries),
    cpuMicrosPerEntryByPart: Object.fromEntries([...parts].map(([part, usage]) => [part, hundredths(usage.cpuMicros / bench.entries)])),
    peakMemoryBytesByPart: Object.fromEntries([...parts].map(([part, usage]) => [part, usage.peakBytes])),
    writtenBytesPerEntry,
    tenths,
  };
}

/** Submits the work and looks until every frontend serves all of it. */
async function race(bench: MergeBench, cluster: BenchCluster, work: Work, onPublished: (count: number, sinceSeconds: number) => void): Promise<Times> {
  const startedMs = performance.now();
  const since = (): number => (performance.now() - startedMs) / 1_000;
  const seconds = { submitted: 0, sequenced: 0, verified: 0, signed: 0, published: 0 };
  let published = work.from;
  const submitted = submitAll({ ...work, published: () => published }).then(() => {
    seconds.submitted = since();
  });
  const follow = async (): Promise<void> => {
    let moved = { sum: 0, at: 0 };
    while (published < work.to) {
      bench.signal.throwIfAborted();
      const reached = await cluster.reached();
      for (const stage of ["sequenced", "verified", "signed", "published"] as const) if (reached[stage] >= work.to) seconds[stage] ||= since();
      const sum = reached.sequenced + reached.verified + reached.signed + reached.published;
      if (sum > moved.sum) moved = { sum, at: since() };
      if (since() - moved.at > STUCK_SECONDS)
        throw new EngineError("TIMEOUT", `nothing moved for ${STUCK_SECONDS} s: ${JSON.stringify(reached)} of ${work.to}, ${cluster.latched()}`);
      if (reached.published > published) onPublished(reached.published, since());
      published = Math.max(published, reached.published);
      await Bun.sleep(POLL_MS);
    }
  };
  await Promise.all([submitted, follow()]);
  return seconds;
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
  return { parts, cpuMicrosPerEntry: hundredths(cpuMicros / entries), peakMemoryBytes, writtenBytesPerEntry: hundredths(writtenBytes / entries) };
}

const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20);

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
    return checkpoint.size >= bench.warmUp + bench.entries
      ? "ok"
      : `the head's size is ${checkpoint.size}, ${bench.warmUp + bench.entries} entries were submitted`;
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
