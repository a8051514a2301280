/**
 * A cluster for the cores of synchronisation alone: the simulated world with its disks and links, and in place of Paxos a
 * script that sees everything: it decides versions, applies them to the nodes that are joined, elects the lowest of them,
 * and trims as far as the leader's holds let it. The model keeps the store at every version, so any node can be compared.
 */

import { u64be, utf8 } from "../../src/engine/base/bytes.ts";
import type { Core, Op } from "../../src/engine/base/effects.ts";
import { type NodeId, nodeId } from "../../src/engine/base/ids.ts";
import { assembleSync } from "../../src/engine/node/assemble.ts";
import { type DiskImage, DiskSnapshot } from "../../src/engine/sim/disk.ts";
import type { LinkFaults } from "../../src/engine/sim/network.ts";
import { DAEMON } from "../../src/engine/sim/process.ts";
import { SyncCheckers, type SyncClusterView } from "../../src/engine/sim/sync-checkers.ts";
import { type WireCodec, World } from "../../src/engine/sim/world.ts";
import { decodeBatch, encodeBatch } from "../../src/engine/store/batch.ts";
import { acceptsKeys, replicatedKeys } from "../../src/engine/store/keys.ts";
import { applyBatch, treeSnapshot, treeStat } from "../../src/engine/store/memory.ts";
import { emptyTree, type Tree } from "../../src/engine/store/tree.ts";
import { hashOf, historyOf } from "../../src/engine/store/versions.ts";
import { heldFrom } from "../../src/engine/sync/hold.ts";
import { applyOps, isFlagged } from "../../src/engine/sync/records.ts";
import { initialSync, type PaxosFacts, SYNC_TIMING, type SyncCall, type SyncConfig, type SyncState, type Views } from "../../src/engine/sync/state.ts";
import { isSyncRequest, mustAbstain, takeSynced } from "../../src/engine/sync/sync.ts";
import { type Answer, answers, type Request, requests } from "../../src/engine/wire/messages.ts";

export type SyncIn = Request | SyncCall;
export type SyncWorld = World<SyncIn, Answer, Request, Answer>;
type SyncCore = Core<SyncIn, Answer, Request, Answer>;

export const CLUSTER = new Uint8Array(8).fill(0xc1);
const BIRTH = new Uint8Array(8).fill(0xb1);
const VOTE = utf8("a promise");
/** A node that crashed is started again after so long. */
const RESTART_MS = 2_000;

export type Options = Partial<Pick<SyncConfig, "isResuming" | "holdsAll" | "limits" | "mode">> & {
  readonly nodes?: number;
  readonly seed?: number;
  readonly link?: Partial<LinkFaults>;
  readonly flushMs?: readonly [number, number];
  readonly keys?: number;
  /** Versions that trim leaves. */
  readonly keep?: number;
  /** Virtual time between two versions that the script decides; null: none by itself. */
  readonly writeMs?: number | null;
  readonly recording?: boolean;
};

const wire: WireCodec<SyncIn, Answer, Request, Answer> = {
  encodeRequest: (body) => requests.encode(body),
  decodeRequest: (raw) => requests.decode(raw),
  encodeAnswer: (body) => answers.encode(body),
  decodeAnswer: (raw) => answers.decode(raw),
};

/** Version v's store is `trees[v]`, its encoded batch `batches[v]`. */
export type Model = { readonly trees: Tree[]; readonly batches: Uint8Array[]; first: number };

export class SyncCluster implements SyncClusterView {
  readonly world: SyncWorld;
  readonly ids: readonly NodeId[];
  readonly states = new Map<NodeId, SyncState>();
  readonly model: Model = { trees: [emptyTree], batches: [new Uint8Array(0)], first: 1 };
  /** Nodes that do not apply what was decided, until told. */
  readonly lagging = new Set<NodeId>();
  /** Nodes whose disk took a lost one's place, and has no vote yet. */
  readonly learners = new Set<NodeId>();
  /** What single nodes believe instead of the truth. */
  readonly beliefs = new Map<NodeId, Partial<PaxosFacts>>();
  leader: NodeId | null = null;
  epoch = 0;
  trimming: { readonly to: number } | null = null;
  /** What each store's file takes on its disk. */
  fileBytes = 0;
  /** A crashed node comes back by itself. */
  restarts = true;
  readonly checkers = new SyncCheckers(this);
  private readonly options: Options;
  private readonly restartAt = new Map<NodeId, number>();
  private boots = 0;
  private nextWriteMs = 0;
  private told = "";

