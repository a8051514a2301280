/**
 * Who says nothing (architecture.md section 5, guarantee 7): what errors, `/health` and `/status` name members by. Only words
 * for people; no vote and no lease rests on it.
 */
import type { NodeId } from "../base/ids.ts";
import type { Member } from "./cluster-map.ts";
import { othersOf, type PaxosState } from "./state.ts";

/** A member is silent after so many leases: one may pass in an election that all take part in. */
const SILENT_LEASES = 2;

/** Members of whom this leader has no lease, or of whom, where this one does not lead, nothing came for a while. */
export function silentMembers(state: PaxosState, upMs: number): NodeId[] {
  const { leading, heardMs, config } = state;
  const sinceMs = upMs - SILENT_LEASES * config.timing.leaseMs;
  const isSilent = ({ id, number }: Member): boolean =>
    leading === null ? (heardMs.get(id) ?? sinceMs) <= sinceMs : (leading.heldUntilMs.get(number) ?? 0) <= upMs;
  return othersOf(state)
    .filter(isSilent)
    .map(({ id }) => id);
}

/** For whoever asked in vain. */
export function silenceText(state: PaxosState, upMs: number): string {
  const silent = silentMembers(state, upMs);
  return silent.length === 0 ? "no leader is known, though every member is heard" : `no answer from ${silent.join(", ")}`;
}
