/**
 * Elections by rank and epoch (sync.md 3.2): the lowest rank that can lead wins, one ack an epoch. Elections decide who
 * tries, never what is true: that is the ballot's work. A member that hears a live leader neither stands nor acks, so one
 * that returns with a low rank deposes nobody; it is told who leads and joins.
 */
import { answer, arm, mark } from "../base/effect-list.ts";
import type { NodeId } from "../base/ids.ts";
import type { AnswerOf, RequestOf } from "../wire/messages.ts";
import { birthCounts, majorityOf, memberOf } from "./cluster-map.ts";
import { startCollect } from "./collector.ts";
import { takeUp } from "./lease.ts";
import { putVote } from "./records.ts";
import { abstains, ELECT_TIMER, fall, isStranger, lookLater, probe, see } from "./standing.ts";
import { canVote, enter, othersOf, type PaxosState, refuse, scopeOf, selfOf, send, type Turn, writeVote } from "./state.ts";

/** Rank of a member that cannot make itself heard. */
const LAST_RANK = 1_000_000;
/** A candidate that was acked and did not lead is not acked again for a while: what we send may not reach it. */
const SHUNNED_MS = 5_000;
/** An ack waits for its winner through this many election times. */
const ACK_WAIT = 4;
/** With a majority's acks the others have this part of an election's time left. */
const LAST_CALL = 5;

const rankOf = (state: PaxosState, upMs: number): number => (upMs < state.demotedUntilMs ? LAST_RANK : (selfOf(state)?.rank ?? LAST_RANK));

const nextOdd = (epoch: number): number => (epoch % 2 === 0 ? epoch + 1 : epoch + 2);

export function onElectTimer(turn: Turn) {
  const { state, upMs } = turn;
  if (state.electing !== null && state.electing.acks.size >= majorityOf(state.map)) return win(turn);
  if (state.phase === "looking" && state.acked !== null && state.acked.epoch === state.epoch && state.acked.candidate !== state.config.self)
    state.shunned = { candidate: state.acked.candidate, untilMs: upMs + SHUNNED_MS };
  if (state.phase === "following") {
    mark(turn, "paxos.leader-silent", `no lease from ${state.lease?.leader ?? "anyone"} any more`);
    fall(turn);
  }
  if (!canVote(state)) probe(turn); // a disk that is no member's learns from whoever answers
  if (abstains(turn, true) !== null || state.mustSync !== null || state.phase === "leading" || state.phase === "collecting") return lookLater(turn);
  stand(turn, nextOdd(state.epoch));
}

/** Stands for an epoch: on disk, then told to everybody. */
function stand(turn: Turn, epoch: number): void {
  const { state, upMs } = turn;
  const self = selfOf(state);
  if (self === null) return;
  const { electMs } = state.config.timing;
  enter(turn, "electing");
  state.epoch = epoch;
  state.leader = null;
  state.acked = { epoch, candidate: state.config.self };
  state.electing = { epoch, acks: new Map([[self.number, state.config.birth]]) };
  writeVote(turn, { kind: "vote", ballot: state.promised }, [putVote(state)]);
  const { first, last } = state;
  for (const { id } of othersOf(state)) send(turn, id, { kind: "paxos.elect", ...scopeOf(state), rank: rankOf(state, upMs), first, last });
  arm(turn, ELECT_TIMER, electMs, electMs);
}

export function onElect(turn: Turn, id: number, from: NodeId, body: RequestOf<"paxos.elect">) {
  const { state } = turn;
  const why = isStranger(state, from, body) ? "stranger" : abstains(turn);
  if (why !== null) return refuse(turn, id, why, `no ack to ${from}`);
  if (body.last + 1 < state.first) return refuse(turn, id, "behind", `${from} has last ${body.last}, the first here is ${state.first}`);
  if (body.epoch < state.epoch || body.epoch % 2 === 0) return refuse(turn, id, "epoch", `${from} is at epoch ${body.epoch}, here it is ${state.epoch}`);
  if (!yields(turn, from, body)) {
    refuse(turn, id, "rank", `${from} does not rank before this member`);
    if (state.electing === null && state.phase === "looking" && state.mustSync === null && state.acked?.epoch !== body.epoch) stand(turn, body.epoch);
    return;
  }
  takeUp(turn, from, body.first, body.last);
  fall(turn);
  state.epoch = body.epoch;
  state.acked = { epoch: body.epoch, candidate: from };
  writeVote(turn, { kind: "vote", ballot: state.promised }, [putVote(state)]);
  answer(turn, id, { kind: "paxos.ack", ...scopeOf(state) });
  arm(turn, ELECT_TIMER, ACK_WAIT * state.config.timing.electMs, state.config.timing.electMs);
}