  constructor(options: Options = {}) {
    this.options = options;
    const { seed = 1, nodes = 3, link, flushMs = [0, 0], recording = false } = options;
    this.ids = ["a", "b", "c", "d", "e"].slice(0, nodes).map(nodeId);
    this.world = new World({ seed, wire, recording, flushMs, ...(link === undefined ? {} : { link }) });
    for (const id of this.ids) this.world.addNode(id, { daemon: () => this.makeCore(id) });
    this.world.check = () => this.checkers.check() ?? this.promiseGone();
  }

  // ------------------------------------------------------------------ nodes

  config(self: NodeId): SyncConfig {
    const {
      isResuming = true,
      holdsAll = false,
      mode = "full",
      limits = { chunkBytes: 1 << 20, chunkKeys: 6, windowChunks: 3, windowBytes: 8 << 20 },
    } = this.options;
    const nonce = hashOf(utf8(`${self} ${++this.boots}`)).slice(0, 8);
    return { cluster: CLUSTER, self, birth: BIRTH, members: this.ids, nonce, limits, timing: SYNC_TIMING, isResuming, holdsAll, mode };
  }

  private makeCore(id: NodeId): SyncCore {
    const state = initialSync(this.config(id));
    this.states.set(id, state);
    const core = assembleSync(state, {
      views: this.views(id),
      facts: (): PaxosFacts => this.facts(id),
      commitP99Us: () => null,
      votes: (peer: NodeId) => !this.learners.has(peer),
      writtenBytes: () => 0,
    });
    return {
      name: DAEMON,
      step: (event, snap) => {
        if (event.kind !== "request" || isSyncRequest(event.body)) return core.step(event, snap);
        return [{ kind: "answer", id: event.id, body: this.probeReply(id) }];
      },
    };
  }

  private views(id: NodeId): Views {
    const open = new Map<number, Tree>();
    let last = 0;
    return {
      open: () => {
        open.set(++last, this.world.node(id).disk.dbs.replicated);
        return last;
      },
      read: (view) => treeSnapshot(open.get(view) ?? emptyTree, `${id} view`),
      close: (view) => {
        if (!open.delete(view)) throw new Error(`view ${view} of ${id} is closed twice`);
      },
      stat: () => ({ ...treeStat(this.world.node(id).disk.dbs.replicated), fileBytes: this.fileBytes }),
    };
  }

  private probeReply(id: NodeId): Answer {
    const own = this.history(id);
    const state = this.states.get(id) as SyncState;
    const { epoch, leader } = this.facts(id);
    const scope = { cluster: CLUSTER, epoch, birth: BIRTH };
    const hash = hashOf(this.model.batches[own.last] ?? new Uint8Array(0));
    const promised = { round: 1, member: 1 };
    return {
      kind: "paxos.probe-reply",
      ...scope,
      ...own,
      hash,
      floor: state.requester.floor,
      synchronizing: mustAbstain(state),
      promised,
      leader: this.isJoined(id) ? (leader ?? "") : "",
      quorum: [],
    };
  }

  facts(id: NodeId): PaxosFacts {
    const isLeader = this.leader === id;
    const truth = {
      ...this.history(id),
      epoch: this.epoch,
      leader: this.isJoined(id) ? this.leader : null,
      isSettled: isLeader,
      hasLeases: isLeader,
      isFirstReign: false,
    };
    return { ...truth, isTrimming: isLeader && this.trimming !== null, mustSync: false, isNearlyFull: false, ...this.beliefs.get(id) };
  }

  /** I4: what Paxos promised is in `local`, and stays. */
  private promiseGone(): string | null {
    const lost =
      this.states.size === 0 ? undefined : this.ids.find((id) => new DiskSnapshot(this.diskOf(id), id).get("accepts", acceptsKeys.vote()) === undefined);
    return lost === undefined ? null : `I4 a promise is gone (${lost})`;
  }

  get nodeIds(): readonly NodeId[] {
    return this.ids;
  }
  diskOf(id: NodeId): DiskImage {
    return this.world.node(id).disk;
  }
  syncOf(id: NodeId): SyncState | null {
    return this.isUp(id) ? this.state(id) : null;
  }
  upMs(): number {
    return this.world.nowMs;
  }
  isPaused(id: NodeId): boolean {
    return this.world.node(id).paused;
  }
  mayGrant(id: NodeId): boolean {
    const { leader, isSettled, hasLeases } = this.facts(id);
    return leader === id && isSettled && hasLeases;
  }
  chosenFirst(): number {
    return this.model.first;
  }
  treeAt(version: number): Tree | undefined {
    return this.model.trees[version];
  }
  showTree(version: number): void {
    throw new Error(`a node has version ${version}, which was not decided`);
  }
  markCount(name: string): number {
    return this.world.trace.marks.get(name) ?? 0;
  }

