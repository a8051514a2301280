/**
 * What clients ask of a replica (sync.md 3.3, 3.4 and 3.8). Writes wait for the leader's next proposal, here or at the
 * leader they are sent on to; their answers leave when the version they were computed on is chosen, and where they came in
 * only once this node has come to it. Reads are made at a leader whose leases hold, or here after it was asked for its
 * version. Every request is answered by its deadline: `PAXOS_NO_QUORUM` where it was surely not done,
 * `PAXOS_OUTCOME_UNKNOWN` where nobody can tell.
 */
import { equalBytes } from "../base/bytes.ts";
import { answer, arm, mark } from "../base/effect-list.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import { type Answer, type AnswerOf, answers, type Request, type RequestOf, refused, requests } from "../wire/messages.ts";
import { sameBallot } from "./ballot.ts";
import { bytesOf, serviceOf } from "./services.ts";
import { silenceText } from "./silence.ts";
import {
  type Call,
  type Command,
  type Entry,
  isSettled,
  leasesHold,
  type Outcome,
  type PaxosState,
  type Read,
  refuse,
  scopeOf,
  send,
  type Turn,
} from "./state.ts";
import { type View, viewAt } from "./view.ts";

/** Requests and bytes that wait for a proposal: above it new ones are refused. */
const QUEUE_COUNT_MAX = 16_384;
const QUEUE_BYTES_MAX = 64 * 1_024 * 1_024;
/** Of each sender's run. */
const CALLS_REMEMBERED = 32_768;
const SWEEP_MS = 250;
export const SWEEP_TIMER = "sweep";

/** A client of this node asks. */
export function onClient(turn: Turn, id: number, from: NodeId, body: Request, patienceMs = Number.POSITIVE_INFINITY) {
  const { state, upMs, services } = turn;
  const call: Call = { id, isForwarded: false, deadlineMs: upMs + Math.min(state.config.timing.requestMs, patienceMs) };
  if (state.phase === "syncing") return respond(turn, call, refused("NOT_READY", `${state.config.self} is being synchronised`, { retry: true }), 0);
  const service = serviceOf(services, body);
  invariant(service !== null, `a request of a service, not ${body.kind}`);
  if (service.keysOf(body).length > 0) return admit(turn, { ...call, from, body });
  const isLocal = "local" in body && body.local;
  const onVersion = "minVersion" in body ? body.minVersion : 0;
  const read: Read = { ...call, ask: body, outcome: null, onVersion };
  if (state.reads.length + state.due.length >= QUEUE_COUNT_MAX) return giveUp(turn, read, "PAXOS_NO_QUORUM");
  (isLocal ? state.due : state.reads).push(read);
  sweepLater(turn);
}

/** A member sends a client's command on: taken once by the leader it was meant for, refused by anyone else, who surely did nothing. */
export function onCall(turn: Turn, id: number, peer: NodeId, { ballot, run, number, from, body }: RequestOf<"paxos.call">) {
  const { state, upMs, services } = turn;
  const { leading } = state;
  if (!isNew(state, peer, run, number)) {
    mark(turn, "paxos.repeated-call", `call ${number} of ${peer} was taken before`);
    return answer(turn, id, { kind: "paxos.noted" }); // a refusal would be taken for one of the first
  }
  if (leading === null || !sameBallot(leading.ballot, ballot)) return refuse(turn, id, "not-leader", `a call of ${peer} came to a member that does not lead`);
  const call: Call = { id, isForwarded: true, deadlineMs: upMs + state.config.timing.requestMs };
  const asked = decoded(() => requests.decode(body));
  const service = asked === null ? null : serviceOf(services, asked);
  if (asked === null || service === null || service.keysOf(asked).length === 0)
    return respond(turn, call, refused("USAGE", `a call of ${from} is no command of a service`), 0);
  admit(turn, { ...call, from: from as NodeId, body: asked });
}

