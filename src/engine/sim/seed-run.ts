/**
 * What the seed runs of every area do alike: let time go on between two deeds, send again what was delivered long ago, end
 * standing faults, compare stores, and say how it went. What a seed draws, and in which order, is the area's own.
 */
import type { NodeId } from "../base/ids.ts";
import { nextBelow, nextOf, type Prng } from "../base/prng.ts";
import type { SeedReport } from "./area.ts";
import { diffDisks } from "./disk.ts";
import { PERFECT_LINK } from "./network.ts";
import { doDeeds, type Tape } from "./tape.ts";
import type { World } from "./world.ts";

/** Up to so many events, none due at `endMs` or later; a broken invariant ends it. */
function drift<In, Ans, Send, Reply>(world: World<In, Ans, Send, Reply>, count: number, endMs = Number.POSITIVE_INFINITY): void {
  for (let i = 0; i < count && world.violations.length === 0; i++) {
    if ((world.nextMs() ?? endMs) >= endMs || !world.step()) return;
  }
}

/** What a seed does before it heals: a deed, up to `driftMax` events of time, the next deed. */
export type Safety = {
  readonly dice: Prng;
  readonly eventsMax: number;
  readonly tape: Tape | undefined;
  readonly driftMax: number;
  /** No further than this. */
  readonly driftMs?: number;
  act(): void;
};

export function safetyPhase<In, Ans, Send, Reply>(world: World<In, Ans, Send, Reply>, { dice, eventsMax, tape, driftMax, driftMs, act }: Safety): void {
  const deeds = {
    dice,
    isOpen: () => world.eventCount < eventsMax,
    isBroken: () => world.violations.length > 0,
    act,
    drift: () => drift(world, nextBelow(dice, driftMax), driftMs === undefined ? undefined : world.nowMs + driftMs),
  };
  doDeeds(deeds, tape);
}

/** The newest message of a drawn kind is delivered once more: it was on its way in a socket, from a process that may be gone. */
export function replayOne<In, Ans, Send, Reply>(
  { network, courier }: World<In, Ans, Send, Reply>,
  dice: Prng,
  { kinds, withinMs }: { readonly kinds: readonly string[]; readonly withinMs: number },
): void {
  const frame = network.lastDelivered({ kind: nextOf(dice, kinds), from: "*", to: "*" });
  if (frame !== undefined) courier.launch(courier.copyOf(frame), nextBelow(dice, withinMs));
}

/** Ends one standing fault of a node that is up; where it has none, those of the links. */
export function endOneFault<In, Ans, Send, Reply>(world: World<In, Ans, Send, Reply>, id: NodeId): void {
  const { paused, faults } = world.node(id);
  if (paused) world.resumeNode(id);
  else if (faults.paused) world.resumeDisk(id);
  else if (faults.full) faults.full = false;
  else world.network.heal();
}

export function healLinks<In, Ans, Send, Reply>({ network }: World<In, Ans, Send, Reply>): void {
  network.faults = PERFECT_LINK;
  network.heal();
}

/** A node and its disk work again; whether it runs is another matter. */
export function healNode<In, Ans, Send, Reply>(world: World<In, Ans, Send, Reply>, id: NodeId): void {
  const { faults, paused } = world.node(id);
  Object.assign(faults, { full: false, fullNext: 0, failNext: 0 });
  if (paused) world.resumeNode(id);
  if (faults.paused) world.resumeDisk(id);
}

export function storesEqual<In, Ans, Send, Reply>(world: World<In, Ans, Send, Reply>, ids: readonly NodeId[]): boolean {
  const [one, ...others] = ids.map((id) => world.node(id).disk);
  return one !== undefined && others.every((other) => diffDisks(one, other, "replicated", 1).length === 0);
}

export function seedReport<In, Ans, Send, Reply>(world: World<In, Ans, Send, Reply>, seed: number): SeedReport {
  const [violation] = world.violations;
  return { seed, events: world.eventCount, traceHash: world.trace.hash, violation: violation ?? null, marks: world.trace.marks };
}
