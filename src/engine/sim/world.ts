/**
 * The simulated driver (sync.md 5.5): performs the effects of cores exactly by the duties of `base/effects.ts`, in
 * virtual time, on simulated disks and links. One seeded generator is the only chance there is, so a seed is a run.
 * Nodes hold processes (one daemon, a register, steps that run once) that share the node's disk, as real ones share a
 * folder. Never reads a clock, and never looks into a message: bodies pass through the wire codec as bytes.
 */
import type { Core, Effect, Event, Happening } from "../base/effects.ts";
import { EngineError, type ErrorCode } from "../base/errors.ts";
import { CLIENT, type NodeId } from "../base/ids.ts";
import { BrokenInvariant, invariant, unreachable } from "../base/invariant.ts";
import { nextBelow, type Prng, prng } from "../base/prng.ts";
import { Agenda, type Entry } from "./agenda.ts";
import { Courier } from "./courier.ts";
import { CrashPoints } from "./crash-points.ts";
import { describeBody } from "./describe.ts";
import { DiskSnapshot, flushesOf } from "./disk.ts";
import { type Frame, type LinkFaults, Network, PERFECT_LINK } from "./network.ts";
import { NodeTable } from "./node-table.ts";
import {
  type Boundary,
  type BoundaryKind,
  type Caller,
  type ClientCall,
  type CrashPoint,
  DAEMON,
  type Item,
  type Keep,
  type Lane,
  labelOf,
  type PendingWrite,
  type Process,
  type ProcessEnd,
  whatOf,
} from "./process.ts";
import { Trace, withMark } from "./trace.ts";
import type { Violation, WorldFace } from "./world-face.ts";
import { Writes } from "./writes.ts";

/** How bodies become frames, both ways. */
export type WireCodec<In, Ans, Send, Reply> = {
  encodeRequest(body: Send): Uint8Array;
  decodeRequest(raw: Uint8Array): In;
  encodeAnswer(body: Reply): Uint8Array;
  decodeAnswer(raw: Uint8Array): Ans;
};

export type WorldOptions<In, Ans, Send, Reply> = {
  readonly seed: number;
  readonly wire: WireCodec<In, Ans, Send, Reply>;
  readonly link?: Partial<LinkFaults>;
  /** Inclusive range of the time one flush takes. */
  readonly flushMs?: readonly [min: number, max: number];
  /** Until a sender learns that a link is cut. */
  readonly lostAfterMs?: number;
  /** What crashes keep where nobody says. */
  readonly keep?: Keep;
  /** Trace lines for people: on in stories, off in seed runs. */
  readonly recording?: boolean;
  /** One line of a body, in trace lines. */
  readonly describe?: (body: unknown) => string;
  /** Timers that come back for ever: a run without a limit does not wait for them. */
  readonly periodic?: (timer: string, process: string) => boolean;
};

/** Wall clock at virtual time 0: 2025-01-01T00:00:00Z. */
export const EPOCH_MS = 1_735_689_600_000;

/** Numbers for the trace hash. */
const ITEM_CODES = { event: 1, frame: 2, timer: 3, flush: 4, lost: 5 } as const;
const NO_EFFECTS: readonly never[] = [];

export class World<In, Ans, Send = In, Reply = Ans> extends NodeTable<In, Ans, Send, Reply> implements WorldFace {
  readonly dice: Prng;
  readonly trace: Trace;
  readonly network: Network;
  readonly agenda = new Agenda<Item<In, Ans>>();
  /** Every process there was, by instance number. */
  readonly processes = new Map<number, Process<In, Ans, Send, Reply>>();
  /** Broken invariants of the shipped code, and what `check` found. */
  readonly violations: Violation[] = [];
  /** Items of the agenda that were taken. */
  eventCount = 0;
  /** Effects that were performed: what a crash grid counts through. */
  boundaryCount = 0;
  /** Told of every boundary, for whoever lists them. */
  onBoundary: ((boundary: Boundary) => void) | null = null;
  /** Called after each event: says what is wrong, or throws BrokenInvariant. */
  check: (() => string | null) | null = null;

