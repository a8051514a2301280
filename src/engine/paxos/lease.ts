/**
 * Leases (sync.md 3.2 and 3.3): a member promises its leader to ack and promise nobody else for a while, and the leader
 * reads from its own state as long as a majority has promised. The leader counts from its send, less the margin for clock
 * rates; a member from receipt. A lease raises nothing on disk. LEASE also tells what is chosen, with its chain hash.
 */
import { answer, arm, mark } from "../base/effect-list.ts";
import { CLOCK_MARGIN } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import type { AnswerOf, RequestOf } from "../wire/messages.ts";
import { ballotText, compareBallots, sameBallot } from "./ballot.ts";
import { birthCounts, memberOf } from "./cluster-map.ts";
import { commitUpTo, compareHistory, fetchFrom, lookBehind } from "./learner.ts";
import { beginAgain, commitP99Us } from "./proposer.ts";
import { putVote } from "./records.ts";
import { ELECT_TIMER, fall, RENEW_TIMER, see } from "./standing.ts";
import { canVote, enter, type Leading, leaseRuns, leasesHold, newestMap, othersOf, refuse, scopeOf, send, type Turn, writeVote } from "./state.ts";

/** A leader without a majority's leases for so many of them stands down: somebody else may be able to lead. */
const LEASES_MISSED_MAX = 2;

/** Gives every member, this one included, a new lease. */
export function renew(turn: Turn) {
  const { state, upMs } = turn;
  const { leading } = state;
  if (leading === null) return;
  const { leaseMs, renewMs } = state.config.timing;
  if (leasesHold(state, upMs)) leading.lastHeldMs = upMs;
  if (upMs - leading.lastHeldMs > LEASES_MISSED_MAX * leaseMs) {
    mark(turn, "paxos.minority", `no majority held a lease for ${LEASES_MISSED_MAX * leaseMs} ms: stands down`);
    return fall(turn);
  }
  beginAgain(turn, leading);
  for (const [requestId, sentMs] of leading.leases) if (upMs - sentMs > leaseMs) leading.leases.delete(requestId);
  state.lease = { ballot: leading.ballot, leader: state.config.self, untilMs: upMs + leaseMs };
  leading.told = state.last;
  for (const { id } of othersOf(state)) leading.leases.set(sendLease(turn, leading, id), upMs);
  arm(turn, RENEW_TIMER, renewMs);
}

function sendLease(turn: Turn, leading: Leading, to: NodeId): number {
  const { state, upMs } = turn;
  const { leaseMs } = state.config.timing;
  const { ballot } = leading;
  const told = { reached: state.last, hash: state.lastHash, first: state.first, commitP99Us: commitP99Us(leading, upMs) };
  return send(turn, to, { kind: "paxos.lease", ...scopeOf(state), ballot, leaseMs, ...told });
}

export function onLease(turn: Turn, id: number, from: NodeId, body: RequestOf<"paxos.lease">) {
  const { state, upMs } = turn;
  const { ballot } = body;
  see(state, ballot);
  if (state.phase === "syncing" || memberOf(state.map, from) === null) return refuse(turn, id, "stranger", `no lease for ${from} here`);
  if (state.isInDoubt) return refuse(turn, id, "busy", "no lease before the disk was read again");
  if (compareBallots(ballot, state.promised) < 0) return refuse(turn, id, "promised", `${ballotText(state.promised)} is promised, ${from} leads under less`);
  if (state.lease !== null && compareBallots(ballot, state.lease.ballot) < 0 && leaseRuns(state, upMs))
    return refuse(turn, id, "leased", `a lease of ${state.lease.leader} runs`);
  if (!compareHistory(turn, from, body.reached, body.hash)) return;
  follow(turn, from, body);
  // trimming goes by it: what is merely known to be chosen may be gone with this process
  answer(turn, id, { kind: "paxos.lease-ack", ...scopeOf(state), ballot, first: state.first, last: state.applied });
}

function follow(turn: Turn, from: NodeId, { ballot, leaseMs, reached, first, epoch }: RequestOf<"paxos.lease">): void {
  const { state, upMs } = turn;
  if (state.leading !== null || state.phase === "collecting" || state.phase === "electing") fall(turn);
  if (state.phase === "looking") mark(turn, "paxos.follows", `follows ${from} under ballot ${ballotText(ballot)}`);
  if (canVote(state)) state.lease = { ballot, leader: from, untilMs: upMs + leaseMs };
  state.leader = from;
  state.leaderBallot = ballot;
  state.shunned = null;
  enter(turn, "following");
  if (epoch > state.epoch && epoch % 2 === 0) {
    state.epoch = epoch;
    writeVote(turn, { kind: "vote", ballot: state.promised }, [putVote(state)]);
  }
  arm(turn, ELECT_TIMER, mutant("paxos.self-vote-in-lease") ? leaseMs / 3 : leaseMs, state.config.timing.electMs);
  if (!lookBehind(turn, from, first)) {
    state.mustSync = null;
    commitUpTo(turn, from, ballot, reached);
  }
}

export function onLeaseAck(turn: Turn, from: NodeId, requestId: number, body: AnswerOf<"paxos.lease-ack">) {
  const { state, upMs } = turn;
  const { leading } = state;
  const sentMs = leading?.leases.get(requestId);
  const member = memberOf(newestMap(state), from);
  if (leading === null || sentMs === undefined || member === null || !sameBallot(leading.ballot, body.ballot)) return mark(turn, "paxos.late-lease-ack");
  leading.leases.delete(requestId);
  leading.reached.set(member.number, Math.max(body.last, leading.reached.get(member.number) ?? 0));
  if (!birthCounts(newestMap(state), member.number, body.birth)) return mark(turn, "paxos.old-birth", `a lease of another disk of ${from} does not count`);
  const { leaseMs } = state.config.timing;
  const untilMs = mutant("paxos.lease-too-long") ? upMs + 2 * leaseMs : sentMs + leaseMs * (1 - CLOCK_MARGIN);
  leading.heldUntilMs.set(member.number, Math.max(untilMs, leading.heldUntilMs.get(member.number) ?? 0));
}

/** COMMIT: only from the ballot that this member goes by. */
export function onCommit(turn: Turn, id: number, from: NodeId, { ballot, reached }: RequestOf<"paxos.commit">) {
  const { state } = turn;
  answer(turn, id, { kind: "paxos.noted" });
  if (state.phase === "syncing" || state.leading !== null || compareBallots(ballot, state.promised) < 0) return mark(turn, "paxos.late-commit");
  commitUpTo(turn, from, ballot, reached);
}

/** A peer is seen to be further: its versions are taken up, unless this member leads. */
export function takeUp(turn: Turn, peer: NodeId, first: number, last: number): void {
  const { state } = turn;
  if (state.leading === null && !lookBehind(turn, peer, first) && last > state.last) fetchFrom(turn, peer);
}
