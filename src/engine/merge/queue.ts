/**
 * The queue handler (merge.md sections 1, 3 and 6; seed 000's third step): the one process that makes the order. It reads
 * what the fetchers queued, drops repeats, pulls each entry once, and commits batch by batch; then it says so in `logorder`
 * and `currentsize`. Runs once: it stops at what the queue files held at its start. While one batch is being written, the
 * next one is read and pulled. It never signs, and never writes to a queue file.
 */
import { toHex } from "../base/bytes.ts";
import { markOf } from "../base/effect-list.ts";
import type { Event, Snapshot } from "../base/effects.ts";
import { unreachable } from "../base/invariant.ts";
import type { Answer } from "../wire/messages.ts";
import type { MergeConfig, StepResult } from "./config.ts";
import { readLatch, readSth } from "./files.ts";
import { commitBatch } from "./queue-commit.ts";
import { laneOfTimer, leaveOut, onEntries, PULL_WAIT_MS, startPull } from "./queue-pull.ts";
import { openLanes, readBatch } from "./queue-read.ts";
import { recoverFiles } from "./queue-recover.ts";
import { enter, type QueueEffect, type QueueFailure, type QueueState } from "./queue-state.ts";
import { readEdge } from "./records.ts";

export const initialQueue = (config: MergeConfig): QueueState => ({
  config,
  phase: "handing",
  lanes: [],
  pulling: null,
  writing: null,
  gets: new Map(),
  heldAsked: false,
  lastRequestId: 0,
  lastTicket: 0,
  size: 0,
  sequencedCount: 0,
  repeatCount: 0,
  changed: false,
  notes: [],
});

export function stepQueue(state: QueueState, event: Event<never, Answer>, snap: Snapshot): QueueEffect[] {
  if (state.phase === "done" || state.phase === "latched") return [markOf("queue.late", `${event.kind} after the end`)];
  switch (event.kind) {
    case "start":
      return onStart(state, snap, event.timeMs);
    case "message":
      return onMessage(state, event, snap);
    case "timer":
      return [...leaveOut(state, laneOfTimer(state, event.timer), `no answer in ${PULL_WAIT_MS} ms`), ...advance(state, snap, event.timeMs)];
    case "lost":
      return onLost(state, event.peer, snap, event.timeMs);
    case "stored":
      return onStored(state, event.ticket, snap, event.timeMs);
    case "full":
      return [end(state, { code: "STORE_FULL", detail: `the order stays at ${state.size}: disk full` })];
    case "request":
      return [];
    default:
      return unreachable(event);
  }
}

function onStart(state: QueueState, snap: Snapshot, timeMs: number): QueueEffect[] {
  const latch = readLatch(snap, state.config);
  if (latch.kind !== "missing")
    return [end(state, { code: "MERGE_LATCHED", detail: latch.kind === "ok" ? `${latch.value.code}: ${latch.value.detail}` : latch.why })];
  state.size = readEdge(snap, state.config.log).size;
  // the first head is of size 0: entries ordered before it would look like a register that was lost
  if (state.size === 0 && readSth(snap, state.config).kind === "missing") {
    state.notes.push("the log has no first head yet: `cairn log init` makes it");
    return [markOf("queue.uninitialised", "waits for the first head"), end(state, null)];
  }
  return recover(state, snap, timeMs);
}

/** Files first: nothing is read before they say what LMDB says. */
function recover(state: QueueState, snap: Snapshot, timeMs: number): QueueEffect[] {
  const recovery = recoverFiles(snap, state.config, timeMs);
  if (recovery.kind === "failed") return [end(state, recovery)];
  if (recovery.files.length > 0) {
    state.changed = true;
    state.writing = { ticket: ++state.lastTicket, table: null, size: state.size };
    return [markOf("queue.recovered", recovery.why), { kind: "write", ticket: state.lastTicket, db: "log", batch: [], files: recovery.files }];
  }
  enter(state, "reading");
  state.lanes.push(...openLanes(snap, state.config, state.notes));
  return advance(state, snap, timeMs);
}

type Message = Extract<Event<never, Answer>, { kind: "message" }>;

function onMessage(state: QueueState, { from, requestId, body, timeMs }: Message, snap: Snapshot): QueueEffect[] {
  if (body.kind === "refused" && body.code === "MERGE_FENCED" && state.gets.has(requestId)) return [end(state, { code: "MERGE_FENCED", detail: body.text })];
  return [...onEntries(state, from, requestId, body), ...advance(state, snap, timeMs)];
}

function onLost(state: QueueState, peer: string, snap: Snapshot, timeMs: number): QueueEffect[] {
  const at = state.lanes.findIndex((lane) => lane.storage === peer && lane.askedCount > 0);
  return at < 0 ? [] : [...leaveOut(state, at, "link lost"), ...advance(state, snap, timeMs)];
}

function onStored(state: QueueState, ticket: number, snap: Snapshot, timeMs: number): QueueEffect[] {
  const { writing } = state;
  if (writing === null || writing.ticket !== ticket) return [];
  state.writing = null;
  if (state.phase === "handing") return recover(state, snap, timeMs);
  state.changed ||= writing.size > state.size;
  state.size = writing.size;
  goOn(state);
  return advance(state, snap, timeMs);
}

/** The batch is over: its files are written with it. */
function goOn(state: QueueState): void {
  enter(state, "handing");
  enter(state, "reading");
}

/** Reads, pulls and commits as far as nothing has to be waited for. Writes come last: no request of the next batch waits for one. */
function advance(state: QueueState, snap: Snapshot, timeMs: number): QueueEffect[] {
  const effects: QueueEffect[] = [];
  const writes: QueueEffect[] = [];
  for (;;) {
    if (state.pulling === null) {
      state.pulling = readBatch(state, snap, effects);
      if (state.pulling !== null) effects.push(...startPull(state, state.pulling));
    }
    if (state.writing !== null) return [...effects, ...writes];
    if (state.pulling === null) return [...effects, end(state, null)];
    enter(state, "pulling");
    if (state.pulling.openCount > 0) return effects;
    const batch = state.pulling;
    state.pulling = null;
    enter(state, "committing");
    writes.push(...commitBatch(state, batch, snap, timeMs));
    if (state.writing === null) goOn(state);
  }
}

function end(state: QueueState, error: QueueFailure | null): QueueEffect {
  const isLatched = error !== null && error.code !== "STORE_FULL";
  enter(state, isLatched ? "latched" : "done");
  const held = state.lanes.flatMap(({ storage, cursor }) => (cursor === null || cursor.held.seqs.length === 0 ? [] : [{ storage, ...cursor.held }]));
  for (const { storage, seqs, hashes } of held)
    state.notes.push(`${storage} listed ${seqs.length} entries that nobody can serve, the first as seq ${seqs[0]}: ${toHex(hashes.subarray(0, 32))}`);
  const body: StepResult = {
    step: "queue",
    log: state.config.logName,
    changed: state.changed,
    counts: { sequenced: state.sequencedCount, repeats: state.repeatCount, size: state.size, held: held.reduce((sum, each) => sum + each.seqs.length, 0) },
    notes: state.notes,
  };
  return { kind: "done", body: error === null ? body : { ...body, error: { code: error.code, detail: error.detail } } };
}
