/**
 * Trimming (sync.md 3.6): old versions go only by a committed proposal, which erases `[first, t)` of Paxos and of every
 * service's history in one batch. `t` is computed from committed state alone, keeps the newest `keepCount` versions, removes
 * at most 500 at a time, and never passes a live hold, nor a joined member that may still catch up.
 */
import { equalBytes, readU64be } from "../base/bytes.ts";
import type { Batch, Op } from "../base/effects.ts";
import { mutant } from "../base/mutant.ts";
import { replicatedKeys } from "../store/keys.ts";
import { putNumber } from "./records.ts";
import { historyVersion, type Service } from "./services.ts";
import { isFirstReign, isSettled, leasesHold, type PaxosState, type Turn } from "./state.ts";
import { type View, viewAt } from "./view.ts";

/** More than this above the kept ones before a trim is worth a proposal: half of what is kept. */
const slackOf = (keepCount: number): number => Math.ceil(keepCount / 2);
export const TRIM_COUNT_MAX = 500;
/** A member that lags by more is not waited for: it will be synchronised. */
const CATCH_UP_COUNT_MAX = 1_000;

const FIRST_KEY = replicatedKeys.first();

/** The new first version that a batch puts, or null. */
export function firstIn(ops: Batch): number | null {
  for (const op of ops) if (op.op === "put" && equalBytes(op.key, FIRST_KEY)) return readU64be(op.value);
  return null;
}

export const trimInFlight = ({ leading, last }: PaxosState): boolean => leading !== null && leading.trimVersion > last;

/** What keeps trimming back, and from which version on: shown by `status` and `explain`. */
export function trimLimit(state: PaxosState, upMs: number): { readonly limit: number; readonly by: string } {
  const { leading, last, applied, config, held, first } = state;
  const keepCount = mutant("paxos.trim-below-min") ? Math.ceil(config.keepCount / 2) : config.keepCount;
  let best = { limit: last + 1 - keepCount, by: "keep" };
  const lower = (limit: number, by: string): void => {
    if (limit < best.limit) best = { limit, by };
  };
  lower(first + TRIM_COUNT_MAX, "count");
  lower(applied + 1, "apply");
  if (held !== null) lower(held, "hold");
  for (const { id, number } of state.map.members) {
    const reached = leading?.reached.get(number);
    const isJoined = (leading?.heldUntilMs.get(number) ?? 0) > upMs;
    if (reached !== undefined && isJoined && last - reached <= CATCH_UP_COUNT_MAX) lower(reached + 1, id);
  }
  return best;
}

/** For how long a new leader still trims nothing, whatever there is: a predecessor's holds may live. */
export const trimWaitMs = ({ leading, config }: PaxosState, upMs: number): number =>
  leading === null || isFirstReign(leading) ? 0 : Math.max(0, Math.ceil(leading.sinceMs + config.timing.trimWaitMs - upMs));

/** What a person asks of trimming: how far it could go at this leader now, and what holds it back; null where this node does not lead. */
export type TrimFacts = { readonly first: number; readonly next: number; readonly by: string; readonly waitMs: number };

export function trimFacts(state: PaxosState, upMs: number): TrimFacts | null {
  const { leading, first } = state;
  if (leading === null || !isSettled(state) || !leasesHold(state, upMs)) return null;
  const waitMs = trimWaitMs(state, upMs);
  if (waitMs > 0) return { first, next: first, by: "new-leader", waitMs };
  if (trimInFlight(state)) return { first, next: first, by: "trim", waitMs: 0 };
  const { limit, by } = trimLimit(state, upMs);
  return { first, next: Math.max(first, limit), by, waitMs: 0 };
}

/** Whether this leader may trim at all now, whatever there is to trim. */
export function mayTrim(state: PaxosState, upMs: number): boolean {
  if (!isSettled(state) || !leasesHold(state, upMs) || trimInFlight(state)) return false;
  return trimWaitMs(state, upMs) === 0 || mutant("sync.new-leader-trims");
}

/** The operations of a trim that is due, or null. `isAsked`: a person wants it now, however little there is to remove. */
export function dueTrim(turn: Turn, isAsked = false): Op[] | null {
  const { state, upMs, services } = turn;
  const { first, last, config } = state;
  if (!mayTrim(state, upMs)) return null;
  if (!isAsked && last - first < config.keepCount + slackOf(config.keepCount)) return null;
  const { limit } = trimLimit(state, upMs);
  if (limit <= first) return null;
  // committed state only: what is merely proposed may never be chosen
  const view = viewAt(turn, last);
  const ops: Op[] = [{ op: "delRange", key: replicatedKeys.version(first), end: replicatedKeys.version(limit) }, putNumber(replicatedKeys.first(), limit)];
  for (const service of services) ops.push(...trimHistory(service, view, limit));
  return ops;
}

/** Rows of a history that are about versions below `limit`. */
function trimHistory({ name }: Service, view: View, limit: number): Op[] {
  const raw = view.get(replicatedKeys.serviceFirst(name));
  const first = raw === null ? 1 : (readU64be(raw.value) ?? 1);
  let next = first;
  for (const { value } of view.range(replicatedKeys.history(name, first), replicatedKeys.history(name, first + TRIM_COUNT_MAX), TRIM_COUNT_MAX)) {
    if (historyVersion(value) >= limit) break;
    next++;
  }
  if (next === first) return [];
  return [
    { op: "delRange", key: replicatedKeys.history(name, first), end: replicatedKeys.history(name, next) },
    putNumber(replicatedKeys.serviceFirst(name), next),
  ];
}
