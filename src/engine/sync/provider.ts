/**
 * The provider, one machine a transfer (seed 002 steps 5 to 12 and 15, sync.md section 4.3): grants a slot, has trimming held
 * by the leader, snapshots only once it has applied what the leader had, sends chunks as the requester's acknowledgements
 * allow, and keeps the hold through the grace. It reads and never writes; its timer forgets a requester that fell silent.
 */
import { equalBytes, utf8 } from "../base/bytes.ts";
import { answer, arm, disarm, mark } from "../base/effect-list.ts";
import { CLOCK_MARGIN } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import { newDigestBuild } from "../store/digest.ts";
import { hashAt, historyIn, historyOf, replicatedOf } from "../store/versions.ts";
import type { AnswerOf, RequestOf } from "../wire/messages.ts";
import { MODE_DELTA } from "../wire/sync-messages.ts";
import { type ProviderPhase, providerTransitions } from "./phases.ts";
import { adjust, isDue } from "./rate.ts";
import { chainHash } from "./records.ts";
import { newScan, seedOf } from "./scan.ts";
import { factsOf, MIB, scopeOf, send, TRANSFERS_MAX, type Transfer, type Turn, timingOf } from "./state.ts";

const BUSY_MS = 1_000;
/** Refusals of a leader that does not trim: it is not settled, or cannot be sure that it still leads. */
const UNSETTLED: readonly string[] = ["unsettled", "no-leases"];
/** A file may grow so far under one view: a quarter, and what is nothing for any disk. */
const GROWTH_MAX = 0.25;
const GROWTH_BYTES_MIN = 16 * MIB;
const ID_BYTES = 8;
export const timerOf = (transfer: Transfer, what: "hold" | "renew" | "expire" | "stall" | "pack" | "drain" | "scan" | "tree"): string =>
  `y.${transfer.name}.${what}`;
const TIMERS = ["hold", "renew", "expire", "stall", "pack", "drain", "scan", "tree"] as const;

export function onSyncReq(turn: Turn, id: number, from: NodeId, body: RequestOf<"sync.req">): void {
  const { state, snap } = turn;
  const { config } = state;
  for (const old of [...state.transfers.values()]) if (old.requester === from) close(turn, old, "expired"); // it asks anew: it gave the old one up
  const no = objection(turn, body);
  if (no !== null) {
    mark(turn, "sync.refused", `${from} is refused: ${no}`);
    answer(turn, id, { kind: "sync.aborted", ...scopeOf(turn), transfer: new Uint8Array(ID_BYTES), reason: no, retryAfterMs: BUSY_MS });
    return;
  }
  const own = historyIn(snap);
  const oldest = body.resume === null ? null : body.resume.oldest;
  const resumes = body.resume !== null && oldest !== null && isHere(turn, oldest, body.resume.oldestHash) && own.last >= body.resume.version;
  if (body.resume !== null && !resumes) mark(turn, "sync.no-resume", `${from} cannot go on from ${oldest}: held are ${own.first} to ${own.last}`);
  const transferId = nextName(turn);
  const limits = {
    chunkBytes: Math.min(body.limits.chunkBytes, config.limits.chunkBytes),
    chunkKeys: Math.max(1, Math.min(body.limits.chunkKeys, config.limits.chunkKeys)),
    windowChunks: Math.max(1, Math.min(body.limits.windowChunks, config.limits.windowChunks)),
    windowBytes: Math.min(body.limits.windowBytes, config.limits.windowBytes),
  };
  const transfer: Transfer = {
    ...{ id: transferId, name: transferId.toHex(), requester: from, floor: body.floor, hold: nextName(turn), limits, oldest: resumes ? oldest : null },
    ...{
      phase: "holding",
      epoch: -1,
      holdAsked: new Map(),
      heldFromMs: null,
      refusedFor: null,
      ack: null,
      view: null,
      viewSinceMs: 0,
      viewFileBytes: 0,
      grownBytes: 0,
      version: 0,
      build: null,
    },
    ...{
      start: null,
      at: null,
      isReady: false,
      digest: new Uint8Array(32),
      sent: 0,
      acked: 0,
      flying: new Map(),
      creditChunks: 0,
      creditBytes: 0,
      sentBytes: 0,
      isDelta: body.mode === MODE_DELTA,
      treeScan: null,
      tree: null,
      question: null,
      limitedBy: "disk",
    },
    ...{ drainSinceMs: 0, scan: null, asks: [] },
  };
  state.transfers.set(transfer.name, transfer);
  answer(turn, id, { kind: "sync.grant", ...scopeOf(turn), transfer: transferId, resumes, limits });
  arm(turn, timerOf(transfer, "hold"), timingOf(turn).holdAnswerMs);
  askHold(turn, transfer);
}

