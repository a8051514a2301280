/**
 * The leader's half of deciding (sync.md 3.3 and 3.4): batches go out to every member while they become durable here; a
 * version is chosen when a majority of all voting members has it on disk, and versions are chosen in order. At most four
 * are in flight; everything that waits becomes one proposal, and nobody waits for a batch to fill.
 */
import { utf8 } from "../base/bytes.ts";
import { answer, arm, mark } from "../base/effect-list.ts";
import type { Op } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import { encodeBatch, encodedBatchBytes } from "../store/batch.ts";
import { replicatedKeys } from "../store/keys.ts";
import { type AnswerOf, refused } from "../wire/messages.ts";
import { accept } from "./acceptor.ts";
import { type Ballot, ballotText, compareBallots, sameBallot } from "./ballot.ts";
import { awaitVersion, holdBack, setQueue, sweepLater } from "./clients.ts";
import { birthCounts, majorityOf, mapIn, memberOf, putMap } from "./cluster-map.ts";
import { hasLagRoom, learn } from "./history.ts";
import { entryOf } from "./records.ts";
import { remember } from "./remembered.ts";
import { evaluate, PROPOSAL_BYTES_MAX, serviceOf } from "./services.ts";
import { silenceText } from "./silence.ts";
import { fall, see } from "./standing.ts";
import {
  type Entry,
  isSettled,
  type Leading,
  leasesHold,
  mapFor,
  newestMap,
  type Outcome,
  othersOf,
  type PaxosState,
  scopeOf,
  selfOf,
  send,
  type Turn,
} from "./state.ts";
import { dueTrim, trimFacts } from "./trim.ts";
import { viewAt } from "./view.ts";

const IN_FLIGHT_MAX = 4;
/**
 * While a version is in flight, what comes waits so long for its end, and goes as one with what came meanwhile: a version costs
 * every member a flush and some fifty times the CPU of one more operation in it. A link slower than this still fills the window.
 */
const GATHER_MS = 2;
/** So much does not wait. */
const GATHER_BYTES = 64 * 1_024;
export const GATHER_TIMER = "gather";
/** COMMIT waits so long for a BEGIN that says the same: a client that writes one value after the other sends the next by then. */
const TELL_MS = 5;
export const TELL_TIMER = "tell";

/** Takes over: what was found is proposed again under this ballot, then a version of its own that settles it. */
export function lead(turn: Turn, ballot: Ballot, found: readonly Entry[]): void {
  const { state, upMs } = turn;
  const leading: Leading = {
    ballot,
    sinceMs: upMs,
    ownVersion: state.last + found.length + 1,
    newest: state.last,
    maps: [],
    accepts: new Map(),
    sentAtMs: new Map(),
    heldUntilMs: new Map(),
    leases: new Map(),
    reached: new Map(),
    lastHeldMs: upMs,
    told: state.last,
    telling: "never",
    isGathering: false,
    trimVersion: 0,
    took: [],
  };
  state.leading = leading;
  state.leader = state.config.self;
  mark(turn, "paxos.leads", `leads epoch ${state.epoch} under ballot ${ballotText(ballot)}: ${found.length} found above ${state.last}`);
  for (const entry of found) begin(turn, leading, { ...entry, ballot, stored: false });
  const genesis = newestMap(state).version === 0 ? [putMap({ ...state.map, version: leading.ownVersion })] : [];
  propose(turn, leading, genesis, []);
}

/** One more version: to everybody else at once, and to the own disk. */
function propose(turn: Turn, leading: Leading, operations: readonly Op[], outcomes: readonly Outcome[]): void {
  const { state } = turn;
  const version = leading.newest + 1;
  const prev = version === 1 ? null : version === state.last + 1 ? state.lastHash : (state.accepted.get(version - 1)?.hash ?? null);
  const batch = encodeBatch([...operations, { op: "put", key: replicatedKeys.proposer(), value: utf8(ballotText(leading.ballot)) }], prev);
  const entry = entryOf(version, leading.ballot, batch);
  awaitVersion(turn, entry, outcomes);
  begin(turn, leading, entry);
}

function begin(turn: Turn, leading: Leading, entry: Entry): void {
  const { state, upMs } = turn;
  leading.newest = entry.version;
  leading.accepts.set(entry.version, new Map());
  leading.sentAtMs.set(entry.version, upMs);
  const map = mapIn(entry.ops);
  sendBegins(turn, entry);
  leading.told = state.last;
  if (map !== null) leading.maps.push({ version: entry.version, map });
  accept(turn, entry, null);
}

/**
 * Ahead of what this step writes: behind the write of a version before it, it would leave after the versions of later steps,
 * and be missing where they come (1 % of versions at 64 clients waited for a renewal).
 */
