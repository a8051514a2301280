/**
 * A merge cluster as stories act on it: under watch of every invariant after every event, its knobs turned by hand, a
 * secondary of it made to lie, clients' adds followed to their receipts. What lies or is turned lives here: the shipped
 * cores know nothing of it.
 */
import { utf8 } from "../base/bytes.ts";
import type { Core } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { bundleOf } from "../log/entry.ts";
import type { MergeConfig } from "../merge/config.ts";
import { rows } from "../merge/records.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { DiskSnapshot } from "./disk.ts";
import { MergeAdds } from "./merge-adds.ts";
import { MergeCheckers } from "./merge-checkers.ts";
import { MergeCluster, type MergeIn, type MergeReply, type MergeShape } from "./merge-world.ts";
import { type ClientCall, DAEMON } from "./process.ts";
import { runFor } from "./steer.ts";
import { EPOCH_MS } from "./world.ts";

/** Settings that a story may turn; the node starts anew for it, as after an edit of its config.toml. */
export type Knobs = { -readonly [Name in "backupquorum" | "storagequorum" | "promiseMs" | "epoch" | "cosign"]?: MergeConfig[Name] };
type OpenShape = { -readonly [Name in keyof MergeShape]: MergeShape[Name] };
type DaemonCore = Core<MergeIn, Answer, Request, MergeReply>;

/** A client waits so long for a receipt: longer than a storage node looks for others to keep the entry. */
const ADD_WAIT_MS = 10_000;
/** Entries of one request while a world of a given size is made. */
const GROW_COUNT = 4_096;
/** The storage role's reminder to forget bytes comes back for ever. */
const PERIODIC_TIMER = /\.keep$/;

export class StoryCluster extends MergeCluster {
  readonly checkers: MergeCheckers;
  /** Secondaries whose word on a root is made up. */
  readonly liars = new Set<NodeId>();
  /** Whether verbs answer with every message, timer and flush, or with deeds and marks only. */
  tracing = false;
  /** Number of the next generated entry. */
  nextEntry = 0;
  private readonly open: OpenShape;
  private readonly knobs = new Map<NodeId, Knobs>();
  private readonly adds: MergeAdds;
  /** What was found wrong and said already. */
  private readonly said = new Set<string>();

  constructor(seed: number, shape: MergeShape) {
    const open: OpenShape = { ...shape };
    const options = { seed, shape: open, recording: true, periodic: (timer: string) => PERIODIC_TIMER.test(timer) };
    super(options);
    this.open = open;
    this.checkers = new MergeCheckers(this);
    this.adds = new MergeAdds(this.checkers);
    for (const id of shape.secondaries) this.letLie(id);
  }

  override config(self: NodeId): MergeConfig {
    return { ...super.config(self), ...this.knobs.get(self) };
  }

  snapOf(id: NodeId): DiskSnapshot {
    return new DiskSnapshot(this.world.diskOf(id), id);
  }

  /** In the order of the roles: storage nodes, the primary, secondaries, frontends. */
  get nodesByRole(): readonly NodeId[] {
    const { storages, primary, secondaries, frontends } = this.shape;
    return [...new Set([...storages, primary, ...secondaries, ...frontends])];
  }

  get primary(): NodeId {
    return this.shape.primary;
  }

  /** What the node's wall clock says. */
  timeMs(id: NodeId): number {
    return EPOCH_MS + this.world.nowMs + this.world.node(id).clockSkewMs;
  }

  get signedSize(): number | null {
    return rows.register(this.snapOf(this.primary), this.config(this.primary).log)?.head?.size ?? null;
  }

  /** Everything up, and nothing else: `log init` has not been run. */
  beginBare(): void {
    const { world } = this;
    world.trace.recording = false;
    this.startNodes();
    runFor(world, 0);
    world.check = () => this.check();
    world.trace.recording = true;
  }

  /** Everything up, the first head made, and `size` entries signed and published; nothing of it is told, and the watch begins behind it. */
  begin(size: number): void {
    const { world } = this;
    world.trace.recording = false;
    this.startNodes();
    this.init();
    while (this.nextEntry < size) this.add(this.shape.storages[0] as NodeId, this.generate(Math.min(GROW_COUNT, size - this.nextEntry)));
    if (size > 0) for (const group of this.roundSteps) this.runSteps(group);
    if (this.signedSize !== size) throw new EngineError("FAILED", `a world of size ${size} was asked for, ${this.signedSize} entries are signed`);
    this.adds.forget();
    world.check = () => this.check();
    world.trace.recording = true;
  }

  /** The next `count` generated entries, or those from number `from` on; `bytes` long where that is given. */
  generate(count: number, from = this.nextEntry, bytes = 0): Uint8Array[] {
    this.nextEntry = Math.max(this.nextEntry, from + count);
    return Array.from({ length: count }, (_, i) => utf8(`entry ${from + i}`.padEnd(bytes, ".")));
  }

  /** A client's add, until it is answered or the client gave up waiting. */
  add(storage: NodeId, entries: readonly Uint8Array[]): ClientCall<MergeReply> {
    const call = this.world.request(storage, { kind: "add", bundle: bundleOf(entries) });
    this.adds.follow(call);
    runFor(this.world, ADD_WAIT_MS, () => call.state !== "waiting");
    return call;
  }

  /** Turns knobs of some nodes; those that are up start anew. */
  turn(ids: readonly NodeId[], knobs: Knobs): void {
    for (const id of ids) this.knobs.set(id, { ...this.knobs.get(id), ...knobs });
    if (ids.includes(this.primary)) {
      if (knobs.backupquorum !== undefined) this.open.backupquorum = knobs.backupquorum;
      if (knobs.storagequorum !== undefined) this.open.storagequorum = knobs.storagequorum;
    }
    const up = ids.filter((id) => this.world.running(id, DAEMON) !== null);
    for (const id of up) this.world.crashNode(id);
    this.startNodes(up);
  }

  /** What was found wrong, once; a row that was damaged on purpose is for the cores to find. */
  private check(): string | null {
    try {
      const wrong = this.adds.check() ?? this.checkers.check();
      if (wrong === null || this.said.has(wrong)) return null;
      this.said.add(wrong);
      return wrong;
    } catch (error) {
      if (error instanceof EngineError && error.code === "STORE_CORRUPT" && this.checkers.doubtful) return null;
      throw error;
    }
  }

  /** Puts a liar's mouth before a secondary's daemon: silent until the node is among the liars. */
  private letLie(id: NodeId): void {
    const node = this.world.node(id);
    const services = new Map([...node.services].map(([name, make]) => [name, name === DAEMON ? () => this.liar(id, make()) : make]));
    this.world.nodes.set(id, { ...node, services });
  }

  private liar(id: NodeId, core: DaemonCore): DaemonCore {
    const step: DaemonCore["step"] = (event, snap) => {
      const effects = core.step(event, snap);
      return this.liars.has(id) ? effects.map((effect) => (effect.kind === "answer" ? { ...effect, body: untrue(effect.body) } : effect)) : effects;
    };
    return { name: core.name, step };
  }
}

/** Another root where one is sworn to. */
function untrue(body: MergeReply): MergeReply {
  if (!("kind" in body) || body.kind !== "backup.verified") return body;
  return { ...body, root: body.root.map((byte) => byte ^ 0xff) };
}
