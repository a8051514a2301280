/**
 * The leader's promise not to trim what transfers still need (seed 002 steps 5 to 7 and 15, sync.md section 4.4): granted
 * while this leader is settled, a majority's leases hold and no trim is in flight; renewed by the provider, lapsing by
 * itself; in its grace while the laggard recovers. A new leader trims nothing for a while: holds of its predecessor may
 * live. It never trims itself: Paxos asks `heldFrom` before it proposes a trim.
 */
import { answer, arm, disarm, mark } from "../base/effect-list.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import type { RequestOf } from "../wire/messages.ts";
import { type HoldPhase, holdTransitions } from "./phases.ts";
import { factsOf, HOLDS_MAX, type Hold, type SyncState, scopeOf, type Turn, timingOf } from "./state.ts";

/** HOLD_REQs that wait for one trim: no more than there can be holds. */
const WAITING_MAX = HOLDS_MAX;
const timerOf = (name: string): string => `h.${name}`;

/** The lowest version that must stay: 0 while a new leader waits, null where nothing is held. */
export function heldFrom({ holds, leading }: SyncState, upMs: number): number | null {
  if (leading !== null && upMs < leading.waitUntilMs && !mutant("sync.new-leader-trims")) return 0;
  if (mutant("sync.no-hold")) return null;
  let lowest: number | null = null;
  for (const hold of holds.values()) if (lowest === null || hold.lowest < lowest) lowest = hold.lowest;
  return lowest;
}

/** Who leads, whether a trim ended: something of it may have changed. */
export function onHoldFacts(turn: Turn): void {
  const { state, upMs } = turn;
  const { leader, epoch, isTrimming, isFirstReign } = factsOf(turn);
  const leads = leader === state.config.self;
  if (state.leading !== null && (!leads || state.leading.epoch !== epoch)) depose(turn);
  if (leads && state.leading === null) {
    const waitMs = isFirstReign ? 0 : timingOf(turn).holdWaitMs;
    state.leading = { epoch, waitUntilMs: upMs + waitMs };
    if (waitMs > 0) mark(turn, "hold.new-leader", `leads in epoch ${epoch}: nothing is trimmed for ${waitMs} ms, holds may live`);
  }
  if (!isTrimming) for (const { id, from, body } of state.holdAsks.splice(0)) onHoldReq(turn, id, from, body);
}

function depose(turn: Turn): void {
  const { state } = turn;
  for (const { name } of state.holds.values()) disarm(turn, timerOf(name));
  if (state.holds.size > 0) mark(turn, "hold.deposed", `${state.holds.size} holds are the next leader's`);
  state.holds.clear();
  state.leading = null;
}

export function onHoldReq(turn: Turn, id: number, from: NodeId, body: RequestOf<"hold.req">): void {
  const { state, upMs } = turn;
  const facts = factsOf(turn);
  const no = objection(turn, body.epoch);
  if (no !== null) {
    refuse(turn, id, body.hold, no, from);
    return;
  }
  if (facts.isTrimming) {
    if (state.holdAsks.length >= WAITING_MAX) {
      refuse(turn, id, body.hold, "too-many", from);
      return;
    }
    mark(turn, "hold.waits", `hold for ${from} waits for the trim in flight`);
    state.holdAsks.push({ id, from, body });
    return;
  }
  const { first, last } = facts; // a trim that is chosen and not applied yet counts
  const name = body.hold.toHex();
  const before = state.holds.get(name);
  if (before === undefined && state.holds.size >= HOLDS_MAX) {
    refuse(turn, id, body.hold, "too-many", from);
    return;
  }
  const leaseMs = Math.min(body.leaseMs, timingOf(turn).holdLeaseMs);
  const lowest = Math.max(body.lowest, first); // what was trimmed before is told by the ack
  if (before === undefined) {
    state.holds.set(name, { id: body.hold, name, provider: from, phase: "active", lowest, sinceMs: upMs, renewedMs: upMs, leaseMs, bytes: 0 });
    mark(turn, "hold.active", `hold ${name.slice(0, 4)} ACTIVE for ${from}, lowest ${lowest}, lease ${leaseMs} ms`);
  } else before.renewedMs = upMs;
  arm(turn, timerOf(name), leaseMs);
  answer(turn, id, { kind: "hold.ack", ...scopeOf(turn), hold: body.hold, first, last, leaseMs });
}

