/**
 * What a live node's replica hears, says and does, a line each, for those who follow it (sync.md, table B row 10): messages,
 * changes of phase, commits, timers and marks, as its core steps. Costs nothing while nobody follows. Each follower has a
 * queue of its own with a bound, and is told how much it missed; the core never waits for one, and hears nothing of them.
 */
import type { Effect, Event } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { TraceFilter, Tracer } from "../gateway/trace.ts";
import type { SyncState } from "../sync/state.ts";
import type { Answer, Request } from "../wire/messages.ts";
import type { MemberCore, MemberRequest } from "./member.ts";

type Line = Readonly<Record<string, unknown>> & { readonly what: string };

const FOLLOWERS_MAX = 16;
/** Lines that wait for one follower. */
const QUEUE_MAX = 4_096;
const KEEPALIVE_MS = 5_000;
/** Bytes shown of a field: names of transfers and births. */
const SHOWN_BYTES = 8;
/** The same in every message of one node, or nothing to look at. */
const HIDDEN = ["kind", "cluster", "birth"];
/** Of the member's two parts, by the first word of a timer and the rest of a ticket. */
const SYNC_PART = 1;

type Follower = { readonly filter: TraceFilter; readonly lines: Line[]; missed: number; wake(): void };

export class ReplicaTrace implements Tracer {
  private readonly followers = new Set<Follower>();
  private isClosed = false;

  /** The core, with every step seen. */
  watch(core: MemberCore): MemberCore {
    return { ...core, step: (event, snap) => (this.followers.size === 0 ? core.step(event, snap) : this.seen(core, event, () => core.step(event, snap))) };
  }

  async *follow(filter: TraceFilter, signal: AbortSignal): AsyncGenerator<object> {
    if (this.followers.size >= FOLLOWERS_MAX) throw new EngineError("LOG_BUSY", `${FOLLOWERS_MAX} others follow this node`);
    const own: Follower = { filter, lines: [], missed: 0, wake: () => {} };
    this.followers.add(own);
    try {
      yield { what: "alive" };
      while (!signal.aborted && !this.isClosed) {
        if (own.lines.length === 0) await pause(own, signal);
        if (own.lines.length === 0) yield { what: "alive" }; // shorter than any deadline of the connection
        yield* own.lines.splice(0);
        if (own.missed > 0) yield { what: "missed", count: own.missed };
        own.missed = 0;
      }
    } finally {
      this.followers.delete(own);
    }
  }

  close(): void {
    this.isClosed = true;
    for (const { wake } of this.followers) wake();
  }

  private seen(core: MemberCore, event: Event<MemberRequest, Answer>, step: () => ReturnType<MemberCore["step"]>): ReturnType<MemberCore["step"]> {
    const timeMs = event.timeMs;
    const before = phasesOf(core);
    this.tell(timeMs, eventLine(event));
    const effects = step();
    for (const [part, to] of changed(before, phasesOf(core))) this.tell(timeMs, { what: "state", part, from: before.get(part) ?? "-", to });
    for (const effect of effects) this.tell(timeMs, effectLine(effect));
    return effects;
  }

  private tell(timeMs: number, line: Line | null): void {
    if (line === null) return;
    for (const follower of this.followers) {
      if (!wanted(line, follower.filter)) continue;
      if (follower.lines.length >= QUEUE_MAX) follower.missed++;
      else follower.lines.push({ timeMs, ...line });
      follower.wake();
    }
  }
}

async function pause(own: Follower, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = (): void => resolve();
  own.wake = wake;
  const timer = setTimeout(wake, KEEPALIVE_MS);
  signal.addEventListener("abort", wake);
  await promise;
  signal.removeEventListener("abort", wake);
  clearTimeout(timer);
  own.wake = () => {};
}

