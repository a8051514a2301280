/**
 * Merges sorted runs of the hash index a slice at a time (merge.md section 6), so that no insert pays for a whole merge.
 * A slice reads as many blocks as it will write, goes on behind the last record written, and ends with that record as
 * the new position. The sources stay readable until the output is complete; all state is in the manifest and the rows.
 */
import { viewOf } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { FilterWriter, type Probe, setProbe } from "./hash-filter.ts";
import { blockKey, filterKey, type IndexAt, type Merge, type Run } from "./hash-manifest.ts";
import { compareRecords, copyRecord, prefixHigh, RECORD_BYTES, wordsOf } from "./hash-record.ts";

/** 4,000 bytes: a value of one page of the store, with room for the store's own few bytes. */
const BLOCK_RECORDS = 250;
const STAMP_LIMIT = 2 ** 48;

/** What a slice has of one source: its records from about the position on, as far as they were read. */
type Source = {
  readonly view: DataView;
  readonly words: Uint32Array;
  /** First 6 bytes of each record: nearly always all that is compared. */
  readonly highs: Float64Array;
  /** Number of the next record. */
  next: number;
  /** Whether the run goes on behind what was read. */
  readonly more: boolean;
};

/** Writes records behind those a run has, in blocks, and its filter; gives the run as it is then. */
export function appendRecords(snap: Snapshot, at: IndexAt, run: Run, records: Uint8Array): { ops: Op[]; run: Run } {
  const ops: Op[] = [];
  const view = viewOf(records);
  const filter = new FilterWriter(snap, (row) => filterKey(at, run.id, row), run.filterBlockCount);
  const probe: Probe = { lead: 0, start: 0, step: 0 };
  let stamp = run.stamp;
  for (let offset = 0; offset < records.length; offset += RECORD_BYTES) {
    const high = prefixHigh(view, offset);
    setProbe(probe, view, offset);
    filter.add(probe);
    stamp += high;
    if (stamp >= STAMP_LIMIT) stamp -= STAMP_LIMIT;
  }
  for (let offset = 0; offset < records.length; offset += BLOCK_RECORDS * RECORD_BYTES) {
    const block = records.subarray(offset, offset + BLOCK_RECORDS * RECORD_BYTES);
    ops.push({ op: "put", key: blockKey(at, run.id, block.subarray(0, RECORD_BYTES)), value: block });
  }
  return { ops: [...ops, ...filter.ops()], run: { ...run, recordCount: run.recordCount + records.length / RECORD_BYTES, stamp } };
}

/** Moves up to `recordsMax` records further. `done` when the output holds all that the sources do. */
export function mergeSlice(snap: Snapshot, at: IndexAt, merge: Merge, recordsMax: number): { ops: Op[]; merge: Merge; done: boolean } {
  const blockCount = Math.ceil(recordsMax / BLOCK_RECORDS);
  const sources = merge.sources.map((id) => openSource(snap, at, id, merge, Math.ceil(blockCount / merge.sources.length) + 2));
  const records = new Uint8Array(blockCount * BLOCK_RECORDS * RECORD_BYTES);
  if (merge.output.recordCount > 0) for (const source of sources) skip(source, viewOf(merge.position));
  const end = fill(records, sources) * RECORD_BYTES;
  if (end > 0) for (const source of sources) skip(source, viewOf(records.subarray(end - RECORD_BYTES, end)));
  const done = sources.every((source) => !source.more && source.next === source.highs.length);
  if (end === 0) return { ops: [], merge, done };
  const { ops, run } = appendRecords(snap, at, merge.output, records.subarray(0, end));
  return { ops, merge: { ...merge, output: run, position: records.slice(end - RECORD_BYTES, end) }, done };
}

/** Reads `blockCount` blocks of a run from the one that may hold the position on. */
function openSource(snap: Snapshot, at: IndexAt, id: number, merge: Merge, blockCount: number): Source {
  const first = blockKey(at, id, new Uint8Array(0));
  const end = blockKey(at, id + 1, new Uint8Array(0));
  let from = first;
  if (merge.output.recordCount > 0)
    for (const [key] of snap.range("log", first, behind(blockKey(at, id, merge.position)), { reverse: true, limit: 1 })) from = key;
  const blocks: Uint8Array[] = [];
  let length = 0;
  for (const [, block] of snap.range("log", from, end, { limit: blockCount })) {
    blocks.push(block);
    length += block.length;
  }
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const block of blocks) {
    bytes.set(block, offset);
    offset += block.length;
  }
  const view = viewOf(bytes);
  const highs = new Float64Array(length / RECORD_BYTES);
  for (let i = 0; i < highs.length; i++) highs[i] = prefixHigh(view, i * RECORD_BYTES);
  return { view, words: wordsOf(bytes), highs, next: 0, more: blocks.length === blockCount };
}

/** The least key above this one. */
export function behind(key: Uint8Array): Uint8Array {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}

/**
 * Takes the smallest record of all sources until `records` is full or a source was not read far enough to know it. A record
 * that several sources have is taken once. Gives the number of records.
 */
function fill(records: Uint8Array, sources: readonly Source[]): number {
  const [view, words] = [viewOf(records), wordsOf(records)];
  const room = records.length / RECORD_BYTES;
  let count = 0;
  while (count < room) {
    const least = leastOf(sources);
    if (least === null) break;
    const repeated = count > 0 && compareRecords(view, (count - 1) * RECORD_BYTES, least.view, least.next * RECORD_BYTES) === 0;
    if (!repeated) copyRecord(least.words, least.next, words, count++);
    least.next++;
  }
  return count;
}

/** Passes over the records up to this one. */
function skip(source: Source, position: DataView): void {
  while (source.next < source.highs.length && compareRecords(source.view, source.next * RECORD_BYTES, position, 0) <= 0) source.next++;
}

/** The source with the smallest next record; null at the end, or where a source must be read further first. */
function leastOf(sources: readonly Source[]): Source | null {
  let least: Source | null = null;
  let high = 0;
  for (const source of sources) {
    if (source.next === source.highs.length) {
      if (source.more) return null;
      continue;
    }
    const own = source.highs[source.next] as number;
    if (least === null || own < high || (own === high && compareRecords(source.view, source.next * RECORD_BYTES, least.view, least.next * RECORD_BYTES) < 0)) {
      least = source;
      high = own;
    }
  }
  return least;
}
