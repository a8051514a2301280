/**
 * Forms the next batch of the queue handler from the queue files (merge.md sections 1 and 6): slices of each storage
 * node's lines in turn, by name, so that an entry listed by two of them is usually met twice in one batch. What is in the
 * batch, being written, or in the order is a repeat and only moves the cursor. The same files give the same batch.
 * Hot path: hashes are compared in place; the index is asked once a slice, for what was met nowhere else.
 */
import { markOf } from "../base/effect-list.ts";
import type { Snapshot } from "../base/effects.ts";
import { invariant } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import { find } from "../log/hash-index.ts";
import { LogReader } from "../log/reader.ts";
import type { MergeConfig } from "./config.ts";
import { cursorIn, readCursor } from "./cursor.ts";
import { emptyTable, equalAt, pickHashes, tableAdd, tableFind } from "./hash-table.ts";
import { lineCountMax, type QueueLines, queueFile, readQueueLines, readQueueStart } from "./queue-file.ts";
import type { Batch, Lane, QueueEffect, QueueState } from "./queue-state.ts";

/** Four times what merge.md section 6 sketches: a quarter less CPU an entry here, and each later stage gets larger pieces. */
export const BATCH_COUNT_MAX = 16_384;
export const BATCH_BYTES_MAX = 8 * 1_024 * 1_024;
/** Lines of one batch, repeats included: bounds a step that finds nothing new. */
const BATCH_LINES_MAX = 65_536;
/** Lines taken from one storage node before the next one's turn. */
const SLICE_COUNT = 2_048;
/** Bits of a lister set. */
const LANE_COUNT_MAX = 31;

/** The queue files as they are now, each from its cursor. */
export function openLanes(snap: Snapshot, config: MergeConfig, notes: string[]): Lane[] {
  invariant(config.storages.length <= LANE_COUNT_MAX, `${config.storages.length} storage nodes, at most ${LANE_COUNT_MAX}`);
  return config.storages.map((storage) => {
    const cursor = readCursor(snap, config.log, storage);
    const start = readQueueStart(snap, config, storage);
    const lane = { storage, cursor, nextIndex: -1, askedCount: 0, wanted: [], gone: null, blocked: false };
    if (start.kind !== "ok") {
      if (start.kind !== "missing") notes.push(`${start.why}; its fetcher has to replace it`);
      return { ...lane, born: cursor?.born ?? "", generation: cursor?.generation ?? 0, offset: cursor?.offset ?? 0, seq: cursor?.seq ?? 0, limit: 0 };
    }
    const { header, end } = start.value;
    const limit = snap.fileSize(queueFile(config, storage)) ?? 0;
    const { born, generation, firstSeq } = header;
    const { offset, seq } = cursorIn(cursor, header) ?? { offset: end, seq: firstSeq };
    return { ...lane, born, generation, offset, seq, limit };
  });
}

const emptyBatch = (countHint: number): Batch => ({
  table: emptyTable(countHint),
  bytes: [],
  listers: [],
  absent: [],
  chunk: [],
  from: [],
  to: [],
  chunks: [],
  slices: [],
  held: [],
  bytesTotal: 0,
  lineCount: 0,
  openCount: 0,
});

/** The next batch, or null where the run has nothing more to read. */
export function readBatch(state: QueueState, snap: Snapshot, effects: QueueEffect[]): Batch | null {
  const unread = state.lanes.reduce((total, lane) => total + lineCountMax(lane.limit - lane.offset), 0);
  const batch = emptyBatch(Math.min(BATCH_COUNT_MAX, unread));
  const reader = new LogReader(snap, state.config.log);
  if (!state.heldAsked) askHeld(state, batch, snap, reader);
  for (let progress = true; progress; ) {
    progress = false;
    for (let lane = 0; lane < state.lanes.length; lane++) {
      const room = Math.min(SLICE_COUNT, BATCH_COUNT_MAX - batch.table.count, BATCH_LINES_MAX - batch.lineCount);
      if (room <= 0 || batch.bytesTotal >= BATCH_BYTES_MAX) return batch;
      if (readSlice(state, batch, lane, room, snap, reader, effects)) progress = true;
    }
  }
  return batch.slices.length === 0 && batch.held.length === 0 ? null : batch;
}

/** One slice of a lane into the batch; false where the lane has nothing more. */
function readSlice(state: QueueState, batch: Batch, at: number, countMax: number, snap: Snapshot, reader: LogReader, effects: QueueEffect[]): boolean {
  const lane = state.lanes[at] as Lane;
  if (lane.offset >= lane.limit || lane.blocked) return false;
  const lines = fitting(state, lane, snap, countMax, BATCH_BYTES_MAX - batch.bytesTotal, batch.table.count === 0);
  const now = readQueueStart(snap, state.config, lane.storage);
  if (now.kind !== "ok" || now.value.header.generation !== lane.generation) {
    lane.limit = lane.offset; // replaced while we read: the next run begins with the new generation
    effects.push(markOf("queue.replaced", `queue.${lane.storage} was replaced during the run`));
    return false;
  }
  if (lines.badAt !== null && lines.end === lines.badAt) {
    lane.limit = lines.badAt;
    state.notes.push(`queue.${lane.storage}: bad line at byte ${lines.badAt}; its fetcher has to replace the file`);
    effects.push(markOf("queue.bad-line", `queue.${lane.storage} at byte ${lines.badAt}`));
  }
  if (lines.end === lane.offset) {
    lane.limit = lane.offset; // a torn tail: the fetcher's to cut
    return false;
  }
  const repeats = state.repeatCount;
  const candidates = takeLines(state, batch, at, lines, snap, reader);
  if (state.repeatCount > repeats) effects.push(markOf("queue.repeat", `queue.${lane.storage}: ${state.repeatCount - repeats} repeats`));
  batch.slices.push({ lane: at, offset: lane.offset, end: lines.end, seqs: lines.seqs, candidates });
  batch.lineCount += lines.count;
  lane.offset = lines.end;
  if (lines.count > 0) lane.seq = (lines.seqs[lines.count - 1] as number) + 1;
  return lines.count > 0;
}

