/**
 * Versions as they become known to be chosen (sync.md 3.3 and 3.5): in order, each following the hash before it; visible
 * at once, applied to `replicated` a little later, as many as wait in one commit. A version whose hash does not fit is two
 * histories that met, one of a newer format cannot be read: the node stops. Decides nothing: the proposer and the learners
 * say what is chosen.
 */
import { arm, halt } from "../base/effect-list.ts";
import type { Op } from "../base/effects.ts";
import { lastOp, versionOps } from "../store/versions.ts";
import { settleOutcomes } from "./clients.ts";
import { mapIn } from "./cluster-map.ts";
import { newerFormat } from "./formats.ts";
import { follows } from "./records.ts";
import { type Entry, type PaxosState, type Turn, writeApply } from "./state.ts";
import { firstIn } from "./trim.ts";

/** Applying may lag so far behind: reads lay what waits over the snapshot. */
export const LAG_COUNT_MAX = 64;
const LAG_BYTES_MAX = 8 * 1_024 * 1_024;
/**
 * A commit of the store costs about three flushes of a vote: it waits for so many versions, so many bytes, or so long; and a few
 * times longer where versions still come, since then there is more of it soon and somebody whose vote it would delay.
 */
const APPLY_COUNT = 48;
const APPLY_BYTES = 256 * 1_024;
const APPLY_MS = 20;
const APPLY_WAITS_MAX = 5;
const COMES_MS = 5;
export const APPLY_TIMER = "apply";

/** Whether one more version may become visible before older ones are applied. */
export const hasLagRoom = ({ unapplied, unappliedBytes }: PaxosState): boolean => unapplied.length < LAG_COUNT_MAX && unappliedBytes < LAG_BYTES_MAX;

/** Takes a version as chosen; false where it does not fit, and the node is stopping. */
export function learn(turn: Turn, entry: Entry): boolean {
  const { state } = turn;
  if (entry.version !== state.last + 1 || !follows(entry, state.lastHash)) {
    halt(turn, "PAXOS_FORK", `version ${entry.version} is chosen and does not follow ${state.last} here`);
    return false;
  }
  const newer = newerFormat(turn.services, entry.ops);
  if (newer !== null) {
    halt(turn, "STORE_FORMAT", `version ${entry.version}: ${newer}`);
    return false;
  }
  state.last = entry.version;
  state.lastHash = entry.hash;
  state.learnedMs = turn.upMs;
  state.accepted.delete(entry.version);
  state.unapplied.push(entry);
  state.unappliedBytes += entry.batch.length;
  state.first = firstIn(entry.ops) ?? state.first;
  state.map = mapIn(entry.ops) ?? state.map;
  settleOutcomes(turn, entry);
  return true;
}

/** Puts what waits into the store, in one commit, once there is enough of it or it has waited long enough. */
export function apply(turn: Turn): void {
  const { state } = turn;
  if (state.applying === "asked" || state.isFull || state.unapplied.length === 0) return;
  if (state.applying !== "due" && state.unapplied.length < APPLY_COUNT && state.unappliedBytes < APPLY_BYTES) {
    if (state.applying === "idle") arm(turn, APPLY_TIMER, APPLY_MS);
    state.applying = "waits";
    return;
  }
  state.applying = "asked";
  state.applyWaits = 0;
  const batch: Op[] = [];
  for (const { version, ops, batch: encoded } of state.unapplied) batch.push(...versionOps(version, encoded, ops));
  batch.push(lastOp(state.last));
  writeApply(turn, state.last, batch);
}

export function onApplyTimer(turn: Turn): void {
  const { state, upMs } = turn;
  if (state.applying !== "waits") return;
  if (++state.applyWaits < APPLY_WAITS_MAX && upMs - state.learnedMs < COMES_MS) arm(turn, APPLY_TIMER, APPLY_MS);
  else state.applying = "due";
}

export function onApplied({ state }: Turn, upTo: number): void {
  state.applying = "idle";
  state.applied = upTo;
  while (state.unapplied[0] !== undefined && state.unapplied[0].version <= upTo) state.unappliedBytes -= (state.unapplied.shift() as Entry).batch.length;
}
