/**
 * The storage role (merge.md sections 2, 4 and 6): accepts entries and promises to have them merged, lists them in the
 * order they came, serves them by hash. Nothing is answered before it is durable, and no receipt leaves before the entry
 * is on `storagequorum` disks. One write is in flight at a time; whatever comes meanwhile goes into the next one.
 * Never orders, never forgets an entry before the primary said that it is signed, never reads a clock.
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import { markOf } from "../base/effect-list.ts";
import type { Event, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { LogId, NodeId } from "../base/ids.ts";
import { unreachable } from "../base/invariant.ts";
import { bundleOffsets } from "../log/entry.ts";
import { leafHashes, leafHashesAt } from "../log/merkle.ts";
import { logKeys } from "../store/keys.ts";
import { type Answer, type AnswerOf, type Request, type RequestOf, refused } from "../wire/messages.ts";
import type { AddRequest, MergeConfig } from "./config.ts";
import { receiptsAt } from "./receipt.ts";
import { rows } from "./records.ts";
import { copyGroup, onPeerLost, onPutAnswer, onPutTimer } from "./storage-copies.ts";
import { pump } from "./storage-group.ts";
import { readEntries, readList } from "./storage-reads.ts";
import { answer, enter, heldBytes, readCounters, type StorageEffect, type StorageRequest, type StorageState } from "./storage-state.ts";

/** One `add`: the body that HTTP takes, and as many entries as one answer of receipts may hold (about 64 MiB of text). */
export const ADD_BYTES_MAX = 8 * 1_024 * 1_024;
export const ADD_COUNT_MAX = 65_536;
/** Bytes that wait for the next write; above it adds are refused. Puts have as much again, so that peers' adds go on. */
const WAITING_BYTES_MAX = 32 * 1_024 * 1_024;
/** Entries that wait to be signed: at 100,000 a second the merge is then most of a minute behind. */
const PENDING_COUNT_MAX = 4_194_304;
const KEEP_TIMER = "keep";
const SPACE_TIMER = "space";
/** After a write that found no space the next add tries again: others may have made room, and nobody else would say so. */
const SPACE_WAIT_MS = 1_000;
/** Settled sizes are remembered in so many steps of `storageKeepMs`. */
const KEEP_STEPS = 16;

export const initialStorage = (config: MergeConfig): StorageState => ({
  config,
  phase: "open",
  born: "",
  storedSeq: 0,
  settledSeq: 0,
  forgottenSeq: 0,
  doubt: { from: 0, to: 0 },
  oldestMs: null,
  spaceLow: false,
  waiting: [],
  waitingBytes: 0,
  writing: null,
  lots: new Map(),
  lotBytes: 0,
  adds: new Map(),
  puts: new Map(),
  failing: new Set(),
  settled: [],
  draining: [],
  lastRequestId: 0,
  lastTicket: 0,
});

const OWN_KINDS: readonly string[] = ["add", "space", "drain", "storage.put", "storage.list", "storage.get", "storage.settle"];

/** Whether a request to the daemon is one for this core. */
export const isStorageRequest = (body: { readonly kind: string }): body is StorageRequest => OWN_KINDS.includes(body.kind);

export function stepStorage(state: StorageState, event: Event<StorageRequest, Answer>, snap: Snapshot): StorageEffect[] {
  if (state.phase === "failed") return [];
  try {
    return [...take(state, event, snap), ...pump(state, snap, event.timeMs), ...drained(state)];
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause;
    enter(state, "failed"); // a row of ours does not read: what was promised can no longer be known
    return [{ kind: "halt", code: cause.code, detail: `storage role of ${state.config.self}: ${cause.message}` }];
  }
}

function take(state: StorageState, event: Event<StorageRequest, Answer>, snap: Snapshot): StorageEffect[] {
  switch (event.kind) {
    case "start":
      return onStart(state, snap, event.timeMs);
    case "request":
      return onRequest(state, event, snap);
    case "message":
      return onPutAnswer(state, event.from, event.requestId, event.body, snap);
    case "timer":
      return onTimer(state, event.timer);
    case "stored":
      return onStored(state, event.ticket, snap, event.timeMs);
    case "full":
      return onFull(state, event.ticket, event.timeMs);
    case "lost":
      return onPeerLost(state, event.peer);
    default:
      return unreachable(event);
  }
}