  state(id: NodeId): SyncState {
    return this.states.get(id) as SyncState;
  }

  isUp = (id: NodeId): boolean => this.world.running(id, DAEMON) !== null;
  /** In the quorum: up, unflagged, and not looking for a provider. */
  isJoined = (id: NodeId): boolean => this.isUp(id) && !this.isFlagged(id) && this.state(id).requester.phase === "joined";
  isFlagged = (id: NodeId): boolean => isFlagged(new DiskSnapshot(this.world.node(id).disk, id));

  history(id: NodeId): { first: number; last: number } {
    const snap = treeSnapshot(this.world.node(id).disk.dbs.replicated, id);
    return historyOf(snap);
  }

  get last(): number {
    return this.model.trees.length - 1;
  }

  /** The daemon hears it now. */
  tell(id: NodeId, call: SyncCall): void {
    this.world.request(id, call);
  }

  // ------------------------------------------------------------------ Paxos, as a script

  /** Decides one version; nodes that are joined and not lagging apply it at once. */
  decide(ops: readonly Op[]): void {
    const version = this.last + 1;
    const prev = version === 1 ? null : hashOf(this.model.batches[version - 1] as Uint8Array);
    const raw = encodeBatch(ops, prev);
    this.model.batches.push(raw);
    this.model.trees.push(applyBatch(this.model.trees[version - 1] as Tree, applyOps(version, raw, decodeBatch(raw)), version));
    this.catchUp();
  }

  put(n: number): void {
    this.decide([{ op: "put", key: utf8(`kv/${String(n).padStart(3, "0")}`), value: utf8(`value ${n} of ${this.last + 1}`) }]);
  }

  erase(n: number): void {
    this.decide([{ op: "del", key: utf8(`kv/${String(n).padStart(3, "0")}`) }]);
  }

  /** Ordinary recovery: whoever is joined and can take up the next version does. */
  catchUp(): void {
    for (const id of this.ids) if (this.isJoined(id) && !this.lagging.has(id)) this.applyAll(id);
  }

  applyAll(id: NodeId, upTo = this.last): void {
    const { last } = this.history(id);
    if (last >= upTo) return;
    if (last + 1 < this.model.first) {
      this.beliefs.set(id, { mustSync: true });
      this.tell(id, { kind: "sync.facts" });
      return;
    }
    this.setStore(id, upTo);
  }

  /** What was only waiting to be applied is: those versions were here all along. */
  endLag(id: NodeId): void {
    this.lagging.delete(id);
    this.setStore(id, this.last);
  }

  private setStore(id: NodeId, version: number): void {
    const tree = this.model.trees[version] as Tree;
    this.world.changeDisk(id, (disk) => ({ ...disk, dbs: { ...disk.dbs, replicated: tree } }));
    this.told = "";
  }

  /** Proposes a trim, as far as the leader's holds allow; it commits with `endTrim`. */
  beginTrim(): boolean {
    const { leader } = this;
    if (leader === null || this.trimming !== null || !this.isJoined(leader)) return false;
    const wanted = this.last - (this.options.keep ?? 5) + 1;
    const held = heldFrom(this.state(leader), this.world.nowMs);
    const to = held === null ? wanted : Math.min(wanted, held);
    if (to <= this.model.first) return false;
    this.trimming = { to };
    return true;
  }

  endTrim(): void {
    if (this.trimming === null) return;
    const { to } = this.trimming;
    this.trimming = null;
    const from = this.model.first;
    this.model.first = to;
    this.decide([
      { op: "delRange", key: replicatedKeys.version(from), end: replicatedKeys.version(to) },
      { op: "put", key: replicatedKeys.first(), value: u64be(to) },
    ]);
  }

  trim(): boolean {
    const begun = this.beginTrim();
    this.endTrim();
    return begun;
  }

  /** After every event: recovery, elections, restarts, and word of what changed. */
  tick(): void {
    for (const id of this.ids) if (this.states.has(id) && this.isUp(id) && takeSynced(this.state(id)) !== null) this.told = "";
    this.catchUp();
    if (this.leader !== null && !(this.isJoined(this.leader) && this.hasMajority())) this.elect(null);
    if (this.leader === null) this.elect(this.candidate());
    for (const id of this.ids)
      if (this.restarts && this.states.has(id) && !this.isUp(id) && !this.restartAt.has(id)) this.restartAt.set(id, this.world.nowMs + RESTART_MS);
    const now = `${this.leader} ${this.epoch} ${this.last} ${this.trimming?.to}`;
    if (now === this.told) return;
    this.told = now;
    for (const id of this.ids) if (this.isUp(id)) this.tell(id, { kind: "sync.facts" });
  }

