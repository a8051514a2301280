/**
 * Writes one batch of the queue handler (merge.md sections 3 and 6): order, entries, tiles, edge, index and cursors in one
 * commit; then `logorder`; then `currentsize`. So the files never say more than LMDB, and a cursor never passes an entry
 * that is not in the order: one that its node listed and nobody has is held by name, one that could not be asked for keeps
 * the cursor where it is.
 */
import { toHex } from "../base/bytes.ts";
import { markOf } from "../base/effect-list.ts";
import type { FileChange, Op, Snapshot } from "../base/effects.ts";
import { invariant } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import { entryOps, orderOps, tileOps } from "../log/append.ts";
import { joinBundles } from "../log/entry.ts";
import { insertOps } from "../log/hash-index.ts";
import { edgeRoot } from "../log/merkle.ts";
import { type Covered, type Cursor, dropCovered, HELD_COUNT_MAX, NO_HELD, putCovered, putCursor } from "./cursor.ts";
import { currentSizeFile, readSth } from "./files.ts";
import { emptyTable, type HashTable, pickHashes, tableAdd, tableHashes } from "./hash-table.ts";
import { ORDER_LINE_BYTES, orderFile, orderLines } from "./order-file.ts";
import { readQueueLines } from "./queue-file.ts";
import type { Batch, Lane, QueueEffect, QueueState, Slice } from "./queue-state.ts";
import { putEdge, readEdge } from "./records.ts";

/** The write of a batch whose entries are all here or given up; none where nothing came of it and no cursor moves. */
export function commitBatch(state: QueueState, batch: Batch, snap: Snapshot, timeMs: number): QueueEffect[] {
  const got: number[] = [];
  for (let candidate = 0; candidate < batch.table.count; candidate++) if (batch.chunk[candidate] !== -1) got.push(candidate);
  const isWhole = got.length === batch.table.count;
  const hashes = isWhole ? tableHashes(batch.table) : pickHashes(tableHashes(batch.table), got);
  const effects: QueueEffect[] = [];
  const cursorOps = moveCursors(state, batch, isWhole, snap, effects);
  const { ops, files, size } = appendOps(state, snap, hashes, joinEntries(batch, got), timeMs);
  // also where all were repeats: their storage node has to hear that they are signed, or it takes no more
  if (got.length + cursorOps.length > 0) ops.push(putCovered(state.config.log, size, coveredBy(state)), ...signedBefore(state, snap));
  if (mutant("merge.cursor-before-entries")) effects.push({ kind: "write", ticket: ++state.lastTicket, db: "log", batch: cursorOps.splice(0) });
  if (mutant("merge.currentsize-before-commit")) effects.push({ kind: "write", ticket: ++state.lastTicket, db: "log", batch: [], files: files.splice(1) });
  if (ops.length + cursorOps.length === 0) return effects;
  const ticket = ++state.lastTicket;
  state.writing = { ticket, table: isWhole ? batch.table : tableOf(hashes), size };
  state.sequencedCount += got.length;
  return [...effects, { kind: "write", ticket, db: "log", batch: [...ops, ...cursorOps], files }];
}

type Append = { readonly ops: Op[]; readonly files: FileChange[]; readonly size: number };

function appendOps(state: QueueState, snap: Snapshot, hashes: Uint8Array, bundle: Uint8Array, timeMs: number): Append {
  const { config } = state;
  const { log, epoch } = config;
  const edge = readEdge(snap, log);
  const start = edge.size;
  invariant(start === state.size, `the order ends at ${start}, the queue handler left it at ${state.size}`);
  if (hashes.length === 0) return { ops: [], files: [], size: start };
  const tiles = tileOps(snap, log, edge, hashes);
  const { size } = tiles.edge;
  const last = { index: size - 1, hash: hashes.subarray(hashes.length - 32) };
  return {
    ops: [
      ...orderOps(snap, log, start, hashes),
      ...entryOps(snap, log, start, bundle),
      ...tiles.ops,
      ...insertOps(snap, log, "i", hashes, start),
      putEdge(log, tiles.edge),
    ],
    files: [
      { change: "append", file: orderFile(config), at: start * ORDER_LINE_BYTES, bytes: orderLines(start, hashes) },
      currentSizeFile(config, { epoch, size, last, root: edgeRoot(tiles.edge), timeMs }),
    ],
    size,
  };
}

/** The entries in order as one bundle; neighbours in one chunk are copied at once. */
function joinEntries(batch: Batch, got: readonly number[]): Uint8Array {
  let total = 0;
  for (const candidate of got) total += (batch.to[candidate] as number) - (batch.from[candidate] as number);
  const bundle = new Uint8Array(total);
  let at = 0;
  for (let i = 0; i < got.length; ) {
    const first = got[i++] as number;
    let end = batch.to[first] as number;
    while (i < got.length && batch.chunk[got[i] as number] === batch.chunk[first] && batch.from[got[i] as number] === end)
      end = batch.to[got[i++] as number] as number;
    const run = (batch.chunks[batch.chunk[first] as number] as Uint8Array).subarray(batch.from[first], end);
    bundle.set(run, at);
    at += run.length;
  }
  return bundle;
}

