/**
 * The acceptor (sync.md 3.1 and 3.4): promises and accepts, each on disk before its answer leaves. It promises nothing
 * while a lease that it gave may run, accepts nothing below its promise and no version whose predecessor it lacks, and
 * reports every accepted value to whoever collects.
 */
import { equalBytes } from "../base/bytes.ts";
import { answer, halt } from "../base/effect-list.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import type { AnswerOf, RequestOf } from "../wire/messages.ts";
import { ACCEPTED_COUNT_MAX } from "../wire/paxos-messages.ts";
import { type Ballot, ballotText, compareBallots, sameBallot } from "./ballot.ts";
import { memberOf } from "./cluster-map.ts";
import { commitUpTo, compareHistory, fetchFrom } from "./learner.ts";
import { entryOf, follows, heldHash, putAccepted, putVote } from "./records.ts";
import { remember } from "./remembered.ts";
import { abstains, fall, isStranger, see } from "./standing.ts";
import { canVote, type Entry, type PaxosEffect, type PaxosState, refuse, scopeOf, type Turn, writeVote } from "./state.ts";

/** Accepted bytes that are not applied: after a restart one LAST carries them all, in its frame. */
const ACCEPTED_BYTES_MAX = 12 * 1_024 * 1_024;

export function onCollect(turn: Turn, id: number, from: NodeId, body: RequestOf<"paxos.collect">) {
  const { state } = turn;
  see(state, body.ballot);
  const why = isStranger(state, from, body) ? "stranger" : abstains(turn);
  if (why !== null) return refuse(turn, id, why, `no promise of ${ballotText(body.ballot)} to ${from}`);
  if (body.last + 1 < state.first) return refuse(turn, id, "behind", `${from} has last ${body.last}, the first here is ${state.first}`);
  if (compareBallots(body.ballot, state.promised) < 0) return refuse(turn, id, "promised", `${ballotText(state.promised)} is promised`);
  if (!compareHistory(turn, from, body.last, body.hash)) return;
  fall(turn);
  state.promised = body.ballot;
  const asker = memberOf(state.map, from);
  if (asker !== null) remember(state.memory, asker.number, body.birth, body.ballot, 0);
  writeVote(turn, { kind: "vote", ballot: body.ballot }, [putVote(state)]);
  answer(turn, id, lastOf(turn, body.ballot, body.last));
}

/** What this member accepted, and how far it is: the asker takes up newer commits before it chooses. */
function lastOf({ state, snap }: Turn, ballot: Ballot, askersLast: number): AnswerOf<"paxos.last"> {
  const accepted = [...state.accepted.values()].filter(({ version }) => version > askersLast).sort((a, b) => a.version - b.version);
  const { first, last } = state;
  const hash = heldHash(state, snap, last) ?? state.lastHash;
  return {
    kind: "paxos.last",
    ...scopeOf(state),
    ballot,
    first,
    last,
    hash,
    accepted: accepted.map(({ version, ballot: under, batch }) => ({ version, ballot: under, batch })),
  };
}

export function onBegin(turn: Turn, id: number, from: NodeId, body: RequestOf<"paxos.begin">) {
  const { state } = turn;
  const { ballot, version } = body;
  see(state, ballot);
  if (!canVote(state))
    return refuse(
      turn,
      id,
      state.phase === "syncing" ? "synchronizing" : state.isInDoubt ? "busy" : "stranger",
      `version ${version} of ${from} is not accepted`,
    );
  if (compareBallots(ballot, state.promised) < 0 && !mutant("paxos.accept-below-promise"))
    return refuse(turn, id, "promised", `${ballotText(state.promised)} is promised, version ${version} comes under ${ballotText(ballot)}`);
  commitUpTo(turn, from, ballot, Math.min(body.reached, version - 1));
  const entry = decodedEntry(version, ballot, body.batch);
  if (entry === null) return refuse(turn, id, "gap", `version ${version} of ${from} does not decode`);
  const isFollowed = state.phase === "following" && sameBallot(ballot, state.leaderBallot);
  if (compareBallots(ballot, state.promised) > 0 && !isFollowed) fall(turn);
  if (version <= state.last) return again(turn, id, from, entry);
  if (!fits(turn, id, from, entry, body.reached)) return;
  if (isUnderWay(state, entry)) return refuse(turn, id, "busy", `version ${version} of ${from} is on its way to disk`);
  accept(turn, entry, { kind: "answer", id, body: { kind: "paxos.accept", ...scopeOf(state), ballot, version } });
}

/** A leader says it again until it is accepted; a disk that stalls would have to write each of them, and its vote behind all. */
function isUnderWay({ accepted }: PaxosState, { version, ballot }: Entry): boolean {
  const known = accepted.get(version);
  return known !== undefined && !known.stored && sameBallot(known.ballot, ballot);
}

