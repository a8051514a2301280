/**
 * Costs of appending to a log, by hand: `bun test/log/bench.ts [ENTRIES] [BATCH]`. First the pure part, without commits;
 * then whole batches of 200-byte entries into a store on disk, once with each hash index: look the hashes up (new), make
 * the operations, commit, and look them up again (the second storage node lists what the first did).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Op, Snapshot } from "../../src/engine/base/effects.ts";
import { encodeEdge, entryOps, orderOps, tileOps } from "../../src/engine/log/append.ts";
import type { HashIndex } from "../../src/engine/log/hash-record.ts";
import { runsIndex } from "../../src/engine/log/hash-runs.ts";
import { EMPTY_EDGE, leafHashes } from "../../src/engine/log/merkle.ts";
import { LogReader } from "../../src/engine/log/reader.ts";
import { logKeys } from "../../src/engine/store/keys.ts";
import { openEnvironment } from "../../src/engine/store/lmdb.ts";
import { LOG, storedEdge } from "./grow.ts";
import { treeIndex } from "./hash-tree.ts";
import { MapSnapshot } from "./map-snapshot.ts";

const ENTRIES = Number(process.argv[2] ?? 1_000_000);
const BATCH = Number(process.argv[3] ?? 4_096);
const ENTRY_BYTES = 200;

/** `count` entries, each with its number in front. */
function bundleFrom(first: number, count: number): Uint8Array {
  const bundle = new Uint8Array(count * (2 + ENTRY_BYTES));
  const view = new DataView(bundle.buffer);
  for (let i = 0; i < count; i++) {
    view.setUint16(i * (2 + ENTRY_BYTES), ENTRY_BYTES);
    view.setFloat64(i * (2 + ENTRY_BYTES) + 2, first + i);
  }
  return bundle;
}

class Stopwatch {
  private spent: Record<string, number> = {};
  private last = Bun.nanoseconds();
  start(): void {
    this.last = Bun.nanoseconds();
  }
  lap(name: string): void {
    const now = Bun.nanoseconds();
    this.spent[name] = (this.spent[name] ?? 0) + now - this.last;
    this.last = now;
  }
  /** Microseconds an entry by name, and zero again. */
  report(count: number): string {
    const total = Object.values(this.spent).reduce((sum, ns) => sum + ns, 0);
    const each = Object.entries(this.spent).map(([name, ns]) => `${name} ${(ns / count / 1_000).toFixed(2)}`);
    this.spent = {};
    return `µs an entry: ${each.join(", ")}; ${Math.round((count / total) * 1e9)} entries/s`;
  }
}

/** The operations of one batch, each kind on the watch. */
function appendOps(snap: Snapshot, bundle: Uint8Array, watch: Stopwatch): { ops: Op[]; hashes: Uint8Array; start: number } {
  const edge = storedEdge(snap);
  const hashes = leafHashes(bundle);
  watch.lap("hash");
  const ops = orderOps(snap, LOG, edge.size, hashes);
  watch.lap("order");
  ops.push(...entryOps(snap, LOG, edge.size, bundle));
  watch.lap("entries");
  const tiles = tileOps(snap, LOG, edge, hashes);
  ops.push(...tiles.ops, { op: "put", key: logKeys.edge(LOG), value: encodeEdge(tiles.edge) });
  watch.lap("tiles");
  return { ops, hashes, start: edge.size };
}

function pure(first: number): void {
  const snap = new MapSnapshot();
  const watch = new Stopwatch();
  let size = 0;
  for (let batch = 0; batch < 100; batch++) {
    const bundle = bundleFrom(size, batch === 0 ? first : BATCH);
    watch.start();
    const { ops, hashes } = appendOps(snap, bundle, watch);
    snap.apply(ops);
    size += hashes.length / 32;
  }
  console.log(`without commits, ${first} entries in the first batch: ${watch.report(size)}`);
}

async function stored(name: string, index: HashIndex): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "cairn-bench-"));
  const env = await openEnvironment(join(folder, "log"), ["log"], { create: true });
  const watch = new Stopwatch();
  let counted = 0;
  for (let size = EMPTY_EDGE.size; size < ENTRIES; size += BATCH) {
    const bundle = bundleFrom(size, BATCH);
    using opened = env.snapshot();
    const snap = snapshotOf(opened.stores.log);
    watch.start();
    const { ops, hashes, start } = appendOps(snap, bundle, watch);
    if (index.find(snap, LOG, "i", hashes, () => null).some((at) => at >= 0)) throw new Error("found a new hash");
    watch.lap("find new");
    ops.push(...index.insertOps(snap, LOG, "i", hashes, start));
    watch.lap("index");
    await env.stores.log.commit(ops);
    watch.lap("commit");
    using after = env.snapshot();
    const now = snapshotOf(after.stores.log);
    const reader = new LogReader(now, LOG);
    if (index.find(now, LOG, "i", hashes, (at) => reader.hashAt(at)).some((at, i) => at !== start + i)) throw new Error("lost a hash");
    watch.lap("find old");
    counted += BATCH;
    if (![10_000, 100_000, ENTRIES].some((mark) => size < mark && size + BATCH >= mark)) continue;
    const { fileBytes } = env.stat();
    console.log(
      `${name} up to ${size + BATCH}: ${watch.report(counted)}; file ${Math.round(fileBytes / 2 ** 20)} MiB, rss ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB`,
    );
    counted = 0;
  }
  await env.close();
  rmSync(folder, { recursive: true });
}

type StoreReads = {
  get(key: Uint8Array): Uint8Array | undefined;
  peek(key: Uint8Array): Uint8Array | undefined;
  iterate: (from: Uint8Array, to: Uint8Array, options?: object) => ReturnType<Snapshot["range"]>;
};
const snapshotOf = (store: StoreReads): Snapshot => ({
  get: (_db, key) => store.get(key),
  peek: (_db, key) => store.peek(key),
  row: () => undefined,
  wroteAt: () => undefined,
  range: (_db, from, to, options) => store.iterate(from, to, options ?? {}),
  fileSize: () => null,
  fileRead: () => null,
  fileList: () => [],
});

for (const first of [BATCH, 100, BATCH, 100]) pure(first);
await stored("runs", runsIndex());
await stored("plain rows", treeIndex);
