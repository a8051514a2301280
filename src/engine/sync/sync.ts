/**
 * Store synchronisation of one node (sync.md section 4): requester, provider and holds behind one `step`. Who leads itself
 * asks itself for a hold by the same messages, which never leave the node. Reads Paxos through `SyncPorts`, tells it what
 * the functions at the end say, and never imports it.
 */
import { equalBytes } from "../base/bytes.ts";
import { answer, arm, mark } from "../base/effect-list.ts";
import type { Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { unreachable } from "../base/invariant.ts";
import { historyIn } from "../store/versions.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { syncRequests } from "../wire/sync-messages.ts";
import { abandon } from "./abandon.ts";
import { onChunk, onCopied } from "./copy.ts";
import { askAgain, onRangeDigests, onRangeRows, onWalkTimer } from "./delta.ts";
import { onFinished, onRecent, onReplayed, onScan, onVerify, replayAgain } from "./finish.ts";
import { onHoldFacts, onHoldRelease, onHoldRenew, onHoldReq, onHoldTimer } from "./hold.ts";
import { endWrite } from "./progress.ts";
import { onHoldAck, onHoldRefused, onProviderFacts, onRenewTimer, onSilence, onSyncReq } from "./provider.ts";
import { onRangeAsk, onTreeScan, replyRange } from "./ranges.ts";
import {
  abstains,
  confirmLater,
  decide,
  isOurs,
  onCleared,
  onFlagged,
  onGrant,
  onKeep,
  onProbeReply,
  onStart,
  onWithdrawn,
  probe,
  reload,
  startRequester,
} from "./requester.ts";
import {
  type Asked,
  enterRequester,
  factsOf,
  type SyncCall,
  type SyncEffect,
  type SyncEvent,
  type SyncPorts,
  type SyncState,
  scopeOf,
  type Turn,
  timingOf,
} from "./state.ts";
import { onAbort, onChunkAck, onDrainAsk, onStall, onVerifyScan, pump, stayAlive } from "./stream.ts";

const CALL_KINDS: readonly string[] = ["sync.facts", "sync.force", "sync.recent-asked"] satisfies SyncCall["kind"][];
/** Whoever provides cannot tell what differs: the whole store is asked for instead. */
const NO_DIFFERENCES: readonly string[] = ["mode", "no-delta"];
/** Whether a daemon's request is for this core. */
export const isSyncRequest = ({ kind }: { readonly kind: string }): boolean => Object.hasOwn(syncRequests, kind) || CALL_KINDS.includes(kind);

export function stepSync(state: SyncState, event: SyncEvent, snap: Snapshot, ports: SyncPorts): SyncEffect[] {
  const turn: Turn = { state, snap, upMs: event.upMs, ports, out: [] };
  take(turn, event);
  return loopBack(turn);
}

/** What this node sends to itself arrives at once, under a request's own number, negative. */
function loopBack(turn: Turn): SyncEffect[] {
  const { self } = turn.state.config;
  const done: SyncEffect[] = [];
  for (let effect = turn.out.shift(); effect !== undefined; effect = turn.out.shift()) {
    if (effect.kind === "send" && effect.to === self) onRequest(turn, -effect.requestId, self, effect.body);
    else if (effect.kind === "answer" && effect.id < 0) onAnswer(turn, self, -effect.id, effect.body);
    else done.push(effect);
  }
  return done;
}

function take(turn: Turn, event: SyncEvent): void {
  switch (event.kind) {
    case "start":
      startRequester(turn);
      onHoldFacts(turn);
      return;
    case "request":
      onRequest(turn, event.id, event.from, event.body);
      return;
    case "message":
      onAnswer(turn, event.from, event.requestId, event.body);
      return;
    case "timer":
      onTimer(turn, event.timer);
      return;
    case "stored":
      onStored(turn, event.ticket);
      return;
    case "full":
      onFull(turn, event.ticket);
      return;
    case "lost":
      onLost(turn, event.peer);
      return;
    default:
      unreachable(event);
  }
}

function onRequest(turn: Turn, id: number, from: NodeId, body: Request | SyncCall): void {
  switch (body.kind) {
    case "sync.facts":
      onHoldFacts(turn);
      onProviderFacts(turn);
      onRequesterFacts(turn);
      return;
    case "sync.force":
      force(turn, id);
      return;
    case "sync.recent-asked":
      for (const transfer of turn.state.transfers.values()) if (transfer.requester === body.peer) stayAlive(turn, transfer);
      return;
    case "sync.req":
      onSyncReq(turn, id, from, body);
      return;
    case "hold.req":
      onHoldReq(turn, id, from, body);
      return;
    case "hold.renew":
      onHoldRenew(turn, id, from, body);
      return;
    case "hold.release":
      onHoldRelease(turn, id, from, body);
      return;
    case "sync.start":
      onStart(turn, id, from, body);
      return;
    case "sync.chunk":
      onChunk(turn, id, from, body);
      return;
    case "sync.recent-req":
    case "sync.verify-req":
    case "sync.done":
    case "sync.keepalive":
      onDrainAsk(turn, from, id, body);
      return;
    case "sync.range-req":
    case "sync.range-want":
      onRangeAsk(turn, id, from, body);
      return;
    case "sync.abort":
      onAborted(turn, id, from, body.transfer, body.reason);
      return;
    default:
      return;
  }
}

/** Paxos says that only a sync helps. */
function onRequesterFacts(turn: Turn): void {
  const { state } = turn;
  if (state.requester.phase !== "joined" || !factsOf(turn).mustSync) return;
  enterRequester(state, "probing");
  probe(turn);
}

/** An operator wants this store replaced. */
function force(turn: Turn, id: number): void {
  const { state } = turn;
  const { requester } = state;
  answer(turn, id, { kind: "sync.noted", ...scopeOf(turn), transfer: new Uint8Array(8) });
  if (requester.flag !== null || (requester.phase !== "joined" && requester.phase !== "probing")) {
    mark(turn, "sync.under-way", "a sync is under way already");
    return;
  }
  requester.isForced = true;
  requester.wishedLast = historyIn(turn.snap).last;
  requester.wishTries = 0;
  if (requester.phase === "joined") enterRequester(state, "probing");
  probe(turn);
}

/** Either side of a transfer may end it. */
function onAborted(turn: Turn, id: number, from: NodeId, name: Uint8Array, reason: string): void {
  const transfer = turn.state.transfers.get(name.toHex());
  if (transfer !== undefined && transfer.requester === from) onAbort(turn, transfer, reason);
  else if (isOurs(turn, from, name)) endedBy(turn, reason, reason === "trimmed" || reason === "provider-syncing" ? timingOf(turn).backoffMs : 0);
  else mark(turn, "sync.foreign", `${from} ends a transfer that is over`);
  answer(turn, id, { kind: "sync.noted", ...scopeOf(turn), transfer: name });
}

/** Our provider says that it is over, or that it will not begin. */
function endedBy(turn: Turn, reason: string, avoidMs: number): void {
  if (NO_DIFFERENCES.includes(reason)) turn.state.requester.avoidsDelta = true;
  abandon(turn, reason, avoidMs);
}

function onAnswer(turn: Turn, from: NodeId, requestId: number, body: Answer): void {
  const { asked } = turn.state;
  const about = asked.get(requestId);
  if (about === undefined) {
    mark(turn, "sync.late-answer");
    return;
  }
  asked.delete(requestId);
  if ("transfer" in about) {
    onTransferAnswer(turn, about, requestId, body);
    return;
  }
  switch (body.kind) {
    case "paxos.probe-reply":
      onProbeReply(turn, from, body);
      return;
    case "sync.grant":
      onGrant(turn, from, requestId, body);
      return;
    case "sync.aborted":
      if (requestId === turn.state.requester.grantRequest && turn.state.requester.phase === "requested")
        endedBy(turn, body.reason, Math.max(timingOf(turn).backoffMs, body.retryAfterMs));
      return;
    case "sync.recent":
      if (isOurs(turn, from, body.transfer)) onRecent(turn, body);
      return;
    case "sync.verify":
      if (isOurs(turn, from, body.transfer)) onVerify(turn, body);
      return;
    case "sync.range-digests":
      if (isOurs(turn, from, body.transfer)) onRangeDigests(turn, requestId, body);
      return;
    case "sync.range-rows":
      if (isOurs(turn, from, body.transfer)) onRangeRows(turn, requestId, body);
      return;
    case "sync.noted":
      if (about.what === "keepalive") isOurs(turn, from, body.transfer);
      return;
    case "sync.no-transfer":
      if (about.what !== "told" && isOurs(turn, from, body.transfer)) abandon(turn, "expired");
      return;
    default:
      return;
  }
}

/** Answers to a provider: of the leader, or of the requester. */
function onTransferAnswer(turn: Turn, about: Extract<Asked, { transfer: string }>, requestId: number, body: Answer): void {
  const transfer = turn.state.transfers.get(about.transfer);
  if (transfer === undefined) {
    mark(turn, "sync.late-answer");
    return;
  }
  if (body.kind === "hold.ack") {
    onHoldAck(turn, transfer, requestId, about.number, body);
    return;
  }
  if (body.kind === "hold.refused") {
    onHoldRefused(turn, transfer, requestId, body);
    return;
  }
  if (body.kind === "sync.chunk-ack" && equalBytes(body.transfer, transfer.id)) {
    if (about.what === "start" && about.number !== transfer.view)
      mark(turn, "sync.late-ack", `${transfer.requester} says where it stood with an older snapshot`);
    else onChunkAck(turn, transfer, about.what === "start", body);
    return;
  }
  if (body.kind === "sync.no-transfer") {
    onAbort(turn, transfer, "expired");
    return;
  }
}

function onTimer(turn: Turn, timer: string): void {
  const { state } = turn;
  const [side, name = "", what] = timer.split(".");
  if (side === "h") {
    onHoldTimer(turn, name);
    return;
  }
  if (side === "x") {
    onRequesterTimer(turn, name);
    return;
  }
  const transfer = state.transfers.get(name);
  if (transfer === undefined) return;
  switch (what) {
    case "renew":
      onRenewTimer(turn, transfer);
      return;
    case "pack":
      if (transfer.isDelta) replyRange(turn, transfer);
      else pump(turn, transfer);
      return;
    case "tree":
      onTreeScan(turn, transfer);
      return;
    case "stall":
      onStall(turn, transfer);
      return;
    case "scan":
      onVerifyScan(turn, transfer);
      return;
    case "hold":
    case "expire":
    case "drain":
      onSilence(turn, transfer, what);
      return;
  }
}

function onRequesterTimer(turn: Turn, what: string): void {
  const { requester } = turn.state;
  switch (what) {
    case "probe":
      requester.phase === "clearing" ? confirmLater(turn) : decide(turn);
      return;
    case "retry":
      if (requester.phase === "probing") probe(turn);
      return;
    case "keep":
      onKeep(turn);
      replayAgain(turn);
      return;
    case "scan":
      onScan(turn);
      return;
    case "walk":
      onWalkTimer(turn);
      return;
    case "ask":
      askAgain(turn);
      return;
    case "patience":
      abandon(turn, `nothing heard for ${timingOf(turn).patienceMs} ms`, timingOf(turn).backoffMs);
      return;
  }
}

function onStored(turn: Turn, ticket: number): void {
  const { state } = turn;
  const { requester } = state;
  const purpose = state.writing.get(ticket);
  state.writing.delete(ticket);
  if (requester.awaited === ticket) requester.awaited = 0;
  if (requester.progress !== null) endWrite(requester.progress, turn.upMs);
  switch (purpose) {
    case "flag":
      onFlagged(turn);
      return;
    case "clear":
      onCleared(turn);
      return;
    case "begin":
    case "copy":
      onCopied(turn);
      return;
    case "replay":
      onReplayed(turn);
      return;
    case "finish":
      onFinished(turn);
      return;
    case "withdraw":
      onWithdrawn(turn);
      return;
    case "restart":
      requester.durable = requester.cursor;
      return;
  }
}

/** Nothing of it is there. What the disk holds is where to go on from, once there is space. */
function onFull(turn: Turn, ticket: number): void {
  const { requester, writing } = turn.state;
  writing.delete(ticket);
  if (requester.awaited === ticket) requester.awaited = 0;
  const wasFlagged = requester.flag !== null;
  reload(turn);
  if (wasFlagged && requester.flag === null) turn.state.synced = historyIn(turn.snap).last; // it was never set: back into service
  mark(turn, "sync.disk-full", "no space for what the sync writes");
  if (requester.phase === "probing" || requester.phase === "joined") {
    arm(turn, "x.retry", timingOf(turn).backoffMs);
    return;
  }
  abandon(turn, "disk-full");
}

function onLost(turn: Turn, peer: NodeId): void {
  const { requester, transfers } = turn.state;
  if (requester.provider === peer && requester.phase !== "probing" && requester.phase !== "joined") abandon(turn, "link lost");
  // a requester that is gone is forgotten by the timer: it may come back and go on
  for (const transfer of transfers.values())
    if (factsOf(turn).leader === peer && transfer.phase === "holding") arm(turn, `y.${transfer.name}.renew`, timingOf(turn).backoffMs);
}

// ------------------------------------------------------------------ what Paxos is told

/** Whether this node must not vote, lead, serve reads or provide. */
export const mustAbstain = ({ requester }: SyncState): boolean => abstains(requester);

/** The version at which a sync ended, once. */
export function takeSynced(state: SyncState): number | null {
  const { synced } = state;
  state.synced = null;
  return synced;
}