  /** The lowest rank that is up to date, where a majority is joined. */
  private candidate(): NodeId | null {
    if (!this.hasMajority()) return null;
    return this.ids.find((id) => this.isJoined(id) && this.history(id).last === this.last) ?? null;
  }

  private hasMajority(): boolean {
    return this.ids.filter((id) => this.isJoined(id)).length > this.ids.length / 2;
  }

  elect(leader: NodeId | null): void {
    if (leader === this.leader) return;
    this.leader = leader;
    this.trimming = null;
    if (leader !== null) this.epoch += 2;
  }

  /** Runs until something holds; false where it did not within the time. */
  runUntil(holds: () => boolean, limitMs = 600_000): boolean {
    const endMs = this.world.nowMs + limitMs;
    for (;;) {
      if (holds()) return true;
      const dueMs = Math.min(this.nextOwnMs(), endMs);
      const nextMs = this.world.nextMs();
      if (nextMs !== null && nextMs <= dueMs) this.world.step();
      else if (dueMs >= endMs) {
        this.world.advanceTo(endMs);
        return holds();
      } else this.doOwn(dueMs);
      this.tick();
      if (this.world.violations.length > 0) return holds();
    }
  }

  runFor(ms: number): void {
    this.runUntil(() => false, ms);
  }

  private nextOwnMs(): number {
    const writes = this.options.writeMs == null ? Number.POSITIVE_INFINITY : Math.max(this.nextWriteMs, this.world.nowMs);
    return Math.min(writes, ...this.restartAt.values());
  }

  private doOwn(atMs: number): void {
    this.world.advanceTo(Math.max(atMs, this.world.nowMs));
    for (const [id, dueMs] of this.restartAt) {
      if (dueMs > atMs) continue;
      this.restartAt.delete(id);
      if (!this.isUp(id)) this.world.startNode(id);
    }
    const { writeMs, keys = 30 } = this.options;
    if (writeMs == null || this.nextWriteMs > atMs) return;
    this.nextWriteMs = atMs + writeMs;
    if (this.leader === null) return;
    const turn = this.last;
    if (turn % 7 === 3) this.erase((turn * 5) % keys);
    else this.put((turn * 11) % keys);
    if (turn % 5 === 0) this.beginTrim();
    else this.endTrim();
  }

  // ------------------------------------------------------------------ beginnings

  /** Everybody at `upTo` but the laggard, which stopped at `behind`; trimmed so that it cannot recover. Everybody is up. */
  begin({ laggard = "c", behind = 4, upTo = 20 }: { laggard?: string | null; behind?: number; upTo?: number } = {}): void {
    const { keys = 30 } = this.options;
    for (let n = 0; n < upTo; n++) {
      if (n === 0)
        this.decide(Array.from({ length: keys }, (_, i) => ({ op: "put", key: utf8(`kv/${String(i).padStart(3, "0")}`), value: utf8(`first ${i}`) }) as const));
      else if (n === upTo - 1) {
        this.trimming = { to: upTo - (this.options.keep ?? 5) };
        this.endTrim();
      } else if (n % 6 === 5) this.erase((n * 5) % keys);
      else this.put((n * 7) % keys);
    }
    const vote: Op = { op: "put", key: acceptsKeys.vote(), value: VOTE };
    for (const id of this.ids) {
      const tree = this.model.trees[id === laggard ? behind : this.last] as Tree;
      this.world.changeDisk(id, (disk) => ({ ...disk, dbs: { ...disk.dbs, replicated: tree, accepts: applyBatch(disk.dbs.accepts, [vote], 0) } }));
      if (id !== laggard) this.world.startNode(id);
    }
    this.runUntil(() => this.leader !== null && this.ids.every((id) => id === laggard || this.isJoined(id)));
    this.nextWriteMs = this.world.nowMs;
    this.told = "";
  }

  start(id: string): void {
    this.world.startNode(nodeId(id));
  }

  /** Joined with everything, and nothing of any transfer left. */
  isWhole = (): boolean =>
    this.ids.every((id) => this.isJoined(id) && this.history(id).last === this.last) &&
    this.ids.every((id) => this.state(id).transfers.size + this.state(id).holds.size === 0);
}
