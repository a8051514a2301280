/**
 * How a member that does not lead comes to know what is chosen (sync.md 3.1): COMMIT, and what BEGIN and LEASE carry of
 * it, cover entries that it accepted under the same ballot; everything else is fetched, at most 1 MiB at a time. A peer
 * whose first version lies beyond what is missing cannot help: then the store must be synchronised.
 */
import { equalBytes } from "../base/bytes.ts";
import { answer, arm, halt, mark } from "../base/effect-list.ts";
import { EngineError } from "../base/errors.ts";
import type { Hash, NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import { batchOf, recentBatches, replicatedOf } from "../store/versions.ts";
import type { AnswerOf, RequestOf } from "../wire/messages.ts";
import { RECENT_COUNT_MAX } from "../wire/paxos-messages.ts";
import { type Ballot, NO_BALLOT, sameBallot } from "./ballot.ts";
import { hasLagRoom, learn } from "./history.ts";
import { entryOf, heldHash } from "./records.ts";
import { refuse, scopeOf, send, type Turn } from "./state.ts";

export const FETCH_TIMER = "fetch";
const FETCH_MS = 1_000;

/** Versions up to `reached` are chosen, as far as they are those of this ballot. */
export function commitUpTo(turn: Turn, from: NodeId, ballot: Ballot, reached: number): void {
  const { state } = turn;
  while (state.last < reached && hasLagRoom(state)) {
    const next = state.accepted.get(state.last + 1);
    // an entry of an older ballot may be another value than the one that was chosen
    if (next === undefined || !(sameBallot(next.ballot, ballot) || mutant("paxos.commit-other-ballot"))) break;
    if (!learn(turn, next)) return;
  }
  if (state.last < reached && hasLagRoom(state)) fetchFrom(turn, from); // else the next one that says so goes on
}

export function fetchFrom(turn: Turn, peer: NodeId): void {
  const { state } = turn;
  if (state.fetching !== null) return;
  if (!hasLagRoom(state)) {
    state.fetchNext = peer;
    return;
  }
  state.fetchNext = null;
  const requestId = send(turn, peer, { kind: "paxos.recent-req", ...scopeOf(state), from: state.last + 1 });
  state.fetching = { peer, requestId };
  arm(turn, FETCH_TIMER, FETCH_MS);
}

/** There is room again: goes on where catching up had to wait for the disk. */
export function fetchOn(turn: Turn): void {
  const { fetchNext, leading } = turn.state;
  turn.state.fetchNext = null;
  if (fetchNext !== null && leading === null) fetchFrom(turn, fetchNext);
}

/** No answer came: whoever shows a newer version is asked next. */
export function onFetchTimer({ state }: Turn): void {
  state.fetching = null;
}

/** Versions from one on, as many as fit. Also what a node that is being synchronised replays from. */
export function onRecentReq(turn: Turn, id: number, { from }: RequestOf<"paxos.recent-req">) {
  const { state, snap } = turn;
  if (from < state.first) return refuse(turn, id, "trimmed", `versions from ${from} are asked for, the first here is ${state.first}`);
  const rows = replicatedOf(snap);
  const batchAt = (version: number): Uint8Array | undefined => state.unapplied.find((entry) => entry.version === version)?.batch ?? batchOf(rows, version);
  const batches = recentBatches(batchAt, from, state.last, RECENT_COUNT_MAX);
  answer(turn, id, { kind: "paxos.recent", ...scopeOf(state), from, last: state.last, batches });
}

export function onRecent(turn: Turn, from: NodeId, requestId: number, body: AnswerOf<"paxos.recent">) {
  const { state } = turn;
  if (state.fetching?.requestId !== requestId) return mark(turn, "paxos.late-recent");
  state.fetching = null;
  if (state.leading !== null) return; // a leader knows what is chosen by itself
  for (const [at, batch] of body.batches.entries()) {
    if (body.from + at !== state.last + 1) continue; // learned in another way meanwhile
    // all of it, whatever waits already: one answer is bounded, and goes to the store in one commit
    if (!learnFetched(turn, body.from + at, batch)) return;
  }
  if (state.last < body.last && body.batches.length > 0) fetchFrom(turn, from);
}

function learnFetched(turn: Turn, version: number, batch: Uint8Array): boolean {
  try {
    // the frame's bytes are not ours to keep
    return learn(turn, entryOf(version, NO_BALLOT, batch.slice()));
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause;
    mark(turn, "paxos.bad-batch", `version ${version} does not decode: ${cause.message}`);
    return false;
  }
}

/** The peer trimmed what this node lacks. */
export function onRecentRefused(turn: Turn, from: NodeId, requestId: number, body: AnswerOf<"paxos.refused">): void {
  const { state } = turn;
  if (state.fetching?.requestId !== requestId) return;
  state.fetching = null;
  lookBehind(turn, from, body.first);
}

/** A peer shows its first version: beyond what this node could take up, only a sync helps. */
export function lookBehind(turn: Turn, peer: NodeId, first: number): boolean {
  const { state } = turn;
  if (state.last + 1 >= first) return false;
  if (state.mustSync === null) mark(turn, "paxos.must-sync", `last ${state.last}, ${peer} has first ${first}: not recoverable`);
  state.mustSync = peer;
  return true;
}

/** Two nodes speak of one version: with two hashes, agreement is broken, and this one stops. */
export function compareHistory(turn: Turn, peer: NodeId, version: number, hash: Hash): boolean {
  const { state, snap } = turn;
  if (version > state.last || version < state.first) return true;
  const own = heldHash(state, snap, version);
  if (own === null || equalBytes(own, hash)) return true;
  halt(turn, "PAXOS_FORK", `version ${version} is ${own.toHex().slice(0, 16)} here and ${hash.toHex().slice(0, 16)} at ${peer}`);
  return false;
}
