/**
 * What a node knows of store synchronisation (sync.md section 4), as plain data: as the requester of at most one transfer, as
 * the provider of a few, and as the leader that holds trimming for others. All of it but the rows of `records.ts` is gone
 * with the process, and the rules hold without it. Phases change only along the tables of `phases.ts`. Paxos is seen as facts that
 * assembly reads for us; it is told `held`, `synced` and whether this node abstains.
 */
import type { Effect, Event, Snapshot } from "../base/effects.ts";
import type { Hash, NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import type { DigestBuild, DigestNode } from "../store/digest.ts";
import type { StoreSnapshot } from "../store/types.ts";
import type { Answer, AnswerOf, Request, RequestOf } from "../wire/messages.ts";
import { type HoldPhase, type ProviderPhase, type RequesterPhase, requesterTransitions } from "./phases.ts";
import { beginWrite, type Progress, type ViewStat } from "./progress.ts";
import { newRate, type Rate } from "./rate.ts";
import type { CursorRow, FlagRow } from "./records.ts";
import type { Walk } from "./walk.ts";

export type Limits = { readonly chunkBytes: number; readonly chunkKeys: number; readonly windowChunks: number; readonly windowBytes: number };

export type SyncTiming = {
  /** Until a round of probing is over, whoever has not answered. */
  readonly probeMs: number;
  /** The requester's, with a provider that says nothing; it asks for a sign of life three times as often. */
  readonly patienceMs: number;
  readonly keepaliveMs: number;
  /** Before somebody is asked again: doubles up to the maximum. */
  readonly backoffMs: number;
  readonly backoffMaxMs: number;
  /** The provider's, with a requester that says nothing. */
  readonly expireMs: number;
  /** Unacknowledged chunks are sent again after so long. */
  readonly stallMs: number;
  readonly holdAnswerMs: number;
  readonly holdRetryMs: number;
  readonly holdRenewMs: number;
  /** Counted by the provider from its send, by the leader from receipt. */
  readonly holdLeaseMs: number;
  /** A new leader trims nothing for so long. Invariant: longer than a lease and its grace. */
  readonly holdWaitMs: number;
  readonly holdAgeMaxMs: number;
  readonly drainMs: number;
  readonly drainMaxMs: number;
  readonly snapshotAgeMaxMs: number;
};

export const SYNC_TIMING: SyncTiming = {
  probeMs: 1_000,
  patienceMs: 30_000,
  keepaliveMs: 10_000,
  backoffMs: 500,
  backoffMaxMs: 30_000,
  expireMs: 60_000,
  stallMs: 5_000,
  holdAnswerMs: 10_000,
  holdRetryMs: 1_000,
  holdRenewMs: 10_000,
  holdLeaseMs: 30_000,
  holdWaitMs: 60_000,
  holdAgeMaxMs: 3_600_000,
  drainMs: 30_000,
  drainMaxMs: 600_000,
  snapshotAgeMaxMs: 600_000,
};

export type SyncConfig = {
  readonly cluster: Uint8Array;
  readonly self: NodeId;
  readonly birth: Uint8Array;
  /** Voting members, this node among them, by rank. */
  readonly members: readonly NodeId[];
  /** Random per process: transfers and holds are named after it, so that no two grants share a name. */
  readonly nonce: Uint8Array;
  readonly limits: Limits;
  readonly timing: SyncTiming;
  /** Go on from the durable cursor after a crash or with another provider. Off in the seed profile. */
  readonly isResuming: boolean;
  /** Hold everything from the first version on, not from the snapshot on: the seed profile. */
  readonly holdsAll: boolean;
  /** What a node asks for that has a store: all of another's, or what differs. */
  readonly mode: "full" | "delta";
};

export const MIB = 1_024 * 1_024;
export const DEFAULT_LIMITS: Limits = { chunkBytes: MIB, chunkKeys: 2_000, windowChunks: 8, windowBytes: 8 * MIB };
/** The letter of the seed: one chunk, then its ack. */
export const SEED_LIMITS: Limits = { ...DEFAULT_LIMITS, windowChunks: 1 };

/** Rows read back in one step while verifying: about 2 ms. */
export const SCAN_ROWS_MAX = 4_096;

export const TRANSFERS_MAX = 2;
export const HOLDS_MAX = 8;

/** Paxos as this node sees it now. */
export type PaxosFacts = {
  /** Names the reign of the leader that this node follows, or of this node: another leader's is another number. */
  readonly epoch: number;
  readonly leader: NodeId | null;
  /** Somebody showed a first version beyond what this node could take up, and nobody a better one since. */
  readonly mustSync: boolean;
  /** Versions known to be chosen, applied here or not. */
  readonly first: number;
  readonly last: number;
  /** Of the leader: its own first version and every value it found are chosen. */
  readonly isSettled: boolean;
  /** Of the leader: nobody before it can have granted a hold. */
  readonly isFirstReign: boolean;
  /** Of the leader: a majority's leases hold at this moment. */
  readonly hasLeases: boolean;
  /** Of the leader: a trim is proposed and not yet applied here. */
  readonly isTrimming: boolean;
  /** Whether the disk is too full to keep versions for others. */
  readonly isNearlyFull: boolean;
};

/** Snapshots of `replicated` that outlive a step, by number. They end with the process. */
export interface Views {
  open(): number;
  read(view: number): StoreSnapshot;
  close(view: number): void;
  /** Of the store now. */
  stat(): ViewStat;
}

export type SyncPorts = {
  facts(upMs: number): PaxosFacts;
  /** Commit p99 of the last second in microseconds, as the leader tells it; null where it is not known. */
  commitP99Us(upMs: number): number | null;
  /** Whether the disk with this birth is the one that its member votes with. */
  votes(peer: NodeId, birth: Uint8Array): boolean;
  /** What the cluster's versions wrote to this node's store since some moment of this process. */
  writtenBytes(): number;
  readonly views: Views;
};

/** What this node's own side says to the core. */
export type SyncCall =
  /** Something that `facts` or the history shows has changed. */
  | { readonly kind: "sync.facts" }
  /** An operator wants this store replaced. */
  | { readonly kind: "sync.force" }
  /** A peer asked Paxos for recent versions: a drained transfer of it still matters. */
  | { readonly kind: "sync.recent-asked"; readonly peer: NodeId };
export type SyncEvent = Event<Request | SyncCall, Answer>;
export type SyncEffect = Effect<Request, Answer>;

/** Rows of a view read in key order, so many a step. */
export type Scan = { readonly view: number; readonly version: number; readonly build: DigestBuild; at: Uint8Array };

/** With how long it took, from the start of its round. */
export type Reply = AnswerOf<"paxos.probe-reply"> & { readonly tookMs: number };

export type Requester = {
  phase: RequesterPhase;
  /** As on disk, or on its way there: from then on this node abstains. */
  flag: FlagRow | null;
  floor: number;
  /** As on disk. */
  durable: CursorRow | null;
  /** With what is on its way. Invariant: never behind `durable`. */
  cursor: CursorRow | null;
  /** Last word of each member in this round of probing. */
  replies: Map<NodeId, Reply>;
  /** When this round began. */
  probedMs: number;
  /** Where this store ended when an operator wanted it replaced, and for how many rounds of probing too few others had that. */
  wishedLast: number;
  wishTries: number;
  /** Until when a member that was busy, silent or wrong is passed over. */
  avoided: Map<NodeId, number>;
  backoffMs: number;
  /** An operator wants this store replaced. */
  isForced: boolean;
  provider: NodeId | null;
  /** The SYNC_REQ whose answer counts: one that was given up may still be granted, by the same provider too. */
  grantRequest: number;
  transfer: Uint8Array | null;
  /** The grant goes on from the cursor. */
  resumes: boolean;
  isCleared: boolean;
  /** Asked for differences only. */
  isDelta: boolean;
  /** Roots were unequal: what differs is fetched, once. */
  isRepairing: boolean;
  /** Until a sync ended well: differences were refused, or did not help. */
  avoidsDelta: boolean;
  /** Of a delta copy. */
  walk: Walk | null;
  /** Of its questions the one on its way. */
  question: { readonly requestId: number; readonly body: RequestOf<"sync.range-req"> | RequestOf<"sync.range-want"> } | null;
  /** SYNC_START that waits for the clear: its request, to be answered by CHUNK_ACK 0. */
  start: { readonly id: number; readonly body: RequestOf<"sync.start"> } | null;
  /** Chunks not stored yet, by number. Bounded by the window. */
  waiting: Map<number, { readonly id: number; readonly body: RequestOf<"sync.chunk"> }>;
  /** The write whose `stored` goes on; 0: none is on its way. One at a time. */
  awaited: number;
  /** Root that came with the last chunk. */
  root: Uint8Array | null;
  /** What the provider said of itself at a version. */
  verify: { readonly version: number; readonly root: Uint8Array } | null;
  /** Newest version that the provider spoke of. */
  newest: number;
  /** When it was last asked for versions or its root. */
  askedMs: number;
  scan: Scan | null;
  /** Of the copy under way. */
  progress: Progress | null;
};

/** Why a provider does not send now, when it last looked: the requester's room, or the rate; or it sends as fast as it reads. */
export type SendLimit = "window" | "rate" | "disk";

export type Transfer = {
  readonly id: Uint8Array;
  readonly name: string;
  readonly requester: NodeId;
  readonly floor: number;
  readonly hold: Uint8Array;
  readonly limits: Limits;
  /** Version that replay starts behind, where an earlier copy goes on. */
  readonly oldest: number | null;
  phase: ProviderPhase;
  /** Epoch that the hold was last asked in. */
  epoch: number;
  /** Send times of what the leader was asked, by request. */
  holdAsked: Map<number, number>;
  /** Send time of the newest request that the leader said yes to: the lease counts from there. */
  heldFromMs: number | null;
  /** Why the leader that was asked last would not hold. */
  refusedFor: string | null;
  /** What the leader said when the hold began that lives, or that lived last. */
  ack: { readonly first: number; readonly last: number } | null;
  view: number | null;
  viewSinceMs: number;
  /** Of the store when it was taken. */
  viewFileBytes: number;
  /** Since then, when it was last looked at. */
  grownBytes: number;
  version: number;
  /** The requester walks this node's digest tree of the snapshot. */
  readonly isDelta: boolean;
  treeScan: Scan | null;
  tree: DigestNode | null;
  /** What the requester asked and was not answered yet. */
  question: { readonly id: number; readonly body: RequestOf<"sync.range-req"> | RequestOf<"sync.range-want"> } | null;
  /** Digest of what was packed, while that is everything. */
  build: DigestBuild | null;
  /** What is sent again until the requester says where it stands. */
  start: RequestOf<"sync.start"> | null;
  /** First key that was not packed; null: all were. Not known before the requester said where it stands. */
  at: Uint8Array | null;
  isReady: boolean;
  digest: Hash;
  /** Chunks `(acked, sent]` are on their way, kept until they are acknowledged. */
  sent: number;
  acked: number;
  flying: Map<number, RequestOf<"sync.chunk">>;
  creditChunks: number;
  creditBytes: number;
  sentBytes: number;
  limitedBy: SendLimit;
  drainSinceMs: number;
  scan: Scan | null;
  /** VERIFY_REQs that wait for the scan. */
  asks: number[];
};

export type Hold = {
  readonly id: Uint8Array;
  readonly name: string;
  readonly provider: NodeId;
  phase: HoldPhase;
  /** First version that the provider, or its requester, still reads. Invariant: never falls. */
  lowest: number;
  readonly sinceMs: number;
  renewedMs: number;
  leaseMs: number;
  bytes: number;
};

export type Asked =
  | { readonly what: "probe" | "grant" | "recent" | "verify" | "range" | "keepalive" | "told" }
  | { readonly what: "hold" | "start" | "chunk"; readonly transfer: string; readonly number: number };

export type WritePurpose = "flag" | "clear" | "begin" | "copy" | "replay" | "finish" | "restart" | "withdraw";

export type SyncState = {
  readonly config: SyncConfig;
  readonly requester: Requester;
  /** Of all transfers together. */
  readonly rate: Rate;
  /** Live transfers by name, oldest first. */
  readonly transfers: Map<string, Transfer>;
  /** Live holds by name. */
  readonly holds: Map<string, Hold>;
  /** HOLD_REQs that wait for a trim to end. */
  holdAsks: { readonly id: number; readonly from: NodeId; readonly body: RequestOf<"hold.req"> }[];
  /** Epoch in which this node leads, and until when it grants trims to nobody, itself included; null: it does not lead. */
  leading: { readonly epoch: number; readonly waitUntilMs: number } | null;
  /** Version at which a sync ended, until assembly took it. */
  synced: number | null;
  readonly asked: Map<number, Asked>;
  readonly writing: Map<number, WritePurpose>;
  lastTicket: number;
  lastRequestId: number;
  lastName: number;
};

export const initialSync = (config: SyncConfig): SyncState => ({
  config,
  requester: {
    phase: "probing",
    flag: null,
    floor: 0,
    durable: null,
    cursor: null,
    replies: new Map(),
    probedMs: 0,
    wishedLast: 0,
    wishTries: 0,
    avoided: new Map(),
    backoffMs: 0,
    isForced: false,
    provider: null,
    grantRequest: 0,
    transfer: null,
    resumes: false,
    isCleared: false,
    isDelta: false,
    isRepairing: false,
    avoidsDelta: false,
    walk: null,
    question: null,
    start: null,
    waiting: new Map(),
    awaited: 0,
    root: null,
    verify: null,
    newest: 0,
    askedMs: 0,
    scan: null,
    progress: null,
  },
  rate: newRate(),
  transfers: new Map(),
  holds: new Map(),
  holdAsks: [],
  leading: null,
  synced: null,
  asked: new Map(),
  writing: new Map(),
  lastTicket: 0,
  lastRequestId: 0,
  lastName: 0,
});

/** One step of the core: what it may read, and the effects so far. */
export type Turn = { readonly state: SyncState; readonly snap: Snapshot; readonly upMs: number; readonly ports: SyncPorts; readonly out: SyncEffect[] };

export const timingOf = ({ state }: Turn): SyncTiming => state.config.timing;

export const factsOf = ({ ports, upMs }: Turn): PaxosFacts => ports.facts(upMs);

export function send({ state, out }: Turn, to: NodeId, body: Request, asked: Asked): number {
  const requestId = ++state.lastRequestId;
  state.asked.set(requestId, asked);
  out.push({ kind: "send", to, requestId, body });
  return requestId;
}

type Write = Omit<Extract<SyncEffect, { kind: "write" }>, "kind" | "ticket">;

/** A write of the requester; what is listed behind it waits for it. */
export function write({ state, out, upMs }: Turn, purpose: WritePurpose, what: Write): void {
  const ticket = ++state.lastTicket;
  state.writing.set(ticket, purpose);
  state.requester.awaited = ticket;
  if (state.requester.progress !== null) beginWrite(state.requester.progress, upMs);
  out.push({ kind: "write", ticket, ...what });
}

/** What every message says of its sender. */
export function scopeOf(turn: Turn): { readonly cluster: Uint8Array; readonly epoch: number; readonly birth: Uint8Array } {
  const { cluster, birth } = turn.state.config;
  return { cluster, birth, epoch: factsOf(turn).epoch };
}

export function enterRequester({ requester }: SyncState, next: RequesterPhase): void {
  invariant(requesterTransitions[requester.phase].includes(next), `requester: ${next} may follow ${requester.phase}`);
  requester.phase = next;
}
