/**
 * How far a world runs: until it is settled, for a while, until a condition holds. All loops are bounded; whoever
 * steers is told what ended the run.
 */
import type { WorldFace } from "./world-face.ts";

/** A run without a limit ends here: something keeps itself busy for ever. */
const RUN_EVENTS_MAX = 1_000_000;
/** Virtual time that a run without a limit may take. */
export const RUN_MS_MAX = 10 * 60_000;

export type RunEnd = "quiet" | "met" | "time" | "bound";

/** A world whose timers always have something in flight never settles: it is left alone after this. */
const SETTLE_MS_MAX = 10_000;

/** Until nothing is in flight and every write is stored; timers stay armed, unless they come due on the way. */
export function settle(world: WorldFace): RunEnd {
  const endMs = world.nowMs + SETTLE_MS_MAX;
  const end = runWhile(world, () => !world.settled && (world.nextMs() ?? endMs) < endMs);
  return world.settled ? end : "bound";
}

/** Everything that is due at this very moment. */
export const runNow = (world: WorldFace): RunEnd => runFor(world, 0);

/** Until only periodic timers are left, or the condition holds. */
export function runUntil(world: WorldFace, met: () => boolean = () => false): RunEnd {
  if (met()) return "met";
  let isMet = false;
  const endMs = world.nowMs + RUN_MS_MAX;
  const end = runWhile(world, () => {
    isMet = met();
    return !isMet && !world.idle && (world.nextMs() ?? endMs) < endMs;
  });
  return isMet ? "met" : end === "quiet" && !world.idle ? "bound" : end;
}

/** For so much virtual time; the clock stands at its end afterwards. */
export function runFor(world: WorldFace, ms: number, met: () => boolean = () => false): RunEnd {
  const endMs = world.nowMs + ms;
  let isMet = false;
  const end = runWhile(world, () => {
    isMet = met();
    return !isMet && (world.nextMs() ?? Number.POSITIVE_INFINITY) <= endMs;
  });
  if (isMet) return "met";
  if (end === "quiet") world.advanceTo(endMs);
  return end === "quiet" ? "time" : end;
}

function runWhile(world: WorldFace, goesOn: () => boolean): RunEnd {
  for (let count = 0; goesOn(); count++) {
    if (count === RUN_EVENTS_MAX) return "bound";
    if (!world.step()) return "quiet";
  }
  return "quiet";
}