/** One ack an epoch, to the better rank; a candidacy is given up for it, an ack is not taken back. */
function yields(turn: Turn, from: NodeId, body: RequestOf<"paxos.elect">): boolean {
  const { state, upMs } = turn;
  const { acked, config, shunned } = state;
  const [member, self] = [memberOf(state.map, from), selfOf(state)];
  if (member === null || self === null) return false;
  if (shunned !== null && shunned.candidate === from && shunned.untilMs > upMs) return false;
  if (acked !== null && acked.epoch === body.epoch && acked.candidate !== from && acked.candidate !== config.self) return false;
  if (state.mustSync !== null) return true; // it cannot lead itself
  const own = rankOf(state, upMs);
  return body.rank < own || (body.rank === own && member.number < self.number);
}

export function onAck(turn: Turn, from: NodeId, body: AnswerOf<"paxos.ack">) {
  const { state } = turn;
  const { electing } = state;
  const member = memberOf(state.map, from);
  if (electing === null || electing.epoch !== body.epoch || member === null) return mark(turn, "paxos.late-ack");
  if (!birthCounts(state.map, member.number, body.birth)) return mark(turn, "paxos.old-birth", `an ack of another disk of ${from} does not count`);
  electing.acks.set(member.number, body.birth);
  if (electing.acks.size === state.map.members.length) win(turn);
  else if (electing.acks.size === majorityOf(state.map)) arm(turn, ELECT_TIMER, Math.ceil(state.config.timing.electMs / LAST_CALL));
}

/** An even epoch has one winner; its COLLECT decides whether it leads. */
function win(turn: Turn): void {
  const { state } = turn;
  const { electing } = state;
  if (electing === null) return;
  const quorum = [...electing.acks.keys()].sort((a, b) => a - b);
  state.epoch = electing.epoch + 1;
  writeVote(turn, { kind: "vote", ballot: state.promised }, [putVote(state)]);
  for (const { id } of othersOf(state)) send(turn, id, { kind: "paxos.victory", ...scopeOf(state), quorum });
  mark(turn, "paxos.won", `won epoch ${state.epoch} with ${quorum.length} of ${state.map.members.length}`);
  startCollect(turn);
}

export function onVictory(turn: Turn, id: number, from: NodeId, body: RequestOf<"paxos.victory">) {
  const { state } = turn;
  answer(turn, id, { kind: "paxos.noted" });
  if (state.phase === "syncing" || memberOf(state.map, from) === null || body.epoch <= state.epoch || body.epoch % 2 === 1 || abstains(turn) !== null)
    return mark(turn, "paxos.late-victory");
  fall(turn);
  state.epoch = body.epoch;
  writeVote(turn, { kind: "vote", ballot: state.promised }, [putVote(state)]);
  arm(turn, ELECT_TIMER, 2 * state.config.timing.collectMs, state.config.timing.electMs);
}

/** What a refusal tells: a newer epoch or promise to begin above, a leader to wait for, versions to take up. */
export function onElectRefused(turn: Turn, from: NodeId, body: AnswerOf<"paxos.refused">): void {
  const { state } = turn;
  see(state, body.promised);
  if (state.electing !== null && body.epoch > state.epoch) {
    // the next try begins above it; raised on disk then
    state.epoch = body.epoch;
    fall(turn);
  }
  takeUp(turn, from, body.first, body.last);
}
