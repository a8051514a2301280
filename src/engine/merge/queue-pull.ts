/**
 * Gets the entries of a batch (merge.md section 1): each once, from a storage node that listed it, up to four requests in
 * flight with each of them; from another lister where one is silent or does not have it. The hash of every entry that comes
 * is compared with the hash asked for. An entry that nobody gives is left out of the batch and blocks no other.
 */
import { markOf } from "../base/effect-list.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { bundleOffsets } from "../log/entry.ts";
import { leafHashesAt } from "../log/merkle.ts";
import { type Answer, type AnswerOf, BUNDLE_BYTES_MAX, GET_COUNT_MAX } from "../wire/messages.ts";
import { equalAt, pickHashes, tableHashes } from "./hash-table.ts";
import type { Batch, Lane, QueueEffect, QueueState } from "./queue-state.ts";

/** As long as any peer has for an answer; after it the storage node is left out of this run. */
export const PULL_WAIT_MS = 10_000;
const IN_FLIGHT_MAX = 4;
/** Neighbours asked of one storage node before the next one's turn: it finds entries side by side that it listed side by side. */
const RUN_COUNT = 512;

const pullTimer = (lane: Lane): string => `pull.${lane.storage}`;

/** Spreads the batch over its listers, in runs, each to the one with least to do. */
export function startPull(state: QueueState, batch: Batch): QueueEffect[] {
  let lane = -1;
  for (let candidate = 0; candidate < batch.table.count; candidate++) {
    const isListed = lane >= 0 && ((batch.listers[candidate] as number) & (1 << lane)) !== 0;
    if (isListed && candidate % RUN_COUNT !== 0) (state.lanes[lane] as Lane).wanted.push(candidate);
    else lane = assign(state, batch, candidate);
  }
  return state.lanes.flatMap((_, lane) => sendGets(state, batch, lane));
}

/** Puts the candidate on a lister's list and returns its lane, or gives it up for this batch: -1. */
function assign(state: QueueState, batch: Batch, candidate: number): number {
  const left = (batch.listers[candidate] as number) & ~(batch.absent[candidate] as number);
  let best = -1;
  for (let at = 0; at < state.lanes.length; at++) {
    const lane = state.lanes[at] as Lane;
    if ((left & (1 << at)) !== 0 && lane.gone === null && (best < 0 || lane.wanted.length < (state.lanes[best] as Lane).wanted.length)) best = at;
  }
  if (best < 0) batch.openCount--;
  else (state.lanes[best] as Lane).wanted.push(candidate);
  return best;
}

function sendGets(state: QueueState, batch: Batch, at: number): QueueEffect[] {
  const lane = state.lanes[at] as Lane;
  const effects: QueueEffect[] = [];
  while (lane.gone === null && lane.wanted.length > 0 && lane.askedCount < IN_FLIGHT_MAX) {
    const candidates = lane.wanted.splice(0, chunkCount(batch, lane.wanted));
    const requestId = ++state.lastRequestId;
    const { log, epoch } = state.config;
    state.gets.set(requestId, { lane: at, candidates });
    lane.askedCount++;
    effects.push({
      kind: "send",
      to: lane.storage,
      requestId,
      body: { kind: "storage.get", log, epoch, hashes: pickHashes(tableHashes(batch.table), candidates) },
    });
  }
  if (effects.length > 0) effects.push({ kind: "arm", timer: pullTimer(lane), afterMs: PULL_WAIT_MS });
  return effects;
}

/** So many of them as one answer may hold. */
function chunkCount(batch: Batch, wanted: readonly number[]): number {
  let count = 0;
  for (let bytes = 0; count < wanted.length && count < GET_COUNT_MAX; count++) {
    bytes += (batch.bytes[wanted[count] as number] as number) + 2;
    if (bytes > BUNDLE_BYTES_MAX && count > 0) break;
  }
  return count;
}

