/**
 * Ballots (sync.md 3.1): round, then member number. Numbers are never reused, so no two members ever make the same one;
 * a rank may be, which is why it is not in here.
 */
import { mutant } from "../base/mutant.ts";
import type { Member } from "./cluster-map.ts";

export type Ballot = { readonly round: number; readonly member: number };

export const NO_BALLOT: Ballot = { round: 0, member: 0 };

/** Below zero where `a` is the older one. */
export const compareBallots = (a: Ballot, b: Ballot): number => a.round - b.round || a.member - b.member;

export const sameBallot = (a: Ballot, b: Ballot): boolean => a.round === b.round && a.member === b.member;

/** The next ballot of a member above everything that it has seen. */
export function nextBallot(member: Member, seen: Ballot): Ballot {
  return { round: seen.round + 1, member: mutant("paxos.ballot-by-rank") ? member.rank : member.number };
}

export const ballotText = ({ round, member }: Ballot): string => `${round}.${member}`;