/** Numbers far below the newest ones are as good as seen: what comes so late is a repeat. */
function isNew({ calls }: PaxosState, peer: NodeId, run: number, number: number): boolean {
  let known = calls.get(peer);
  if (known === undefined || known.run < run) {
    known = { run, numbers: new Set() };
    calls.set(peer, known);
  }
  const [oldest] = known.numbers;
  const isFull = known.numbers.size >= CALLS_REMEMBERED && oldest !== undefined;
  if (known.run > run || known.numbers.has(number) || (isFull && number < oldest)) return false;
  if (isFull) known.numbers.delete(oldest);
  known.numbers.add(number);
  return true;
}

function admit(turn: Turn, command: Command) {
  const { state } = turn;
  const bytes = bytesOf(command.body);
  if (state.queue.length >= QUEUE_COUNT_MAX || state.queueBytes + bytes > QUEUE_BYTES_MAX) return giveUp(turn, command, "PAXOS_NO_QUORUM");
  state.queue.push(command);
  state.queueBytes += bytes;
  sweepLater(turn);
}

/** What is left of the queue after a proposal, or after it was sent on. */
export function setQueue(state: PaxosState, queue: Command[]): void {
  state.queue = queue;
  state.queueBytes = queue.reduce((sum, { body }) => sum + bytesOf(body), 0);
}

function decoded<T>(decode: () => T): T | null {
  try {
    return decode();
  } catch (cause) {
    if (cause instanceof EngineError) return null;
    throw cause;
  }
}

// ------------------------------------------------------------------ answers

/** `version`: what the outcome was computed on. A member that sent the call on answers when it has come so far. */
export function respond(turn: Turn, call: Call, body: Answer, version: number): void {
  if (call.isForwarded) tellNow(turn.state);
  if (!call.isForwarded) answer(turn, call.id, body);
  else answer(turn, call.id, { kind: "paxos.result", ...scopeOf(turn.state), version, body: answers.encode(body) });
}

/** A client of a member waits until that has come so far. */
function tellNow({ leading }: PaxosState): void {
  if (leading !== null) leading.telling = "now";
}

function giveUp(turn: Turn, call: Call, code: "PAXOS_NO_QUORUM" | "PAXOS_OUTCOME_UNKNOWN"): void {
  const { state, upMs } = turn;
  respond(turn, call, refused(code, `${state.config.self}: ${silenceText(state, upMs)}`, { retry: true }), 0);
}

/** The outcomes that hang on a version, now that it is chosen: with another batch than ours, none of them happened. */
export function settleOutcomes(turn: Turn, entry: Entry): void {
  const { outcomes } = turn.state;
  const waiting = outcomes.get(entry.version);
  if (waiting === undefined) return;
  outcomes.delete(entry.version);
  for (const outcome of waiting.list) {
    if (equalBytes(waiting.hash, entry.hash)) respond(turn, outcome, outcome.body, entry.version);
    else giveUp(turn, outcome, "PAXOS_NO_QUORUM");
  }
}

/**
 * The outcomes of a proposal wait for it. What this version was to become under an older ballot may lie with a member that this
 * leader's COLLECT did not hear, and be found by the next one: until some value is chosen nobody knows (seed 1148).
 */
export function awaitVersion(turn: Turn, entry: Entry, list: readonly Outcome[]): void {
  const { outcomes } = turn.state;
  for (const outcome of outcomes.get(entry.version)?.list ?? []) giveUp(turn, outcome, "PAXOS_OUTCOME_UNKNOWN");
  outcomes.delete(entry.version);
  if (list.length > 0) outcomes.set(entry.version, { hash: entry.hash, list });
}

/** A leader that was deposed forgets what it only evaluated: the versions that it was true of may never be. */
export function dropHeldBack(turn: Turn): void {
  const { state } = turn;
  for (const read of state.reads) if (read.outcome !== null) giveUp(turn, read, "PAXOS_NO_QUORUM");
  state.reads = state.reads.filter(({ outcome }) => outcome === null);
}

