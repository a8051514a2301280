/**
 * The provider while it sends (seed 002 steps 9 to 12, 15 and 16, sync.md sections 4.3 and 4.5): one chunk a step while the
 * requester's credit lasts, each kept until it is acknowledged and sent again after a silence; the last one carries the
 * root. Then it answers what the laggard still asks for. Only messages of the transfer itself keep it alive.
 */
import { answer, arm, disarm, mark } from "../base/effect-list.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import { digestRow, finishDigest } from "../store/digest.ts";
import { batchOf, historyIn, historyOf, recentBatches, replicatedOf } from "../store/versions.ts";
import type { AnswerOf, Request, RequestOf } from "../wire/messages.ts";
import { SYNC_RECENT_COUNT_MAX, TOP_DIGESTS_MAX } from "../wire/sync-messages.ts";
import { pack } from "./packer.ts";
import { abort, adjustRate, close, endHold, enter, isViewOld, sendStart, takeView, timerOf } from "./provider.ts";
import { spend, waitMs } from "./rate.ts";
import { chainHash } from "./records.ts";
import { newScan, scanOn } from "./scan.ts";
import { scopeOf, send, type Transfer, type Turn, timingOf } from "./state.ts";

/** CHUNK_ACK, to SYNC_START or to a chunk. */
export function onChunkAck(turn: Turn, transfer: Transfer, isStart: boolean, ack: AnswerOf<"sync.chunk-ack">): void {
  if (transfer.phase !== "streaming") {
    mark(turn, "sync.late-ack", `chunk ${ack.number} was acknowledged before`);
    return;
  }
  arm(turn, timerOf(transfer, "expire"), timingOf(turn).expireMs);
  if (isStart && !transfer.isReady) {
    // the requester's word: its cursor is durable, and nobody else knows it
    transfer.isReady = true;
    transfer.start = null;
    transfer.at = ack.cursor;
    if (ack.cursor === null || ack.cursor.length > 0) transfer.build = null;
    transfer.sent = ack.number;
    transfer.acked = ack.number;
    transfer.flying.clear();
  }
  if (ack.number > transfer.sent) {
    abort(turn, transfer, "digest-mismatch");
    return;
  }
  for (let number = transfer.acked + 1; number <= ack.number; number++) transfer.flying.delete(number);
  transfer.acked = Math.max(transfer.acked, ack.number);
  transfer.creditChunks = ack.chunks;
  transfer.creditBytes = ack.bytes;
  if (transfer.flying.size === 0) disarm(turn, timerOf(transfer, "stall"));
  else arm(turn, timerOf(transfer, "stall"), timingOf(turn).stallMs);
  if (transfer.isReady && transfer.at === null && transfer.flying.size === 0) drain(turn, transfer);
  else pump(turn, transfer);
}

/** Packs and sends one chunk, and comes back for the next: packing yields to whatever else waits. */
export function pump(turn: Turn, transfer: Transfer): void {
  if (transfer.phase !== "streaming" || !transfer.isReady || transfer.isDelta || transfer.at === null || transfer.view === null) return;
  if (isViewOld(turn, transfer)) {
    if (transfer.flying.size > 0) return; // first what is on its way: then the requester's cursor is ours
    mark(turn, "sync.snapshot-old", `snapshot ${transfer.version} is too old`);
    takeView(turn, transfer);
    return;
  }
  let flyingBytes = 0;
  for (const { batch } of transfer.flying.values()) flyingBytes += batch.length;
  const { windowChunks, windowBytes } = transfer.limits;
  const room = Math.min(windowChunks, Math.max(1, transfer.creditChunks));
  const isFull =
    transfer.flying.size >= room || (transfer.flying.size > 0 && flyingBytes + transfer.limits.chunkBytes > Math.min(windowBytes, transfer.creditBytes));
  transfer.limitedBy = isFull ? "window" : "disk";
  if (isFull) return;
  adjustRate(turn);
  const pauseMs = waitMs(turn.state.rate, turn.upMs);
  if (pauseMs > 0) {
    transfer.limitedBy = "rate";
    mark(turn, "sync.throttled");
    arm(turn, timerOf(transfer, "pack"), pauseMs);
    return;
  }
  sendNext(turn, transfer, transfer.at, transfer.view);
  if (transfer.at !== null) arm(turn, timerOf(transfer, "pack"), 0);
}

function sendNext(turn: Turn, transfer: Transfer, lo: Uint8Array, view: number): void {
  const { build } = transfer;
  const live = mutant("sync.live-iterator") ? turn.ports.views.open() : view;
  const { batch, hi } = pack(turn.ports.views.read(live), lo, transfer.limits, (key, stored) => {
    if (build !== null) digestRow(build, key, stored);
  });
  if (live !== view) turn.ports.views.close(live);
  transfer.digest = chainHash(transfer.digest, batch);
  transfer.at = hi;
  const number = ++transfer.sent;
  const root = hi === null && build !== null ? finishDigest(build).digest : null;
  const cover = { number, lo, hi, batch, digest: transfer.digest, last: hi === null, root };
  const body: RequestOf<"sync.chunk"> = { kind: "sync.chunk", ...scopeOf(turn), transfer: transfer.id, ...cover };
  transfer.flying.set(number, body);
  transfer.sentBytes += batch.length;
  spend(turn.state.rate, batch.length);
  if (body.last) mark(turn, "sync.last-chunk", `chunk ${number} is the last`);
  sendChunk(turn, transfer, body);
}

