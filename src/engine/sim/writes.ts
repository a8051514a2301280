/**
 * The writes of simulated processes on their way to disk (duties 2, 3, 4 and 9): in each lane in the order they were asked
 * for, one flush at a time, each flush a crash boundary of its own. Shares the node's disk between its processes.
 */
import type { Effect, Happening } from "../base/effects.ts";
import type { ErrorCode } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { nextBelow, type Prng } from "../base/prng.ts";
import type { Agenda } from "./agenda.ts";
import { applyFlush, type Flush, flushTarget, flushText, tearFlush } from "./disk.ts";
import { type BoundaryKind, type Item, type Keep, LANES, type Lane, labelOf, type PendingWrite, type Process, type SimNode } from "./process.ts";
import type { Trace } from "./trace.ts";

/** What the writes need of their world. */
export type WritesHost<In, Ans, Send, Reply> = {
  readonly agenda: Agenda<Item<In, Ans>>;
  readonly trace: Trace;
  readonly dice: Prng;
  node(id: NodeId): SimNode<In, Ans, Send, Reply>;
  crashesHere(process: Process<In, Ans, Send, Reply>, kind: BoundaryKind, what: string, when: "before" | "after"): boolean;
  performOne(process: Process<In, Ans, Send, Reply>, effect: Exclude<Effect<Send, Reply>, { kind: "write" }>): void;
  deliver(process: Process<In, Ans, Send, Reply>, event: Happening<In, Ans>): void;
  halt(process: Process<In, Ans, Send, Reply>, code: ErrorCode, detail: string): void;
  fail(process: Process<In, Ans, Send, Reply>, error: unknown): void;
};

export class Writes<In, Ans, Send, Reply> {
  private readonly host: WritesHost<In, Ans, Send, Reply>;
  private readonly flushMs: readonly [min: number, max: number];

  constructor(host: WritesHost<In, Ans, Send, Reply>, { flushMs }: { readonly flushMs: readonly [number, number] }) {
    this.host = host;
    this.flushMs = flushMs;
  }

  ask(process: Process<In, Ans, Send, Reply>, write: PendingWrite<Send, Reply>): void {
    process.writes.push(write);
    this.schedule(process);
  }

  /** Puts the next flush of each lane on the agenda, where there is one and none is there yet. */
  schedule(process: Process<In, Ans, Send, Reply>): void {
    if (process.writes.length === 0 || this.host.node(process.node).faults.paused) return;
    const [min, max] = this.flushMs;
    for (const lane of LANES) {
      if (process.flushing.has(lane) || underWay(process, lane) === undefined) continue;
      process.flushing.add(lane);
      this.host.agenda.push(min === max ? min : min + nextBelow(this.host.dice, max - min + 1), { kind: "flush", process: process.id, lane });
    }
  }

  /** One flush of a lane's first write; after its last one, what waited for it, then `stored`. */
  flush(process: Process<In, Ans, Send, Reply>, lane: Lane): void {
    process.flushing.delete(lane);
    const { faults } = this.host.node(process.node);
    const write = underWay(process, lane);
    invariant(write !== undefined, "a flush is scheduled for a write");
    if (faults.paused) return;
    if (write.next === 0 && (faults.full || faults.fullNext > 0)) {
      if (!faults.full) faults.fullNext--;
      this.refuseForSpace(process, write);
    } else if (this.makeDurable(process, write.flushes[write.next] as Flush) && ++write.next === write.flushes.length) this.finish(process, write);
    if (process.end === null) this.schedule(process);
  }

  /** A crash: of the flushes that were under way, so much is kept. */
  abandon(process: Process<In, Ans, Send, Reply>, keep: Keep): void {
    for (const lane of LANES) {
      const write = underWay(process, lane);
      const flush = write?.flushes[write.next];
      if (flush !== undefined) this.keepPart(this.host.node(process.node), flush, keep);
    }
  }

  /** Whether the process lived through it. */
  private makeDurable(process: Process<In, Ans, Send, Reply>, flush: Flush): boolean {
    const { host } = this;
    const node = host.node(process.node);
    const target = flushTarget(flush);
    if (host.crashesHere(process, flush.change, target, "before")) return false;
    if (node.faults.failNext > 0) {
      node.faults.failNext--;
      this.keepPart(node, flush, "torn");
      host.halt(process, "STORE_SYNC_FAILED", `${target} on ${node.id}: the disk failed`);
      return false;
    }
    try {
      node.disk = applyFlush(node.disk, flush);
    } catch (error) {
      host.fail(process, error);
      return false;
    }
    if (host.trace.recording) host.trace.say(`${labelOf(process)}: ${flushText(flush)}`);
    return !host.crashesHere(process, flush.change, target, "after");
  }

  private finish(process: Process<In, Ans, Send, Reply>, write: PendingWrite<Send, Reply>): void {
    process.writes.splice(process.writes.indexOf(write), 1);
    for (const effect of write.waiting) {
      if (process.end !== null) return;
      invariant(effect.kind !== "write", "writes wait for nobody");
      this.host.performOne(process, effect);
    }
    if (process.end === null) this.host.deliver(process, { kind: "stored", ticket: write.ticket });
  }

  /** The write leaves nothing behind, and what its step listed after it never happens. */
  private refuseForSpace(process: Process<In, Ans, Send, Reply>, write: PendingWrite<Send, Reply>): void {
    process.writes.splice(process.writes.indexOf(write), 1);
    for (const later of process.writes) if (later.step === write.step) later.waiting = [];
    this.host.trace.say(`${labelOf(process)}: no space for ${write.flushes.map(flushTarget).join(", ")}`);
    this.host.deliver(process, { kind: "full", ticket: write.ticket });
  }

  private keepPart(node: SimNode<In, Ans, Send, Reply>, flush: Flush, keep: Keep): void {
    const luck = keep === "random" ? nextBelow(this.host.dice, 3) : ["none", "torn", "all"].indexOf(keep);
    if (luck === 2) node.disk = applyFlush(node.disk, flush);
    if (luck === 1) node.disk = tearFlush(node.disk, flush, "bytes" in flush ? nextBelow(this.host.dice, flush.bytes.length + 1) : 0);
  }
}

/** A lane's first write, unless an earlier one of the same step is still on its way in the other lane. */
function underWay<In, Ans, Send, Reply>({ writes }: Process<In, Ans, Send, Reply>, lane: Lane): PendingWrite<Send, Reply> | undefined {
  const first = writes.find((write) => write.lane === lane);
  return first === undefined || writes.find(({ step }) => step === first.step) !== first ? undefined : first;
}
