/**
 * Costs of the two hash indexes in a real LMDB environment: find 4,096 new hashes, insert them, commit, and find them once
 * more (the second storage node lists what the first did). Run by hand: `bun test/log/bench-index.ts [ENTRIES] [BATCH]`.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open, type RootDatabase } from "lmdb";
import { viewOf } from "../../src/engine/base/bytes.ts";
import type { Batch, Snapshot } from "../../src/engine/base/effects.ts";
import type { HashIndex } from "../../src/engine/log/hash-record.ts";
import { runsIndex } from "../../src/engine/log/hash-runs.ts";
import { treeIndex } from "../../src/engine/log/hash-tree.ts";
import { LOG } from "./grow.ts";

const ENTRIES = Number(process.argv[2] ?? 1_000_000);
const BATCH = Number(process.argv[3] ?? 4_096);
type Env = RootDatabase<Uint8Array, Uint8Array>;

const snapshotOf = (env: Env): Snapshot => ({
  get: (_db, key) => {
    const value = env.getBinary(key);
    return value === undefined ? undefined : new Uint8Array(value);
  },
  *range(_db, from, to, { reverse = false, limit } = {}) {
    const bounds = reverse ? { start: to, end: from, reverse, exclusiveStart: true, inclusiveEnd: true } : { start: from, end: to };
    for (const { key, value } of env.getRange(limit === undefined ? bounds : { ...bounds, limit })) yield [new Uint8Array(key), new Uint8Array(value)];
  },
  fileSize: () => null,
  fileRead: () => null,
  fileList: () => [],
});

async function commit(env: Env, batch: Batch): Promise<void> {
  await env.transaction(() => {
    for (const op of batch) {
      if (op.op === "put") env.put(op.key, op.value);
      else if (op.op === "del") env.remove(op.key);
      else for (const key of [...env.getKeys({ start: op.key, end: op.end })]) env.remove(key);
    }
  });
}

/** SHA-256 of a counter, for a whole batch. */
function hashesFrom(first: number): Uint8Array {
  const hashes = new Uint8Array(BATCH * 32);
  const input = new Uint8Array(8);
  for (let i = 0; i < BATCH; i++) {
    viewOf(input).setFloat64(0, first + i);
    Bun.SHA256.hash(input, hashes.subarray(i * 32, i * 32 + 32));
  }
  return hashes;
}

async function measure(name: string, index: HashIndex): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "cairn-bench-"));
  const env: Env = open({ path: join(folder, "index"), encoding: "binary", keyEncoding: "binary" });
  const snap = snapshotOf(env);
  const written: Uint8Array[] = [];
  let spent = { fresh: 0, insert: 0, commit: 0, again: 0, worst: 0, count: 0 };
  for (let size = 0; size < ENTRIES; size += BATCH) {
    const hashes = hashesFrom(size);
    const times = [Bun.nanoseconds()];
    const fullHashAt = (at: number): Uint8Array | null => written[Math.floor(at / BATCH)]?.subarray((at % BATCH) * 32, (at % BATCH) * 32 + 32) ?? null;
    if (index.find(snap, LOG, "i", hashes, fullHashAt).some((at) => at >= 0)) throw new Error("found a new hash");
    times.push(Bun.nanoseconds());
    const ops = index.insertOps(snap, LOG, "i", hashes, size);
    times.push(Bun.nanoseconds());
    await commit(env, ops);
    written.push(hashes);
    times.push(Bun.nanoseconds());
    if (index.find(snap, LOG, "i", hashes, fullHashAt).some((at, i) => at !== size + i)) throw new Error("lost a hash");
    times.push(Bun.nanoseconds());
    const [a, b, c, d, e] = times as [number, number, number, number, number];
    spent = {
      fresh: spent.fresh + b - a,
      insert: spent.insert + c - b,
      commit: spent.commit + d - c,
      again: spent.again + e - d,
      worst: Math.max(spent.worst, c - b),
      count: spent.count + BATCH,
    };
    const done = size + BATCH;
    if ([10_000, 100_000, 300_000, ENTRIES].some((mark) => size < mark && done >= mark)) {
      const us = (ns: number): string => (ns / spent.count / 1_000).toFixed(2);
      const file = statSync(join(folder, "index", "data.mdb")).size;
      console.log(
        `${name} up to ${done}: µs an entry: find new ${us(spent.fresh)}, insert ${us(spent.insert)}, commit ${us(spent.commit)}, find old ${us(spent.again)}; ` +
          `worst insert ${(spent.worst / 1e6).toFixed(1)} ms; file ${(file / 2 ** 20).toFixed(0)} MiB, rss ${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB`,
      );
      spent = { fresh: 0, insert: 0, commit: 0, again: 0, worst: 0, count: 0 };
    }
  }
  await env.close();
  rmSync(folder, { recursive: true });
}

await measure("runs", runsIndex());
await measure("rows", treeIndex);