function tableOf(hashes: Uint8Array): HashTable {
  const table = emptyTable(hashes.length / 32);
  for (let at = 0; at < hashes.length; at += 32) tableAdd(table, hashes, at);
  return table;
}

/** Moves each lane's cursor over its lines of this batch, as far as they are sequenced, repeats, or held: all, where every entry came. */
function moveCursors(state: QueueState, batch: Batch, isWhole: boolean, snap: Snapshot, effects: QueueEffect[]): Op[] {
  const ops: Op[] = [];
  state.lanes.forEach((lane, at) => {
    const slices = batch.slices.filter((slice) => slice.lane === at);
    const held = slices.length === 0 ? stillHeld(batch, lane, at) : heldOfDisk(state, batch, lane, at, effects);
    const isChanged = held.seqs.length !== (lane.cursor?.held.seqs.length ?? 0);
    if (lane.blocked || (slices.length === 0 && !isChanged)) return;
    let { born, generation, offset, seq } = lane.cursor ?? { born: lane.born, generation: lane.generation, offset: slices[0]?.offset ?? 0, seq: 0 };
    for (const slice of slices) {
      const stop = isWhole ? slice.seqs.length : firstOpen(batch, slice, at, held);
      const toEnd = stop === slice.seqs.length;
      ({ born, generation } = lane);
      offset = toEnd ? slice.end : readQueueLines(snap, state.config, lane.storage, { offset: slice.offset, limit: slice.end, countMax: stop }).end;
      if (slice.seqs.length > 0) seq = toEnd ? (slice.seqs[stop - 1] as number) + 1 : (slice.seqs[stop] as number);
      lane.blocked = !toEnd;
      if (lane.blocked) break;
    }
    const heldBefore = lane.cursor?.held.seqs.length ?? 0;
    lane.cursor = { born, generation, offset, seq, held: { seqs: held.seqs, hashes: joinBundles(held.hashes) } };
    if (held.seqs.length > heldBefore)
      effects.push(markOf("queue.held", `${lane.storage}: ${held.seqs.length - heldBefore} more entries that nobody can serve`));
    ops.push(putCursor(state.config.log, lane.storage, lane.cursor));
  });
  return ops;
}

/** Held entries while a cursor moves. */
type Holding = { readonly seqs: number[]; readonly hashes: Uint8Array[] };

/** What an earlier run held, less what this batch got or found. */
function stillHeld(batch: Batch, lane: Lane, at: number): Holding {
  const old = lane.cursor?.held ?? NO_HELD;
  const holding: Holding = { seqs: [], hashes: [] };
  if (old.seqs.length === 0) return holding;
  const asked = batch.held.filter((line) => line.lane === at);
  const gone = new Set(asked.filter((line) => line.candidate === -1 || batch.chunk[line.candidate] !== -1).map((line) => line.seq));
  old.seqs.forEach((seq, i) => {
    if (!gone.has(seq)) hold(holding, seq, old.hashes, i);
  });
  return holding;
}

/**
 * The same where the cursor goes on; none where it moves on to another disk: held numbers are of the one that was lost.
 * Whoever else has such an entry has listed it too.
 */
function heldOfDisk(state: QueueState, batch: Batch, lane: Lane, at: number, effects: QueueEffect[]): Holding {
  const held = stillHeld(batch, lane, at);
  if (lane.cursor === null || lane.cursor.born === lane.born || held.seqs.length === 0) return held;
  const text = `${lane.storage}: ${held.seqs.length} entries went with the disk it lost, the first ${toHex(held.hashes[0] as Uint8Array)}`;
  state.notes.push(text);
  effects.push(markOf("queue.given-up", text));
  return { seqs: [], hashes: [] };
}

function hold(holding: Holding, seq: number, hashes: Uint8Array, i: number): void {
  holding.seqs.push(seq);
  holding.hashes.push(hashes.slice(i * 32, i * 32 + 32));
}

/** Number of lines the cursor may pass; entries that this node listed and does not have are held on the way. */
function firstOpen(batch: Batch, slice: Slice, lane: number, held: Holding): number {
  for (let i = 0; i < slice.seqs.length; i++) {
    const candidate = slice.candidates[i] as number;
    if (candidate === -1 || batch.chunk[candidate] !== -1) continue;
    const isAbsent = ((batch.absent[candidate] as number) & (1 << lane)) !== 0;
    const seq = slice.seqs[i] as number;
    if (held.seqs.includes(seq)) continue;
    if (!isAbsent || held.seqs.length >= HELD_COUNT_MAX) return i;
    hold(held, seq, batch.table.hashes, candidate);
  }
  return slice.seqs.length;
}

/** By storage node: everything it listed below is in the order after this batch. */
function coveredBy(state: QueueState): Covered[] {
  const coveredSeq = ({ seq, held }: Cursor): number => held.seqs.reduce((low, each) => Math.min(low, each), seq);
  return state.lanes.flatMap(({ storage, cursor }) => (cursor === null ? [] : [{ storage, born: cursor.born, seq: coveredSeq(cursor) }]));
}

/** Rows of sizes below the signed one are of no more use. */
function signedBefore(state: QueueState, snap: Snapshot): Op[] {
  const sth = readSth(snap, state.config);
  return sth.kind === "ok" ? dropCovered(snap, state.config.log, sth.value.size) : [];
}