export function onEntries(state: QueueState, from: NodeId, requestId: number, body: Answer): QueueEffect[] {
  const get = state.gets.get(requestId);
  const batch = state.pulling;
  const lane = get === undefined ? undefined : state.lanes[get.lane];
  if (get === undefined || batch === null || lane === undefined || lane.storage !== from)
    return [markOf("queue.late-answer", `${from}: answer ${requestId} is over`)];
  state.gets.delete(requestId);
  lane.askedCount--;
  if (body.kind !== "storage.entries") {
    get.candidates.forEach((candidate) => {
      lane.wanted.push(candidate);
    });
    return leaveOut(state, get.lane, body.kind === "refused" ? `${body.code}: ${body.text}` : `answered ${body.kind}`);
  }
  const effects = takeEntries(state, batch, get, body);
  const timer: QueueEffect = lane.askedCount > 0 ? { kind: "arm", timer: pullTimer(lane), afterMs: PULL_WAIT_MS } : { kind: "disarm", timer: pullTimer(lane) };
  return [timer, ...effects, ...state.lanes.flatMap((_, at) => sendGets(state, batch, at))];
}

type Get = { readonly lane: number; readonly candidates: readonly number[] };

function takeEntries(state: QueueState, batch: Batch, get: Get, answer: AnswerOf<"storage.entries">): QueueEffect[] {
  const came = openBundle(answer, get.candidates.length);
  if (came === null) {
    (state.lanes[get.lane] as Lane).wanted.push(...get.candidates);
    return leaveOut(state, get.lane, "an answer that does not decode");
  }
  const chunk = batch.chunks.push(answer.bundle) - 1;
  const absent = new Set(answer.absent);
  const lost: number[] = [];
  let k = 0;
  for (let i = 0; i < answer.served; i++) {
    const candidate = get.candidates[i] as number;
    if (absent.has(i)) {
      lost.push(candidate);
      continue;
    }
    const isRight = equalAt(came.hashes, k * 32, batch.table.hashes, candidate * 32);
    batch.from[candidate] = came.offsets[k] as number;
    batch.to[candidate] = came.offsets[++k] as number;
    if (!isRight) lost.push(candidate);
    else if (batch.chunk[candidate] === -1) {
      batch.chunk[candidate] = chunk;
      batch.openCount--;
    }
  }
  (state.lanes[get.lane] as Lane).wanted.unshift(...get.candidates.slice(answer.served));
  return passOn(state, batch, get.lane, lost);
}

/** This node does not have them, or has other bytes: another lister is asked. */
function passOn(state: QueueState, batch: Batch, at: number, candidates: readonly number[]): QueueEffect[] {
  for (const candidate of candidates) {
    batch.absent[candidate] = (batch.absent[candidate] as number) | (1 << at);
    assign(state, batch, candidate);
  }
  return candidates.length === 0 ? [] : [markOf("queue.absent", `${state.lanes[at]?.storage}: ${candidates.length} entries it listed are not there`)];
}

/** Hashes and offsets of the entries that came; null where the answer contradicts itself. */
function openBundle({ bundle, served, absent }: AnswerOf<"storage.entries">, asked: number): { hashes: Uint8Array; offsets: Uint32Array } | null {
  try {
    const offsets = bundleOffsets(bundle);
    const isWhole =
      served > 0 && served <= asked && offsets.length - 1 === served - absent.length && absent.every((i, at) => i < served && i > (absent[at - 1] ?? -1));
    return isWhole ? { hashes: leafHashesAt(bundle, offsets), offsets } : null;
  } catch (cause) {
    if (cause instanceof EngineError && cause.code === "LOG_ENCODING") return null;
    throw cause;
  }
}

/** Nothing more is asked of this storage node in this run; what it had to give is asked of the other listers. */
export function leaveOut(state: QueueState, at: number, why: string): QueueEffect[] {
  const lane = state.lanes[at] as Lane;
  if (lane.gone !== null) return [];
  lane.gone = why;
  const orphans = lane.wanted.splice(0);
  for (const [requestId, get] of state.gets) {
    if (get.lane !== at) continue;
    orphans.push(...get.candidates);
    state.gets.delete(requestId);
  }
  lane.askedCount = 0;
  const batch = state.pulling;
  if (batch !== null) for (const candidate of orphans) assign(state, batch, candidate);
  state.notes.push(`${lane.storage}: ${why}; what only it listed waits for the next run`);
  const effects: QueueEffect[] = [{ kind: "disarm", timer: pullTimer(lane) }, markOf("queue.left-out", `${lane.storage}: ${why}`)];
  return batch === null ? effects : [...effects, ...state.lanes.flatMap((_, each) => sendGets(state, batch, each))];
}

export const laneOfTimer = (state: QueueState, timer: string): number => state.lanes.findIndex((lane) => pullTimer(lane) === timer);