  private readonly options: Required<Omit<WorldOptions<In, Ans, Send, Reply>, "link">>;
  /** Frames under way, to be looked at and moved by hand. */
  readonly courier: Courier<In, Ans, Send, Reply>;
  private readonly writes: Writes<In, Ans, Send, Reply>;
  private readonly alivePerId = new Map<number, Process<In, Ans, Send, Reply>>();
  private readonly parked: { atMs: number; item: Item<In, Ans> }[] = [];
  private readonly crashPoints = new CrashPoints();
  private lastProcessId = 0;

  constructor(options: WorldOptions<In, Ans, Send, Reply>) {
    super();
    this.options = { flushMs: [0, 0], lostAfterMs: 200, keep: "none", recording: false, describe: describeBody, periodic: () => false, ...options };
    this.dice = prng(options.seed);
    this.trace = new Trace(this.options.recording);
    this.network = new Network({ ...PERFECT_LINK, ...options.link });
    this.courier = new Courier(this, this.options);
    this.writes = new Writes(this, this.options);
  }

  // Nodes and processes

  /** Starts those of a node's services that are not running. */
  startNode(id: NodeId): void {
    for (const [name, make] of this.node(id).services) if (!this.node(id).running.has(name)) this.startProcess(id, name, make());
  }

  /** Starts one process: a step that runs once, or a service. A name that is running is refused: it is the step's lock. */
  startProcess(id: NodeId, name: string, core: Core<In, Ans, Send, Reply>): Process<In, Ans, Send, Reply> {
    const node = this.node(id);
    const holder = node.running.get(name);
    if (holder !== undefined) throw new EngineError("MERGE_STEP_BUSY", `${name} on ${id} is running as process ${holder}`);
    const counts = { lastRequestId: 0, stepCount: 0, end: null };
    const collections = { timers: new Map(), writes: [], flushing: new Set<Lane>(), requests: new Map(), links: new Set<NodeId>() };
    const process: Process<In, Ans, Send, Reply> = { id: ++this.lastProcessId, node: id, name, core, ...collections, ...counts };
    this.processes.set(process.id, process);
    this.alivePerId.set(process.id, process);
    node.running.set(name, process.id);
    this.trace.say(`${labelOf(process)}: starts`);
    this.agenda.push(0, { kind: "event", process: process.id, event: { kind: "start" } });
    return process;
  }

  alive(id: number): Process<In, Ans, Send, Reply> | null {
    return this.alivePerId.get(id) ?? null;
  }

  running(id: NodeId, name: string): Process<In, Ans, Send, Reply> | null {
    return this.alive(this.nodes.get(id)?.running.get(name) ?? 0);
  }

  /** A local client's request to a node; the answer appears in the call that is returned. */
  request(id: NodeId, body: In, service = DAEMON, from: NodeId = CLIENT): ClientCall<Reply> {
    const process = this.running(id, service);
    const call: ClientCall<Reply> = { node: this.node(id).id, service, state: process === null ? "lost" : "waiting", body: null };
    if (process !== null) this.agenda.push(0, { kind: "event", process: process.id, event: asked(process, { kind: "client", call }, from, body) });
    return call;
  }

  /** Power cut: every process of the node ends, and what was not durable may be gone. */
  crashNode(id: NodeId, keep: Keep = this.options.keep): void {
    for (const number of [...this.node(id).running.values()]) this.endHard(this.alive(number), keep);
    this.trace.say(`${id}: crashed`);
    if (this.node(id).paused) this.resumeNode(id);
  }

  /** Ends one process without warning. */
  kill(process: Process<In, Ans, Send, Reply>, keep: Keep = this.options.keep): void {
    this.endHard(process, keep);
    this.trace.say(`${labelOf(process)}: killed`);
  }

  killByName(id: NodeId, name: string, keep?: Keep): void {
    const process = this.running(id, name);
    if (process === null) throw new EngineError("NOT_FOUND", `${name} does not run on ${id}: there are ${this.runningOn(id).join(", ") || "none"}`);
    this.kill(process, keep);
  }

  /** Stops a node in its tracks, as SIGSTOP does; peers notice nothing but silence. */
  pauseNode(id: NodeId): void {
    this.node(id).paused = true;
  }

  resumeNode(id: NodeId): void {
    this.node(id).paused = false;
    for (const { atMs, item } of this.parked.splice(0)) this.agenda.pushAt(Math.max(atMs, this.nowMs), item);
  }

