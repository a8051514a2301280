/**
 * Where a member stands towards the others (sync.md 3.2 and 3.7): whether it may ack and promise at all, whose word counts
 * by the birth of the disk, and how it falls back to looking for a leader.
 */
import { equalBytes } from "../base/bytes.ts";
import { arm } from "../base/effect-list.ts";
import { CLOCK_MARGIN } from "../base/effects.ts";
import { mutant } from "../base/mutant.ts";
import { type Ballot, compareBallots } from "./ballot.ts";
import { dropHeldBack } from "./clients.ts";
import { memberOf } from "./cluster-map.ts";
import { canVote, enter, leaseRuns, newestMap, othersOf, type PaxosState, type Refusal, scopeOf, send, type Turn } from "./state.ts";

export const ELECT_TIMER = "elect";
export const RENEW_TIMER = "renew";
export const COLLECT_TIMER = "collect";

/** For one lease and its margin after a start nobody is acked or promised: the lease given before it is not on disk. */
export function quietMs({ config }: PaxosState): number {
  return mutant("paxos.vote-before-lease-out") ? 0 : config.timing.leaseMs * (1 + CLOCK_MARGIN);
}

/** Why this member acks, promises and collects nothing now, itself included; or null. */
export function abstains({ state, upMs }: Turn, isOwn = false): Refusal | null {
  if (state.phase === "syncing") return "synchronizing";
  if (state.isInDoubt) return "busy";
  if (!canVote(state)) return "stranger";
  if (upMs < state.quietUntilMs) return "quiet";
  if (isOwn && mutant("paxos.self-vote-in-lease")) return null;
  return leaseRuns(state, upMs) ? "leased" : null;
}

/** A sender that is no member, or whose disk is another one than the newest map known to either side may name. */
export function isStranger(state: PaxosState, from: string, sender: { readonly birth: Uint8Array; readonly last: number }): boolean {
  const member = memberOf(newestMap(state), from);
  if (member === null) return true;
  // of a sender that is further than this member, the map here may be the older one
  return sender.last <= state.last && !equalBytes(member.birth, sender.birth) && !mutant("paxos.vote-after-disk-loss");
}

/**
 * Why nobody counts this disk's vote, for people: what only they can mend. Where no leader is known, the map here may be the
 * older one.
 */
export function voteless(state: PaxosState): string | null {
  const { isRegressed, map, config, leader } = state;
  if (isRegressed) return "its disk shows less than it once acknowledged, as an old copy does (PAXOS_REGRESSED)";
  if (leader === null) return null;
  const self = memberOf(map, config.self);
  if (self === null) return "it is no member of the cluster any more";
  return equalBytes(self.birth, config.birth)
    ? null
    : `its disk of birth ${config.birth.toHex()} is not the one of birth ${self.birth.toHex()} that the members know`;
}

export function see(state: PaxosState, ballot: Ballot): void {
  if (compareBallots(ballot, state.seen) > 0) state.seen = ballot;
}

/** Gives up electing, collecting, leading or following. Promises, accepted entries and the lease given stay. */
export function fall(turn: Turn): void {
  const { state } = turn;
  if (state.phase === "looking" || state.phase === "syncing") return;
  if (state.leading !== null) {
    dropHeldBack(turn);
    state.leading = null;
    turn.out.push({ kind: "disarm", timer: RENEW_TIMER });
  }
  state.leader = null;
  enter(turn, "looking");
  lookLater(turn);
}

/** Asks everybody where they are: answers bring newer versions, or say that only a sync can. */
export function probe(turn: Turn): void {
  for (const { id } of othersOf(turn.state)) send(turn, id, { kind: "paxos.probe", ...scopeOf(turn.state) });
}

/** The next election, unless a leader is heard of before: not sooner than the lease that was given is over. */
export function lookLater(turn: Turn): void {
  const { state, upMs } = turn;
  const { electMs } = state.config.timing;
  const leftMs = mutant("paxos.self-vote-in-lease") ? 0 : Math.max(0, state.quietUntilMs - upMs, (state.lease?.untilMs ?? 0) - upMs);
  arm(turn, ELECT_TIMER, Math.ceil(leftMs) + electMs, electMs);
}