/** What the counters do not vouch for is copied again before anyone gets a receipt for it. */
function onStart(state: StorageState, snap: Snapshot, timeMs: number): StorageEffect[] {
  const { born, nextSeq, settledSeq, forgottenSeq, confirmedSeq } = readCounters(snap, state.config);
  Object.assign(state, { born, storedSeq: nextSeq, settledSeq, forgottenSeq, doubt: { from: confirmedSeq, to: nextSeq } });
  state.oldestMs = oldestMs(state, snap);
  if (settledSeq > forgottenSeq) state.settled.push({ seq: settledSeq, timeMs });
  return armKeep(state);
}

const armKeep = (state: StorageState): StorageEffect[] =>
  state.settled.length === 0 ? [] : [{ kind: "arm", timer: KEEP_TIMER, afterMs: Math.ceil(state.config.storageKeepMs / KEEP_STEPS) }];

type Ask = { readonly id: number; readonly from: NodeId; readonly body: StorageRequest; readonly timeMs: number };

function onRequest(state: StorageState, ask: Ask, snap: Snapshot): StorageEffect[] {
  const { body, id } = ask;
  if (body.kind === "add") return onAdd(state, id, body, ask.timeMs);
  if (body.kind === "space") return [...onSpace(state, body.low), answer(id, { kind: "storage.noted" })];
  if (body.kind === "drain") return onDrain(state, id);
  const no = refusal(state, ask.from, body, snap);
  if (no !== null) return [markOf("storage.refused", no.text), answer(id, no)];
  if (body.kind === "storage.put") return onPut(state, id, ask.from, body);
  if (body.kind === "storage.settle") return onSettle(state, id, body);
  if (body.kind === "storage.list") return [answer(id, readList(state, body, snap))];
  if (body.kind === "storage.get") return [answer(id, readEntries(state, body, snap))];
  return [answer(id, refused("USAGE", `the storage role does not answer ${body.kind}`))];
}

/** Wrong log, closed, or MERGE_FENCED to anyone but the primary of the promised epoch; puts come from other storage nodes. */
function refusal(state: StorageState, from: NodeId, body: Request, snap: Snapshot): AnswerOf<"refused"> | null {
  const { config } = state;
  if (!("log" in body)) return refused("NOT_ALLOWED", `${config.self}: ${body.kind} speaks of no log`);
  if (!equalBytes(body.log, config.log)) return refused("LOG_UNKNOWN", `${config.self} keeps log ${toHex(config.log)}, asked for ${toHex(body.log)}`);
  if (state.phase === "closed") return refused("NOT_READY", `${config.self}: storage role is closed`, { retry: true });
  if (body.kind === "storage.put") return config.storages.includes(from) ? null : refused("NOT_ALLOWED", `${from} is no storage node`);
  const promised = rows.fence(snap, config.log) ?? { epoch: config.epoch, primary: config.primary };
  if (body.epoch === promised.epoch && from === promised.primary) return null;
  return refused("MERGE_FENCED", `${from} speaks for epoch ${body.epoch}; ${config.self} promised epoch ${promised.epoch} of ${promised.primary}`, {
    epoch: promised.epoch,
    primary: promised.primary,
  });
}

function onAdd(state: StorageState, id: number, { bundle, receipts = "entry" }: AddRequest, timeMs: number): StorageEffect[] {
  const no = admission(state, bundle, timeMs);
  if (no !== null) return [markOf("storage.add-refused", no.text), answer(id, no)];
  const entries = entriesOf(bundle);
  if (entries === null) return [answer(id, refused("LOG_ENCODING", `an add of ${bundle.length} bytes is no bundle`))];
  const count = entries.hashes.length / 32;
  if (count === 0 || count > ADD_COUNT_MAX) return [answer(id, refused("USAGE", `an add of ${count} entries: want 1 to ${ADD_COUNT_MAX}`))];
  wait(state, { kind: "add", id, receipts, bundle, ...entries });
  return [];
}

function wait(state: StorageState, entries: Parameters<typeof heldBytes>[0]): void {
  state.waiting.push(entries);
  state.waitingBytes += heldBytes(entries);
}