  /** Something crashes at this point, once. */
  crashAt(point: CrashPoint): void {
    this.crashPoints.add(point);
  }

  /** Crash points that were not reached yet. */
  get crashPointCount(): number {
    return this.crashPoints.count;
  }

  // Disks

  pauseDisk(id: NodeId): void {
    this.node(id).faults.paused = true;
  }

  resumeDisk(id: NodeId): void {
    this.node(id).faults.paused = false;
    for (const process of this.live()) if (process.node === id) this.writes.schedule(process);
  }

  // Time

  get nowMs(): number {
    return this.agenda.nowMs;
  }

  /** Takes the next item of the agenda; false when there is none. */
  step(): boolean {
    const entry = this.due();
    if (entry === undefined) return false;
    this.agenda.pop();
    this.agenda.moveTo(entry.atMs);
    this.eventCount++;
    this.trace.fold((ITEM_CODES[entry.what.kind] << 24) ^ entry.atMs);
    this.take(entry.what);
    this.runCheck();
    return true;
  }

  /** Time of the next item, or null. */
  nextMs(): number | null {
    return this.due()?.atMs ?? null;
  }

  get settled(): boolean {
    return this.agenda.workCount === 0;
  }

  get idle(): boolean {
    if (!this.settled) return false;
    for (const { name, timers } of this.live()) for (const timer of timers.keys()) if (!this.options.periodic(timer, name)) return false;
    return true;
  }

  /** Lets virtual time pass with nothing happening in it. */
  advanceTo(atMs: number): void {
    invariant((this.nextMs() ?? atMs) >= atMs, "time passes over nothing that is due");
    this.agenda.moveTo(atMs);
  }

  /** Live processes, oldest first. */
  live(): Iterable<Process<In, Ans, Send, Reply>> {
    return this.alivePerId.values();
  }

  timers(): { owner: string; timer: string; atMs: number }[] {
    return [...this.live()].flatMap((process) => [...process.timers].map(([timer, { atMs }]) => ({ owner: labelOf(process), timer, atMs })));
  }

  // What happens

  /** A frame reaches its process, or finds nobody. */
  arrive(frame: Frame): void {
    const target = this.courier.land(frame);
    if (target === null) return;
    const { client, server, requestId } = frame;
    if (frame.toward === "client") this.deliver(target, { kind: "message", from: server, requestId, body: this.courier.decodeAnswer(frame) });
    else this.deliver(target, asked(target, { kind: "process", client, server, requestId }, frame.from, this.courier.decodeRequest(frame)));
  }

  /** The next entry that somebody waits for; what it passes over is gone, or parked. */
  private due(): Entry<Item<In, Ans>> | undefined {
    for (let entry = this.agenda.peek(); entry !== undefined; entry = this.agenda.peek()) {
      if (!this.isStale(entry.what) && !this.park(entry.atMs, entry.what)) return entry;
      this.agenda.pop();
    }
    return undefined;
  }

  private take(item: Item<In, Ans>): void {
    if (item.kind === "frame") {
      this.arrive(item.frame);
      return;
    }
    const process = this.alive(item.process);
    invariant(process !== null, "stale items were passed over");
    this.trace.fold(process.id);
    switch (item.kind) {
      case "event":
        this.deliver(process, item.event);
        return;
      case "timer":
        process.timers.delete(item.timer);
        this.trace.say(`${labelOf(process)}: timer ${item.timer}`);
        this.deliver(process, { kind: "timer", timer: item.timer });
        return;
      case "flush":
        this.writes.flush(process, item.lane);
        return;
      case "lost":
        this.trace.say(`${labelOf(process)}: lost the link to ${item.peer}`);
        this.deliver(process, { kind: "lost", peer: item.peer });
        return;
      default:
        unreachable(item);
    }
  }

  /** An item of a process that ended, or a timer that was disarmed or replaced. */
  private isStale(item: Item<In, Ans>): boolean {
    if (item.kind === "frame") return false;
    const process = this.alive(item.process);
    return process === null || (item.kind === "timer" && process.timers.get(item.timer)?.armed !== item.armed);
  }

