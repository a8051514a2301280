/**
 * The receiving side of a copy: what a secondary and a frontend do with the primary's order, entries and heads
 * (merge.md sections 2 and 6). Each entry is hashed before it is stored; a size counts as verified only when this
 * node re-read it from its own disk and got the primary's root. It never signs for the log and never trusts a size.
 * Requests are taken in order, neighbours of one kind share a commit, one commit is in flight at a time.
 */
import { concatBytes, equalBytes, toHex } from "../base/bytes.ts";
import type { Event, Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { unreachable } from "../base/invariant.ts";
import { entryOps, orderCutOps, orderOps } from "../log/append.ts";
import { bundleCount, bundleOffsets, joinBundles } from "../log/entry.ts";
import { EMPTY_ROOT, leafHashesAt } from "../log/merkle.ts";
import { LogReader } from "../log/reader.ts";
import { type Answer, type AnswerOf, type Request, type RequestOf, refused } from "../wire/messages.ts";
import { answer, commit, enter, type Fork, firstDifference, type ReceiverEffect, type ReceiverState, sizesOf, type Waiting } from "./copy-state.ts";
import { type CopySizes, type Fence, putEdge, readEdge, rows } from "./records.ts";
import { onHead, onPublish, onVerify, prove } from "./verifier.ts";

/** Four chunks in flight from one sender, and its questions; past it the sender is told to come back. */
export const WAITING_COUNT_MAX = 256;
/** Neighbouring chunks that share one commit: bounded by what four chunks of 1 MiB make. */
const GROUP_BYTES_MAX = 8 * 1_024 * 1_024;

export const RECEIVER_KINDS = [
  "copy.where",
  "copy.order",
  "copy.missing",
  "copy.entries",
  "copy.read",
  "backup.verify",
  "backup.head",
  "dist.publish",
  "merge.fence",
] as const;
export const isReceiverRequest = (body: { readonly kind: string }): boolean => (RECEIVER_KINDS as readonly string[]).includes(body.kind);

export function stepReceiver(state: ReceiverState, event: Event<Request, Answer>, snap: Snapshot): ReceiverEffect[] {
  switch (event.kind) {
    case "request":
      return onRequest(state, event, snap);
    case "stored":
      if (event.ticket !== state.writing) return [];
      state.writing = null;
      return pump(state, snap);
    case "full":
      return onFull(state, event.ticket, snap);
    case "start":
    case "message":
    case "timer":
    case "lost":
      return [];
    default:
      return unreachable(event);
  }
}

function onRequest(state: ReceiverState, event: Waiting, snap: Snapshot): ReceiverEffect[] {
  const no = fenced(state, event, snap);
  if (no !== null) return [{ kind: "mark", name: "copy.fenced", text: no.text }, answer(event.id, no)];
  if (event.body.kind === "copy.where") return [answer(event.id, where(state, snap))];
  if (state.waiting.length >= WAITING_COUNT_MAX)
    return [answer(event.id, refused("LOG_BUSY", `${state.config.self}: ${WAITING_COUNT_MAX} requests wait`, { retry: true }))];
  state.waiting.push(event);
  return pump(state, snap);
}

/** MERGE_FENCED to an epoch below the one promised, to an equal one of another primary, and to a stranger's higher one. */
function fenced(state: ReceiverState, event: Waiting, snap: Snapshot): AnswerOf<"refused"> | null {
  const { config } = state;
  const request = event.body;
  if (!("log" in request)) return refused("NOT_ALLOWED", `${config.self}: ${request.kind} speaks of no log`);
  if (!equalBytes(request.log, config.log)) return refused("LOG_UNKNOWN", `${config.self} keeps log ${toHex(config.log)}, asked for ${toHex(request.log)}`);
  if (request.kind === "merge.fence") return refused("NOT_ALLOWED", `${config.self}: no promotion has been announced to this node`);
  const promised: Fence = rows.fence(snap, config.log) ?? { epoch: config.epoch, primary: config.primary, pairs: [] };
  if (request.epoch === promised.epoch && event.from === promised.primary) return null;
  return refused("MERGE_FENCED", `${event.from} speaks for epoch ${request.epoch}; ${config.self} promised epoch ${promised.epoch} of ${promised.primary}`, {
    epoch: promised.epoch,
    primary: promised.primary,
  });
}

/** The disk was too full: whoever waited for this commit is told, nothing of it is there. */
function onFull(state: ReceiverState, ticket: number, snap: Snapshot): ReceiverEffect[] {
  if (ticket !== state.writing) return [];
  state.writing = null;
  const effects = refuseTaken(state, refused("STORE_FULL", "the disk is full", { retry: true }));
  return [{ kind: "mark", name: "copy.full", text: "disk full: chunk refused" }, ...effects, ...pump(state, snap)];
}

/** All that were taken together: one left without an answer would be waited for until its link is given up. */
function refuseTaken(state: ReceiverState, no: AnswerOf<"refused">): ReceiverEffect[] {
  if (state.proving !== null) enter(state, "following");
  state.proving = null;
  return state.taken.map((id) => answer(id, no));
}

/** Takes requests in order while nothing is being written. */
export function pump(state: ReceiverState, snap: Snapshot): ReceiverEffect[] {
  const effects: ReceiverEffect[] = [];
  while (state.writing === null) {
    const next = state.proving === null ? state.waiting.shift() : undefined;
    if (next === undefined && state.proving === null) break;
    if (next !== undefined) state.taken = [next.id];
    try {
      if (state.proving !== null) effects.push(...prove(state, state.proving, snap));
      else if (next !== undefined) effects.push(...take(state, next, snap));
    } catch (cause) {
      // a peer's bad bytes, or a row of ours that fails its checksum: the peer is told, nothing was written
      if (!(cause instanceof EngineError)) throw cause;
      effects.push(...refuseTaken(state, refused(cause.code, `${state.config.self}: ${cause.message}`)));
    }
  }
  return effects;
}

function take(state: ReceiverState, next: Waiting, snap: Snapshot): ReceiverEffect[] {
  const { body, id } = next;
  if (state.fork !== null && body.kind !== "copy.read") return [answer(id, forkAnswer(state, state.fork))];
  switch (body.kind) {
    case "copy.order":
      return onOrder(state, id, body, snap);
    case "copy.entries":
      return onEntries(state, id, body, snap);
    case "copy.missing":
      return [answer(id, lacking(body, sizesOf(state, snap)))];
    case "copy.read":
      return [answer(id, piece(state, body, snap))];
    case "backup.verify":
      return onVerify(state, next, body, snap);
    case "backup.head":
      return onHead(state, next, body, snap);
    case "dist.publish":
      return onPublish(state, next, body, snap);
    default:
      return [answer(id, refused("NOT_ALLOWED", `${state.config.self} does not answer ${body.kind} here`))];
  }
}

function where(state: ReceiverState, snap: Snapshot): Answer {
  const { log } = state.config;
  const sizes = sizesOf(state, snap);
  const fence = rows.fence(snap, log);
  const cosigned = rows.cosigned(snap, log);
  const published = rows.published(snap, log);
  const head = cosigned !== null && cosigned.size >= (published?.size ?? 0) ? cosigned : published;
  return {
    kind: "copy.at",
    ...sizes,
    headSize: head?.size ?? 0,
    headRoot: head?.root ?? EMPTY_ROOT,
    publishedSize: published?.size ?? 0,
    epoch: fence?.epoch ?? state.config.epoch,
    pairs: fence?.pairs ?? [],
  };
}

// ------------------------------------------------------------------ order and entries

function onOrder(state: ReceiverState, id: number, first: RequestOf<"copy.order">, snap: Snapshot): ReceiverEffect[] {
  const { config } = state;
  if (config.self === config.primary) return [answer(id, refused("NOT_ALLOWED", `${config.self} is the primary: its order is its own`))];
  const sizes = sizesOf(state, snap);
  if (first.start > sizes.orderSize) return [gap(id, state, sizes.orderSize, first.start)];
  const group = neighbours(state, { id, ...orderChunk(first) }, (body) => (body.kind === "copy.order" ? orderChunk(body) : null));
  const hashes = group.length === 1 ? first.hashes : concatBytes(...group.map((each) => each.bytes));
  const end = first.start + hashes.length / 32;
  const known = new LogReader(snap, config.log).orderHashes(first.start, Math.min(end, sizes.orderSize));
  const differs = firstDifference(known, hashes);
  const at = differs === null ? Math.max(first.start, sizes.orderSize) : first.start + differs;
  if (differs !== null && at < sizes.verifiedSize)
    return onFork(state, group, at, known.slice(differs * 32, differs * 32 + 32), hashes.slice(differs * 32, differs * 32 + 32));
  const answers = group.map((each) => answer(each.id, { kind: "copy.ordered", orderSize: Math.max(end, differs === null ? sizes.orderSize : 0) }));
  if (at >= end) return answers; // all known already
  const cut = differs === null ? [] : cutOps(state, snap, at, sizes);
  const next: CopySizes = { ...sizes, orderSize: end, storedSize: Math.min(sizes.storedSize, at) };
  const fresh = hashes.subarray((at - first.start) * 32);
  // orderOps keeps the tile's prefix below `at` and writes the rest anew, so the cut need not be visible to it
  const batch = [...cut, ...orderOps(snap, config.log, at, fresh), rows.putCopy(config.log, next)];
  const mark: ReceiverEffect[] =
    differs === null ? [] : [{ kind: "mark", name: "copy.tail-replaced", text: `unverified order [${at}, ${sizes.orderSize}) replaced` }];
  return [...mark, commit(state, batch), ...answers];
}

/** Drops the unverified tail from `at` on; the tree falls back to the verified edge. */
function cutOps(state: ReceiverState, snap: Snapshot, at: number, sizes: CopySizes): Op[] {
  const { log } = state.config;
  const reader = new LogReader(snap, log);
  const ops = orderCutOps(snap, log, at, sizes.orderSize);
  if (readEdge(snap, log).size > at) ops.push(putEdge(log, reader.edgeAt(sizes.verifiedSize)));
  return ops;
}

function onEntries(state: ReceiverState, id: number, first: RequestOf<"copy.entries">, snap: Snapshot): ReceiverEffect[] {
  const { config } = state;
  if (config.self === config.primary) return [answer(id, refused("NOT_ALLOWED", `${config.self} is the primary: its entries are its own`))];
  const sizes = sizesOf(state, snap);
  if (first.start > sizes.storedSize) return [gap(id, state, sizes.storedSize, first.start)];
  const group = neighbours(state, { id, ...entriesChunk(first) }, (body) => (body.kind === "copy.entries" ? wholeChunk(body) : null));
  const bundle = joinBundles(group.map((each) => each.bytes));
  const offsets = bundleOffsets(bundle);
  const end = first.start + offsets.length - 1;
  const answers = group.map((each) => answer(each.id, { kind: "copy.stored", from: each.start, to: each.start + each.count }));
  if (end <= sizes.storedSize) return answers; // all stored already
  if (end > sizes.orderSize) return group.map((each) => gap(each.id, state, sizes.orderSize, end));
  const skipped = sizes.storedSize - first.start;
  const fresh = bundle.subarray(offsets[skipped] as number);
  const freshOffsets = skipped === 0 ? offsets : bundleOffsets(fresh);
  const want = new LogReader(snap, config.log).orderHashes(sizes.storedSize, end);
  const got = leafHashesAt(fresh, freshOffsets);
  const wrong = firstDifference(want, got);
  if (wrong !== null)
    return group.map((each) => mismatch(each.id, sizes.storedSize + wrong, want.slice(wrong * 32, wrong * 32 + 32), got.slice(wrong * 32, wrong * 32 + 32)));
  const batch = [...entryOps(snap, config.log, sizes.storedSize, fresh, freshOffsets), rows.putCopy(config.log, { ...sizes, storedSize: end })];
  return [commit(state, batch), ...answers];
}

type Chunk = { readonly id: number; readonly start: number; readonly count: number; readonly bytes: Uint8Array };

const orderChunk = (body: RequestOf<"copy.order">) => ({ start: body.start, count: body.hashes.length / 32, bytes: body.hashes });
const entriesChunk = (body: RequestOf<"copy.entries">) => ({ start: body.start, count: bundleCount(body.bundle), bytes: body.bundle });
function wholeChunk(body: RequestOf<"copy.entries">): Omit<Chunk, "id"> | null {
  try {
    const chunk = entriesChunk(body);
    return chunk.count > 0 ? chunk : null;
  } catch {
    return null; // malformed: it gets its own refusal when its turn comes
  }
}

/** The first chunk and those right behind it that continue it: they share one commit. */
function neighbours(state: ReceiverState, first: Chunk, read: (body: Request) => Omit<Chunk, "id"> | null): Chunk[] {
  const group = [first];
  let end = first.start + first.count;
  let total = first.bytes.length;
  for (;;) {
    const next = state.waiting[0];
    const chunk = next === undefined ? null : read(next.body);
    if (next === undefined || chunk === null || chunk.start !== end || total + chunk.bytes.length > GROUP_BYTES_MAX) return group;
    state.waiting.shift();
    state.taken.push(next.id);
    group.push({ id: next.id, ...chunk });
    end += chunk.count;
    total += chunk.bytes.length;
  }
}

function onFork(state: ReceiverState, group: readonly Chunk[], index: number, mine: Uint8Array, yours: Uint8Array): ReceiverEffect[] {
  const fork = { index, mine, yours };
  state.fork = fork;
  enter(state, "forked");
  return [{ kind: "mark", name: "copy.fork", text: forkAnswer(state, fork).text }, ...group.map((each) => answer(each.id, forkAnswer(state, fork)))];
}

function forkAnswer(state: ReceiverState, fork: Fork): AnswerOf<"refused"> {
  const text = `entry ${fork.index}: ${state.config.self} verified ${toHex(fork.mine)}, ${state.config.primary} sends ${toHex(fork.yours)}`;
  return refused("LOG_ORDER_FORK", text, { index: fork.index, mine: fork.mine, yours: fork.yours });
}

// ------------------------------------------------------------------ small answers

function lacking(request: RequestOf<"copy.missing">, sizes: CopySizes): Answer {
  const from = Math.max(request.from, sizes.storedSize);
  const to = Math.min(request.to, sizes.orderSize);
  return { kind: "copy.lacking", ranges: from < to ? [{ from, to }] : [], scannedTo: Math.max(to, request.from) };
}

/** `what`: 0 order hashes, 1 a bundle of entries, 2 a tile of `level`. */
function piece(state: ReceiverState, request: RequestOf<"copy.read">, snap: Snapshot): Answer {
  const sizes = sizesOf(state, snap);
  const limit = request.what === 0 ? sizes.orderSize : sizes.storedSize;
  if (request.from >= request.to || request.to > limit)
    return refused("LOG_RANGE", `[${request.from}, ${request.to}): ${state.config.self} has ${limit}`, { size: limit });
  const reader = new LogReader(snap, state.config.log);
  if (request.what === 0) return { kind: "copy.piece", bytes: reader.orderHashes(request.from, Math.min(request.to, request.from + 8_192)) };
  if (request.what === 1) return { kind: "copy.piece", bytes: reader.entries(request.from, request.to, 1_024 * 1_024).bundle };
  return refused("LOG_RANGE", `no piece of kind ${request.what}`);
}

function gap(id: number, state: ReceiverState, size: number, start: number): ReceiverEffect {
  return answer(id, refused("LOG_ORDER_GAP", `${state.config.self} has ${size}, the chunk reaches ${start}`, { size, retry: true }));
}

function mismatch(id: number, index: number, mine: Uint8Array, yours: Uint8Array): ReceiverEffect {
  return answer(id, refused("LOG_ENTRY_MISMATCH", `entry ${index}: ordered ${toHex(mine)}, its bytes hash to ${toHex(yours)}`, { index, mine, yours }));
}
