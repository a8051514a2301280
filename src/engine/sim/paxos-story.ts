/**
 * A simulated cluster of replicas as stories act on it: under watch of every invariant after every event, its clients
 * followed to their answers, and what is told of a verb: deeds, marks and endings, or with `trace on` every message.
 */
import { fromUtf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { ballotText } from "../paxos/ballot.ts";
import { isSettled, leasesHold } from "../paxos/state.ts";
import { historyIn } from "../store/versions.ts";
import type { Answer } from "../wire/messages.ts";
import { PaxosCheckers } from "./paxos-checkers.ts";
import { PaxosClients, put } from "./paxos-clients.ts";
import { type PaxosCall, PaxosCluster, type PaxosWorldOptions } from "./paxos-world.ts";
import { runFor } from "./steer.ts";
import type { SyncCheckers } from "./sync-checkers.ts";
import { watchSync } from "./sync-watch.ts";
import { foldMarks } from "./trace.ts";
import { errorLine } from "./verbs.ts";

/** A client waits so long: longer than a replica leaves it without an answer. */
const ANSWER_MS = 10_000;
const READY_MS = 10_000;
/** A new leader trims nothing for a minute. */
const TRIM_WAIT_MS = 61_000;
/** For what is still on its way when the last store has the last version. */
const QUIET_MS = 5;
const MARKED = / \[[a-z]+\.[a-z-]+\]$/;
const ENDINGS = /: (halts|crashed|starts|killed|no space)/;
/** Marks of ordinary traffic: told with `trace on` only. */
const ORDINARY = /\[(paxos|sync|hold)\.(late-[a-z-]+|unheard)\]$/;

/** Nodes that are down at an early version. */
export type Laggards = { readonly ids: readonly NodeId[]; readonly at: number };
export type Asked = { readonly text: string; readonly call: PaxosCall };

export class PaxosStory extends PaxosCluster {
  readonly clients: PaxosClients;
  /** Whether verbs answer with every message, timer and flush, or with deeds and marks only. */
  tracing = false;
  /** Requests of clients that did not wait. */
  readonly asked: Asked[] = [];
  /** The checkers of synchronisation, where this world has it. */
  readonly watched: SyncCheckers | null;
  private nextKey = 0;

  constructor(options: Omit<PaxosWorldOptions, "recording">) {
    super({ ...options, recording: true });
    const checkers = new PaxosCheckers(this);
    this.clients = new PaxosClients(this, checkers);
    this.watched = options.sync === undefined ? null : watchSync(this);
    this.world.check = () => checkers.check() ?? this.clients.check() ?? this.watched?.check() ?? null;
  }

  /** Everything up, a leader settled, `last` versions on every disk but those of laggards; nothing of it is told. */
  begin(last: number, laggards: Laggards | null = null): void {
    const { world } = this;
    world.trace.recording = false;
    this.startNodes();
    runFor(world, READY_MS, () => this.isReady(1));
    this.grow(laggards?.at ?? last);
    if (laggards !== null) this.leaveBehind(laggards, last);
    runFor(world, QUIET_MS);
    world.trace.recording = true;
  }

  private grow(last: number): void {
    while (this.clients.checkers.newest < last) this.wait(this.put(this.leader() as NodeId));
    runFor(this.world, READY_MS, () => this.isReady(last));
    if (!this.isReady(last)) throw new EngineError("FAILED", `a world of ${last} versions was asked for: ${this.statusLine()}`);
  }

  /** They go down, the others go on, and trim what the laggards would need next. */
  private leaveBehind({ ids, at }: Laggards, last: number): void {
    for (const id of ids) this.world.crashNode(id);
    runFor(this.world, READY_MS, () => this.isReady(at));
    this.grow(last);
    runFor(this.world, TRIM_WAIT_MS);
    const leader = this.leader() as NodeId;
    this.wait(this.request(leader, { kind: "paxos.trim" }));
    runFor(this.world, READY_MS, () => (this.stateOf(leader)?.first ?? 0) > at + 1 && this.isReady(this.stateOf(leader)?.last ?? 0));
    const { first } = historyIn(this.snapOf(leader));
    if (first <= at + 1)
      throw new EngineError("FAILED", `laggards at ${at}, and ${leader} has versions from ${first} on: want a larger last, or a smaller keep`);
  }

  /** Of the nodes that are up. */
  private isReady(last: number): boolean {
    const leader = this.leader();
    const live = this.members.filter(({ id }) => this.isUp(id));
    return leader !== null && this.isSettledAt(leader) && live.every(({ id }) => (this.stateOf(id)?.applied ?? 0) >= last);
  }

  /** Whoever watches the invariants remembers what that disk has sworn to, and forgets what it must not lose. */
  diskReplaced(id: NodeId): void {
    this.clients.checkers.diskReplaced(id);
    this.watched?.diskReplaced(id);
  }

  isSettledAt(id: NodeId): boolean {
    const state = this.stateOf(id);
    return state !== null && isSettled(state) && leasesHold(state, this.upMs(id));
  }

  upMs(id: NodeId): number {
    return this.world.nowMs * this.world.node(id).clockRate;
  }

  /** One more generated write. */
  put(at: NodeId): PaxosCall {
    return this.clients.ask(at, put(`k${++this.nextKey}`, this.clients.nextValue()));
  }

  /** Until a client has its answer, or gives up. */
  wait(call: PaxosCall): PaxosCall {
    runFor(this.world, ANSWER_MS, () => call.state !== "waiting");
    return call;
  }

  // ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────

  told(act: () => readonly string[]): string[] {
    const { trace } = this.world;
    const before = trace.position;
    const lines = act();
    const said = trace.since(before);
    return [...(this.tracing ? said : foldMarks(said.filter((line) => (MARKED.test(line) && !ORDINARY.test(line)) || ENDINGS.test(line)))), ...lines];
  }

  /** `a b up at 412, leader a; c down at 12` */
  statusLine(): string {
    const groups = new Map<string, NodeId[]>();
    for (const id of this.nodeIds) {
      const state = this.stateOf(id);
      const where = state === null ? `down at ${this.appliedOf(id)}` : `${this.world.node(id).paused ? "paused" : "up"} at ${state.last}`;
      groups.set(where, [...(groups.get(where) ?? []), id]);
    }
    const leader = this.leader();
    return [...groups].map(([where, ids]) => `${ids.join(" ")} ${where}${leader !== null && ids.includes(leader) ? `, leader ${leader}` : ""}`).join("; ");
  }

  appliedOf(id: NodeId): number {
    return this.stateOf(id)?.applied ?? this.clients.checkers.appliedOn(id);
  }

  /** Where one node stands. */
  nodeLine(id: NodeId): string {
    const state = this.stateOf(id);
    if (state === null) return `${id}: down at ${this.appliedOf(id)}`;
    const { phase, epoch, promised, first, last, applied, leading, accepted } = state;
    const old = state.isRegressed ? ", an old copy" : "";
    const above =
      accepted.size === 0 ? "" : `, accepted ${[...accepted.values()].map(({ version, ballot }) => `${version} under ${ballotText(ballot)}`).join(", ")}`;
    const held = leading === null ? "" : `, leases of ${this.leaseHolders(id).join(" ") || "nobody"}${isSettled(state) ? "" : ", not settled"}`;
    return `${id}: ${phase}${phase === "following" ? ` ${state.leader ?? "nobody"}` : ""}, epoch ${epoch}, promised ${ballotText(promised)}, versions ${first} to ${last}, applied ${applied}${above}${held}${old}`;
  }

  private leaseHolders(id: NodeId): string[] {
    const heldUntilMs = this.stateOf(id)?.leading?.heldUntilMs ?? new Map<number, number>();
    return this.members.filter(({ number }) => (heldUntilMs.get(number) ?? 0) > this.upMs(id)).map((member) => member.id);
  }
}

/** What a client was told, in one line. */
export function answerText(text: string, call: PaxosCall): string {
  if (call.state === "lost") return `${text}: the node is gone, no answer`;
  if (call.body === null) return `${text}: no answer yet`;
  return bodyText(text, call.body);
}

function bodyText(text: string, body: Answer): string {
  switch (body.kind) {
    case "kv.written":
      return `${text}: version ${body.version}`;
    case "kv.conflict":
      return `${text}: refused, ${body.version === 0 ? "there is no such key" : `it is at version ${body.version}`}`;
    case "kv.value":
      return `${text}: ${body.value === null ? "not found" : `${fromUtf8(body.value)} of version ${body.version}`}, read at ${body.readVersion}`;
    case "kv.rows":
      return `${text}: ${body.rows.map(({ key, version }) => `${fromUtf8(key)} of ${version}`).join(", ") || "nothing"}${body.more ? " and more" : ""}, read at ${body.readVersion}`;
    case "cluster.is":
      return `${text}: version ${body.version}, ${body.members.map(({ id, number, rank }) => `${id} (${number}, rank ${rank})`).join(" ")}`;
    case "cluster.booted":
      return `${text}: number ${body.boot}, version ${body.version}`;
    case "paxos.trimmed":
      return `${text}: ${body.version === 0 ? `nothing, from ${body.first} on` : `[${body.first}, ${body.next}), version ${body.version}`}, kept by ${body.by}${body.waitMs === 0 ? "" : ` for ${body.waitMs} ms`}`;
    case "register.is":
    case "register.swapped":
    case "register.conflict":
      return `${text}: ${body.kind.slice(9)}, ${body.head === null ? "no head" : `size ${body.head.size}`}`;
    case "refused":
      return errorLine(body.code as "FAILED", `${text}: ${body.text}`);
    default:
      return `${text}: ${body.kind}`;
  }
}