/** Why not, in one word, or null. */
function objection(turn: Turn, body: RequestOf<"sync.req">): string | null {
  const { state, snap } = turn;
  const { requester, config } = state;
  if (!equalBytes(body.cluster, config.cluster)) return "foreign";
  if (requester.flag !== null && !mutant("sync.provide-flagged")) return "provider-syncing";
  if (body.mode > MODE_DELTA) return "mode";
  if (historyIn(snap).last < body.floor && !mutant("sync.floor-ignored")) return "behind";
  return state.transfers.size >= TRANSFERS_MAX ? "busy" : null;
}

/** Whether what a copy began with is here, and part of the same history. */
function isHere(turn: Turn, version: number, hash: Uint8Array): boolean {
  const own = hashAt(replicatedOf(turn.snap), version);
  return own !== null && equalBytes(own, hash);
}

// ------------------------------------------------------------------ the hold

/** First, again after a silence, and again in every new epoch: with the same name. */
function askHold(turn: Turn, transfer: Transfer): void {
  const { leader, epoch } = factsOf(turn);
  if (leader === null) {
    arm(turn, timerOf(transfer, "renew"), timingOf(turn).holdRetryMs);
    return;
  }
  transfer.epoch = epoch;
  const body = { hold: transfer.hold, lowest: lowestOf(turn, transfer), leaseMs: timingOf(turn).holdLeaseMs };
  const requestId = send(turn, leader, { kind: "hold.req", ...scopeOf(turn), ...body }, { what: "hold", transfer: transfer.name, number: epoch });
  transfer.holdAsked.set(requestId, turn.upMs);
  arm(turn, timerOf(transfer, "renew"), transfer.ack === null ? timingOf(turn).holdRetryMs : timingOf(turn).holdRenewMs);
}

function renewHold(turn: Turn, transfer: Transfer, ending: boolean): void {
  const { leader, epoch } = factsOf(turn);
  if (leader === null || epoch !== transfer.epoch) {
    askHold(turn, transfer);
    return;
  }
  const body = { hold: transfer.hold, lowest: lowestOf(turn, transfer), leaseMs: timingOf(turn).holdLeaseMs, bytes: transfer.sentBytes, ending };
  const requestId = send(turn, leader, { kind: "hold.renew", ...scopeOf(turn), ...body }, { what: "hold", transfer: transfer.name, number: epoch });
  transfer.holdAsked.set(requestId, turn.upMs);
  arm(turn, timerOf(transfer, "renew"), timingOf(turn).holdRenewMs);
}

/** Everything in the seed profile, and before the snapshot, since first versions are compared; then what follows the oldest snapshot of this copy. */
function lowestOf(turn: Turn, { oldest, version, view, phase }: Transfer): number {
  if (turn.state.config.holdsAll || (view === null && phase === "holding")) return historyIn(turn.snap).first;
  return oldest ?? version;
}

export function onHoldAck(turn: Turn, transfer: Transfer, requestId: number, askedIn: number, ack: AnswerOf<"hold.ack">): void {
  const sentMs = transfer.holdAsked.get(requestId);
  transfer.holdAsked.delete(requestId);
  if (sentMs === undefined || askedIn !== factsOf(turn).epoch || ack.epoch !== askedIn) {
    mark(turn, "hold.stale-ack", "a hold of an earlier leader is none");
    return;
  }
  if (transfer.phase !== "holding") {
    // a hold that lapsed before this one may have let a trim pass; where there was none yet, it begins here
    const isLost = transfer.heldFromMs !== null && !isHeld(turn, transfer);
    if (isLost || ack.first > (transfer.oldest ?? transfer.version) + 1) abort(turn, transfer, "hold-lost");
    else transfer.heldFromMs = Math.max(transfer.heldFromMs ?? 0, sentMs);
    return;
  }
  if (transfer.oldest !== null && ack.first > transfer.oldest + 1) {
    abort(turn, transfer, "trimmed"); // what the copy must be replayed from went before the hold began
    return;
  }
  if (!isHeld(turn, transfer)) {
    // behind a lapse it is another hold: a trim may have passed in between, and only what this one says still counts
    if (transfer.ack !== null) mark(turn, "hold.anew", `held again from ${ack.first} on, before it was from ${transfer.ack.first}`);
    transfer.ack = { first: ack.first, last: ack.last };
  }
  transfer.heldFromMs = Math.max(transfer.heldFromMs ?? 0, sentMs);
  disarm(turn, timerOf(transfer, "hold"));
  arm(turn, timerOf(transfer, "renew"), timingOf(turn).holdRenewMs);
  startStream(turn, transfer);
}

