/**
 * What a winner of an election does before it leads (sync.md 3.1 and 3.4): collects promises and accepted values of a
 * majority, takes up newer commits first, and goes up version by version: of the values whose `prev` fits the one selected
 * before, that of the highest ballot. A value that fits nowhere cannot have been chosen, and everything above it is dropped.
 */
import { arm, mark } from "../base/effect-list.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import type { AnswerOf } from "../wire/messages.ts";
import { type Ballot, ballotText, compareBallots, nextBallot, sameBallot } from "./ballot.ts";
import { birthCounts, type ClusterMap, majorityOf, mapIn, memberOf } from "./cluster-map.ts";
import { compareHistory, fetchFrom, lookBehind } from "./learner.ts";
import { renew } from "./lease.ts";
import { lead } from "./proposer.ts";
import { entryOf, follows, putVote } from "./records.ts";
import { remember, showsLess } from "./remembered.ts";
import { COLLECT_TIMER, ELECT_TIMER, fall, see } from "./standing.ts";
import { type Collecting, type Entry, enter, othersOf, type PaxosState, scopeOf, selfOf, send, type Turn, writeVote } from "./state.ts";

/** A member that wins and cannot collect so often in a row is not heard by the others: it ranks itself last for a while. */
const FAILED_COLLECTS_MAX = 2;
const DEMOTED_MS = 60_000;

/** A ballot above everything seen; the own promise is on disk before COLLECT leaves. */
export function startCollect(turn: Turn) {
  const { state } = turn;
  const self = selfOf(state);
  if (self === null) return fall(turn);
  const ballot = nextBallot(self, compareBallots(state.seen, state.promised) > 0 ? state.seen : state.promised);
  see(state, ballot);
  enter(turn, "collecting");
  state.promised = ballot;
  state.collecting = { ballot, mapVersion: state.map.version, ownStored: false, lasts: new Map() };
  writeVote(turn, { kind: "vote", ballot }, [putVote(state)]);
  const { first, last, lastHash: hash } = state;
  for (const { id } of othersOf(state)) send(turn, id, { kind: "paxos.collect", ...scopeOf(state), ballot, first, last, hash });
  turn.out.push({ kind: "disarm", timer: ELECT_TIMER });
  arm(turn, COLLECT_TIMER, state.config.timing.collectMs);
}

export function onPromiseStored(turn: Turn, ballot: Ballot): void {
  const { collecting } = turn.state;
  if (collecting === null || !sameBallot(collecting.ballot, ballot)) return;
  collecting.ownStored = true;
  choose(turn, collecting);
}

export function onLast(turn: Turn, from: NodeId, body: AnswerOf<"paxos.last">) {
  const { state } = turn;
  const { collecting } = state;
  const member = memberOf(state.map, from);
  if (collecting === null || !sameBallot(collecting.ballot, body.ballot) || member === null) return mark(turn, "paxos.late-last");
  if (lookBehind(turn, from, body.first)) return fall(turn);
  if (!compareHistory(turn, from, body.last, body.hash)) return;
  const accepted = decodedEntries(body);
  if (accepted === null) return mark(turn, "paxos.bad-batch", `an accepted entry of ${from} does not decode`);
  // its `last` may be known there and not be on its disk yet
  const stored = Math.max(0, ...accepted.map(({ version }) => version));
  // entries up to this member's own last are not reported: what it remembers of those says nothing
  if (showsLess(state.memory, member.number, body.birth, Math.max(stored, body.last, state.last)))
    return mark(turn, "paxos.shows-less", `${from} reports up to ${stored} only`);
  remember(state.memory, member.number, body.birth, body.ballot, stored);
  collecting.lasts.set(member.number, { birth: body.birth, last: body.last, accepted });
  if (body.last > state.last) fetchFrom(turn, from);
  choose(turn, collecting);
}

function decodedEntries({ accepted }: AnswerOf<"paxos.last">): Entry[] | null {
  try {
    return accepted.map(({ version, ballot, batch }) => entryOf(version, ballot, batch.slice()));
  } catch (cause) {
    if (cause instanceof EngineError) return null;
    throw cause;
  }
}

/** Called again whenever a promise or a fetched version comes in. */
export function choose(turn: Turn, collecting: Collecting) {
  const { state } = turn;
  if (!collecting.ownStored) return;
  for (const [number, { last }] of collecting.lasts) if (last > state.last) return fetchFromNumber(turn, number);
  if (state.map.version > collecting.mapVersion) {
    mark(turn, "paxos.newer-members", `the members changed in version ${state.map.version}: collects again`);
    state.collecting = null;
    return startCollect(turn);
  }
  const found = select(turn, collecting);
  const newest = found.reduce((map: ClusterMap, { ops }) => mapIn(ops) ?? map, state.map);
  if (!hasMajority(state, collecting, newest)) return;
  state.failedCollects = 0;
  turn.out.push({ kind: "disarm", timer: COLLECT_TIMER });
  enter(turn, "leading");
  const dropped = [...state.accepted.values()].filter(({ version }) => version > state.last + found.length).length;
  if (dropped > 0) mark(turn, "paxos.dropped", `${dropped} accepted above ${state.last + found.length} follow nothing that could be chosen`);
  lead(turn, collecting.ballot, found);
  renew(turn);
}

function fetchFromNumber(turn: Turn, number: number): void {
  const member = turn.state.map.members.find((each) => each.number === number);
  if (member !== undefined) fetchFrom(turn, member.id);
}

/**
 * A majority of the members known to be chosen: one change at a time leaves it in common with a majority behind the change.
 * Whose disk counts is as the newest map says, values found by this COLLECT included: an older one may name a disk that
 * is gone, and that forgot what it promised.
 */
function hasMajority(state: PaxosState, { lasts }: Collecting, newest: ClusterMap): boolean {
  const counts = (number: number, birth: Uint8Array): boolean =>
    birthCounts(newest.members.some((member) => member.number === number) ? newest : state.map, number, birth);
  let count = 0;
  for (const { id, number } of state.map.members) {
    const birth = id === state.config.self ? state.config.birth : lasts.get(number)?.birth;
    if (birth !== undefined && counts(number, birth)) count++;
  }
  return count >= majorityOf(state.map);
}

/** Values that are to be proposed again, without a gap above `last`. */
function select({ state }: Turn, { lasts }: Collecting): Entry[] {
  const reported = [...state.accepted.values(), ...[...lasts.values()].flatMap(({ accepted }) => accepted)];
  const found: Entry[] = [];
  let tip = state.lastHash;
  for (let version = state.last + 1; ; version++) {
    let best: Entry | null = null;
    for (const entry of reported) {
      if (entry.version !== version || !(follows(entry, tip) || mutant("paxos.keep-broken-chain"))) continue;
      if (best === null || compareBallots(entry.ballot, best.ballot) > 0) best = entry;
    }
    if (best === null) break;
    found.push(best);
    tip = best.hash;
  }
  return found;
}

/** Not enough of the others answered: the election is lost after all. */
export function onCollectTimer(turn: Turn): void {
  const { state, upMs } = turn;
  if (state.collecting === null) return;
  mark(turn, "paxos.uncollected", `ballot ${ballotText(state.collecting.ballot)}: ${state.collecting.lasts.size} of ${state.map.members.length - 1} answered`);
  if (++state.failedCollects >= FAILED_COLLECTS_MAX) {
    state.demotedUntilMs = upMs + DEMOTED_MS;
    state.failedCollects = 0;
    mark(turn, "paxos.demoted", `ranks itself last for ${DEMOTED_MS / 1_000} s: the others are not heard`);
  }
  fall(turn);
}