/** Why no new entry is taken now, or null. What was promised goes on being merged. */
function admission(state: StorageState, bundle: Uint8Array, timeMs: number): AnswerOf<"refused"> | null {
  const { self, promiseMs } = state.config;
  const busy = (why: string) => refused("LOG_BUSY", `${self}: ${why}`, { retry: true });
  if (state.phase === "draining" || state.phase === "closed") return refused("NOT_READY", `${self} is stopping`, { retry: true });
  if (state.phase === "full") return refused("STORE_FULL", `${self}: the disk is too full to promise anything more`, { retry: true });
  if (bundle.length > ADD_BYTES_MAX) return refused("LOG_ENTRY_TOO_LARGE", `an add of ${bundle.length} bytes, at most ${ADD_BYTES_MAX}`);
  if (state.waitingBytes + bundle.length > WAITING_BYTES_MAX) return busy(`${state.waitingBytes} bytes wait to be written, at most ${WAITING_BYTES_MAX}`);
  const pendingCount = state.storedSeq - state.settledSeq;
  if (pendingCount > PENDING_COUNT_MAX) return busy(`${pendingCount} entries wait to be signed, at most ${PENDING_COUNT_MAX}`);
  const waitedMs = state.oldestMs === null ? 0 : timeMs - state.oldestMs;
  return waitedMs * 2 > promiseMs ? busy(`the oldest entry waits for ${waitedMs} ms of the ${promiseMs} promised`) : null;
}

function entriesOf(bundle: Uint8Array): { hashes: Uint8Array; offsets: Uint32Array } | null {
  try {
    const offsets = bundleOffsets(bundle);
    return { offsets, hashes: leafHashesAt(bundle, offsets) };
  } catch (cause) {
    if (cause instanceof EngineError && cause.code === "LOG_ENCODING") return null;
    throw cause;
  }
}

function onPut(state: StorageState, id: number, from: NodeId, { bundle }: RequestOf<"storage.put">): StorageEffect[] {
  state.failing.delete(from); // it runs again
  const { self } = state.config;
  if (state.phase === "full") return [answer(id, refused("STORE_FULL", `${self}: disk full`, { retry: true }))];
  if (state.phase === "draining") return [answer(id, refused("NOT_READY", `${self} is stopping`, { retry: true }))];
  if (state.waitingBytes + bundle.length > 2 * WAITING_BYTES_MAX)
    return [answer(id, refused("LOG_BUSY", `${self}: ${state.waitingBytes} bytes wait to be written`, { retry: true }))];
  const entries = entriesOf(bundle);
  if (entries === null) return [answer(id, refused("LOG_ENCODING", `a put of ${bundle.length} bytes is no bundle`))];
  wait(state, { kind: "put", id, from, bundle, ...entries });
  return [];
}

function onSettle(state: StorageState, id: number, { born, settledSeq }: RequestOf<"storage.settle">): StorageEffect[] {
  if (born !== state.born) {
    const text = `${state.config.self} is on disk ${state.born}, asked to settle entries below ${settledSeq} of disk ${born}`;
    return [markOf("storage.settle-other-disk", text), answer(id, { kind: "storage.settled", settledSeq: state.settledSeq })];
  }
  if (settledSeq > state.storedSeq) {
    const text = `${state.config.self} has entries below ${state.storedSeq}, asked to settle below ${settledSeq}`;
    return [markOf("storage.settle-beyond", text), answer(id, refused("LOG_RANGE", text, { size: state.storedSeq }))];
  }
  if (settledSeq <= state.settledSeq) return [answer(id, { kind: "storage.settled", settledSeq: state.settledSeq })];
  state.waiting.push({ kind: "settle", id, seq: settledSeq });
  return [];
}

function onTimer(state: StorageState, timer: string): StorageEffect[] {
  if (timer === KEEP_TIMER) return armKeep(state);
  if (timer === SPACE_TIMER) return state.spaceLow ? [] : setFull(state, false);
  return onPutTimer(state, timer);
}

/** The node has looked at its disk. */
function onSpace(state: StorageState, low: boolean): StorageEffect[] {
  state.spaceLow = low;
  return setFull(state, low);
}

function setFull(state: StorageState, full: boolean): StorageEffect[] {
  const next = full ? "full" : "open";
  if ((state.phase !== "open" && state.phase !== "full") || next === state.phase) return [];
  enter(state, next);
  return [markOf(`storage.${next}`, `${state.config.self}: ${full ? "disk too full, no more entries" : "space again"}`)];
}

