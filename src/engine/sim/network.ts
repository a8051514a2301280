/**
 * The simulated network: which fate a frame meets. Links have a direction; each may delay (so reorder), lose, repeat,
 * corrupt or be cut, and single messages may be held, released or dropped by rule. It decides and keeps what is held;
 * the world owns time and delivers. A corrupted frame never arrives: links are authenticated, so the link is dropped.
 */
import type { NodeId } from "../base/ids.ts";
import { nextBelow, nextChance, type Prng } from "../base/prng.ts";

export type LinkFaults = {
  /** Inclusive range; frames overtake each other where it is wide. */
  readonly delayMs: readonly [min: number, max: number];
  /** Probabilities per frame, 0 to 1. */
  readonly loss: number;
  readonly repeat: number;
  readonly corrupt: number;
};

export const PERFECT_LINK: LinkFaults = { delayMs: [1, 1], loss: 0, repeat: 0, corrupt: 0 };

/** One request or answer on its way, as bytes. `client` is the process instance that sent the request. */
export type Frame = {
  readonly id: number;
  readonly client: number;
  /** The name the client sent to: a node, or the register. */
  readonly server: NodeId;
  readonly toward: "server" | "client";
  readonly from: NodeId;
  readonly to: NodeId;
  readonly requestId: number;
  /** The body's kind, for rules and listings. */
  readonly kind: string;
  readonly bytes: Uint8Array;
};

/** Which frames a rule is about: `*` stands for any kind or node. */
export type FrameMatch = { readonly kind: string; readonly from: string; readonly to: string };

export const matches = (match: FrameMatch, frame: Pick<Frame, "kind" | "from" | "to">): boolean =>
  (match.kind === "*" || match.kind === frame.kind) && (match.from === "*" || match.from === frame.from) && (match.to === "*" || match.to === frame.to);

export const matchText = ({ kind, from, to }: FrameMatch): string => `${kind} ${from}→${to}`;

export type Fate =
  | { readonly fate: "arrives"; readonly delaysMs: readonly number[] }
  | { readonly fate: "held" }
  | { readonly fate: "lost" }
  | { readonly fate: "cut" }
  | { readonly fate: "corrupt" };

/** Delivered frames that can still be repeated by hand. */
const HISTORY_COUNT_MAX = 256;

const routeOf = (from: string, to: string): string => `${from}→${to}`;

export class Network {
  faults: LinkFaults;
  readonly held: Frame[] = [];
  private readonly links = new Map<string, LinkFaults>();
  private readonly cuts = new Set<string>();
  private holds: FrameMatch[] = [];
  private drops: { match: FrameMatch; left: number }[] = [];
  private readonly delivered: Frame[] = [];
  private deliveredCount = 0;

  constructor(faults: LinkFaults) {
    this.faults = faults;
  }

  /** Faults of one direction of one link; null takes them back to the default. */
  setLink(from: NodeId, to: NodeId, faults: LinkFaults | null): void {
    if (faults === null) this.links.delete(routeOf(from, to));
    else this.links.set(routeOf(from, to), faults);
  }

  linkOf(from: NodeId, to: NodeId): LinkFaults {
    return (this.links.size === 0 ? undefined : this.links.get(routeOf(from, to))) ?? this.faults;
  }

  /** Cuts one direction. A node always reaches itself. */
  cut(from: NodeId, to: NodeId): void {
    if (from !== to) this.cuts.add(routeOf(from, to));
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.cuts.size > 0 && this.cuts.has(routeOf(from, to));
  }

  /** Mends one direction, or with no arguments every cut and every link's own faults. */
  heal(from?: NodeId, to?: NodeId): void {
    if (from !== undefined && to !== undefined) {
      this.cuts.delete(routeOf(from, to));
      return;
    }
    this.cuts.clear();
    this.links.clear();
  }

  cutList(): string[] {
    return [...this.cuts].sort();
  }

  /** From now on matching frames are kept back until `release`. */
  hold(match: FrameMatch): void {
    if (!this.holds.some((each) => matchText(each) === matchText(match))) this.holds.push(match);
  }

  holdList(): string[] {
    return this.holds.map(matchText);
  }

  /** Ends the rules that `match` covers and hands back what they kept, oldest first. */
  release(match: FrameMatch): Frame[] {
    this.holds = this.holds.filter((rule) => !(matches(match, rule as Frame) || matchText(rule) === matchText(match)));
    return this.held.filter((frame) => matches(match, frame)).map((frame) => this.unhold(frame));
  }

  unhold(frame: Frame): Frame {
    const at = this.held.indexOf(frame);
    if (at >= 0) this.held.splice(at, 1);
    return frame;
  }

  /** The next `count` matching frames are lost. */
  dropNext(match: FrameMatch, count: number): void {
    this.drops.push({ match, left: count });
  }

  /** Decides what happens to a frame that was just sent. */
  route(frame: Frame, dice: Prng): Fate {
    if (this.isCut(frame.from, frame.to)) return { fate: "cut" };
    if (this.drops.length > 0 && this.dropped(frame)) return { fate: "lost" };
    if (this.holds.length > 0 && this.holds.some((match) => matches(match, frame))) {
      this.held.push(frame);
      return { fate: "held" };
    }
    const faults = this.linkOf(frame.from, frame.to);
    if (faults.loss > 0 && nextChance(dice, faults.loss)) return { fate: "lost" };
    if (faults.corrupt > 0 && nextChance(dice, faults.corrupt)) return { fate: "corrupt" };
    const delaysMs = [drawDelayMs(faults, dice)];
    if (faults.repeat > 0 && nextChance(dice, faults.repeat)) delaysMs.push(drawDelayMs(faults, dice));
    return { fate: "arrives", delaysMs };
  }

  /** Remembers a delivered frame, so that `dup` can repeat it. */
  remember(frame: Frame): void {
    this.delivered[this.deliveredCount++ % HISTORY_COUNT_MAX] = frame;
  }

  lastDelivered(match: FrameMatch): Frame | undefined {
    for (let back = 1; back <= Math.min(this.deliveredCount, HISTORY_COUNT_MAX); back++) {
      const frame = this.delivered[(this.deliveredCount - back) % HISTORY_COUNT_MAX];
      if (frame !== undefined && matches(match, frame)) return frame;
    }
    return undefined;
  }

  private dropped(frame: Frame): boolean {
    const rule = this.drops.find(({ match }) => matches(match, frame));
    if (rule === undefined) return false;
    if (--rule.left === 0) this.drops = this.drops.filter((each) => each !== rule);
    return true;
  }
}

function drawDelayMs({ delayMs: [min, max] }: LinkFaults, dice: Prng): number {
  return min === max ? min : min + nextBelow(dice, max - min + 1);
}
