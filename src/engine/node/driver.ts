/**
 * The real driver: performs the effects of one core against a disk, a transport and the clocks of this machine. It keeps
 * the numbered duties of base/effects.ts; `test/contract/driver.ts` holds it and the simulator's driver to them.
 * Hot path: events and effects are handed on as they are; nothing here copies or serialises a body.
 * It never decides anything about a protocol, and it does nothing more after the first failed write.
 */
import type { Clocks, Core, Db, Effect, Happening } from "../base/effects.ts";
import { EngineError, type ErrorCode } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { BrokenInvariant, unreachable } from "../base/invariant.ts";
import type { Disk } from "./disk.ts";

/** Requests that wait for an answer. Above it new ones are refused with LOG_BUSY: memory stays bounded under any load. */
const REQUESTS_OPEN_MAX = 16_384;
/** The longest wait that one system timer can hold. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Where sends go. Best effort: it never throws and never blocks. */
export type Transport<Send> = {
  send(to: NodeId, requestId: number, body: Send): void;
  close(): void;
};

/** How a driver's life ends: with a result, with an error, or because it was closed. */
export type Ending<Reply> =
  | { readonly kind: "done"; readonly body: Reply }
  | { readonly kind: "halt"; readonly code: ErrorCode; readonly detail: string }
  | { readonly kind: "closed" };

/** Opens a transport; answers and losses come back through the two functions. */
export type Connect<Answer, Send> = (on: { message(from: NodeId, requestId: number, body: Answer): void; lost(peer: NodeId): void }) => Transport<Send>;

export type DriverOptions<Request, Answer, Send, Reply> = {
  readonly core: Core<Request, Answer, Send, Reply>;
  readonly disk: Pick<Disk, "snapshot" | "write">;
  readonly connect: Connect<Answer, Send>;
  readonly mark?: (name: string, text: string | undefined) => void;
  /** Requests that wait for the end of the event loop's turn, so that those which came in it are stepped together (duty 11). */
  readonly joins?: (body: Request) => boolean;
};

export type Driver<Request, Reply> = {
  /** Delivers the first event. */
  start(): void;
  /** Resolves with the core's answer; rejects with LOG_BUSY at the bound, with NOT_READY or the halt's code at the end. */
  request(from: NodeId, body: Request, patienceMs?: number): Promise<Reply>;
  /** Ends it as if its core had asked. */
  halt(code: ErrorCode, detail: string): void;
  /** Stops at once; resolves when the writes in flight have ended. Requests still open are rejected. */
  close(): Promise<void>;
  readonly ended: Promise<Ending<Reply>>;
};

/** An event before its turn. */
type Waiting<Request, Answer> = Happening<Request, Answer> & Pick<Clocks, "timeMs">;
type Waiter<Reply> = { resolve(body: Reply): void; reject(error: EngineError): void };
type Armed = { readonly token: number; readonly handle: ReturnType<typeof setTimeout> };
/** One write of a step and the effects listed between it and the step's next write. `step` is shared by all of them. */
type Segment<Send, Reply> = { readonly step: { refused: boolean }; readonly after: Late<Send, Reply>[]; readonly accepts: boolean; ended: Promise<void> };
/** An effect that waits for a write. An `arm` keeps its place among all arms and disarms of its timer. */
type Late<Send, Reply> = { readonly effect: Effect<Send, Reply>; readonly order: number };

/** A driver whose core has not heard `start` yet. */
export function openDriver<Request, Answer, Send, Reply>(options: DriverOptions<Request, Answer, Send, Reply>): Driver<Request, Reply> {
  return new RealDriver(options);
}

