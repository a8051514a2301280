/**
 * One replica: elector, collector, proposer, acceptor, learner, lease, trim and clients as one core (sync.md section 3).
 * Events go to the part that knows them; afterwards whatever can go on goes on: the queue, reads, news for members, apply.
 * Between Paxos and the store's synchronisation assembly carries three facts, as plain values: see the last section.
 */
import { equalBytes } from "../base/bytes.ts";
import { answer, arm, mark } from "../base/effect-list.ts";
import type { Clocks, Event, Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { unreachable } from "../base/invariant.ts";
import { localKeys } from "../store/keys.ts";
import { hashAt, historyIn, replicatedOf, ZERO_HASH } from "../store/versions.ts";
import { type Answer, type AnswerOf, type Request, refused } from "../wire/messages.ts";
import { onAcceptStored, onBegin, onCollect } from "./acceptor.ts";
import { compareBallots } from "./ballot.ts";
import { forward, onCall, onCallRefused, onClient, onLinkLost, onResult, onVersion, onVersionReq, pumpReads, SWEEP_TIMER, sweep } from "./clients.ts";
import { choose as chooseFound, onCollectTimer, onLast, onPromiseStored } from "./collector.ts";
import { onAck, onElect, onElectRefused, onElectTimer, onVictory } from "./elector.ts";
import { checkFormats } from "./formats.ts";
import { APPLY_TIMER, apply, onApplied, onApplyTimer } from "./history.ts";
import { FETCH_TIMER, fetchOn, onFetchTimer, onRecent, onRecentRefused, onRecentReq } from "./learner.ts";
import { onCommit, onLease, onLeaseAck, renew, takeUp } from "./lease.ts";
import { announce, isOfEarlierRun, onOwn, onReturn } from "./peers.ts";
import { choose, GATHER_TIMER, onAccept, onBeginRefused, onGatherTimer, onTellTimer, onTrim, pump, TELL_TIMER, tell } from "./proposer.ts";
import { load, loadVotes } from "./records.ts";
import type { Service } from "./services.ts";
import { serviceOf } from "./services.ts";
import { COLLECT_TIMER, ELECT_TIMER, fall, lookLater, probe, quietMs, RENEW_TIMER, see } from "./standing.ts";
import { enter, isSettled, leasesHold, type PaxosEffect, type PaxosState, scopeOf, type Turn } from "./state.ts";
import { trimInFlight } from "./trim.ts";

const SPACE_TIMER = "space";
const SPACE_MS = 500;

/** Whether a request is one for the replica: of Paxos itself, or of a service. */
export const isPaxosRequest = (services: readonly Service[], body: Request): boolean => body.kind.startsWith("paxos.") || serviceOf(services, body) !== null;

export function stepPaxos(state: PaxosState, services: readonly Service[], event: Event<Request, Answer>, snap: Snapshot): readonly PaxosEffect[] {
  const turn: Turn = { state, services, snap, timeMs: event.timeMs, upMs: event.upMs, out: [] };
  take(turn, event);
  if (!isAmongMany(event, services)) goOn(turn);
  return turn.out;
}

/** Clients' requests that come together become one proposal, or are read from one state. */
const isAmongMany = (event: Event<Request, Answer>, services: readonly Service[]): boolean =>
  event.kind === "request" && event.more === true && serviceOf(services, event.body) !== null;

function take(turn: Turn, event: Event<Request, Answer>) {
  if (event.kind === "request" || event.kind === "message") turn.state.heardMs.set(event.from, event.upMs);
  switch (event.kind) {
    case "start":
      return onStart(turn);
    case "request":
      return onRequest(turn, event);
    case "message":
      return onMessage(turn, event.from, event.requestId, event.body);
    case "timer":
      return onTimer(turn, event.timer);
    case "stored":
      return onStored(turn, event.ticket);
    case "full":
      return onFull(turn, event.ticket);
    case "lost":
      return onLost(turn, event.peer);
    default:
      return unreachable(event);
  }
}

type RequestEvent = Extract<Event<Request, Answer>, { kind: "request" }>;

/** Everything that may have become possible by what just happened. */
function goOn(turn: Turn): void {
  const { state } = turn;
  if (state.phase === "syncing") return;
  if (state.leading !== null) choose(turn, state.leading);
  if (state.collecting !== null) chooseFound(turn, state.collecting);
  pumpReads(turn); // ahead of a proposal's write, which their answers would wait for
  pump(turn);
  if (state.phase === "following" && state.leader !== null && state.queue.length > 0) forward(turn, state.leader);
  pumpReads(turn);
  tell(turn);
  apply(turn);
}

/** An epoch that was being elected in may have had this member's ack: it is not used again. */
function onStart(turn: Turn) {
  const { state, snap, timeMs, upMs } = turn;
  state.run = timeMs;
  load(state, snap);
  if (state.epoch % 2 === 1) state.epoch++;
  state.quietUntilMs = upMs + quietMs(state);
  if (snap.get("local", localKeys.synchronizing()) !== undefined) return enter(turn, "syncing");
  checkFormats(turn.services, snap);
  mark(turn, "paxos.starts", `versions ${state.first} to ${state.last}, ${state.accepted.size} accepted above`);
  probe(turn);
  announce(turn);
  lookLater(turn);
}

function onRequest(turn: Turn, { id, from, body, patienceMs }: RequestEvent) {
  const { state } = turn;
  if ("cluster" in body) {
    if (!equalBytes(body.cluster, state.config.cluster)) {
      mark(turn, "paxos.foreign", `${from} is of another cluster`);
      return answer(turn, id, refused("NOT_ALLOWED", `${state.config.self}: a message of cluster ${body.cluster.toHex()}`));
    }
  }
  switch (body.kind) {
    case "paxos.probe":
      return answer(turn, id, probeReply(turn));
    case "paxos.return":
      return onReturn(turn, id, from, body);
    case "paxos.elect":
      return onElect(turn, id, from, body);
    case "paxos.victory":
      return onVictory(turn, id, from, body);
    case "paxos.collect":
      return onCollect(turn, id, from, body);
    case "paxos.begin":
      return onBegin(turn, id, from, body);
    case "paxos.commit":
      return onCommit(turn, id, from, body);
    case "paxos.lease":
      return onLease(turn, id, from, body);
    case "paxos.recent-req":
      return onRecentReq(turn, id, body);
    case "paxos.call":
      return onCall(turn, id, from, body);
    case "paxos.version-req":
      return onVersionReq(turn, id);
    case "paxos.trim":
      return onTrim(turn, id);
    default:
      return onClient(turn, id, from, body, patienceMs);
  }
}

/** Answered in every state, with what the disk has: a forced sync clears another store because this one has its versions. */
function probeReply({ state, snap }: Turn): AnswerOf<"paxos.probe-reply"> {
  const { promised, phase, leader, leading } = state;
  const { first, last } = historyIn(snap);
  const hash = hashAt(replicatedOf(snap), last) ?? ZERO_HASH;
  const quorum = leading === null ? [] : [...leading.heldUntilMs.keys()].sort((a, b) => a - b);
  const synchronizing = phase === "syncing";
  return { kind: "paxos.probe-reply", ...scopeOf(state), first, last, hash, floor: 0, synchronizing, promised, quorum, leader: leader ?? "" };
}

function onMessage(turn: Turn, from: NodeId, requestId: number, body: Answer) {
  const { state } = turn;
  if (state.phase === "syncing" || ("cluster" in body && !equalBytes(body.cluster, state.config.cluster))) return mark(turn, "paxos.unheard");
  if (isOfEarlierRun(state, from, requestId)) return mark(turn, "paxos.earlier-run", `${body.kind} of ${from} answers what its earlier run was asked`);
  switch (body.kind) {
    case "paxos.probe-reply":
      see(state, body.promised);
      if (!body.synchronizing) takeUp(turn, from, body.first, body.last);
      return;
    case "paxos.own":
      return onOwn(turn, from, body);
    case "paxos.ack":
      return onAck(turn, from, body);
    case "paxos.last":
      return onLast(turn, from, body);
    case "paxos.accept":
      return onAccept(turn, from, body);
    case "paxos.lease-ack":
      return onLeaseAck(turn, from, requestId, body);
    case "paxos.recent":
      return onRecent(turn, from, requestId, body);
    case "paxos.result":
      return onResult(turn, requestId, body);
    case "paxos.version":
      return onVersion(turn, requestId, body.version);
    case "paxos.refused":
      return onRefused(turn, from, requestId, body);
    case "paxos.noted":
      return;
    default:
      return mark(turn, "paxos.unheard", `${body.kind} from ${from} answers nothing`);
  }
}

/** One answer to everything that was refused: each part takes what concerns it. */
function onRefused(turn: Turn, from: NodeId, requestId: number, body: AnswerOf<"paxos.refused">): void {
  onCallRefused(turn, from, requestId);
  onRecentRefused(turn, from, requestId, body);
  onBeginRefused(turn, from, body);
  onElectRefused(turn, from, body);
}

function onTimer(turn: Turn, timer: string) {
  if (timer === SWEEP_TIMER) return sweep(turn);
  if (timer === SPACE_TIMER) {
    turn.state.isFull = false;
    return;
  }
  if (timer === APPLY_TIMER) return onApplyTimer(turn);
  if (turn.state.phase === "syncing") return;
  if (timer === ELECT_TIMER) return onElectTimer(turn);
  if (timer === TELL_TIMER) return onTellTimer(turn);
  if (timer === GATHER_TIMER) return onGatherTimer(turn);
  if (timer === RENEW_TIMER) return renew(turn);
  if (timer === COLLECT_TIMER) return onCollectTimer(turn);
  if (timer === FETCH_TIMER) return onFetchTimer(turn);
}

function onStored(turn: Turn, ticket: number): void {
  const { state } = turn;
  const purpose = state.writing.get(ticket);
  state.writing.delete(ticket);
  if (purpose === undefined) return;
  if (purpose.kind !== "apply" && compareBallots(purpose.ballot, state.storedPromise) > 0) state.storedPromise = purpose.ballot;
  if (purpose.kind === "apply") {
    onApplied(turn, purpose.upTo);
    fetchOn(turn);
  } else if (state.isInDoubt) readAgain(turn);
  else if (purpose.kind === "accept") onAcceptStored(turn, purpose.version, purpose.ballot);
  else onPromiseStored(turn, purpose.ballot);
  if (state.isInDoubt) readAgain(turn);
}

/** A promise, an entry or versions did not fit on the disk. What was asked for behind it may have: nothing is said before all is known. */
function onFull(turn: Turn, ticket: number): void {
  const { state } = turn;
  if (state.applying === "waits" || state.writing.get(ticket)?.kind === "apply") state.applying = "idle"; // its timer may have been listed behind this write
  state.writing.delete(ticket);
  state.isInDoubt = true;
  state.isFull = true;
  state.fetchNext = null;
  state.fetching = null; // its request and its timer may have been listed behind this write
  arm(turn, SPACE_TIMER, SPACE_MS);
  mark(turn, "paxos.full", "disk full: votes nothing until it has been read again");
  fall(turn);
  readAgain(turn);
}

/** The disk is the truth about what was promised and accepted. */
function readAgain(turn: Turn): void {
  const { state, snap } = turn;
  if (!state.isInDoubt || state.writing.size > 0) return;
  const { epoch } = state;
  loadVotes(state, snap);
  state.epoch = Math.max(epoch, state.epoch);
  state.isInDoubt = false;
}

function onLost(turn: Turn, peer: NodeId): void {
  const { state } = turn;
  state.heardMs.delete(peer);
  onLinkLost(turn, peer);
  if (state.fetching?.peer === peer) state.fetching = null;
}

// ------------------------------------------------------------------ facts for and from the synchronisation

export type ReplicaFacts = {
  readonly phase: PaxosState["phase"];
  readonly leader: NodeId | null;
  readonly epoch: number;
  readonly first: number;
  readonly last: number;
  readonly applied: number;
  /** This node leads, every value it found and one of its own are chosen, and a majority's leases hold. */
  readonly isSettledLeader: boolean;
  /** A trim is proposed: a hold granted now would not stop it. */
  readonly isTrimming: boolean;
  /** Set where only a sync can help, and from whom that was learned. */
  readonly mustSync: NodeId | null;
  /** This disk is an old copy: `cairn node replace` takes in another one. */
  readonly isRegressed: boolean;
  /** A write found no space a moment ago: nothing is promised, accepted or applied until one does. */
  readonly isFull: boolean;
};

export function factsOf(state: PaxosState, upMs: number): ReplicaFacts {
  const { phase, leader, epoch, first, last, applied, mustSync, isRegressed, isFull } = state;
  return {
    phase,
    leader,
    epoch,
    first,
    last,
    applied,
    isSettledLeader: isSettled(state) && leasesHold(state, upMs),
    isTrimming: trimInFlight(state),
    mustSync,
    isRegressed,
    isFull,
  };
}

/** The lowest version that live holds keep; null where there is none. */
export function setHeld(state: PaxosState, lowest: number | null): void {
  state.held = lowest;
}

/** `sync/synchronizing` is on disk, or about to be: from here on this node does not vote, lead or serve. */
export function beginSync(state: PaxosState, services: readonly Service[], { timeMs, upMs }: Clocks, snap: Snapshot): readonly PaxosEffect[] {
  const turn: Turn = { state, services, snap, timeMs, upMs, out: [] };
  fall(turn);
  enter(turn, "syncing");
  turn.out.push({ kind: "disarm", timer: ELECT_TIMER });
  return turn.out;
}

/** The flag is off: everything is read anew, and a leader is looked for. */
export function endSync(state: PaxosState, services: readonly Service[], { timeMs, upMs }: Clocks, snap: Snapshot): readonly PaxosEffect[] {
  const turn: Turn = { state, services, snap, timeMs, upMs, out: [] };
  const { epoch, promised } = state;
  checkFormats(services, snap);
  load(state, snap);
  state.epoch = Math.max(epoch, state.epoch);
  // a vote that was under way when the sync began may be still, on a disk that stalls: nothing is voted before it can be read
  if (compareBallots(promised, state.promised) > 0) state.promised = promised;
  if (state.writing.size > 0) state.isInDoubt = true;
  see(state, promised);
  state.mustSync = null;
  state.fetching = null;
  state.fetchNext = null;
  enter(turn, "looking");
  probe(turn);
  lookLater(turn);
  return turn.out;
}
