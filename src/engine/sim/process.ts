/**
 * What a simulated world is made of: nodes with one disk each, the processes that share it, and the points at which a
 * crash can be asked for. Plain data and queries on it; `world.ts` is the only one to change it.
 */
import type { Core, Effect, Happening } from "../base/effects.ts";
import type { ErrorCode } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { unreachable } from "../base/invariant.ts";
import type { DiskImage, Flush } from "./disk.ts";
import type { Frame } from "./network.ts";

/** Name of the process that a message to a node reaches. */
export const DAEMON = "daemon";

/** What can be on the agenda. A frame finds its process when it arrives. */
export type Item<In, Ans> =
  | { readonly kind: "event"; readonly process: number; readonly event: Happening<In, Ans> }
  | { readonly kind: "frame"; readonly frame: Frame }
  | { readonly kind: "timer"; readonly process: number; readonly timer: string; readonly armed: number }
  | { readonly kind: "flush"; readonly process: number; readonly lane: Lane }
  | { readonly kind: "lost"; readonly process: number; readonly peer: NodeId };

/** Writes of one lane wait for each other (duty 3): those of `accepts`, and all others. */
export type Lane = "accepts" | "store";
export const LANES: readonly Lane[] = ["accepts", "store"];

/** A write on its way to disk, and the effects of its step that wait for it (duty 2). */
export type PendingWrite<Send, Reply> = {
  readonly ticket: number;
  /** Number of the step that asked for it, within its process. */
  readonly step: number;
  readonly lane: Lane;
  readonly flushes: readonly Flush[];
  /** Flushes `[0, next)` are on disk. */
  next: number;
  waiting: Effect<Send, Reply>[];
};

/** Who asked request `id`, and so where its one answer goes. */
export type Caller<Reply> =
  | { readonly kind: "client"; readonly call: ClientCall<Reply> }
  | { readonly kind: "process"; readonly client: number; readonly server: NodeId; readonly requestId: number };

/** A local client's question; changes in place until it is answered, or lost with the process that was asked. */
export type ClientCall<Reply> = { readonly node: NodeId; readonly service: string; state: "waiting" | "answered" | "lost"; body: Reply | null };

export type ProcessEnd<Reply> =
  | { readonly kind: "done"; readonly body: Reply }
  | { readonly kind: "halted"; readonly code: ErrorCode | "BROKEN_INVARIANT"; readonly detail: string }
  | { readonly kind: "crashed" };

export type Process<In, Ans, Send, Reply> = {
  /** Number of this instance, unique in the world. */
  readonly id: number;
  readonly node: NodeId;
  /** `daemon`, `register`, or a step's name: `fetch:a`. */
  readonly name: string;
  readonly core: Core<In, Ans, Send, Reply>;
  /** Armed timers by name; the number of the arming tells replaced ones apart. */
  readonly timers: Map<string, { readonly armed: number; readonly atMs: number }>;
  /** In the order they were asked for; the first of each lane is on its way. */
  readonly writes: PendingWrite<Send, Reply>[];
  /** Lanes that have a flush on the agenda. */
  readonly flushing: Set<Lane>;
  /** Requests that were not answered yet, by id. */
  readonly requests: Map<number, Caller<Reply>>;
  lastRequestId: number;
  /** Peers that this process has sent to and has not lost since. */
  readonly links: Set<NodeId>;
  stepCount: number;
  end: ProcessEnd<Reply> | null;
};

export type DiskFaults = {
  /** Nothing gets durable while set. */
  paused: boolean;
  /** Every write is refused for lack of space while set. */
  full: boolean;
  /** So many next writes are refused for lack of space. */
  fullNext: number;
  /** So many next flushes fail, which is final for their process. */
  failNext: number;
};

export type SimNode<In, Ans, Send, Reply> = {
  readonly id: NodeId;
  disk: DiskImage;
  /** Set by stories and seeds. */
  readonly faults: DiskFaults;
  /** Copies of the folder, by name. */
  readonly saved: Map<string, DiskImage>;
  /** Long-running processes by name, started with the node. */
  readonly services: ReadonlyMap<string, () => Core<In, Ans, Send, Reply>>;
  /** Live processes by name: instance numbers. */
  readonly running: Map<string, number>;
  /** Added to virtual time in every event of this node. */
  clockSkewMs: number;
  /** How fast this node's clock and timers run against virtual time: a real one is off by far less than 10 %. */
  clockRate: number;
  /** Stopped like a process that was sent SIGSTOP: its share of the agenda is parked. */
  paused: boolean;
};

export type BoundaryKind = "send" | "answer" | "arm" | "disarm" | "done" | "halt" | "mark" | "commit" | "append" | "replace" | "rename";

/**
 * A place in the run where something crashes: the nth boundary that all the given fields match. Every effect that is
 * performed is a boundary, every flush of a write one of its own.
 */
export type CrashPoint = {
  readonly node?: NodeId;
  readonly process?: string;
  readonly kind?: BoundaryKind;
  /** Start of the message kind, file, database, timer or mark. */
  readonly what?: string;
  readonly when?: "before" | "after";
  /** 1 is the first match. */
  readonly nth?: number;
  /** The whole node (the default), just the process, or every node there is. */
  readonly scope?: "node" | "process" | "cluster";
  readonly keep?: Keep;
};

/** What a crash keeps of the one flush that was under way: nothing, a random part, all, or any of them by chance. */
export type Keep = "none" | "torn" | "all" | "random";

export type Boundary = {
  readonly node: NodeId;
  readonly process: string;
  readonly kind: BoundaryKind;
  readonly what: string;
  readonly when: "before" | "after";
};

/** `p` for a daemon, `p queue` for another process of the node. */
export const labelOf = (process: { readonly node: NodeId; readonly name: string }): string =>
  process.name === DAEMON ? process.node : `${process.node} ${process.name}`;

/** The kind of a message body. */
export const kindOf = (body: unknown): string => (typeof body === "object" && body !== null && "kind" in body ? String(body.kind) : typeof body);

/** What an effect is about, for crash points: message kind, timer, mark or code. */
export function whatOf(effect: Exclude<Effect<unknown, unknown>, { kind: "write" }>): string {
  switch (effect.kind) {
    case "send":
    case "answer":
      return kindOf(effect.body);
    case "arm":
    case "disarm":
      return effect.timer;
    case "mark":
      return effect.name;
    case "halt":
      return effect.code;
    case "done":
      return "";
    default:
      return unreachable(effect);
  }
}