/** Outcomes that changed nothing: as true as a read of that version, and no sooner. */
export function holdBack({ state }: Turn, outcomes: readonly Outcome[], onVersion: number): void {
  for (const { id, isForwarded, deadlineMs, body } of outcomes) state.reads.push({ id, isForwarded, deadlineMs, ask: null, outcome: body, onVersion });
}

// ------------------------------------------------------------------ reads

/** Whether this node may answer reads from its own state now. */
export function mayRead(state: PaxosState, upMs: number): boolean {
  return leasesHold(state, upMs) && (isSettled(state) || (state.leading !== null && mutant("paxos.read-unsettled")));
}

/** Answers what may be answered, and asks the leader once for everything that waits. */
export function pumpReads(turn: Turn): void {
  const { state, upMs } = turn;
  if (state.reads.length > 0 && state.leading !== null && mayRead(state, upMs)) state.reads = readAll(turn, state.reads);
  if (state.reads.length > 0 && state.phase === "following" && state.leader !== null) askVersion(turn, state.leader);
  if (state.due.length > 0) state.due = readAll(turn, state.due);
}

/** Answers those that this node has come so far for, from one view; returns the others. */
function readAll(turn: Turn, reads: readonly Read[]): Read[] {
  const later: Read[] = [];
  const view = viewAt(turn, turn.state.last);
  for (const read of reads)
    if (read.onVersion <= turn.state.last) readNow(turn, read, view);
    else later.push(read);
  return later;
}

/** The word under way may be older than what a client has seen since it was asked for: a later read waits for the next. */
function askVersion(turn: Turn, leader: NodeId): void {
  const { state } = turn;
  if (state.asked === null) {
    const requestId = send(turn, leader, { kind: "paxos.version-req", ...scopeOf(state) });
    state.asked = { requestId, reads: state.reads.splice(0) };
  } else if (mutant("paxos.read-joins-sent-request")) state.asked = { ...state.asked, reads: [...state.asked.reads, ...state.reads.splice(0)] };
}

function readNow(turn: Turn, read: Read, view: View) {
  const { state, services } = turn;
  if (read.outcome !== null) return respond(turn, read, read.outcome, Math.min(read.onVersion, state.last));
  invariant(read.ask !== null, "a read asks for something");
  const service = serviceOf(services, read.ask);
  invariant(service !== null, `a read of a service, not ${read.ask.kind}`);
  respond(turn, read, service.read(read.ask, view, state.last), state.last);
}

/** A member asks for the version that its reads must see: it is a read itself, answered like one. */
export function onVersionReq(turn: Turn, id: number) {
  const { state, upMs } = turn;
  if (state.leading === null) return refuse(turn, id, "not-leader", "a member asks for a version here");
  if (!mayRead(state, upMs)) return refuse(turn, id, "not-leader", "the leases of a majority do not hold, or older values are not settled");
  tellNow(state);
  answer(turn, id, { kind: "paxos.version", ...scopeOf(state), version: state.last });
}

export function onVersion({ state }: Turn, requestId: number, version: number): void {
  if (state.asked?.requestId !== requestId) return;
  for (const read of state.asked.reads) state.due.push({ ...read, onVersion: Math.max(read.onVersion, version) });
  state.asked = null;
}

// ------------------------------------------------------------------ calls sent on

/** Everything that waits goes to the leader that this member follows. */
export function forward(turn: Turn, leader: NodeId): void {
  const { state } = turn;
  for (const command of state.queue) {
    if (command.isForwarded) refuse(turn, command.id, "not-leader", "a call came to a member that leads no more");
    else {
      const [number, body] = [state.lastRequestId + 1, requests.encode(command.body)];
      const call = { ballot: state.leaderBallot, run: state.run, number, from: command.from, body };
      state.forwards.set(send(turn, leader, { kind: "paxos.call", ...scopeOf(state), ...call }), command);
    }
  }
  setQueue(state, []);
}

