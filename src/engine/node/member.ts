/**
 * One member of the cluster: Paxos and store synchronisation as one core (sync.md section 3.1). The two never import each
 * other; here each hears what the other one's functions say: whether this node must abstain, that a sync ended and at which
 * version, what is held against trimming, that only a sync helps, and that something changed. Both drivers run this core.
 */
import type { Core, Effect, Event, Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { birthCounts, memberOf } from "../paxos/cluster-map.ts";
import { commitP99Us } from "../paxos/proposer.ts";
import type { RegisterOwner } from "../paxos/service-log.ts";
import { isFirstReign, isSettled, leasesHold, type PaxosConfig, type PaxosState } from "../paxos/state.ts";
import { heldFrom } from "../sync/hold.ts";
import { initialSync, type PaxosFacts, type SyncCall, type SyncConfig, type SyncPorts, type SyncState, type Views } from "../sync/state.ts";
import { isSyncRequest, mustAbstain, stepSync, takeSynced } from "../sync/sync.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { assembleReplica, type ReplicaCore } from "./assemble.ts";
import { numbered, routed } from "./parts.ts";

export type MemberRequest = Request | SyncCall;
type MemberEvent = Event<MemberRequest, Answer>;
type MemberEffect = Effect<Request, Answer>;
/** `state` is Paxos's, as a replica's is. */
export type MemberCore = Core<MemberRequest, Answer, Request, Answer> & {
  readonly state: PaxosState;
  readonly sync: SyncState;
  /** Whether a request is the member's. */
  handles(body: Request): boolean;
};

export type MemberOptions = {
  readonly paxos: PaxosConfig;
  readonly registers: readonly RegisterOwner[];
  readonly sync: SyncConfig;
  readonly views: Views;
  /** Whether the disk is too full to keep versions for others. */
  readonly isNearlyFull: () => boolean;
};

const PAXOS = 0;
const SYNC = 1;
type Effects = Record<typeof PAXOS | typeof SYNC, MemberEffect[]>;
const PARTS = 2;
/** A call of one part to the other: nobody waits for its answer. */
const NOBODY = 0;

export function assembleMember(options: MemberOptions): MemberCore {
  const member = new Member(options);
  return {
    name: "member",
    state: member.replica.state,
    sync: member.sync,
    handles: (body) => isSyncRequest(body) || member.replica.handles(body),
    step: (event, snap) => member.step(event, snap),
  };
}

function bytesOf({ db, batch }: Extract<MemberEffect, { kind: "write" }>): number {
  let bytes = 0;
  if (db === "replicated") for (const op of batch) bytes += op.key.length + (op.op === "put" ? op.value.length : 0);
  return bytes;
}

type Told = Pick<PaxosFacts, "leader" | "epoch" | "isTrimming" | "mustSync" | "isSettled" | "hasLeases" | "first"> & { readonly applied: number };

const isSame = (a: Told, b: Told): boolean =>
  a.leader === b.leader &&
  a.epoch === b.epoch &&
  a.isTrimming === b.isTrimming &&
  a.mustSync === b.mustSync &&
  a.isSettled === b.isSettled &&
  a.hasLeases === b.hasLeases &&
  a.first === b.first &&
  a.applied === b.applied;

class Member {
  readonly replica: ReplicaCore;
  readonly sync: SyncState;
  private readonly options: MemberOptions;
  private readonly ports: SyncPorts;
  /** By versions, while this node provides. */
  private writtenBytes = 0;
  /** Told by the leader's last LEASE. */
  private toldP99Us: number | null = null;
  /** What the synchronisation was told last. */
  private told: Told = { leader: null, epoch: 0, isTrimming: false, mustSync: false, isSettled: false, hasLeases: false, first: 0, applied: 0 };

  constructor(options: MemberOptions) {
    this.options = options;
    this.replica = assembleReplica(options.paxos, options.registers);
    this.sync = initialSync(options.sync);
    this.ports = {
      views: options.views,
      facts: (upMs) => this.facts(upMs),
      commitP99Us: (upMs) => this.p99Us(upMs),
      votes: (peer, birth) => this.votes(peer, birth),
      writtenBytes: () => this.writtenBytes,
    };
  }

  step(event: MemberEvent, snap: Snapshot): readonly MemberEffect[] {
    const out: Effects = { [PAXOS]: [], [SYNC]: [] };
    if (event.kind === "request" && event.body.kind === "paxos.lease") this.toldP99Us = event.body.commitP99Us;
    for (const [part, own] of routed(event, PARTS, (body) => (isSyncRequest(body) ? SYNC : PAXOS))) this.stepPart(part, own, snap, out);
    // a peer that recovers by Paxos keeps the transfer alive that brought it so far
    if (event.kind === "request" && event.body.kind === "paxos.recent-req") this.tell({ kind: "sync.recent-asked", peer: event.from }, event, snap, out);
    if (event.kind !== "request" || event.more !== true) this.carry(event, snap, out); // else with the request that follows
    return inOrder(out);
  }

  private stepPart(part: number, event: MemberEvent, snap: Snapshot, out: Effects): void {
    const effects = part === SYNC ? stepSync(this.sync, event, snap, this.ports) : this.replica.step(event as Event<Request, Answer>, snap);
    if (part === PAXOS && this.sync.transfers.size > 0) for (const effect of effects) if (effect.kind === "write") this.writtenBytes += bytesOf(effect);
    for (const effect of effects) if (effect.kind !== "answer" || effect.id !== NOBODY) out[part === SYNC ? SYNC : PAXOS].push(numbered(effect, part, PARTS));
  }

  private tell(body: SyncCall, { timeMs, upMs }: MemberEvent, snap: Snapshot, out: Effects): void {
    this.stepPart(SYNC, { kind: "request", id: NOBODY, from: this.options.sync.self, body, timeMs, upMs }, snap, out);
  }

  private facts(upMs: number): PaxosFacts {
    const { state } = this.replica;
    const { phase, leader, first, last, isTrimming, mustSync } = this.replica.facts(upMs);
    // the epoch of an election that failed may be above the leader's: its ballot is what names a reign
    const epoch = (state.leading?.ballot ?? state.leaderBallot).round;
    const isJoined = phase === "following" || phase === "leading";
    const leads = { isSettled: isSettled(state), hasLeases: leasesHold(state, upMs), isFirstReign: state.leading !== null && isFirstReign(state.leading) };
    return {
      epoch,
      leader: isJoined ? leader : null,
      first,
      last,
      isTrimming,
      mustSync: mustSync !== null,
      isNearlyFull: this.options.isNearlyFull(),
      ...leads,
    };
  }

  private votes(peer: NodeId, birth: Uint8Array): boolean {
    const { map } = this.replica.state;
    const member = memberOf(map, peer);
    return member !== null && birthCounts(map, member.number, birth);
  }

  private p99Us(upMs: number): number | null {
    const { leading } = this.replica.state;
    return leading === null ? this.toldP99Us : commitP99Us(leading, upMs);
  }

  /** Until neither has news for the other. Abstaining comes first: what follows in this step is a flagged node's. */
  private carry(event: MemberEvent, snap: Snapshot, out: Effects): void {
    const { replica, sync } = this;
    if (mustAbstain(sync) && replica.state.phase !== "syncing")
      for (const effect of replica.beginSync(event, snap)) out[PAXOS].push(numbered(effect, PAXOS, PARTS));
    if (takeSynced(sync) !== null) for (const effect of replica.endSync(event, snap)) out[PAXOS].push(numbered(effect, PAXOS, PARTS));
    const { leader, epoch, first, isTrimming, mustSync, isSettled: settled, hasLeases } = this.facts(event.upMs);
    const now: Told = { leader, epoch, isTrimming, mustSync, isSettled: settled, hasLeases, first, applied: replica.state.applied };
    if (!isSame(now, this.told)) {
      this.told = now;
      this.tell({ kind: "sync.facts" }, event, snap, out);
    }
    replica.hold(heldFrom(sync, event.upMs));
  }
}

/**
 * Duty 4 drops what a step listed behind a write that found no space: a part that writes nothing goes first, so that its
 * timers and messages never depend on the other one's disk.
 */
function inOrder({ [PAXOS]: paxos, [SYNC]: sync }: Effects): readonly MemberEffect[] {
  if (sync.length === 0) return paxos;
  return paxos.some(({ kind }) => kind === "write") ? [...sync, ...paxos] : [...paxos, ...sync];
}