export function onHoldRenew(turn: Turn, id: number, from: NodeId, body: RequestOf<"hold.renew">): void {
  const { state, upMs } = turn;
  const { first, last } = factsOf(turn);
  const hold = state.holds.get(body.hold.toHex());
  const no = objection(turn, body.epoch) ?? (hold === undefined ? "unknown" : upMs - hold.sinceMs > timingOf(turn).holdAgeMaxMs ? "limit" : null);
  if (no !== null || hold === undefined) {
    refuse(turn, id, body.hold, no ?? "unknown", from);
    return;
  }
  hold.renewedMs = upMs;
  hold.bytes = body.bytes;
  if (body.lowest > hold.lowest) hold.lowest = body.lowest;
  if (body.ending && hold.phase === "active") {
    enterHold(hold, "grace");
    mark(turn, "hold.grace", `hold ${hold.name.slice(0, 4)} GRACE, ${hold.leaseMs} ms left`);
  }
  arm(turn, timerOf(hold.name), hold.leaseMs);
  answer(turn, id, { kind: "hold.ack", ...scopeOf(turn), hold: body.hold, first, last, leaseMs: hold.leaseMs });
}

export function onHoldRelease(turn: Turn, id: number, from: NodeId, body: RequestOf<"hold.release">): void {
  const hold = turn.state.holds.get(body.hold.toHex());
  if (hold === undefined || hold.provider !== from) mark(turn, "hold.late-release", `${from} releases what is not held`);
  else {
    enterHold(hold, "released");
    turn.state.holds.delete(hold.name);
    disarm(turn, timerOf(hold.name));
    mark(turn, "hold.released", `hold ${hold.name.slice(0, 4)} RELEASED: ${body.reason}`);
  }
  answer(turn, id, { kind: "sync.noted", ...scopeOf(turn), transfer: body.hold });
}

/** Nobody renewed it: the failsafe of seed step 7. */
export function onHoldTimer(turn: Turn, name: string): void {
  const hold = turn.state.holds.get(name);
  if (hold === undefined || mutant("sync.hold-never-ends")) return;
  enterHold(hold, "expired");
  turn.state.holds.delete(name);
  mark(turn, "hold.expired", `hold ${name.slice(0, 4)} EXPIRED: ${hold.provider} did not renew it for ${hold.leaseMs} ms`);
}

/** Why this node may not grant a hold at all, or null. */
function objection(turn: Turn, askedIn: number): string | null {
  const facts = factsOf(turn);
  if (facts.leader !== turn.state.config.self) return "not-leader";
  if (askedIn !== facts.epoch) return "stale-epoch";
  if (!facts.isSettled) return "unsettled";
  // else its successor may be past its wait, and trim what is promised here
  if (!facts.hasLeases && !mutant("sync.grant-without-lease")) return "no-leases";
  return facts.isNearlyFull ? "disk-pressure" : null;
}

function refuse(turn: Turn, id: number, hold: Uint8Array, reason: string, from: NodeId): void {
  mark(turn, "hold.refused", `no hold for ${from}: ${reason}`);
  answer(turn, id, { kind: "hold.refused", ...scopeOf(turn), hold, reason, retryAfterMs: timingOf(turn).holdRetryMs });
}

function enterHold(hold: Hold, next: HoldPhase): void {
  invariant(holdTransitions[hold.phase].includes(next), `hold ${hold.name}: ${next} may follow ${hold.phase}`);
  hold.phase = next;
}