function onDrain(state: StorageState, id: number): StorageEffect[] {
  if (state.phase !== "closed") enter(state, "draining");
  state.draining.push(id);
  return [];
}

/** Nothing is left that somebody waits for: the store may be closed. */
function drained(state: StorageState): StorageEffect[] {
  if (state.phase === "draining" && state.writing === null && state.waiting.length === 0 && state.lots.size === 0) enter(state, "closed");
  return state.phase === "closed" ? state.draining.splice(0).map((id) => answer(id, { kind: "storage.noted" })) : [];
}

function onStored(state: StorageState, ticket: number, snap: Snapshot, timeMs: number): StorageEffect[] {
  const group = state.writing;
  if (group === null || group.ticket !== ticket) return [];
  const before = state.storedSeq;
  state.writing = null;
  state.storedSeq = group.endSeq;
  state.forgottenSeq = group.forgottenSeq;
  const effects: StorageEffect[] = group.puts.map(({ id, count }) => answer(id, { kind: "storage.kept", count }));
  if (group.settledSeq > state.settledSeq) effects.push(...settle(state, group.settledSeq, snap, timeMs));
  for (const id of group.settles) effects.push(answer(id, { kind: "storage.settled", settledSeq: state.settledSeq }));
  if (state.oldestMs === null) state.oldestMs = oldestMs(state, snap);
  effects.push(...copyGroup(state, group, snap));
  return group.endSeq > before ? [...effects, ready(state)] : effects;
}

/** A hint that wakes the loop: losing it costs one interval. */
function ready(state: StorageState): StorageEffect {
  const { log, epoch, primary } = state.config;
  return { kind: "send", to: primary, requestId: ++state.lastRequestId, body: { kind: "storage.ready", log, epoch, lastSeq: state.storedSeq } };
}

/** Bytes below may go `storageKeepMs` from now. Settled sizes of one step of that time share an item. */
function settle(state: StorageState, seq: number, snap: Snapshot, timeMs: number): StorageEffect[] {
  const stepMs = Math.ceil(state.config.storageKeepMs / KEEP_STEPS);
  const last = state.settled[state.settled.length - 1];
  if (last !== undefined && Math.floor(last.timeMs / stepMs) === Math.floor(timeMs / stepMs)) state.settled.pop();
  state.settled.push({ seq, timeMs });
  state.settledSeq = seq;
  state.oldestMs = oldestMs(state, snap);
  if (state.doubt.from < seq) state.doubt = { from: Math.min(seq, state.doubt.to), to: state.doubt.to };
  return state.settled.length === 1 ? armKeep(state) : [];
}

/** When the oldest entry that is not settled came, or null. */
function oldestMs(state: StorageState, snap: Snapshot): number | null {
  return state.settledSeq < state.storedSeq ? (receiptsAt(snap, state.config.log, state.settledSeq)?.row.timeMs ?? null) : null;
}

/** Nothing of the batch is there: everyone who waited for it is told, and no more is promised until there is space. */
function onFull(state: StorageState, ticket: number, timeMs: number): StorageEffect[] {
  const group = state.writing;
  if (group === null || group.ticket !== ticket) return [];
  state.writing = null;
  // what it was to forget is due again with the next try: nothing else would make the room
  if (group.forgottenSeq > state.forgottenSeq) state.settled.unshift({ seq: group.forgottenSeq, timeMs: timeMs + SPACE_WAIT_MS - state.config.storageKeepMs });
  const no = refused("STORE_FULL", `${state.config.self}: disk full`, { retry: true });
  const ids = [...group.adds.map((add) => add.id), ...group.puts.map((put) => put.id), ...group.settles];
  return [...setFull(state, true), { kind: "arm", timer: SPACE_TIMER, afterMs: SPACE_WAIT_MS }, ...ids.map((id) => answer(id, no))];
}

/** Lower-case hex of each hash whose entry is on this disk: for checkers, which look at small disks. */
export function heldEntries(snap: Snapshot, log: LogId): Set<string> {
  const held = new Set<string>();
  for (const [, bundle] of snap.range("log", logKeys.pending(log, 0), logKeys.pending(log, Number.MAX_SAFE_INTEGER))) {
    const hashes = leafHashes(bundle);
    for (let at = 0; at < hashes.length; at += 32) held.add(toHex(hashes.subarray(at, at + 32)));
  }
  return held;
}
