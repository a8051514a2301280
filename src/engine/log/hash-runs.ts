/**
 * The hash index as sorted runs (merge.md section 6). New records gather in one small row; from 1,024 on they become a run,
 * written once in hash order; four runs of a level are merged into one of the next, a slice with every new run. So an
 * insert writes few, ascending rows however large the log is, and a new hash is answered by the runs' filters alone.
 * All state is in the store; the cache of filters may be dropped at any time. Hot: one insert and one find a batch.
 */
import { concatBytes, viewOf, writeU32be } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { HASH_BYTES } from "../base/ids.ts";
import { FilterCache, filterBlocks, type Probe, setProbe } from "./hash-filter.ts";
import { blockKey, filterKey, type IndexAt, type Leaving, type Manifest, type Merge, putManifest, type Run, readManifest, youngKey } from "./hash-manifest.ts";
import { appendRecords, behind, mergeSlice } from "./hash-merge.ts";
import {
  type HashIndex,
  newSearch,
  PREFIX_BYTES,
  prefixHigh,
  RECORD_BYTES,
  recordsOf,
  type Search,
  samePrefix,
  searchRecords,
  sortedByHash,
  sortRecords,
} from "./hash-record.ts";

/** Fewer records are kept in one row, of 16 KiB at most, rewritten with each insert. */
export const RUN_RECORDS_MIN = 1_024;
/** Runs of one level that are merged into one. */
const MERGE_WIDTH = 4;
/** Records that each merge moves for every record of a new run: a merge is done when half as many as it moves have come in. */
const MERGE_PACE = 2;

const NO_BYTES = new Uint8Array(0);
const HIGH_32 = 2 ** 32;

const runName = (at: IndexAt, run: Run): string => `${at.log.toHex()}${at.space}${run.id}.${run.recordCount}.${run.stamp}`;
const levelOf = (recordCount: number): number => {
  let level = 1;
  for (let limit = RUN_RECORDS_MIN * MERGE_WIDTH; recordCount >= limit; limit *= MERGE_WIDTH) level++;
  return level;
};

/** An index over runs; indexes of one process may share a cache. */
export function runsIndex(cache: FilterCache = new FilterCache()): HashIndex {
  return {
    find(snap, log, space, hashes, fullHashAt) {
      const at = { log, space };
      const search = newSearch(hashes, fullHashAt);
      const young = snap.get("log", youngKey(at));
      if (young !== undefined && young.length > 0) {
        const records = viewOf(young);
        for (let i = 0; i < search.found.length; i++) searchRecords(search, i, records);
      }
      const { runs } = readManifest(snap, at);
      if (runs.length === 0) return search.found;
      const ordered = inOrder(search);
      // small runs first: what was listed by two storage nodes was ordered a moment ago
      for (const run of [...runs].sort((a, b) => a.level - b.level || b.id - a.id)) searchRun(snap, at, cache, run, ordered);
      cache.shrink();
      return search.found;
    },

    insertOps(snap, log, space, hashes, firstIndex) {
      const at = { log, space };
      const young = snap.get("log", youngKey(at));
      const records = sortRecords(concatBytes(young ?? NO_BYTES, recordsOf(hashes, firstIndex)));
      if (records.length < RUN_RECORDS_MIN * RECORD_BYTES) return hashes.length === 0 ? [] : [{ op: "put", key: youngKey(at), value: records }];
      const ops: Op[] = young === undefined ? [] : [{ op: "del", key: youngKey(at) }];
      const added = addRun(snap, at, readManifest(snap, at), records);
      const merged = runMerges(snap, at, cache, added.manifest, (MERGE_PACE * records.length) / RECORD_BYTES);
      return [...ops, ...added.ops, ...merged.ops, putManifest(at, merged.manifest)];
    },
  };
}

// ------------------------------------------------------------------ finding

/** A search with its hashes in ascending order: `items[n]` is the number of the n-th, `probes` what the filters look at. */
type Ordered = {
  readonly search: Search;
  readonly items: Uint32Array;
  readonly probes: { readonly leads: Uint32Array; readonly starts: Int32Array; readonly steps: Int32Array };
};

function inOrder(search: Search): Ordered {
  const count = search.found.length;
  const items = sortedByHash(search.view, count, HASH_BYTES);
  const probes = { leads: new Uint32Array(count), starts: new Int32Array(count), steps: new Int32Array(count) };
  const probe: Probe = { lead: 0, start: 0, step: 0 };
  for (let n = 0; n < count; n++) {
    const hashAt = (items[n] as number) * HASH_BYTES;
    setProbe(probe, search.view, hashAt);
    probes.leads[n] = probe.lead;
    probes.starts[n] = probe.start;
    probes.steps[n] = probe.step;
  }
  return { search, items, probes };
}

/** Asks the filter for every hash not found yet, and the blocks only for those that pass; hashes come in order, so neighbours share a block. */
function searchRun(snap: Snapshot, at: IndexAt, cache: FilterCache, run: Run, { search, items, probes }: Ordered): void {
  const filter = cache.filter(runName(at, run), run.filterBlockCount);
  const keyOf = (row: number): Uint8Array => filterKey(at, run.id, row);
  const probe: Probe = { lead: 0, start: 0, step: 0 };
  let block: DataView | null = null;
  for (let n = 0; n < items.length; n++) {
    probe.lead = probes.leads[n] as number;
    probe.start = probes.starts[n] as number;
    probe.step = probes.steps[n] as number;
    const i = items[n] as number;
    if (!filter.mayHold(snap, keyOf, probe) || (search.found[i] as number) >= 0) continue;
    if (block !== null && spans(block, prefixHigh(search.view, i * HASH_BYTES))) searchRecords(search, i, block);
    else block = lookUp(snap, at, run, search, i);
  }
}

