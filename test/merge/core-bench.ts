/**
 * The smallest honest driver for one core: a disk, what was sent, what was answered. Writes are held until the test
 * stores them, refuses them for lack of space, or crashes; effects behind a write wait for it (duty 2). Every step runs on
 * a structured clone of the state, so a core that hides something in it is caught.
 */
import type { Effect, Event, Snapshot } from "../../src/engine/base/effects.ts";
import type { NodeId } from "../../src/engine/base/ids.ts";
import { applyFlush, type DiskImage, DiskSnapshot, emptyDisk, type Flush, flushesOf, tearFlush } from "../../src/engine/sim/disk.ts";

export type Step<State, Request, Answer, Send, Reply> = (state: State, event: Event<Request, Answer>, snap: Snapshot) => readonly Effect<Send, Reply>[];
type Held<Send, Reply> = { readonly ticket: number; readonly flushes: readonly Flush[]; readonly waiting: Effect<Send, Reply>[] };
export type Sent<Send> = { readonly to: NodeId; readonly requestId: number; readonly body: Send };

/** A disk that several cores share, as the steps of a primary do. */
export type Disk = { image: DiskImage };
export const newDisk = (): Disk => ({ image: emptyDisk });

export class CoreBench<State, Request, Answer, Send, Reply> {
  readonly sent: Sent<Send>[] = [];
  readonly answers = new Map<number, Reply>();
  readonly marks: string[] = [];
  readonly timers = new Map<string, number>();
  readonly writes: Held<Send, Reply>[] = [];
  /** Set once the core ended. */
  done: Reply | null = null;
  halted: string | null = null;
  timeMs = 1_000_000;
  writeCount = 0;
  private requestCount = 0;
  private readonly step: Step<State, Request, Answer, Send, Reply>;
  state: State;
  readonly disk: Disk;
  /** Off for measuring. */
  cloning = true;

  constructor(step: Step<State, Request, Answer, Send, Reply>, initial: State, disk: Disk = newDisk()) {
    this.step = step;
    this.state = initial;
    this.disk = disk;
  }

  get snap(): Snapshot {
    return new DiskSnapshot(this.disk.image, "bench");
  }

  start(): this {
    this.take({ kind: "start", timeMs: this.timeMs, upMs: this.timeMs });
    return this;
  }

  request(from: NodeId, body: Request, more = false): number {
    const id = ++this.requestCount;
    this.take({ kind: "request", timeMs: this.timeMs, upMs: this.timeMs, id, from, body, ...(more ? { more } : {}) });
    return id;
  }

  message(from: NodeId, requestId: number, body: Answer): void {
    this.take({ kind: "message", timeMs: this.timeMs, upMs: this.timeMs, from, requestId, body });
  }

  /** Fires an armed timer; false where none of that name is armed. */
  fire(timer: string): boolean {
    const afterMs = this.timers.get(timer);
    if (afterMs === undefined) return false;
    this.timers.delete(timer);
    this.timeMs += afterMs;
    this.take({ kind: "timer", timeMs: this.timeMs, upMs: this.timeMs, timer });
    return true;
  }

  lost(peer: NodeId): void {
    this.take({ kind: "lost", timeMs: this.timeMs, upMs: this.timeMs, peer });
  }

  /** Makes the oldest write durable; false where none is held. */
  storeNext(): boolean {
    const write = this.writes.shift();
    if (write === undefined) return false;
    for (const flush of write.flushes) this.disk.image = applyFlush(this.disk.image, flush);
    this.take({ kind: "stored", timeMs: this.timeMs, upMs: this.timeMs, ticket: write.ticket });
    for (const effect of write.waiting) this.perform(effect);
    return true;
  }

  storeAll(): void {
    while (this.storeNext());
  }

  /** Refuses the oldest write for lack of space: nothing of it is there, nothing behind it happens. */
  refuseNext(): void {
    const write = this.writes.shift();
    if (write !== undefined) this.take({ kind: "full", timeMs: this.timeMs, upMs: this.timeMs, ticket: write.ticket });
  }

  /** The process dies while the oldest write is under way: so many of its flushes are done, the next one is torn. */
  crash(flushCount: number, tornBytes = 0): void {
    for (const [at, flush] of (this.writes[0]?.flushes ?? []).entries()) {
      if (at < flushCount) this.disk.image = applyFlush(this.disk.image, flush);
      else if (at === flushCount && tornBytes > 0) this.disk.image = tearFlush(this.disk.image, flush, tornBytes);
    }
    this.writes.length = 0;
    this.sent.length = 0;
  }

  /** Takes what was sent since the last call. */
  takeSent(): Sent<Send>[] {
    return this.sent.splice(0);
  }

  private take(event: Event<Request, Answer>): void {
    if (this.done !== null || this.halted !== null) return;
    if (this.cloning) this.state = structuredClone(this.state);
    let held: Held<Send, Reply> | null = null;
    for (const effect of this.step(this.state, event, this.snap)) {
      if (effect.kind === "write") {
        held = { ticket: effect.ticket, flushes: flushesOf(effect), waiting: [] };
        this.writes.push(held);
        this.writeCount++;
      } else if (held !== null && effect.kind !== "mark") held.waiting.push(effect);
      else this.perform(effect);
    }
  }

  private perform(effect: Effect<Send, Reply>): void {
    if (effect.kind === "send") this.sent.push(effect);
    else if (effect.kind === "answer") this.answer(effect.id, effect.body);
    else if (effect.kind === "arm") this.timers.set(effect.timer, effect.afterMs);
    else if (effect.kind === "disarm") this.timers.delete(effect.timer);
    else if (effect.kind === "mark") this.marks.push(effect.name);
    else if (effect.kind === "done") this.done = effect.body;
    else if (effect.kind === "halt") this.halted = effect.code;
  }

  private answer(id: number, body: Reply): void {
    if (this.answers.has(id)) throw new Error(`request ${id} was answered twice (duty 8)`);
    this.answers.set(id, body);
  }
}