function sendBegins(turn: Turn, entry: Entry): void {
  const { out, state } = turn;
  const write = out.findIndex(({ kind }) => kind === "write");
  const from = out.length;
  for (const { id } of othersOf(state)) sendBegin(turn, id, entry);
  if (write >= 0) out.splice(write, 0, ...out.splice(from));
}

function sendBegin(turn: Turn, to: NodeId, { ballot, version, batch }: Entry): void {
  const { state } = turn;
  send(turn, to, { kind: "paxos.begin", ...scopeOf(state), ballot, version, batch, reached: state.last });
}

/** What was not accepted by somebody since the last renewal is sent once more: the message or its answer was lost. */
export function beginAgain(turn: Turn, leading: Leading): void {
  const { state, upMs } = turn;
  for (let version = state.last + 1; version <= leading.newest; version++) {
    const entry = state.accepted.get(version);
    if (entry === undefined || upMs - (leading.sentAtMs.get(version) ?? upMs) < state.config.timing.renewMs) continue;
    for (const { id, number } of othersOf(state)) if (leading.accepts.get(version)?.has(number) !== true) sendBegin(turn, id, entry);
  }
}

/** Proposes as much as the window, the lag and the leases allow; where nothing waits, a trim that is due. */
export function pump(turn: Turn): void {
  const { state } = turn;
  const { leading } = state;
  if (leading === null) return;
  if (selfOf(state) === null) {
    mark(turn, "paxos.removed", "is no member any more");
    fall(turn);
    return;
  }
  while (state.queue.length > 0 && mayPropose(turn, leading) && proposeQueue(turn, leading));
  if (!hasTrimRoom(state, leading)) return;
  const trim = dueTrim(turn);
  if (trim !== null) proposeTrim(turn, leading, trim);
}

const hasTrimRoom = ({ last }: PaxosState, leading: Leading): boolean => leading.newest - last < IN_FLIGHT_MAX && leading.maps.length === 0;

/** A person wants a trim now: what may go goes by a proposal, whose outcome is the answer; what may not is told with its reason. */
export function onTrim(turn: Turn, id: number) {
  const { state, upMs } = turn;
  const { leading, config } = state;
  const facts = trimFacts(state, upMs);
  if (leading === null || facts === null) {
    const text = `${config.self} does not lead with a majority's leases: ${state.leader === null ? silenceText(state, upMs) : `it follows ${state.leader}`}`;
    return answer(turn, id, refused("PAXOS_NO_QUORUM", text, { retry: true }));
  }
  const hasRoom = hasTrimRoom(state, leading);
  const ops = hasRoom ? dueTrim(turn, true) : null;
  if (ops === null) return answer(turn, id, { kind: "paxos.trimmed", ...facts, ...(hasRoom ? {} : { by: "proposals" }), next: facts.first, version: 0 });
  const outcome: Outcome = {
    id,
    isForwarded: false,
    deadlineMs: upMs + config.timing.requestMs,
    body: { kind: "paxos.trimmed", ...facts, version: leading.newest + 1 },
  };
  proposeTrim(turn, leading, ops, [outcome]);
  sweepLater(turn);
}

/** One proposal of what waits; false where it must wait for what is in flight. */
function proposeQueue(turn: Turn, leading: Leading): boolean {
  const { state, services } = turn;
  const isDrained = leading.newest === state.last;
  if (isNextAlone(turn) && !(isDrained && isSettled(state))) return false; // drain, propose, commit, go on
  const { operations, outcomes, left } = evaluate(services, state.queue, viewAt(turn, leading.newest), leading.newest + 1);
  const isLarge = encodedBatchBytes(operations, state.lastHash) > 2 * PROPOSAL_BYTES_MAX;
  if (isLarge && !isDrained) return false;
  setQueue(state, left);
  if (operations.length > 0) propose(turn, leading, operations, outcomes);
  else holdBack(turn, outcomes, leading.newest);
  return !isLarge;
}

/** A change of members travels alone, and not before a version of this leader's own is chosen. */
function isNextAlone({ state, services }: Turn): boolean {
  const [next] = state.queue;
  return next !== undefined && serviceOf(services, next.body)?.isAlone(next.body) === true;
}

function proposeTrim(turn: Turn, leading: Leading, ops: readonly Op[], outcomes: readonly Outcome[] = []): void {
  leading.trimVersion = leading.newest + 1;
  mark(turn, "paxos.trim", `trim [${turn.state.first}, ${trimEnd(ops)}) is proposed as version ${leading.trimVersion}`);
  propose(turn, leading, ops, outcomes);
}

const trimEnd = (ops: readonly Op[]): string => {
  const [first] = ops;
  return first?.op === "delRange" ? String(Number(`0x${first.end.slice(-8).toHex()}`)) : "?";
};