export function onHoldRefused(turn: Turn, transfer: Transfer, requestId: number, body: AnswerOf<"hold.refused">): void {
  transfer.holdAsked.delete(requestId);
  transfer.refusedFor = body.reason;
  mark(turn, "hold.was-refused", `no hold: ${body.reason}`);
  // an unknown hold is asked for again; what passes by itself is too; the rest ends by the lease
  if (transfer.phase === "holding" && (body.reason === "disk-pressure" || body.reason === "too-many")) {
    abort(turn, transfer, "busy");
    return;
  }
  if (body.reason === "unknown") transfer.epoch = -1;
  arm(turn, timerOf(transfer, "renew"), Math.max(100, Math.min(timingOf(turn).holdRetryMs, body.retryAfterMs)));
}

export function onRenewTimer(turn: Turn, transfer: Transfer): void {
  if (transfer.phase !== "holding" && transfer.heldFromMs !== null && !isHeld(turn, transfer)) {
    abort(turn, transfer, "hold-lost");
    return;
  }
  renewHold(turn, transfer, transfer.phase === "draining");
}

/** The lease counts from this node's own send: the leader's began later, and may be counted by a faster clock. */
export const isHeld = ({ state, upMs }: Pick<Turn, "state" | "upMs">, { heldFromMs }: Transfer): boolean =>
  heldFromMs !== null && upMs - heldFromMs < state.config.timing.holdLeaseMs * (1 - CLOCK_MARGIN);

// ------------------------------------------------------------------ the snapshot

/** Once a second: all transfers of this node share what the cluster's commits can bear. */
export function adjustRate({ state, ports, upMs }: Turn): void {
  let isStreaming = false;
  for (const { phase } of state.transfers.values()) isStreaming ||= phase === "streaming";
  if (isDue(state.rate, upMs)) adjust(state.rate, { p99Us: ports.commitP99Us(upMs), writtenBytes: ports.writtenBytes(), isStreaming }, upMs);
}

/** Something of Paxos or of the own history changed. */
export function onProviderFacts(turn: Turn): void {
  adjustRate(turn);
  for (const transfer of [...turn.state.transfers.values()]) {
    if (turn.state.requester.flag !== null && !mutant("sync.provide-flagged")) abort(turn, transfer, "provider-syncing");
    else if (factsOf(turn).leader !== null && transfer.epoch !== factsOf(turn).epoch) askHold(turn, transfer);
    else if (transfer.phase === "holding") startStream(turn, transfer);
    else if (historyIn(turn.snap).first > (transfer.oldest ?? transfer.version) + 1) abort(turn, transfer, "trimmed");
  }
}

/** Compared only once this node has applied what the leader had: before that the last trim may still be on its way here. */
function startStream(turn: Turn, transfer: Transfer): void {
  const { ack } = transfer;
  if (ack === null || transfer.phase !== "holding") return;
  const own = historyIn(turn.snap);
  if (own.last < ack.last && !mutant("sync.first-compared-early")) {
    mark(turn, "sync.first-later", `applied ${own.last}, the leader had ${ack.last}`);
    return;
  }
  if (!isHeld(turn, transfer)) {
    abort(turn, transfer, "hold-lost");
    return;
  }
  invariant(own.first === ack.first, `first version ${own.first} here, ${ack.first} at the leader that holds it`);
  stream(turn, transfer, `first ${own.first}, as the leader says`);
}

/**
 * Nobody leads, or who leads cannot settle: then nobody trims either, and the laggard's own vote may be what is missing. Nothing
 * is compared; the own history says when too much of it went, and a hold begins as soon as somebody can grant it.
 */
function streamUnheld(turn: Turn, transfer: Transfer): void {
  if (transfer.oldest !== null && historyIn(turn.snap).first > transfer.oldest + 1) abort(turn, transfer, "trimmed");
  else stream(turn, transfer, `nobody can hold: ${transfer.refusedFor ?? "nobody leads"}`);
}

function stream(turn: Turn, transfer: Transfer, why: string): void {
  enter(transfer, "streaming");
  mark(turn, "sync.streaming", why);
  takeView(turn, transfer);
  arm(turn, timerOf(transfer, "expire"), timingOf(turn).expireMs);
}