class RealDriver<Request, Answer, Send, Reply> implements Driver<Request, Reply> {
  readonly ended: Promise<Ending<Reply>>;
  private readonly core: Core<Request, Answer, Send, Reply>;
  private readonly disk: Pick<Disk, "snapshot" | "write">;
  private readonly transport: Transport<Send>;
  private readonly mark: (name: string, text: string | undefined) => void;
  private readonly joins: (body: Request) => boolean;
  private readonly end: (ending: Ending<Reply>) => void;
  /** Events that wait for their turn; with a token where a timer may be disarmed before its turn comes. */
  private queue: { event: Waiting<Request, Answer>; token?: number }[] = [];
  private stepping = false;
  /** The end of this turn of the event loop is waited for. */
  private gathering = false;
  private ending: Ending<Reply> | null = null;
  private readonly waiters = new Map<number, Waiter<Reply>>();
  private lastRequestId = 0;
  private readonly timers = new Map<string, Armed>();
  /** Order of the last arm or disarm listed for each timer: a late arm that is not the last is dropped. */
  private readonly timerOrders = new Map<string, number>();
  private lastOrder = 0;
  /** Ends when every write asked for so far has ended, those of `accepts` aside. */
  private writes: Promise<void> = Promise.resolve();
  /** The same of those of `accepts`. */
  private accepts: Promise<void> = Promise.resolve();
  private inFlightCount = 0;
  /** Writes not yet handed to the disk. */
  private unhandedCount = 0;
  private unhandedAccepts = 0;
  /** The one database that all writes in flight are plain commits of, or null. */
  private lane: Db | null = null;

  constructor(options: DriverOptions<Request, Answer, Send, Reply>) {
    const { promise, resolve } = Promise.withResolvers<Ending<Reply>>();
    this.ended = promise;
    this.end = resolve;
    this.core = options.core;
    this.disk = options.disk;
    this.mark = options.mark ?? (() => {});
    this.joins = options.joins ?? (() => false);
    this.transport = options.connect({
      message: (from, requestId, body) => this.push({ kind: "message", timeMs: Date.now(), from, requestId, body }),
      lost: (peer) => this.push({ kind: "lost", timeMs: Date.now(), peer }),
    });
  }

  start(): void {
    this.push({ kind: "start", timeMs: Date.now() });
  }

  request(from: NodeId, body: Request, patienceMs?: number): Promise<Reply> {
    if (this.ending !== null) return Promise.reject(endingError(this.ending));
    if (this.waiters.size >= REQUESTS_OPEN_MAX)
      return Promise.reject(new EngineError("LOG_BUSY", `${this.waiters.size} requests are open, at most ${REQUESTS_OPEN_MAX}`));
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    const id = ++this.lastRequestId;
    this.waiters.set(id, { resolve, reject });
    const patience = patienceMs === undefined ? {} : { patienceMs };
    const event: Waiting<Request, Answer> = { kind: "request", timeMs: Date.now(), id, from, body, ...patience };
    if (this.joins(body)) this.gather(event);
    else this.push(event);
    return promise;
  }

  halt(code: ErrorCode, detail: string): void {
    this.finish({ kind: "halt", code, detail });
  }

  async close(): Promise<void> {
    this.finish({ kind: "closed" });
    await Promise.all([this.writes, this.accepts]);
  }

  private gather(event: Waiting<Request, Answer>): void {
    this.queue.push({ event });
    if (this.gathering || this.stepping) return;
    this.gathering = true;
    setImmediate(() => {
      this.gathering = false;
      if (!this.stepping && this.queue.length > 0 && this.ending === null) this.pump();
    });
  }

  private push(event: Waiting<Request, Answer>, token?: number): void {
    if (this.ending !== null) return;
    this.queue.push(token === undefined ? { event } : { event, token });
    if (!this.stepping) this.pump();
  }