  /** Puts an item of a paused node aside. */
  private park(atMs: number, item: Item<In, Ans>): boolean {
    const process = item.kind === "frame" ? this.courier.targetOf(item.frame) : this.alive(item.process);
    if (process === null || !this.node(process.node).paused) return false;
    this.parked.push({ atMs, item });
    return true;
  }

  private runCheck(): void {
    if (this.check === null) return;
    let wrong: string | null;
    try {
      wrong = this.check();
    } catch (error) {
      if (!(error instanceof BrokenInvariant || error instanceof EngineError)) throw error;
      wrong = error.message;
    }
    if (wrong !== null) this.violations.push({ invariant: wrong, at: this.eventCount });
  }

  // One step of one core, and its effects

  /** `start` is the first event of every process, also where something else was on its way to a node that just came up. */
  deliver(process: Process<In, Ans, Send, Reply>, event: Happening<In, Ans>): void {
    if (process.stepCount > 0 && event.kind === "start") return;
    if (process.stepCount === 0 && event.kind !== "start") this.stepOnce(process, { kind: "start" });
    if (process.end === null) this.stepOnce(process, event);
  }

  private stepOnce(process: Process<In, Ans, Send, Reply>, event: Happening<In, Ans>): void {
    const node = this.node(process.node);
    const snapshot = new DiskSnapshot(node.disk, node.id);
    process.stepCount++;
    let effects: readonly Effect<Send, Reply>[] = NO_EFFECTS;
    try {
      const clocks = { timeMs: EPOCH_MS + this.nowMs + node.clockSkewMs, upMs: this.nowMs * node.clockRate };
      effects = process.core.step({ ...event, ...clocks } as Event<In, Ans>, snapshot);
    } catch (error) {
      this.fail(process, error);
    } finally {
      snapshot.expire();
    }
    if (process.end === null) this.perform(process, effects);
  }

  /** Duties 1 and 2: in the order listed; what may not overtake the write before it waits with that write. */
  private perform(process: Process<In, Ans, Send, Reply>, effects: readonly Effect<Send, Reply>[]): void {
    let barrier: PendingWrite<Send, Reply> | null = null;
    for (const effect of effects) {
      if (process.end !== null) return;
      if (effect.kind === "write") {
        barrier = {
          ticket: effect.ticket,
          step: process.stepCount,
          lane: effect.db === "accepts" ? "accepts" : "store",
          flushes: flushesOf(effect),
          next: 0,
          waiting: [],
        };
        this.writes.ask(process, barrier);
      } else if (barrier === null || effect.kind === "disarm" || effect.kind === "mark") this.performOne(process, effect);
      else barrier.waiting.push(effect);
    }
  }

  performOne(process: Process<In, Ans, Send, Reply>, effect: Exclude<Effect<Send, Reply>, { kind: "write" }>): void {
    const what = whatOf(effect);
    if (this.crashesHere(process, effect.kind, what, "before")) return;
    switch (effect.kind) {
      case "send":
        this.courier.sendRequest(process, effect.to, effect.requestId, effect.body);
        break;
      case "answer":
        this.answer(process, effect.id, effect.body);
        break;
      case "arm":
        forgetWaitingArms(process, effect.timer);
        this.arm(process, effect.timer, effect.afterMs + (effect.jitterMs === undefined ? 0 : nextBelow(this.dice, effect.jitterMs + 1)));
        break;
      case "disarm":
        forgetWaitingArms(process, effect.timer);
        process.timers.delete(effect.timer);
        break;
      case "mark":
        this.trace.mark(effect.name);
        if (this.trace.recording) this.trace.say(withMark(`${labelOf(process)}: ${effect.text ?? markWords(effect.name)}`, effect.name));
        break;
      case "done":
        if (this.trace.recording) this.trace.say(`${labelOf(process)}: done, ${this.options.describe(effect.body)}`);
        this.end(process, { kind: "done", body: effect.body });
        break;
      case "halt":
        this.halt(process, effect.code, effect.detail);
        break;
      default:
        unreachable(effect);
    }
    this.crashesHere(process, effect.kind, what, "after");
  }

  private arm(process: Process<In, Ans, Send, Reply>, timer: string, ownMs: number): void {
    const afterMs = Math.ceil(ownMs / this.node(process.node).clockRate);
    const armed = this.agenda.lastSeq + 1;
    process.timers.set(timer, { armed, atMs: this.nowMs + afterMs });
    this.agenda.push(afterMs, { kind: "timer", process: process.id, timer, armed });
  }