function sendChunk(turn: Turn, transfer: Transfer, body: RequestOf<"sync.chunk">): void {
  send(turn, transfer.requester, body, { what: "chunk", transfer: transfer.name, number: body.number });
  arm(turn, timerOf(transfer, "stall"), timingOf(turn).stallMs);
}

/** Nothing acknowledged for a while: the same bytes again. The expiration timer runs on. */
export function onStall(turn: Turn, transfer: Transfer): void {
  if (transfer.phase !== "streaming") return;
  if (transfer.start !== null) {
    mark(turn, "sync.start-again", `${transfer.requester} has not said where it stands`);
    sendStart(turn, transfer, transfer.start);
  }
  if (transfer.flying.size === 0) return;
  mark(turn, "sync.sent-again", `${transfer.flying.size} chunks from ${transfer.acked + 1} on are sent again`);
  for (const body of transfer.flying.values()) sendChunk(turn, transfer, body);
}

function drain(turn: Turn, transfer: Transfer): void {
  enter(transfer, "draining");
  disarm(turn, timerOf(transfer, "expire"), timerOf(transfer, "stall"), timerOf(transfer, "pack"), timerOf(transfer, "tree"));
  if (transfer.view !== null) turn.ports.views.close(transfer.view);
  transfer.view = null;
  transfer.tree = null;
  transfer.treeScan = null;
  transfer.drainSinceMs = turn.upMs;
  mark(turn, "sync.draining", `${transfer.requester} has all of ${transfer.version}`);
  endHold(turn, transfer);
  arm(turn, timerOf(transfer, "drain"), timingOf(turn).drainMs);
}

/** What the laggard asks while it finishes; each question gives it more time, up to a limit. */
export function onDrainAsk(
  turn: Turn,
  from: NodeId,
  id: number,
  body: Extract<Request, { readonly kind: "sync.recent-req" | "sync.verify-req" | "sync.done" | "sync.keepalive" }>,
): void {
  const transfer = turn.state.transfers.get(body.transfer.toHex());
  if (transfer === undefined || transfer.requester !== from) {
    mark(turn, "sync.no-transfer", `${from} asks in a transfer that is over`);
    answer(turn, id, { kind: "sync.no-transfer", ...scopeOf(turn), transfer: body.transfer });
    return;
  }
  stayAlive(turn, transfer);
  if (body.kind === "sync.done" && transfer.phase === "streaming" && transfer.isDelta) drain(turn, transfer); // it asked for the last chunk itself
  const noted = { kind: "sync.noted", ...scopeOf(turn), transfer: transfer.id } as const;
  if (body.kind === "sync.recent-req") answer(turn, id, recent(turn, transfer, body.from));
  else if (body.kind === "sync.verify-req") verify(turn, transfer, id);
  else answer(turn, id, noted);
}

export function stayAlive(turn: Turn, transfer: Transfer): void {
  if (transfer.phase === "streaming") arm(turn, timerOf(transfer, "expire"), timingOf(turn).expireMs);
  else if (transfer.phase === "draining" && turn.upMs - transfer.drainSinceMs < timingOf(turn).drainMaxMs)
    arm(turn, timerOf(transfer, "drain"), timingOf(turn).drainMs);
}

/** Versions from one on: at most 1 MiB of them, or one. */
function recent(turn: Turn, transfer: Transfer, from: number): AnswerOf<"sync.recent"> {
  const rows = replicatedOf(turn.snap);
  const { last } = historyOf(rows);
  const batches = recentBatches((version) => batchOf(rows, version), from, last, SYNC_RECENT_COUNT_MAX);
  return { kind: "sync.recent", ...scopeOf(turn), transfer: transfer.id, from, last, batches };
}

/** The root of the newest state here, read in steps; questions that come meanwhile wait for the same one. */
function verify(turn: Turn, transfer: Transfer, id: number): void {
  transfer.asks.push(id);
  if (transfer.scan !== null) return;
  const { views } = turn.ports;
  const view = views.open();
  transfer.scan = newScan(turn.state.config, view, historyIn(turn.snap).last);
  arm(turn, timerOf(transfer, "scan"), 0);
}

export function onVerifyScan(turn: Turn, transfer: Transfer): void {
  const { scan } = transfer;
  if (scan === null) return;
  if (!scanOn(turn, scan)) {
    arm(turn, timerOf(transfer, "scan"), 0);
    return;
  }
  turn.ports.views.close(scan.view);
  transfer.scan = null;
  const { digest, children } = finishDigest(scan.build);
  const top = children.length > TOP_DIGESTS_MAX ? [] : children.flatMap(({ end, digest: below }) => (end === null ? [] : [{ end, digest: below }]));
  const said = { kind: "sync.verify", ...scopeOf(turn), transfer: transfer.id, version: scan.version, root: digest, top } as const;
  for (const id of transfer.asks.splice(0)) answer(turn, id, said);
}

/** The requester gave up, or has another transfer. */
export function onAbort(turn: Turn, transfer: Transfer, reason: string): void {
  mark(turn, "sync.requester-aborts", `${transfer.requester} ends its transfer: ${reason}`);
  close(turn, transfer, reason);
}