/** Null where a peer's batch does not decode. */
export function decodedEntry(version: number, ballot: Ballot, batch: Uint8Array): Entry | null {
  try {
    return entryOf(version, ballot, batch.slice()); // the frame's bytes are not ours to keep
  } catch (cause) {
    if (cause instanceof EngineError) return null;
    throw cause;
  }
}

/** A version that is known to be chosen: the answer was lost, or a deposed leader still proposes another one. */
function again(turn: Turn, id: number, from: NodeId, { version, ballot, hash }: Entry) {
  const { state, snap } = turn;
  const own = heldHash(state, snap, version);
  if (own === null) return refuse(turn, id, "trimmed", `version ${version} is trimmed here`);
  if (!equalBytes(own, hash)) return refuse(turn, id, "stale", `version ${version} of ${from} is another than the one chosen here`);
  if (compareBallots(ballot, state.promised) > 0) state.promised = ballot; // an ACCEPT is a promise of its ballot, and is remembered as one
  const waiting = state.unapplied.find((entry) => entry.version === version);
  const vote = compareBallots(ballot, state.storedPromise) > 0 ? [putVote(state)] : [];
  const rows = [...vote, ...(waiting === undefined ? [] : [putAccepted({ ...waiting, ballot })])];
  if (rows.length > 0) writeVote(turn, { kind: "vote", ballot }, rows); // chosen, and in the store only with the next apply
  answer(turn, id, { kind: "paxos.accept", ...scopeOf(state), ballot, version });
}

/**
 * v + 1 under a ballot only where v is known to be chosen, or was accepted under that ballot. A leader that was deposed
 * and does not know it may follow another v; only one that calls its v chosen shows that there are two histories.
 */
function fits(turn: Turn, id: number, from: NodeId, entry: Entry, reached: number): boolean {
  const { state } = turn;
  if (entry.version === state.last + 1) {
    if (follows(entry, state.lastHash) || mutant("paxos.keep-broken-chain")) return hasRoom(turn, id, entry);
    const text = `version ${entry.version} of ${from} does not follow the ${state.last} chosen here`;
    if (reached >= state.last) halt(turn, "PAXOS_FORK", text);
    else refuse(turn, id, "stale", text);
    return false;
  }
  const before = state.accepted.get(entry.version - 1);
  if (before !== undefined && sameBallot(before.ballot, entry.ballot) && follows(entry, before.hash)) return hasRoom(turn, id, entry);
  refuse(turn, id, "gap", `version ${entry.version} of ${from} comes before the one below it`);
  if (before === undefined) fetchFrom(turn, from);
  return false;
}

function hasRoom(turn: Turn, id: number, entry: Entry): boolean {
  const { accepted, applied, unapplied, unappliedBytes } = turn.state;
  const count = accepted.size + unapplied.length;
  let bytes = entry.batch.length + unappliedBytes;
  for (const other of accepted.values()) if (other.version !== entry.version) bytes += other.batch.length;
  if (accepted.has(entry.version) || (count < ACCEPTED_COUNT_MAX && bytes <= ACCEPTED_BYTES_MAX)) return true;
  refuse(turn, id, "busy", `${count} versions above ${applied} are accepted and not applied`);
  return false;
}

/** On disk first, then the answer: `reply` is what tells the leader, null where this member is the leader. */
export function accept(turn: Turn, entry: Entry, reply: PaxosEffect | null): void {
  const { state, out } = turn;
  const known = state.accepted.get(entry.version);
  if (compareBallots(entry.ballot, state.promised) > 0) state.promised = entry.ballot;
  if (reply !== null && mutant("paxos.answer-before-durable")) out.push(reply);
  if (known?.stored && sameBallot(known.ballot, entry.ballot)) {
    if (reply !== null) out.push(reply); // the answer was lost
    return;
  }
  state.accepted.set(entry.version, entry);
  // one that is refused for space leaves those behind it: each brings the promise along until that is known to be on disk
  const vote = compareBallots(entry.ballot, state.storedPromise) > 0 ? [putVote(state)] : [];
  writeVote(turn, { kind: "accept", version: entry.version, ballot: entry.ballot }, [...vote, putAccepted(entry)]);
  if (reply !== null) out.push(reply);
}

/** Whether this entry is still the one that was written. */
export function onAcceptStored({ state }: Turn, version: number, ballot: Ballot): Entry | null {
  const entry = state.accepted.get(version);
  if (entry === undefined || !sameBallot(entry.ballot, ballot)) return null;
  entry.stored = true;
  return entry;
}