/** Clients' proposals wait for leases: in a minority they are refused surely, and not left in doubt. */
function mayPropose(turn: Turn, leading: Leading): boolean {
  const { state, upMs } = turn;
  if (leading.newest - state.last >= IN_FLIGHT_MAX || !hasLagRoom(state) || !leasesHold(state, upMs)) return false;
  return leading.maps.length === 0 && !mustGather(turn, leading); // a change of members travels alone
}

function mustGather(turn: Turn, leading: Leading): boolean {
  const { state, upMs } = turn;
  const leftMs = (leading.sentAtMs.get(leading.newest) ?? Number.NEGATIVE_INFINITY) + GATHER_MS - upMs;
  if (leading.newest === state.last || state.queueBytes >= GATHER_BYTES || leftMs <= 0) return false;
  if (!leading.isGathering) arm(turn, GATHER_TIMER, Math.ceil(leftMs));
  leading.isGathering = true;
  return true;
}

export function onGatherTimer({ state }: Turn): void {
  if (state.leading !== null) state.leading.isGathering = false;
}

export function onAccept(turn: Turn, from: NodeId, body: AnswerOf<"paxos.accept">) {
  const { state } = turn;
  const { leading } = state;
  const member = memberOf(newestMap(state), from);
  if (leading === null || !sameBallot(leading.ballot, body.ballot) || member === null) return mark(turn, "paxos.late-accept");
  remember(state.memory, member.number, body.birth, body.ballot, body.version);
  leading.accepts.get(body.version)?.set(member.number, body.birth);
  choose(turn, leading);
}

/** Versions that a majority has, in order. The own disk counts like any other, once it has the entry. */
export function choose(turn: Turn, leading: Leading): void {
  const { state } = turn;
  for (let next = state.accepted.get(state.last + 1); next !== undefined && next.version <= leading.newest; next = state.accepted.get(state.last + 1)) {
    if (!sameBallot(next.ballot, leading.ballot) || !isChosen(turn, leading, next) || !hasLagRoom(state)) return;
    const { version } = next;
    note(turn, leading, version);
    if (!learn(turn, next)) return;
    leading.accepts.delete(version);
    leading.sentAtMs.delete(version);
    while (leading.maps[0] !== undefined && leading.maps[0].version <= version) leading.maps.shift();
  }
}

function isChosen({ state }: Turn, leading: Leading, entry: Entry): boolean {
  const map = mapFor(state, entry.version);
  const self = memberOf(map, state.config.self);
  let count = entry.stored && self !== null && birthCounts(map, self.number, state.config.birth) ? 1 : 0;
  for (const [number, birth] of leading.accepts.get(entry.version) ?? []) if (number !== self?.number && birthCounts(map, number, birth)) count++;
  return count >= (mutant("paxos.minority-commit") ? Math.floor(map.members.length / 2) : majorityOf(map));
}

function note({ upMs }: Turn, leading: Leading, version: number): void {
  leading.took.push({ atMs: upMs, tookMs: upMs - (leading.sentAtMs.get(version) ?? upMs) });
  if (leading.took.length > 256 || (leading.took[0] !== undefined && leading.took[0].atMs < upMs - 1_000)) leading.took.shift();
}

/** How long 99 of 100 versions of the last second were in flight, in microseconds: what a provider's rate follows (sync.md 4.6). */
export function commitP99Us(leading: Leading, upMs: number): number {
  const took = leading.took.filter(({ atMs }) => atMs >= upMs - 1_000).map(({ tookMs }) => tookMs);
  took.sort((a, b) => a - b);
  return Math.min(0xffff_ffff, Math.round((took[Math.floor(took.length * 0.99)] ?? 0) * 1_000));
}

/** Members learn of it with the next BEGIN or LEASE: where somebody waits for it there, at once, and otherwise soon. */
export function tell(turn: Turn): void {
  const { state } = turn;
  const { leading } = state;
  if (leading === null) return;
  if (leading.told >= state.last) {
    if (leading.telling === "now") leading.telling = "never";
    return;
  }
  if (leading.telling !== "now") {
    if (leading.telling === "never") arm(turn, TELL_TIMER, TELL_MS);
    leading.telling = "soon";
    return;
  }
  leading.telling = "never";
  leading.told = state.last;
  for (const { id } of othersOf(state)) send(turn, id, { kind: "paxos.commit", ...scopeOf(state), ballot: leading.ballot, reached: state.last });
}

export function onTellTimer({ state }: Turn): void {
  if (state.leading?.telling === "soon") state.leading.telling = "now";
}

/** A member promised a newer ballot: this leader is none any more. */
export function onBeginRefused(turn: Turn, from: NodeId, body: AnswerOf<"paxos.refused">): void {
  const { state } = turn;
  see(state, body.promised);
  if (state.leading === null || compareBallots(body.promised, state.leading.ballot) <= 0) return;
  mark(turn, "paxos.deposed", `${from} promised ${ballotText(body.promised)}`);
  fall(turn);
}
