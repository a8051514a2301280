/**
 * The replica of a node as it runs beside the daemon (sync.md sections 3 and 4): Paxos and synchronisation as one core, with
 * a driver of its own over the same disk, so that no chunk of the merge stands before a vote, and links of its own for the
 * same reason. The store is its alone.
 */
import type { Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { CLIENT, type NodeId } from "../base/ids.ts";
import type { AppliedStore } from "../gateway/kv-watch.ts";
import type { PinnedStore } from "../gateway/store-rows.ts";
import type { Tracer } from "../gateway/trace.ts";
import { factsOf, type ReplicaFacts } from "../paxos/paxos.ts";
import { silentMembers } from "../paxos/silence.ts";
import { voteless } from "../paxos/standing.ts";
import { PAXOS_TIMING, type PaxosConfig } from "../paxos/state.ts";
import { type TrimFacts, trimFacts } from "../paxos/trim.ts";
import { acceptsKeys } from "../store/keys.ts";
import type { StoreSnapshot } from "../store/types.ts";
import { DEFAULT_LIMITS, SYNC_TIMING, type SyncConfig } from "../sync/state.ts";
import { explain, type SyncStatus, statusOf } from "../sync/status.ts";
import { mustAbstain } from "../sync/sync.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { BIRTH_BYTES, birthOf } from "./birth.ts";
import { type NodeConfig, votersOf } from "./config.ts";
import type { Disk } from "./disk.ts";
import { type Driver, openDriver } from "./driver.ts";
import { MemberLinks } from "./hosting.ts";
import { assembleMember, type MemberCore, type MemberRequest } from "./member.ts";
import { ReplicaTrace } from "./replica-trace.ts";

/** Trim leaves so many versions (sync.md 3.6). */
const KEEP_COUNT = 500;
/** The first bytes of the cluster's id that every message carries. */
const CLUSTER_BYTES = 8;
const NONCE_BYTES = 8;
/** Followers that are woken at once: what one applied version costs is bounded. */
const FOLLOWERS_MAX = 256;
/** Snapshots open for comparisons: each keeps the pages that commits free meanwhile. */
const PINNED_MAX = 4;

export type Replica = Pick<Driver<Request, Answer>, "request" | "ended" | "close"> & {
  /** Whether a peer's request is the replica's. */
  handles(body: Request): boolean;
  facts(): ReplicaFacts;
  /** How far trimming could go, where this node leads; else null. */
  trim(): TrimFacts | null;
  sync(): SyncStatus;
  /** Why it synchronises, or need not, a line each. */
  explainSync(): readonly string[];
  /** This node leads, or follows a leader it heard of within a lease. */
  hasQuorum(): boolean;
  /** Members of whom nothing is heard. */
  silent(): readonly NodeId[];
  /** Why this node's disk has no vote; null where it has one, or may have it and knows no better yet. */
  voteless(): string | null;
  /** An operator wants this store replaced by another one's; its rules decide. */
  force(): Promise<Answer>;
  /** What is applied here, for those who follow it. */
  readonly store: AppliedStore & PinnedStore;
  readonly trace: Tracer;
};

export type ReplicaHooks = {
  readonly mark: (name: string, text?: string) => void;
  readonly linkLost: (peer: NodeId, reason: EngineError) => void;
  /** As the node saw it last: the core asks at every step, so nobody asks the disk for it. */
  readonly isSpaceLow: () => boolean;
};

export function openReplica(node: NodeConfig, disk: Disk, hooks: ReplicaHooks): Replica {
  readAccepts(disk);
  const paxos = paxosConfig(node, birthOf(disk, node.dir));
  const registers = [{ log: node.merge.log, epoch: node.merge.epoch, primary: node.merge.primary }];
  const core = assembleMember({ paxos, registers, sync: syncConfig(paxos, node.syncMode), views: disk.views(), isNearlyFull: hooks.isSpaceLow });
  const links = new MemberLinks(node, hooks.linkLost);
  const applied = new AppliedReplica(core, disk);
  const trace = new ReplicaTrace();
  const joins = ({ kind }: MemberRequest): boolean => kind.startsWith("kv.");
  const driver = openDriver({ core: trace.watch(applied.watched), disk, connect: links.connect, mark: hooks.mark, joins });
  driver.start();
  const facts = (): ReplicaFacts => factsOf(core.state, performance.now());
  return {
    request: (from, body, patienceMs) => driver.request(from, body, patienceMs),
    ended: driver.ended,
    handles: core.handles,
    facts,
    trim: () => trimFacts(core.state, performance.now()),
    sync: () => statusOf(core.sync, performance.now()),
    explainSync: () => explain(core.sync, facts(), performance.now()),
    hasQuorum: () => {
      const { phase, leader, isSettledLeader } = facts();
      return phase === "leading" ? isSettledLeader : phase === "following" && leader !== null;
    },
    silent: () => silentMembers(core.state, performance.now()),
    voteless: () => voteless(core.state),
    force: () => driver.request(CLIENT, { kind: "sync.force" }),
    store: applied,
    trace,
    close: async () => {
      trace.close();
      applied.close();
      links.close();
      await driver.close();
    },
  };
}

/** Followers of the applied state wake when a step of the core applied something. They read the disk, never the core. */
class AppliedReplica implements AppliedStore, PinnedStore {
  /** The core, with every step seen. */
  readonly watched: MemberCore;
  private readonly core: MemberCore;
  private readonly disk: Disk;
  private readonly waiting = new Set<{ readonly behind: number; resolve(): void }>();
  private pinned = 0;
  private isClosed = false;

  constructor(core: MemberCore, disk: Disk) {
    this.core = core;
    this.disk = disk;
    this.watched = { ...core, step: (event, snap) => this.step(event, snap) };
  }

  read<T>(work: (snap: Snapshot) => T): T {
    this.mustBeWhole();
    using snap = this.disk.snapshot();
    return work(snap);
  }

  pin(): { readonly rows: StoreSnapshot; close(): void } {
    this.mustBeWhole();
    if (this.pinned >= PINNED_MAX) throw new EngineError("LOG_BUSY", `${PINNED_MAX} others compare this node's store`);
    const views = this.disk.views();
    const view = views.open();
    this.pinned++;
    const close = (): void => {
      this.pinned--;
      views.close(view);
    };
    return { rows: views.read(view), close };
  }

  private mustBeWhole(): void {
    if (this.isClosed) throw new EngineError("NOT_READY", "this node is stopping");
    if (mustAbstain(this.core.sync)) throw new EngineError("NOT_READY", "this node's store is being replaced by another one's");
  }

  async moved(behind: number, withinMs: number, signal: AbortSignal): Promise<void> {
    if (this.isClosed || signal.aborted || this.core.state.applied > behind) return;
    if (this.waiting.size >= FOLLOWERS_MAX) return Bun.sleep(withinMs); // it hears of changes late, and misses none
    const { promise, resolve: end } = Promise.withResolvers<void>();
    const resolve = (): void => end();
    const timer = setTimeout(resolve, withinMs);
    const waiter = { behind, resolve };
    this.waiting.add(waiter);
    signal.addEventListener("abort", resolve, { once: true });
    await promise;
    signal.removeEventListener("abort", resolve);
    clearTimeout(timer);
    this.waiting.delete(waiter);
  }

  close(): void {
    this.isClosed = true;
    this.wake(Number.POSITIVE_INFINITY);
  }

  private step(...[event, snap]: Parameters<MemberCore["step"]>): ReturnType<MemberCore["step"]> {
    const { applied, phase } = this.core.state;
    const effects = this.core.step(event, snap);
    const { state } = this.core;
    if (this.waiting.size > 0 && (state.applied !== applied || state.phase !== phase))
      this.wake(state.phase === phase ? state.applied : Number.POSITIVE_INFINITY);
    return effects;
  }

  /** Those who wait behind a version below this one. */
  private wake(reached: number): void {
    for (const { behind, resolve } of this.waiting) if (behind < reached) resolve();
  }
}

/** What is wrong with the journal is said before the node says that it is ready. */
function readAccepts(disk: Disk): void {
  using snap = disk.snapshot();
  snap.get("accepts", acceptsKeys.vote());
}

/** What any member answers in every state. */
export const probeOf = ({ clusterId }: NodeConfig): Request => ({
  kind: "paxos.probe",
  cluster: clusterId.slice(0, CLUSTER_BYTES),
  epoch: 0,
  birth: new Uint8Array(BIRTH_BYTES),
});

function paxosConfig(node: NodeConfig, birth: Uint8Array): PaxosConfig {
  return { cluster: node.clusterId.slice(0, CLUSTER_BYTES), self: node.self.name, birth, members: votersOf(node), timing: PAXOS_TIMING, keepCount: KEEP_COUNT };
}

function syncConfig({ cluster, self, birth, members }: PaxosConfig, mode: SyncConfig["mode"]): SyncConfig {
  const byRank = [...members].sort((a, b) => a.rank - b.rank).map(({ id }) => id);
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  return { cluster, self, birth, members: byRank, nonce, limits: DEFAULT_LIMITS, timing: SYNC_TIMING, isResuming: true, holdsAll: false, mode };
}
