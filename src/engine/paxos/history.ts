/**
 * Versions as they become known to be chosen (sync.md 3.3 and 3.5): in order, each following the hash before it; visible
 * at once, applied to `replicated` behind that, as many as wait in one commit. A version whose hash does not fit is two
 * histories that met: the node stops. Decides nothing: the proposer and the learners say what is chosen.
 */
import { halt } from "../base/effect-list.ts";
import type { Op } from "../base/effects.ts";
import { localKeys } from "../store/keys.ts";
import { lastOp, versionOps } from "../store/versions.ts";
import { settleOutcomes } from "./clients.ts";
import { mapIn } from "./cluster-map.ts";
import { follows } from "./records.ts";
import { type Entry, type PaxosState, type Turn, write } from "./state.ts";
import { firstIn } from "./trim.ts";

/** Applying may lag so far behind: reads lay what waits over the snapshot. */
export const LAG_COUNT_MAX = 64;
const LAG_BYTES_MAX = 8 * 1_024 * 1_024;

/** Whether one more version may become visible before older ones are applied. */
export const hasLagRoom = ({ unapplied, unappliedBytes }: PaxosState): boolean => unapplied.length < LAG_COUNT_MAX && unappliedBytes < LAG_BYTES_MAX;

/** Takes a version as chosen; false where it does not fit, and the node is stopping. */
export function learn(turn: Turn, entry: Entry): boolean {
  const { state } = turn;
  if (entry.version !== state.last + 1 || !follows(entry, state.lastHash)) {
    halt(turn, "PAXOS_FORK", `version ${entry.version} is chosen and does not follow ${state.last} here`);
    return false;
  }
  state.last = entry.version;
  state.lastHash = entry.hash;
  state.accepted.delete(entry.version);
  state.unapplied.push(entry);
  state.unappliedBytes += entry.batch.length;
  state.first = firstIn(entry.ops) ?? state.first;
  state.map = mapIn(entry.ops) ?? state.map;
  settleOutcomes(turn, entry);
  return true;
}

/** Puts what waits into the store, in one commit, with the accepted rows that it makes needless. */
export function apply(turn: Turn): void {
  const { state } = turn;
  if (state.isApplying || state.isFull || state.unapplied.length === 0) return;
  state.isApplying = true;
  const batch: Op[] = [];
  const local: Op[] = state.stale.map((version) => ({ op: "del", key: localKeys.accepted(version) }));
  state.stale = [];
  for (const { version, ops, batch: encoded } of state.unapplied) {
    batch.push(...versionOps(version, encoded, ops));
    local.push({ op: "del", key: localKeys.accepted(version) });
  }
  batch.push(lastOp(state.last));
  write(turn, { kind: "apply", upTo: state.last }, batch, local);
}

export function onApplied({ state }: Turn, upTo: number): void {
  state.isApplying = false;
  state.applied = upTo;
  while (state.unapplied[0] !== undefined && state.unapplied[0].version <= upTo) state.unappliedBytes -= (state.unapplied.shift() as Entry).batch.length;
}
