/**
 * The rows of Paxos: vote and accepted entries in `accepts`, versions with their range in `replicated` (architecture.md
 * section 3), and what a start reads of them. An encoded batch becomes an entry here and nowhere else, so nothing in the
 * state was not decoded and hashed.
 */
import { equalBytes, readU64be, u64be } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { Hash } from "../base/ids.ts";
import { decodeBatch } from "../store/batch.ts";
import { acceptsKeys, localKeys, replicatedKeys } from "../store/keys.ts";
import { batchOf, hashAt, hashOf, historyIn, replicatedOf, ZERO_HASH } from "../store/versions.ts";
import { bytes, type Infer, u32, u53 } from "../wire/codec.ts";
import { record } from "../wire/record.ts";
import { type Ballot, compareBallots, NO_BALLOT } from "./ballot.ts";
import { type ClusterMap, configMap, decodeMap } from "./cluster-map.ts";
import { loadMemory } from "./remembered.ts";
import type { Entry, PaxosState } from "./state.ts";

/** Versions whose chain a start checks: a torn or swapped store shows itself near its end. */
const CHECKED_COUNT = 1_000;

const voteFields = { epoch: u53, round: u53, member: u32 };
const voteRow = record("paxos vote", voteFields);
const acceptedRow = record("accepted entry", { round: u53, member: u32, batch: bytes(8 * 1_024 * 1_024) });

export const putVote = ({ epoch, promised }: PaxosState): Op => ({
  op: "put",
  key: acceptsKeys.vote(),
  value: voteRow.encode({ epoch, round: promised.round, member: promised.member }),
});

export const putAccepted = ({ version, ballot, batch }: Entry): Op => ({
  op: "put",
  key: acceptsKeys.accepted(version),
  value: acceptedRow.encode({ round: ballot.round, member: ballot.member, batch }),
});

/** Throws FRAME_CORRUPT where the batch does not decode. The bytes are kept: the caller's must not change. */
export function entryOf(version: number, ballot: Ballot, batch: Uint8Array): Entry {
  const { batch: ops, prev } = decodeBatch(batch);
  return { version, ballot, batch, hash: hashOf(batch), prev, ops, index: null, stored: false };
}

/** Whether an entry follows a version with this hash. */
export const follows = (entry: Pick<Entry, "prev" | "version">, hash: Hash): boolean =>
  entry.prev === null ? entry.version === 1 : entry.version > 1 && equalBytes(entry.prev, hash);

/** The hash of a version held, applied or not: null where it is not, or was trimmed. */
export function heldHash(state: PaxosState, snap: Snapshot, version: number): Hash | null {
  if (version === state.last) return state.lastHash;
  const waiting = state.unapplied.find((entry) => entry.version === version);
  if (waiting !== undefined) return waiting.hash;
  return version > state.last ? null : hashAt(replicatedOf(snap), version);
}

export const putNumber = (key: Uint8Array, value: number): Op => ({ op: "put", key, value: u64be(value) });

export function storedVote(snap: Snapshot): { readonly epoch: number; readonly promised: Ballot } {
  const raw = snap.get("accepts", acceptsKeys.vote());
  const { epoch, round, member }: Infer<typeof voteFields> = raw === undefined ? { epoch: 0, round: 0, member: 0 } : voteRow.decode(raw);
  return { epoch, promised: { round, member } };
}

/** Accepted entries by version, those of applied versions included. */
export function* storedAccepted(snap: Snapshot): Generator<{ readonly version: number; readonly ballot: Ballot; readonly batch: Uint8Array }> {
  for (const [key, value] of snap.range("accepts", acceptsKeys.accepted(0), acceptsKeys.accepted(Number.MAX_SAFE_INTEGER))) {
    const { round, member, batch } = acceptedRow.decode(value);
    yield { version: readU64be(key, key.length - 8) ?? 0, ballot: { round, member }, batch };
  }
}

/** Reads everything that is on disk into the state; whatever else it knew is as before. Throws STORE_CORRUPT. */
export function load(state: PaxosState, snap: Snapshot): void {
  Object.assign(state, historyIn(snap));
  state.applied = state.last;
  // a store that is being replaced is a mixture: it is read again, and checked, when the flag has fallen
  const isMixed = snap.get("local", localKeys.synchronizing()) !== undefined;
  state.lastHash = state.last === 0 || isMixed ? ZERO_HASH : checkedChain(snap, state.first, state.last);
  state.unapplied.length = 0;
  state.unappliedBytes = 0;
  state.applying = "idle";
  state.map = storedMap(state, snap);
  loadMemory(
    state.memory,
    state.map.members.map(({ number }) => number),
    snap,
  );
  state.isRegressed = snap.get("accepts", acceptsKeys.regressed()) !== undefined;
  loadVotes(state, snap);
}

function storedMap(state: PaxosState, snap: Snapshot): ClusterMap {
  const raw = snap.get("replicated", replicatedKeys.clusterMap());
  return raw === undefined ? configMap(state.config.members) : decodeMap(raw);
}

/** What was promised and accepted. An accept is a promise of its ballot, whatever the promise's own row says. */
export function loadVotes(state: PaxosState, snap: Snapshot): void {
  Object.assign(state, storedVote(snap));
  state.storedPromise = state.promised;
  state.accepted.clear();
  state.dropped = 0;
  for (const { version, ballot, batch } of storedAccepted(snap)) {
    if (compareBallots(ballot, state.promised) > 0) state.promised = ballot;
    if (version > state.last) state.accepted.set(version, { ...entryOf(version, ballot, batch.slice()), stored: true });
  }
  if (compareBallots(state.seen, state.promised) < 0) state.seen = state.promised;
}

/** The hash of `last`, after its chain was followed back. */
function checkedChain(snap: Snapshot, first: number, last: number): Hash {
  const rows = replicatedOf(snap);
  const newest = batchOf(rows, last);
  if (newest === undefined) throw new EngineError("STORE_CORRUPT", `paxos/last says ${last}, there is no such version`);
  let entry = entryOf(last, NO_BALLOT, newest);
  const hash = entry.hash;
  for (let version = last - 1; version >= first && last - version < CHECKED_COUNT; version--) {
    const batch = batchOf(rows, version);
    if (batch === undefined) throw new EngineError("STORE_CORRUPT", `versions ${first} to ${last} are held, ${version} is missing`);
    const before = entryOf(version, NO_BALLOT, batch);
    if (!follows(entry, before.hash)) throw new EngineError("STORE_CORRUPT", `version ${entry.version} does not follow the ${version} that is stored`);
    entry = before;
  }
  return hash;
}
