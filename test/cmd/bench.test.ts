/** `bench merge`, `bench kv` and `bench sync` on real clusters: what a round tells, and that what does not verify or fails gets no numbers. */
import { expect, test } from "bun:test";
import type { BenchNode } from "../../src/cmd/bench-cluster.ts";
import { benchKv, type KvOptions } from "../../src/cmd/bench-kv.ts";
import type { Rate } from "../../src/cmd/bench-kv-load.ts";
import { type MergeBench, runMergeRound } from "../../src/cmd/bench-merge.ts";
import { benchSync } from "../../src/cmd/bench-sync.ts";
import { loadNode } from "../../src/engine/node/config.ts";
import { openDisk } from "../../src/engine/node/disk.ts";
import { logKeys } from "../../src/engine/store/keys.ts";

const LIMIT_MS = 60_000;
const round = (beforeCheck: MergeBench["beforeCheck"] = async () => {}) =>
  runMergeRound({
    entries: 1_500,
    bytes: 200,
    k: 2,
    storagequorum: 1,
    warmUp: 500,
    singles: 2,
    signal: new AbortController().signal,
    note: () => {},
    beforeCheck,
  });

test(
  "a round tells what it cost, and that every copy verifies",
  async () => {
    const result = await round();
    expect(result.fsck).toEqual({ "frontend c": "ok", "primary a": "ok", "secondary b": "ok", "secondary c": "ok" });
    if (!result.verified) throw new Error("unreachable: all verdicts are ok");
    expect(Object.keys(result)).toEqual([
      ...["entries", "bytes", "seconds", "signedSeconds", "entriesPerSecond", "cpuMicrosPerEntry", "peakMemoryBytes", "copies", "verified"],
      ...["ratesPerSecond", "clientCpuMicrosPerEntry", "cpuMicrosPerEntryByPart", "peakMemoryBytesByPart", "writtenBytesPerEntry", "tenths"],
      ...["addMs", "submitToSignedMs", "fsck", "loadBefore", "loadAfter"],
    ]);
    const { seconds, signedSeconds, entriesPerSecond, ratesPerSecond, cpuMicrosPerEntryByPart, peakMemoryBytesByPart, peakMemoryBytes } = result;
    expect(Object.keys(cpuMicrosPerEntryByPart)).toEqual(
      ["backup.b", "backup.c", "dist", "fetch.a", "fetch.b", "fetch.c", "loop", "node.a", "node.b", "node.c", "queue", "up"].sort(),
    );
    expect(entriesPerSecond).toBeCloseTo(1_500 / seconds, 1);
    expect(signedSeconds).toBeLessThanOrEqual(seconds);
    expect(ratesPerSecond.published).toBe(entriesPerSecond);
    expect(peakMemoryBytes).toBe(Math.max(...Object.values(peakMemoryBytesByPart)));
    expect(peakMemoryBytes).toBeGreaterThan(2 ** 24);
    expect(result.writtenBytesPerEntry).toBeGreaterThan(3 * 200); // three copies at least
    expect(result.submitToSignedMs.p99Ms).toBeGreaterThanOrEqual(result.submitToSignedMs.p50Ms);
  },
  LIMIT_MS,
);

/** Another entry in place of the first, with a checksum of its own. */
async function damage(nodes: readonly BenchNode[]): Promise<void> {
  const { dir } = nodes[1] as BenchNode;
  const { merge } = await loadNode(dir);
  const disk = await openDisk(dir);
  const key = logKeys.bundle(merge.log, 0);
  let bundle: Uint8Array;
  {
    using snap = disk.snapshot();
    bundle = snap.get("log", key) as Uint8Array;
  }
  bundle[100] = (bundle[100] as number) ^ 1;
  await disk.write({ db: "log", batch: [{ op: "put", key, value: bundle }] });
  await disk.close();
}

test(
  "a log that does not verify has no numbers",
  async () => {
    const result = await round(damage);
    expect(result).toEqual({ verified: false, fsck: { ...result.fsck, "primary a": "ok", "secondary c": "ok" } });
    expect(result.fsck["secondary b"]).toStartWith("LOG_ENTRY_MISMATCH: entry 0 ");
  },
  LIMIT_MS,
);

const kvOptions = { seconds: 1, bytes: 256, rounds: 1, kills: 0, via: "leader", beside: undefined };
async function kvRows(options: Partial<KvOptions>): Promise<Record<string, unknown>[]> {
  const rows: Record<string, unknown>[] = [];
  await benchKv({
    options: { ...kvOptions, ...options },
    signal: new AbortController().signal,
    note: () => {},
    answer: async (row) => {
      rows.push(row as Record<string, unknown>);
    },
  });
  return rows;
}

test(
  "kv: a round tells what was measured, and how long writes were away without their leader",
  async () => {
    const [round, total] = (await kvRows({ kills: 1 })) as [Record<string, unknown>, Record<string, unknown>];
    for (const key of ["put1", "put64", "read1", "read64"]) {
      const { perSecond, p50Ms, p99Ms } = round[key] as Rate;
      expect(perSecond).toBeGreaterThan(1);
      expect(p99Ms).toBeGreaterThanOrEqual(p50Ms);
    }
    const { killed } = total["cairn"] as { killed: { times: number; p99Ms: number } };
    expect(killed.times).toBe(1);
    expect(killed.p99Ms).toBeGreaterThan(100); // nobody stands before the dead leader's lease is over
  },
  LIMIT_MS,
);

test(
  "kv: another program loads both sides in turn, and the ratio is of medians",
  async () => {
    const line = (rate: number): string =>
      JSON.stringify({
        peer: "stub",
        killedMs: [],
        ...Object.fromEntries(["put1", "put64", "read1", "read64"].map((key) => [key, { perSecond: rate, p50Ms: 1, p99Ms: 2 }])),
      });
    const rows = await kvRows({ beside: `if [ -n "$BENCH_NODES" ]; then echo '${line(300)}'; else echo '${line(100)}'; fi` });
    expect(rows.map(({ event, who }) => [event, who])).toEqual([
      ["round", "cairn"],
      ["round", "peer"],
      ["total", undefined],
    ]);
    expect(rows[2]?.["ratios"]).toEqual({ put1: 3, put64: 3, read1: 3, read64: 3 });
    await expect(kvRows({ beside: "echo no etcd >&2; exit 2" })).rejects.toThrow("ended with 2");
  },
  LIMIT_MS,
);

test(
  "sync: a node copies a store while clients write, and a round tells how fast, from whom, and what it cost",
  async () => {
    const rows: Record<string, unknown>[] = [];
    await benchSync({
      options: { keys: 300, bytes: 1_024, rounds: 1, seconds: 1, beside: undefined },
      signal: new AbortController().signal,
      note: () => {},
      answer: async (row) => {
        rows.push(row as Record<string, unknown>);
      },
    });
    const [round, total] = rows as [Record<string, unknown>, Record<string, unknown>];
    expect(round).toMatchObject({
      event: "round",
      provider: expect.stringMatching(/^[abc]$/),
      idle: { p99Ms: expect.any(Number) },
      during: { p99Ms: expect.any(Number) },
    });
    expect(round["payloadMiBPerSecond"] as number).toBeGreaterThan(0);
    expect(total).toMatchObject({ event: "total", payloadMiBPerSecond: round["payloadMiBPerSecond"] });
  },
  LIMIT_MS,
);