/** Without a wish for everything: what synchronisation hears, says and does. */
function wanted({ what, kind, part, peer, isSync }: Line, filter: TraceFilter): boolean {
  if (filter.what.length > 0 && !filter.what.includes(what)) return false;
  if (filter.peer !== null && peer !== filter.peer) return false;
  if (filter.kind !== null) return typeof kind === "string" && kind.startsWith(filter.kind);
  if (filter.isAll) return true;
  if (what === "message") return typeof kind === "string" && /^(sync|hold)\.|^paxos\.(probe|recent)/.test(kind);
  return what === "state" ? true : what === "mark" ? true : isSync === true || part === "sync";
}

// ------------------------------------------------------------------ lines

function eventLine(event: Event<MemberRequest, Answer>): Line | null {
  switch (event.kind) {
    case "start":
      return { what: "state", part: "process", from: "-", to: "started" };
    case "request":
      return { what: "message", way: "in", peer: event.from, id: event.id, ...bodyFields(event.body) };
    case "message":
      return { what: "message", way: "in", peer: event.from, re: event.requestId, ...bodyFields(event.body) };
    case "timer":
      return { what: "timer", timer: event.timer, isSync: isSyncTimer(event.timer) };
    case "stored":
    case "full":
      return { what: "commit", done: event.kind, ticket: event.ticket, isSync: event.ticket % 2 === SYNC_PART };
    case "lost":
      return { what: "message", way: "lost", peer: event.peer, kind: "sync.link-lost" };
  }
}

function effectLine(effect: Effect<Request, Answer>): Line | null {
  switch (effect.kind) {
    case "send":
      return { what: "message", way: "out", peer: effect.to, id: effect.requestId, ...bodyFields(effect.body) };
    case "answer":
      return { what: "message", way: "out", re: effect.id, ...bodyFields(effect.body) };
    case "write": {
      const { ticket, db, batch, local = [] } = effect;
      return { what: "commit", done: "asked", ticket, db, operations: batch.length, localOperations: local.length, isSync: ticket % 2 === SYNC_PART };
    }
    case "mark":
      return { what: "mark", mark: effect.name, ...(effect.text === undefined ? {} : { text: effect.text }) };
    case "halt":
      return { what: "state", part: "process", from: "-", to: `halted: ${effect.code}: ${effect.detail}` };
    default:
      return null; // timers are told when they fire
  }
}

const isSyncTimer = (timer: string): boolean => timer.startsWith(`${SYNC_PART}.`);

/** Numbers and words as they are, bytes by their beginning, lists by their length. */
function bodyFields(body: MemberRequest | Answer): { readonly kind: string } {
  const fields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(body as Readonly<Record<string, unknown>>)) if (!HIDDEN.includes(name)) fields[name] = shown(value);
  return { kind: body.kind, ...fields };
}

function shown(value: unknown): unknown {
  if (value instanceof Uint8Array) return value.length <= SHOWN_BYTES ? value.toHex() : `${value.subarray(0, SHOWN_BYTES).toHex()}… (${value.length} bytes)`;
  if (Array.isArray(value)) return `${value.length} of them`;
  if (typeof value === "object" && value !== null) return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, shown(each)]));
  return value;
}

function phasesOf({ state, sync }: { readonly state: { readonly phase: string }; readonly sync: SyncState }): Map<string, string> {
  const phases = new Map([
    ["paxos", state.phase],
    ["sync", sync.requester.phase],
  ]);
  for (const { name, requester, phase } of sync.transfers.values()) phases.set(`transfer ${name.slice(0, 4)} to ${requester}`, phase);
  for (const { name, provider, phase } of sync.holds.values()) phases.set(`hold ${name.slice(0, 4)} for ${provider}`, phase);
  return phases;
}

function* changed(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): Generator<readonly [part: string, to: string]> {
  for (const [part, phase] of after) if (before.get(part) !== phase) yield [part, phase];
  for (const part of before.keys()) if (!after.has(part)) yield [part, "over"];
}