  /** Duty 1: one event at a time. Duty 5: one snapshot serves a whole round, since `stored` never arrives within one. */
  private pump(): void {
    this.stepping = true;
    try {
      using snap = this.disk.snapshot();
      while (this.queue.length > 0 && this.ending === null) {
        const round = this.queue;
        this.queue = [];
        for (const [at, { event, token }] of round.entries()) {
          if (this.ending !== null) return;
          if (token !== undefined && !this.fired(event, token)) continue;
          const next = round[at + 1]?.event;
          const more = event.kind === "request" && next?.kind === "request" && this.joins(event.body) && this.joins(next.body); // duty 11
          // now, not when it came: a lease may have run out while it waited
          this.take(this.core.step(Object.assign(event, more ? { upMs: performance.now(), more } : { upMs: performance.now() }), snap));
        }
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.stepping = false;
    }
  }

  /** Duty 6: a timer disarmed or replaced after its time came, but before its turn, does not fire. */
  private fired(event: Waiting<Request, Answer>, token: number): boolean {
    if (event.kind !== "timer" || this.timers.get(event.timer)?.token !== token) return false;
    this.timers.delete(event.timer);
    if (this.timerOrders.get(event.timer) === token) this.timerOrders.delete(event.timer); // names of timers may be used once
    return true;
  }

  /** Duties 2 and 3: what follows a write waits in that write's segment. */
  private take(effects: readonly Effect<Send, Reply>[]): void {
    const step = { refused: false };
    let segment: Segment<Send, Reply> | null = null;
    for (const effect of effects) {
      if (this.ending !== null) return;
      if (effect.kind === "write") {
        const before: Segment<Send, Reply> | null = segment;
        segment = { step, after: [], accepts: effect.db === "accepts", ended: Promise.resolve() };
        if (segment.accepts) this.accept(effect, segment, before);
        else this.write(effect, segment, before);
      } else if (effect.kind === "mark") this.mark(effect.name, effect.text);
      else if (effect.kind === "disarm") this.disarm(effect.timer);
      else if (segment === null) this.perform(effect, this.orderOf(effect));
      else segment.after.push({ effect, order: this.orderOf(effect) });
    }
  }

  private orderOf(effect: Effect<Send, Reply>): number {
    if (effect.kind !== "arm") return 0;
    this.timerOrders.set(effect.timer, ++this.lastOrder);
    return this.lastOrder;
  }

  private perform(effect: Effect<Send, Reply>, order: number): void {
    switch (effect.kind) {
      case "send":
        this.transport.send(effect.to, effect.requestId, effect.body);
        return;
      case "answer":
        this.answer(effect.id, effect.body);
        return;
      case "arm":
        this.arm(effect.timer, effect.afterMs + Math.random() * (effect.jitterMs ?? 0), order);
        return;
      case "done":
        this.finish({ kind: "done", body: effect.body });
        return;
      case "halt":
        this.halt(effect.code, effect.detail);
        return;
      case "write":
      case "mark":
      case "disarm":
        throw new BrokenInvariant(`broken invariant: ${effect.kind} is never late`);
      default:
        unreachable(effect);
    }
  }

  /**
   * Duty 3: each write waits for the one before. Only plain commits of one database go to the disk together: its queue
   * keeps their order, and one fsync then serves them all.
   */
  private write(effect: Extract<Effect<Send, Reply>, { kind: "write" }>, segment: Segment<Send, Reply>, before: Segment<Send, Reply> | null): void {
    const { ticket, db, batch, local = [], files = [] } = effect;
    const isPlain = files.length === 0;
    const isBehind = before?.accepts === true;
    if (isBehind) this.writes = this.writes.then(() => before.ended);
    const hand = (): Promise<void> => {
      this.lane = isPlain ? db : null;
      return this.ending === null ? this.disk.write({ db, batch, local, files }) : Promise.resolve();
    };
    const joins = !isBehind && this.unhandedCount === 0 && (this.inFlightCount === 0 || (isPlain && this.lane === db));
    if (!joins) this.unhandedCount++;
    this.inFlightCount++;
    const done = joins
      ? hand()
      : this.writes.then(() => {
          this.unhandedCount--;
          return hand();
        });
    done.catch(() => {}); // heard below, once the writes before it have ended
    this.writes = this.writes
      .then(() => done)
      .finally(() => this.inFlightCount--)
      .then(
        () => this.stored(ticket, segment),
        (error: unknown) => this.unstored(ticket, segment, error),
      );
    segment.ended = this.writes;
  }

  /** Those of `accepts` go together too, and wait for another write only where their own step lists it before them. */
  private accept(
    { ticket, db, batch }: Extract<Effect<Send, Reply>, { kind: "write" }>,
    segment: Segment<Send, Reply>,
    before: Segment<Send, Reply> | null,
  ): void {
    const hand = (): Promise<void> => (this.ending === null ? this.disk.write({ db, batch }) : Promise.resolve());
    const behind = before === null || before.accepts ? null : before.ended;
    const isHanded = behind === null && this.unhandedAccepts === 0;
    if (!isHanded) this.unhandedAccepts++;
    const done = isHanded
      ? hand()
      : this.accepts
          .then(() => behind)
          .then(() => {
            this.unhandedAccepts--;
            return hand();
          });
    done.catch(() => {}); // heard below, once the writes before it have ended
    this.accepts = this.accepts
      .then(() => done)
      .then(
        () => this.stored(ticket, segment),
        (error: unknown) => this.unstored(ticket, segment, error),
      );
    segment.ended = this.accepts;
  }

  private stored(ticket: number, segment: Segment<Send, Reply>): void {
    if (this.ending !== null) return;
    // What was listed after the write goes first: the core hears `stored` when its own answers are on their way.
    this.stepping = true; // a loss told by a send waits until all of them are performed
    if (!segment.step.refused) for (const { effect, order } of segment.after) if (this.ending === null) this.perform(effect, order);
    this.stepping = false;
    this.push({ kind: "stored", timeMs: Date.now(), ticket });
  }

  /** Duty 4: only a lack of space is survived, and then nothing that waited for this step's writes ever happens. */
  private unstored(ticket: number, segment: Segment<Send, Reply>, error: unknown): void {
    if (error instanceof EngineError && error.code === "STORE_FULL") {
      segment.step.refused = true;
      this.push({ kind: "full", timeMs: Date.now(), ticket });
    } else this.fail(new EngineError("STORE_SYNC_FAILED", describeFailure(error).detail, { cause: error }));
  }

  private arm(timer: string, afterMs: number, order: number): void {
    if (this.timerOrders.get(timer) !== order) return; // a later arm or disarm was listed while this one waited for its write
    this.clear(timer);
    const handle = setTimeout(() => this.push({ kind: "timer", timeMs: Date.now(), timer }, order), Math.min(afterMs, TIMER_MS_MAX));
    this.timers.set(timer, { token: order, handle });
  }

  private disarm(timer: string): void {
    this.timerOrders.delete(timer);
    this.clear(timer);
  }

  private clear(timer: string): void {
    const armed = this.timers.get(timer);
    if (armed === undefined) return;
    clearTimeout(armed.handle);
    this.timers.delete(timer);
  }

  /** Duty 8: the first answer counts, and there may be nobody left to hear it. */
  private answer(id: number, body: Reply): void {
    const waiter = this.waiters.get(id);
    this.waiters.delete(id);
    waiter?.resolve(body);
  }

  private fail(error: unknown): void {
    const { code, detail } = describeFailure(error);
    this.halt(code, detail);
  }

  private finish(ending: Ending<Reply>): void {
    if (this.ending !== null) return;
    this.ending = ending;
    this.queue = [];
    for (const { handle } of this.timers.values()) clearTimeout(handle);
    this.timers.clear();
    this.transport.close();
    for (const waiter of this.waiters.values()) waiter.reject(endingError(ending));
    this.waiters.clear();
    this.end(ending);
  }
}

function endingError(ending: Ending<unknown>): EngineError {
  if (ending.kind === "halt") return new EngineError("NOT_READY", `this node stopped itself: ${ending.code}: ${ending.detail}`);
  return new EngineError("NOT_READY", "this node is stopping");
}

/** The code and detail of anything thrown: an error of the table as it is, everything else as FAILED. */
export function describeFailure(error: unknown): { code: ErrorCode; detail: string } {
  if (error instanceof EngineError) return { code: error.code, detail: error.message };
  return { code: "FAILED", detail: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}