  /** Duty 8: at most once, and silently dropped where nobody waits any more. */
  private answer(process: Process<In, Ans, Send, Reply>, id: number, body: Reply): void {
    const caller = process.requests.get(id);
    if (caller === undefined) return;
    process.requests.delete(id);
    if (caller.kind === "process") {
      this.courier.sendAnswer(caller, body);
      return;
    }
    caller.call.state = "answered";
    caller.call.body = body;
    if (this.trace.recording) this.trace.say(`${labelOf(process)}: answers ${this.options.describe(body)}`);
  }

  // Endings

  /** Counts boundaries, and crashes where that was asked for; true when the process is gone. */
  crashesHere(process: Process<In, Ans, Send, Reply>, kind: BoundaryKind, what: string, when: "before" | "after"): boolean {
    if (when === "after") this.boundaryCount++;
    if (this.crashPoints.count === 0 && this.onBoundary === null) return process.end !== null;
    const here = { node: process.node, process: process.name, kind, what, when };
    this.onBoundary?.(here);
    const point = this.crashPoints.reach(here);
    if (point === null) return process.end !== null;
    this.trace.say(`${labelOf(process)}: crash ${when} ${kind} ${what}`);
    // After a flush the next one has not begun: there is nothing under way of which a part could be kept.
    const keep = when === "after" && process.writes[0]?.flushes.some((flush) => flush.change === kind) ? "none" : point.keep;
    if (point.scope === "process") this.kill(process, keep);
    else for (const id of point.scope === "cluster" ? this.nodeIds() : [process.node]) this.crashNode(id, keep);
    return true;
  }

  private endHard(process: Process<In, Ans, Send, Reply> | null, keep: Keep): void {
    if (process === null) return;
    this.writes.abandon(process, keep);
    this.end(process, { kind: "crashed" });
  }

  halt(process: Process<In, Ans, Send, Reply>, code: ErrorCode, detail: string): void {
    this.trace.say(`${labelOf(process)}: halts, error[${code}]: ${detail}`);
    this.end(process, { kind: "halted", code, detail });
  }

  /** What a core threw: a fact about the world halts its process, anything else is a finding about the code. */
  fail(process: Process<In, Ans, Send, Reply>, error: unknown): void {
    if (error instanceof EngineError) {
      this.halt(process, error.code, error.message);
      return;
    }
    const detail = error instanceof BrokenInvariant ? error.message : `${process.core.name} threw: ${error instanceof Error ? error.stack : String(error)}`;
    this.violations.push({ invariant: detail, at: this.eventCount });
    this.trace.say(`${labelOf(process)}: halts, ${detail}`);
    this.end(process, { kind: "halted", code: "BROKEN_INVARIANT", detail });
  }

  private end(process: Process<In, Ans, Send, Reply>, end: ProcessEnd<Reply>): void {
    if (process.end !== null) return;
    process.end = end;
    process.timers.clear();
    process.writes.length = 0;
    this.alivePerId.delete(process.id);
    this.node(process.node).running.delete(process.name);
    for (const caller of process.requests.values()) if (caller.kind === "client") caller.call.state = "lost";
    process.requests.clear();
    this.courier.loseLinksTo(process, this.live());
  }
}

/** Registers who asked, and makes the event of it. */
function asked<In, Ans, Send, Reply>(process: Process<In, Ans, Send, Reply>, caller: Caller<Reply>, from: NodeId, body: In): Happening<In, Ans> {
  const id = ++process.lastRequestId;
  process.requests.set(id, caller);
  return { kind: "request", id, from, body };
}

/** Duty 6: an arm that still waits for its write is replaced or disarmed like one that does not. */
function forgetWaitingArms<In, Ans, Send, Reply>(process: Process<In, Ans, Send, Reply>, timer: string): void {
  for (const write of process.writes) {
    if (write.waiting.length > 0) write.waiting = write.waiting.filter((effect) => effect.kind !== "arm" || effect.timer !== timer);
  }
}

/** `hold.late-ask` as words: `late ask`. */
const markWords = (name: string): string => name.slice(name.indexOf(".") + 1).replaceAll("-", " ");