/** Whether all records with these leading bits are in this block, whatever they are followed by. */
function spans(block: DataView, high: number): boolean {
  return prefixHigh(block, 0) < high && high < prefixHigh(block, block.byteLength - RECORD_BYTES);
}

/** Reads the block that hash i would be in, and those before it as long as they begin with that very hash. Gives the first read. */
function lookUp(snap: Snapshot, at: IndexAt, run: Run, search: Search, i: number): DataView | null {
  const last = new Uint8Array(RECORD_BYTES).fill(0xff);
  last.set(search.hashes.subarray(i * HASH_BYTES, i * HASH_BYTES + PREFIX_BYTES));
  const lowest = blockKey(at, run.id, NO_BYTES);
  let first: DataView | null = null;
  for (let below: Uint8Array | null = behind(blockKey(at, run.id, last)); below !== null; ) {
    const to: Uint8Array = below;
    below = null;
    for (const [key, value] of snap.range("log", lowest, to, { reverse: true, limit: 1 })) {
      const block = viewOf(value);
      first ??= block;
      searchRecords(search, i, block);
      if (samePrefix(block, 0, search.view, i * HASH_BYTES)) below = key;
    }
  }
  return first;
}

// ------------------------------------------------------------------ inserting

function addRun(snap: Snapshot, at: IndexAt, manifest: Manifest, records: Uint8Array): { ops: Op[]; manifest: Manifest } {
  const count = records.length / RECORD_BYTES;
  const empty: Run = { id: manifest.nextId, level: levelOf(count), recordCount: 0, filterBlockCount: filterBlocks(count), stamp: 0 };
  const { ops, run } = appendRecords(snap, at, empty, records);
  return { ops, manifest: { ...manifest, nextId: manifest.nextId + 1, runs: [...manifest.runs, run] } };
}

/** Starts the merges that are due, moves each on by so many records, and removes a part of what finished ones left. */
function runMerges(snap: Snapshot, at: IndexAt, cache: FilterCache, before: Manifest, recordsMax: number): { ops: Op[]; manifest: Manifest } {
  const ops: Op[] = [];
  const removed = remove(at, before.leaving, recordsMax);
  let manifest = startMerges({ ...before, leaving: removed.leaving });
  ops.push(...removed.ops);
  for (const merge of before.merges) {
    const slice = mergeSlice(snap, at, merge, recordsMax);
    ops.push(...slice.ops);
    manifest = slice.done
      ? finish(at, cache, manifest, slice.merge)
      : { ...manifest, merges: manifest.merges.map((each) => (each === merge ? slice.merge : each)) };
  }
  return { ops, manifest };
}

/** One merge a level at a time: of the oldest four runs that are in none. */
function startMerges(manifest: Manifest): Manifest {
  const merges = [...manifest.merges];
  let { nextId } = manifest;
  for (const level of new Set(manifest.runs.map((run) => run.level))) {
    if (merges.some((merge) => merge.output.level === level + 1)) continue;
    const sources = manifest.runs.filter((run) => run.level === level).slice(0, MERGE_WIDTH);
    if (sources.length < MERGE_WIDTH) continue;
    const total = sources.reduce((sum, run) => sum + run.recordCount, 0);
    const output: Run = { id: nextId++, level: level + 1, recordCount: 0, filterBlockCount: filterBlocks(total), stamp: 0 };
    merges.push({ sources: sources.map((run) => run.id), output, position: new Uint8Array(RECORD_BYTES) });
  }
  return { ...manifest, nextId, merges };
}

/** The output takes the place of its sources, which are then removed bit by bit. */
function finish(at: IndexAt, cache: FilterCache, manifest: Manifest, merge: Merge): Manifest {
  const over = (run: Run): boolean => merge.sources.includes(run.id);
  const sources = manifest.runs.filter(over);
  for (const run of sources) cache.drop(runName(at, run));
  return {
    ...manifest,
    runs: [...manifest.runs.filter((run) => !over(run)), merge.output],
    merges: manifest.merges.filter((each) => each.output.id !== merge.output.id),
    leaving: [...manifest.leaving, ...sources.map(({ id, recordCount }) => ({ id, recordCount, from: 0 }))],
  };
}

/** Removes about `recordsMax` records of each run that is leaving: hashes are even, so a share of the records is that share of the keys. */
function remove(at: IndexAt, leaving: readonly Leaving[], recordsMax: number): { ops: Op[]; leaving: Leaving[] } {
  const ops: Op[] = [];
  const stay: Leaving[] = [];
  for (const run of leaving) {
    const to = run.from + Math.ceil((recordsMax / Math.max(1, run.recordCount)) * HIGH_32);
    if (to < HIGH_32) {
      ops.push({ op: "delRange", key: blockKey(at, run.id, high32(run.from)), end: blockKey(at, run.id, high32(to)) });
      stay.push({ ...run, from: to });
    } else {
      ops.push({ op: "delRange", key: blockKey(at, run.id, high32(run.from)), end: blockKey(at, run.id + 1, NO_BYTES) });
      ops.push({ op: "delRange", key: filterKey(at, run.id, 0), end: filterKey(at, run.id + 1, 0) });
    }
  }
  return { ops, leaving: stay };
}

function high32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeU32be(bytes, 0, value);
  return bytes;
}