export function onResult(turn: Turn, requestId: number, { version, body }: AnswerOf<"paxos.result">) {
  const { state } = turn;
  const command = state.forwards.get(requestId);
  if (command === undefined) return; // its client was told that the outcome is unknown
  state.forwards.delete(requestId);
  const outcome = decoded(() => answers.decode(body));
  if (outcome === null) return giveUp(turn, command, "PAXOS_OUTCOME_UNKNOWN");
  state.due.push({ id: command.id, isForwarded: false, deadlineMs: command.deadlineMs, ask: null, outcome, onVersion: version });
}

/** Whoever was asked does not lead and did nothing: the next leader is asked, once there is one. It may be this member by now. */
export function onCallRefused(turn: Turn, from: NodeId, requestId: number): void {
  const { state } = turn;
  const command = state.forwards.get(requestId);
  if (command !== undefined) {
    state.forwards.delete(requestId);
    state.queue.push(command);
    state.queueBytes += bytesOf(command.body);
  } else if (state.asked?.requestId === requestId) unask(state);
  else return;
  if (state.leader === from) state.leader = null; // until its next lease
}

/** The link to a peer is gone: of commands on it nobody can tell; reads are asked again. */
export function onLinkLost(turn: Turn, peer: NodeId): void {
  const { state } = turn;
  if (peer !== state.leader) return;
  for (const command of state.forwards.values()) giveUp(turn, command, "PAXOS_OUTCOME_UNKNOWN");
  state.forwards.clear();
  unask(state);
  state.leader = null;
}

function unask(state: PaxosState): void {
  if (state.asked !== null) state.reads.unshift(...state.asked.reads);
  state.asked = null;
}

// ------------------------------------------------------------------ deadlines

/** Deadlines are looked at while anything waits. */
export function sweepLater(turn: Turn): void {
  if (turn.state.isSweeping) return;
  turn.state.isSweeping = true;
  arm(turn, SWEEP_TIMER, SWEEP_MS);
}

/** Whoever waited too long is told what is known. */
export function sweep(turn: Turn): void {
  const { state, upMs } = turn;
  state.isSweeping = false;
  const isLate = ({ deadlineMs }: Call): boolean => deadlineMs <= upMs;
  if (state.queue.some(isLate)) {
    for (const command of state.queue) if (isLate(command)) giveUp(turn, command, "PAXOS_NO_QUORUM");
    setQueue(
      state,
      state.queue.filter((command) => !isLate(command)),
    );
  }
  for (const [requestId, command] of state.forwards) {
    if (!isLate(command)) continue;
    state.forwards.delete(requestId);
    giveUp(turn, command, "PAXOS_OUTCOME_UNKNOWN");
  }
  for (const [version, { hash, list }] of state.outcomes) {
    if (!list.some(isLate)) continue;
    for (const outcome of list) if (isLate(outcome)) giveUp(turn, outcome, "PAXOS_OUTCOME_UNKNOWN");
    const kept = list.filter((outcome) => !isLate(outcome));
    if (kept.length === 0) state.outcomes.delete(version);
    else state.outcomes.set(version, { hash, list: kept });
  }
  state.reads = sweepReads(turn, state.reads, isLate);
  // what came back from the leader and is not visible here may be a write
  for (const read of state.due) if (isLate(read)) giveUp(turn, read, read.outcome === null ? "PAXOS_NO_QUORUM" : "PAXOS_OUTCOME_UNKNOWN");
  state.due = state.due.filter((read) => !isLate(read));
  if (state.asked?.reads.some(isLate) === true) {
    unask(state);
    state.reads = sweepReads(turn, state.reads, isLate);
  }
  if (state.queue.length + state.forwards.size + state.outcomes.size + state.reads.length + state.due.length > 0 || state.asked !== null) sweepLater(turn);
}

function sweepReads(turn: Turn, reads: readonly Read[], isLate: (call: Call) => boolean): Read[] {
  return reads.filter((read) => {
    if (isLate(read)) giveUp(turn, read, "PAXOS_NO_QUORUM");
    return !isLate(read);
  });
}