/** A snapshot, the first or a newer one, and SYNC_START: the requester answers where it stands. */
export function takeView(turn: Turn, transfer: Transfer): void {
  const { views } = turn.ports;
  const isFirst = transfer.view === null && transfer.oldest === null;
  if (transfer.view !== null) views.close(transfer.view);
  transfer.view = views.open();
  transfer.viewSinceMs = turn.upMs;
  transfer.isReady = false;
  const rows = views.read(transfer.view);
  const { first, last } = historyOf(rows);
  transfer.version = last;
  const { keyCount: keys, liveBytes: bytes, fileBytes } = views.stat();
  transfer.viewFileBytes = fileBytes;
  transfer.grownBytes = 0;
  transfer.tree = null;
  transfer.question = null;
  transfer.treeScan = transfer.isDelta ? newScan(turn.state.config, transfer.view, last) : null;
  if (transfer.isDelta) arm(turn, timerOf(transfer, "tree"), 0);
  transfer.build = isFirst && !transfer.isDelta ? newDigestBuild(seedOf(turn.state.config)) : null;
  const hash = hashAt(rows, last) ?? chainHash();
  const about = { transfer: transfer.id, version: last, hash, first, keys, bytes, limits: transfer.limits };
  transfer.start = { kind: "sync.start", ...scopeOf(turn), ...about };
  mark(turn, "sync.snapshot", `snapshot at ${last}`);
  sendStart(turn, transfer, transfer.start);
}

/** Pages that a view pins are not used again: by the clock, and by how much the file grew. */
export function isViewOld(turn: Turn, transfer: Transfer): boolean {
  const { viewSinceMs, viewFileBytes } = transfer;
  transfer.grownBytes = turn.ports.views.stat().fileBytes - viewFileBytes;
  return turn.upMs - viewSinceMs > timingOf(turn).snapshotAgeMaxMs || transfer.grownBytes > Math.max(GROWTH_BYTES_MIN, viewFileBytes * GROWTH_MAX);
}

export function sendStart(turn: Turn, transfer: Transfer, start: RequestOf<"sync.start">): void {
  send(turn, transfer.requester, start, { what: "start", transfer: transfer.name, number: transfer.view ?? 0 });
  arm(turn, timerOf(transfer, "stall"), timingOf(turn).stallMs);
}

// ------------------------------------------------------------------ the end

export function onSilence(turn: Turn, transfer: Transfer, what: "hold" | "expire" | "drain"): void {
  if (what === "hold") {
    if (transfer.phase !== "holding") return;
    const canNobodyHold = factsOf(turn).leader === null || UNSETTLED.includes(transfer.refusedFor ?? "");
    if (canNobodyHold) streamUnheld(turn, transfer);
    else abort(turn, transfer, "busy");
    return;
  }
  mark(turn, `sync.${what === "expire" ? "expired" : "drained"}`, `${what === "expire" ? "nothing heard of" : "enough time for"} ${transfer.requester}`);
  close(turn, transfer, what === "expire" ? "expired" : "drained");
}

/** The grace of seed step 15: the hold stays while the laggard begins its own recovery. */
export function endHold(turn: Turn, transfer: Transfer): void {
  renewHold(turn, transfer, true);
}

/** Told to the requester too. */
export function abort(turn: Turn, transfer: Transfer, reason: string): void {
  mark(turn, "sync.provider-aborts", `transfer to ${transfer.requester} ends: ${reason}`);
  send(turn, transfer.requester, { kind: "sync.abort", ...scopeOf(turn), transfer: transfer.id, reason }, { what: "told" });
  close(turn, transfer, reason);
}

export function close(turn: Turn, transfer: Transfer, reason: string): void {
  const { state, ports } = turn;
  enter(transfer, "closed");
  state.transfers.delete(transfer.name);
  if (transfer.view !== null) ports.views.close(transfer.view);
  if (transfer.scan !== null) ports.views.close(transfer.scan.view);
  for (const timer of TIMERS) disarm(turn, timerOf(transfer, timer));
  for (const id of transfer.asks) answer(turn, id, { kind: "sync.no-transfer", ...scopeOf(turn), transfer: transfer.id });
  const { leader } = factsOf(turn);
  if (leader !== null) send(turn, leader, { kind: "hold.release", ...scopeOf(turn), hold: transfer.hold, reason }, { what: "told" });
}

export function closeTransfers(turn: Turn, reason: string): void {
  for (const transfer of [...turn.state.transfers.values()]) abort(turn, transfer, reason);
}

export function enter(transfer: Transfer, next: ProviderPhase): void {
  invariant(providerTransitions[transfer.phase].includes(next), `transfer ${transfer.name}: ${next} may follow ${transfer.phase}`);
  transfer.phase = next;
}

/** Eight bytes that no other grant has: the nonce is this process's alone. */
function nextName({ state }: Turn): Uint8Array {
  return chainHash(state.config.nonce, utf8(String(++state.lastName))).slice(0, ID_BYTES);
}
