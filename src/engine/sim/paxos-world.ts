/**
 * A simulated cluster of symmetric replicas: names, ranks and births made from the seed, each node one daemon built by
 * `node/assemble.ts` as real nodes are. Stories and seed runs of the area `sync` both start here.
 */
import { utf8 } from "../base/bytes.ts";
import { CLIENT, type NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { assembleReplica, type ReplicaCore } from "../node/assemble.ts";
import { assembleMember, type MemberCore, type MemberRequest } from "../node/member.ts";
import { type Ballot, ballotText } from "../paxos/ballot.ts";
import { SWEEP_TIMER } from "../paxos/clients.ts";
import type { Member } from "../paxos/cluster-map.ts";
import { RENEW_TIMER } from "../paxos/standing.ts";
import { PAXOS_TIMING, type PaxosConfig, type PaxosState, type PaxosTiming } from "../paxos/state.ts";
import { treeSnapshot, treeStat } from "../store/memory.ts";
import type { Tree } from "../store/tree.ts";
import { keyText } from "../store/value.ts";
import type { SyncConfig, SyncState, Views } from "../sync/state.ts";
import { type Answer, answers, type Request, requests } from "../wire/messages.ts";
import { describeBody } from "./describe.ts";
import { DiskSnapshot } from "./disk.ts";
import type { LinkFaults } from "./network.ts";
import { type ClientCall, DAEMON, type Keep } from "./process.ts";
import { type WireCodec, World } from "./world.ts";

export type PaxosWorld = World<MemberRequest, Answer, Request, Answer>;
export type PaxosCall = ClientCall<Answer>;

export type SyncProfile = Pick<SyncConfig, "limits" | "timing" | "isResuming" | "holdsAll" | "mode">;

export type PaxosWorldOptions = {
  readonly seed: number;
  readonly nodeCount: number;
  /** Nodes beside the members: none of them votes before it is added. */
  readonly spareCount?: number;
  readonly recording: boolean;
  /** Trim keeps so many versions. */
  readonly keepCount: number;
  readonly timing?: Partial<PaxosTiming>;
  /** Store synchronisation beside Paxos; without it a node that falls too far behind stays there. */
  readonly sync?: SyncProfile;
  /** The first two members have one rank: the number tells them apart. */
  readonly sharesRank?: boolean;
  readonly link?: Partial<LinkFaults>;
  readonly flushMs?: readonly [number, number];
  readonly keep?: Keep;
};

const wire: WireCodec<Request, Answer, Request, Answer> = {
  encodeRequest: (body) => requests.encode(body),
  decodeRequest: (raw) => requests.decode(raw),
  encodeAnswer: (body) => answers.encode(body),
  decodeAnswer: (raw) => answers.decode(raw),
};

/** What a settled cluster goes on doing for ever. */
const PERIODIC: readonly string[] = [RENEW_TIMER, SWEEP_TIMER];
const NAMES = "abcdefghi";
export const NODES_MAX = NAMES.length;

export class PaxosCluster {
  readonly world: PaxosWorld;
  readonly nodeIds: readonly NodeId[];
  /** Members of version 0. */
  readonly members: readonly Member[];
  readonly keepCount: number;
  /** The log whose register the service `log` holds. */
  readonly log: Uint8Array;
  private readonly options: PaxosWorldOptions;
  private readonly clusterId: Uint8Array;
  /** The birth of the disk that each node has now. */
  private readonly births = new Map<NodeId, Uint8Array>();
  private bootCount = 0;
  /** Cores of the daemons that run, or ran last. */
  private readonly cores = new Map<NodeId, ReplicaCore | MemberCore>();

  constructor(options: PaxosWorldOptions) {
    const { seed, nodeCount, spareCount = 0, keepCount, sharesRank = false, timing: _, sync: __, ...rest } = options;
    this.options = options;
    this.keepCount = keepCount;
    this.clusterId = digest(`${seed}/cluster`).slice(0, 8);
    this.log = digest(`${seed}/log`).slice(0, 8);
    this.nodeIds = Array.from({ length: nodeCount + spareCount }, (_, at) => NAMES[at] as NodeId);
    for (const [at, id] of this.nodeIds.entries()) this.births.set(id, digest(`${seed}/${at}/birth`).slice(0, 8));
    this.members = Array.from({ length: nodeCount }, (_, at) => ({
      id: NAMES[at] as NodeId,
      number: at + 1,
      rank: sharesRank && at === 1 ? 0 : at,
      birth: this.birthOf(NAMES[at] as NodeId),
    }));
    this.world = new World({ seed, wire, describe, periodic: (timer) => PERIODIC.includes(timer.replace(/^0\./, "")), ...rest });
    for (const id of this.nodeIds) this.world.addNode(id, { daemon: () => this.start(id) });
  }

  birthOf(id: NodeId): Uint8Array {
    return this.births.get(id) ?? new Uint8Array(8);
  }

  /** The node's disk is gone, and an empty one is in its place. */
  loseDisk(id: NodeId): void {
    if (this.isUp(id)) this.world.crashNode(id, "none");
    this.world.restoreFolder(id, null);
    this.births.set(id, digest(`${this.options.seed}/${id}/${this.world.eventCount}`).slice(0, 8));
  }

  private start(id: NodeId): ReplicaCore | MemberCore {
    const registers = [{ log: this.log, epoch: 1, primary: "a" }];
    const paxos = this.configOf(id);
    const { sync } = this.options;
    const core =
      sync === undefined
        ? assembleReplica(paxos, registers)
        : assembleMember({
            paxos,
            registers,
            sync: this.syncConfigOf(paxos, sync),
            views: this.viewsOf(id),
            isNearlyFull: () => this.world.node(id).faults.full,
          });
    this.cores.set(id, core);
    return core;
  }

  private syncConfigOf({ cluster, self, birth }: PaxosConfig, profile: SyncProfile): SyncConfig {
    const members = [...this.members].sort((a, b) => a.rank - b.rank).map(({ id }) => id);
    return { cluster, self, birth, members, nonce: digest(`${this.options.seed}/${self}/${++this.bootCount}`).slice(0, 8), ...profile };
  }

  /** Snapshots of a process: roots of its node's disk. */
  private viewsOf(id: NodeId): Views {
    const open = new Map<number, Tree>();
    let lastView = 0;
    return {
      open: () => {
        open.set(++lastView, this.world.node(id).disk.dbs.replicated);
        return lastView;
      },
      read: (view) => treeSnapshot(open.get(view) ?? null, `${id} view ${view}`),
      close: (view) => invariant(open.delete(view), `view ${view} of ${id} is closed once`),
      stat: () => treeStat(this.world.node(id).disk.dbs.replicated),
    };
  }

  private configOf(self: NodeId): PaxosConfig {
    const { timing, keepCount } = this.options;
    return { cluster: this.clusterId, self, birth: this.birthOf(self), members: this.members, timing: { ...PAXOS_TIMING, ...timing }, keepCount };
  }

  /** The synchronisation's part of it; null too where there is none. */
  syncOf(id: NodeId): SyncState | null {
    const core = this.isUp(id) ? this.cores.get(id) : undefined;
    return core !== undefined && "sync" in core ? core.sync : null;
  }

  /** The state of a node's daemon, or null where it is down. */
  stateOf(id: NodeId): PaxosState | null {
    return this.isUp(id) ? (this.cores.get(id)?.state ?? null) : null;
  }

  isUp(id: NodeId): boolean {
    return this.world.running(id, DAEMON) !== null;
  }

  snapOf(id: NodeId): DiskSnapshot {
    return new DiskSnapshot(this.world.node(id).disk, id);
  }

  startNodes(): void {
    for (const id of this.nodeIds) this.world.startNode(id);
  }

  /** The settled leader of the newest ballot, or null. */
  leader(): NodeId | null {
    let best: { id: NodeId; round: number } | null = null;
    for (const id of this.nodeIds) {
      const leading = this.stateOf(id)?.leading;
      if (leading && (best === null || leading.ballot.round > best.round)) best = { id, round: leading.ballot.round };
    }
    return best?.id ?? null;
  }

  /** `from`: who asks, where that matters; a client of the node where nobody is named. */
  request(id: NodeId, body: Request, from: NodeId = CLIENT): PaxosCall {
    return this.world.request(id, body, DAEMON, from);
  }
}

/** Fields that say the same in every message of a world. */
const OMITTED = ["cluster", "birth", "hash"];

/** A message in one line: ballots as `5.2`, accepted entries by version and ballot, calls by what they carry. */
function describe(body: unknown): string {
  if (typeof body !== "object" || body === null) return describeBody(body);
  const shown: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(body))
    if (!OMITTED.includes(name)) shown[name] = isBallot(value) ? ballotText(value) : isBound(name, value) ? keyName(value) : value;
  if ("accepted" in body)
    shown["accepted"] = (body.accepted as readonly { version: number; ballot: Ballot }[]).map((entry) => `${entry.version}:${ballotText(entry.ballot)}`);
  return describeBody(shown);
}

/** Where a chunk begins and ends, and how far a copy is. */
const isBound = (name: string, value: unknown): value is Uint8Array => value instanceof Uint8Array && ["lo", "hi", "cursor"].includes(name);
/** A key of the store for people: numbers behind the last slash in hex. */
export function keyName(key: Uint8Array): string {
  const slash = key.lastIndexOf(0x2f) + 1;
  return key.length === 0 ? "first" : `${keyText(key.slice(0, slash))}${keyText(key.slice(slash))}`;
}

const isBallot = (value: unknown): value is Ballot => typeof value === "object" && value !== null && "round" in value && "member" in value;

function digest(text: string): Uint8Array {
  const out = new Uint8Array(32);
  Bun.SHA256.hash(utf8(text), out);
  return out;
}
