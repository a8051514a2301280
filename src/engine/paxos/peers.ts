/**
 * What this member remembers of the others, so that an old copy of a disk is noticed (sync.md 3.7): the newest ballot and
 * version that each acked to it or asked it for. A process that begins is told what is remembered of it. One that has less
 * abstains like a lost disk; all others take back what was begun under their own ballots, for a leader's own vote is acked
 * to nobody. Answers to what was asked before a peer's start are those of its earlier run, and are dropped.
 */
import { answer, mark } from "../base/effect-list.ts";
import type { NodeId } from "../base/ids.ts";
import { acceptsKeys } from "../store/keys.ts";
import type { AnswerOf, RequestOf } from "../wire/messages.ts";
import { accept, decodedEntry } from "./acceptor.ts";
import { ballotText, compareBallots } from "./ballot.ts";
import { memberOf } from "./cluster-map.ts";
import { knownOf } from "./remembered.ts";
import { fall } from "./standing.ts";
import { canVote, newestMap, othersOf, type PaxosState, refuse, scopeOf, selfOf, send, type Turn, writeVote } from "./state.ts";

/** The newest version that this disk holds, accepted or chosen. */
export const topOf = ({ last, accepted }: PaxosState): number => Math.max(last, ...accepted.keys());

export function announce(turn: Turn): void {
  const { state } = turn;
  for (const { id } of othersOf(state)) send(turn, id, { kind: "paxos.return", ...scopeOf(state) });
}

export function onReturn(turn: Turn, id: number, from: NodeId, { birth }: RequestOf<"paxos.return">) {
  const { state } = turn;
  const member = memberOf(newestMap(state), from);
  if (member === null) return refuse(turn, id, "stranger", `${from} is no member`);
  endEarlierRun(state, from, member.number);
  const own = [...state.accepted.values()].filter(({ ballot }) => ballot.member === member.number);
  const { round, member: by, version } = knownOf(state.memory, member.number, birth);
  answer(turn, id, {
    kind: "paxos.own",
    ...scopeOf(state),
    known: { round, member: by },
    version,
    entries: own.map((entry) => ({ version: entry.version, ballot: entry.ballot, batch: entry.batch })),
  });
}

/** Neither promises nor accepts of it count that were not counted yet. */
function endEarlierRun({ askedBefore, lastRequestId, collecting, leading }: PaxosState, from: NodeId, number: number): void {
  askedBefore.set(from, lastRequestId);
  collecting?.lasts.delete(number);
  for (const births of leading?.accepts.values() ?? []) births.delete(number);
}

/** Whether an answer is to something that its sender's earlier run was asked. */
export const isOfEarlierRun = ({ askedBefore }: PaxosState, from: NodeId, requestId: number): boolean => requestId <= (askedBefore.get(from) ?? -1);

/** Entries begun under this member's own ballots: as good as its own vote, which only its disk could know. */
export function onOwn(turn: Turn, from: NodeId, { known: remembered, version: newest, entries }: AnswerOf<"paxos.own">) {
  const { state } = turn;
  // held against what is here now: what this run acked meanwhile is remembered too
  if (compareBallots(state.promised, remembered) < 0 || topOf(state) < newest) regress(turn, from, `${newest} under ${ballotText(remembered)}`);
  const self = selfOf(state);
  if (self === null || !canVote(state)) return;
  for (const { version, ballot, batch } of [...entries].sort((a, b) => a.version - b.version)) {
    const known = state.accepted.get(version);
    const isNewer = known === undefined || compareBallots(ballot, known.ballot) > 0;
    if (version <= state.last || ballot.member !== self.number || compareBallots(ballot, state.promised) < 0 || !isNewer) continue;
    const entry = decodedEntry(version, ballot, batch);
    if (entry === null) return mark(turn, "paxos.bad-batch", `version ${version} of ${from} does not decode`);
    mark(turn, "paxos.takes-back", `version ${version} under ballot ${ballotText(ballot)}, from ${from}`);
    accept(turn, entry, null);
  }
}

/** A peer remembers more than this disk shows: it is an old copy, for ever. */
function regress(turn: Turn, from: NodeId, what: string): void {
  const { state } = turn;
  if (state.isRegressed) return;
  mark(turn, "paxos.old-copy", `${from} remembers ${what}, here it is ${topOf(state)} under ${ballotText(state.promised)}: votes no more`);
  state.isRegressed = true;
  writeVote(turn, { kind: "vote", ballot: state.promised }, [{ op: "put", key: acceptsKeys.regressed(), value: new Uint8Array(1) }]);
  fall(turn);
}