/** Lines whose entries fit the bytes left, never less than one for an empty batch. */
function fitting(state: QueueState, lane: Lane, snap: Snapshot, countMax: number, bytesMax: number, isFirst: boolean): QueueLines {
  const range = { offset: lane.offset, limit: lane.limit, countMax };
  const lines = readQueueLines(snap, state.config, lane.storage, range);
  let fit = 0;
  for (let bytes = 0; fit < lines.count; fit++) {
    bytes += lines.bytes[fit] as number;
    if (bytes > bytesMax && (fit > 0 || !isFirst)) break;
  }
  return fit === lines.count ? lines : readQueueLines(snap, state.config, lane.storage, { ...range, countMax: fit });
}

/** Candidate of each line, or -1 for a repeat of the order. */
function takeLines(state: QueueState, batch: Batch, lane: number, lines: QueueLines, snap: Snapshot, reader: LogReader): Int32Array {
  const candidates = new Int32Array(lines.count).fill(-1);
  const unknown: number[] = [];
  const isChecked = !mutant("merge.dedup-skipped");
  for (let i = 0; i < lines.count; i++) {
    const known = tableFind(batch.table, lines.hashes, i * 32);
    if (known >= 0) {
      candidates[i] = relist(state, batch, known, lane);
    } else if (isChecked && isSequenced(state, state.lanes[lane] as Lane, lines.hashes, i * 32, reader)) state.repeatCount++;
    else unknown.push(i);
  }
  const found = findOrdered(state, snap, pickHashes(lines.hashes, unknown), reader);
  for (let k = 0; k < unknown.length; k++) {
    const i = unknown[k] as number;
    const index = found[k] as number;
    if (index >= 0) {
      state.repeatCount++;
      (state.lanes[lane] as Lane).nextIndex = index + 1;
    } else candidates[i] = addCandidate(state, batch, lines.hashes, i * 32, lines.bytes[i] as number, lane);
  }
  return candidates;
}

function relist(state: QueueState, batch: Batch, candidate: number, lane: number): number {
  batch.listers[candidate] = (batch.listers[candidate] as number) | (1 << lane);
  state.repeatCount++;
  return candidate;
}

function addCandidate(state: QueueState, batch: Batch, hashes: Uint8Array, at: number, bytes: number, lane: number): number {
  const before = batch.table.count;
  const candidate = tableAdd(batch.table, hashes, at);
  if (candidate < before) return relist(state, batch, candidate, lane);
  batch.bytes.push(bytes);
  batch.listers.push(1 << lane);
  batch.absent.push(0);
  batch.chunk.push(-1);
  batch.from.push(0);
  batch.to.push(0);
  batch.bytesTotal += bytes;
  batch.openCount++;
  return candidate;
}

/** Whether it is in the batch being written, or next in the order behind the lane's last repeat. */
function isSequenced(state: QueueState, lane: Lane, hashes: Uint8Array, at: number, reader: LogReader): boolean {
  const table = state.writing?.table ?? null;
  if (table !== null && tableFind(table, hashes, at) >= 0) return true;
  if (lane.nextIndex < 0) return false;
  const next = reader.hashAt(lane.nextIndex);
  lane.nextIndex = next !== null && equalAt(next, 0, hashes, at) ? lane.nextIndex + 1 : -1;
  return lane.nextIndex >= 0;
}

function findOrdered(state: QueueState, snap: Snapshot, hashes: Uint8Array, reader: LogReader): Float64Array {
  if (hashes.length === 0 || mutant("merge.dedup-skipped")) return new Float64Array(hashes.length / 32).fill(-1);
  return find(snap, state.config.log, "i", hashes, (index) => reader.orderHashes(index, index + 1));
}

/** Held entries of earlier runs come first: somebody may have them again, or have listed them since. */
function askHeld(state: QueueState, batch: Batch, snap: Snapshot, reader: LogReader): void {
  state.heldAsked = true;
  for (let lane = 0; lane < state.lanes.length; lane++) {
    const held = state.lanes[lane]?.cursor?.held;
    if (held === undefined || held.seqs.length === 0) continue;
    const found = findOrdered(state, snap, held.hashes, reader);
    for (let i = 0; i < held.seqs.length; i++) {
      const candidate = (found[i] as number) >= 0 ? -1 : addCandidate(state, batch, held.hashes, i * 32, 0, lane);
      batch.held.push({ lane, seq: held.seqs[i] as number, candidate });
    }
  }
}
