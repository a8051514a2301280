/**
 * What a replica knows (sync.md section 3), as plain data, and how the parts of Paxos speak: every function of a part
 * takes a `Turn`, changes the state in place and lists its effects. Which field is on disk is said beside it; all others
 * are gone with the process, and the rules hold without them.
 */
import { answer, mark } from "../base/effect-list.ts";
import type { Batch, Effect, Op, Snapshot } from "../base/effects.ts";
import type { Hash, NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { acceptsKeys } from "../store/keys.ts";
import { ZERO_HASH } from "../store/versions.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { type Ballot, NO_BALLOT } from "./ballot.ts";
import { birthCounts, type ClusterMap, configMap, type Member, majorityOf, memberOf } from "./cluster-map.ts";
import { type Memory, takeUnwritten } from "./remembered.ts";
import type { Service } from "./services.ts";

export type PaxosTiming = {
  /** Counted by the leader from its send, less the margin; by a member from receipt. */
  readonly leaseMs: number;
  readonly renewMs: number;
  /** Until an election without an outcome is tried again. */
  readonly electMs: number;
  readonly collectMs: number;
  /** Until a client is told that it is not known what became of its request. */
  readonly requestMs: number;
  /** A new leader trims nothing for so long: holds that an earlier one granted have lapsed by then (sync.md 4.4). */
  readonly trimWaitMs: number;
};

export const PAXOS_TIMING: PaxosTiming = { leaseMs: 1_000, renewMs: 300, electMs: 250, collectMs: 1_000, requestMs: 5_000, trimWaitMs: 60_000 };

export type PaxosConfig = {
  /** First 8 bytes of what names the cluster. */
  readonly cluster: Uint8Array;
  readonly self: NodeId;
  /** Random, made with the data folder; another one is another disk. */
  readonly birth: Uint8Array;
  /** The cluster map of version 0. */
  readonly members: readonly Member[];
  readonly timing: PaxosTiming;
  /** Trim leaves so many versions at least (`paxos_min`). */
  readonly keepCount: number;
};

export type KeyRange = { readonly from: Uint8Array; readonly end: Uint8Array };
/** Values by key in hex, null for a deleted one; and the ranges that are removed. */
export type EntryIndex = { readonly keys: ReadonlyMap<string, Uint8Array | null>; readonly ranges: readonly KeyRange[] };

/** A version that is not applied yet: accepted, and above `last`; or chosen, and waiting to be applied. */
export type Entry = {
  readonly version: number;
  readonly ballot: Ballot;
  readonly batch: Uint8Array;
  readonly hash: Hash;
  readonly prev: Hash | null;
  readonly ops: Batch;
  /** Made when first looked up. */
  index: EntryIndex | null;
  /** Whether it is on this disk. */
  stored: boolean;
};

/** Who waits for an outcome: a client of this node, or a member that sent the request on. */
export type Call = { readonly id: number; readonly isForwarded: boolean; readonly deadlineMs: number };
export type Command = Call & { readonly from: NodeId; readonly body: Request };
export type Outcome = Call & { readonly body: Answer };
/** A read, or an outcome that changed nothing: it may leave only where a read might. */
export type Read = Call & { readonly ask: Request | null; readonly outcome: Answer | null; readonly onVersion: number };

export type Collecting = {
  readonly ballot: Ballot;
  /** The newest map known when it was asked under: a newer one found means to ask again. */
  readonly mapVersion: number;
  ownStored: boolean;
  readonly lasts: Map<number, { readonly birth: Uint8Array; readonly last: number; readonly accepted: readonly Entry[] }>;
};

export type Leading = {
  readonly ballot: Ballot;
  readonly sinceMs: number;
  /** The first version that is this leader's own: it is settled once that is chosen. */
  readonly ownVersion: number;
  /** Newest version proposed. */
  newest: number;
  /** Cluster maps that are proposed and not chosen, by version. */
  readonly maps: { readonly version: number; readonly map: ClusterMap }[];
  /** Births that accepted each version in flight, by member number. */
  readonly accepts: Map<number, Map<number, Uint8Array>>;
  readonly sentAtMs: Map<number, number>;
  /** Until when each member's lease may be counted on. */
  readonly heldUntilMs: Map<number, number>;
  /** When each LEASE under way was sent, by request. */
  readonly leases: Map<number, number>;
  /** Newest version each member said it has applied. An ACCEPT says nothing of the versions below. */
  readonly reached: Map<number, number>;
  lastHeldMs: number;
  /** The version that every member was told to be chosen. */
  told: number;
  /** Whether a COMMIT is to go: by its timer, or in this step, since a member has clients that wait for what is chosen. */
  telling: "never" | "soon" | "now";
  /** What waits is looked at again by a timer. */
  isGathering: boolean;
  trimVersion: number;
  /** How long versions took lately: when chosen, and for how long they were in flight. */
  readonly took: { readonly atMs: number; readonly tookMs: number }[];
};

export type Phase = "looking" | "electing" | "collecting" | "leading" | "following" | "syncing";
/** Who may follow whom; every phase may fall back to looking, and a sync may begin in any. */
export const paxosTransitions: Record<Phase, readonly Phase[]> = {
  looking: ["electing", "following", "syncing"],
  electing: ["collecting", "looking", "following", "syncing"],
  collecting: ["leading", "looking", "following", "syncing"],
  leading: ["looking", "following", "syncing"],
  following: ["looking", "electing", "syncing"],
  syncing: ["looking"],
};

export type Purpose =
  | { readonly kind: "vote"; readonly ballot: Ballot }
  | { readonly kind: "accept"; readonly version: number; readonly ballot: Ballot }
  | { readonly kind: "apply"; readonly upTo: number };

export type PaxosState = {
  readonly config: PaxosConfig;
  phase: Phase;
  /** Odd: electing. Even: settled. On disk before it is sent. Invariant: never falls, over crashes too. */
  epoch: number;
  /** On disk before any answer under it leaves. Invariant: never falls. */
  promised: Ballot;
  /** What the promise's own row is known to say. Invariant: no accepted row on disk is of a higher ballot than that row. */
  storedPromise: Ballot;
  /** The highest ballot seen anywhere: the next own one is above it. */
  seen: Ballot;
  /** Versions above `last` that this member accepted, each on disk before its ACCEPT leaves. */
  readonly accepted: Map<number, Entry>;
  /** Chosen versions that are not applied: reads lay them over the snapshot. */
  readonly unapplied: Entry[];
  unappliedBytes: number;
  /** Accepted rows up to here are gone from the disk: the next write of the acceptor takes along those that are applied. */
  dropped: number;
  /** Versions held: chosen ones are `[first, last]`, of which those up to `applied` are in the store. */
  first: number;
  last: number;
  /** SHA-256 of the batch of `last`: zeros where there is none. */
  lastHash: Hash;
  applied: number;
  /** Applying waits for more to come, is due, or is on its way to disk. */
  applying: "idle" | "waits" | "due" | "asked";
  /** How often its timer fired for what waits, and when the newest version was learned. */
  applyWaits: number;
  learnedMs: number;
  /** A write found no space: applying is tried again after a while. */
  isFull: boolean;
  map: ClusterMap;
  /** Nobody is acked or promised before this: a lease given before the start may still run. */
  quietUntilMs: number;
  /** The lease given to a leader: nobody else is acked or promised until it is over. */
  lease: { readonly ballot: Ballot; readonly leader: NodeId; readonly untilMs: number } | null;
  /** Who leads, as far as this member knows. */
  leader: NodeId | null;
  /** The ballot that `leader` leads under. */
  leaderBallot: Ballot;
  /** Names this run of the process to a leader: the wall clock at its start. */
  run: number;
  /** The one candidate acked in an epoch. */
  acked: { readonly epoch: number; readonly candidate: NodeId } | null;
  electing: { readonly epoch: number; readonly acks: Map<number, Uint8Array> } | null;
  collecting: Collecting | null;
  leading: Leading | null;
  /** Elections won in a row whose COLLECT did not end. */
  failedCollects: number;
  /** This member ranks itself last until then. */
  demotedUntilMs: number;
  /** A candidate that was acked and never led: its answers do not reach it. */
  shunned: { readonly candidate: NodeId; readonly untilMs: number } | null;
  /** The catch-up under way. */
  fetching: { readonly peer: NodeId; readonly requestId: number } | null;
  /** Is asked for more as soon as what was learned is in the store. */
  fetchNext: NodeId | null;
  /** A peer whose first version is beyond what this node could take up. */
  mustSync: NodeId | null;
  /** The lowest version that a hold keeps from being trimmed (sync.md 4.4). */
  held: number | null;
  /** What other members acked to this one, or asked it for. */
  readonly memory: Memory;
  /** Newest request to each peer when its process began: answers up to there are of its earlier run. */
  readonly askedBefore: Map<NodeId, number>;
  /** This disk is an old copy: it votes no more. On disk. */
  isRegressed: boolean;
  /** A write was refused for lack of space, or may be under way since before a sync: nothing is voted until the disk has been read again. */
  isInDoubt: boolean;
  readonly writing: Map<number, Purpose>;
  lastTicket: number;
  lastRequestId: number;
  /** Commands not proposed and not sent on. */
  queue: Command[];
  queueBytes: number;
  /** When something came from whom last: what errors and `/health` name the silent by. */
  readonly heardMs: Map<NodeId, number>;
  /** Calls taken in this run, by sender: a repeated one is not done twice, whoever leads by then. */
  readonly calls: Map<NodeId, { readonly run: number; readonly numbers: Set<number> }>;
  /** Commands that the leader was asked for, by request. */
  readonly forwards: Map<number, Command>;
  /** Outcomes by the version they were computed on, and the hash that it must have. */
  readonly outcomes: Map<number, { readonly hash: Hash; readonly list: readonly Outcome[] }>;
  /** Reads that wait for a leader's word that was not asked for yet. */
  reads: Read[];
  /** Those that the word under way is for: a later read must not join them. */
  asked: { readonly requestId: number; readonly reads: readonly Read[] } | null;
  /** Reads that wait until this node has come to a version. */
  due: Read[];
  isSweeping: boolean;
};

export type PaxosEffect = Effect<Request, Answer>;

export type Turn = {
  readonly state: PaxosState;
  readonly services: readonly Service[];
  readonly snap: Snapshot;
  readonly timeMs: number;
  readonly upMs: number;
  readonly out: PaxosEffect[];
};

export function initialPaxos(config: PaxosConfig): PaxosState {
  return {
    config,
    phase: "looking",
    epoch: 0,
    promised: NO_BALLOT,
    storedPromise: NO_BALLOT,
    seen: NO_BALLOT,
    accepted: new Map(),
    unapplied: [],
    unappliedBytes: 0,
    dropped: 0,
    first: 1,
    last: 0,
    lastHash: ZERO_HASH,
    applied: 0,
    applying: "idle",
    applyWaits: 0,
    learnedMs: 0,
    isFull: false,
    map: configMap(config.members),
    quietUntilMs: 0,
    lease: null,
    leader: null,
    leaderBallot: NO_BALLOT,
    run: 0,
    acked: null,
    electing: null,
    collecting: null,
    leading: null,
    failedCollects: 0,
    demotedUntilMs: 0,
    shunned: null,
    fetching: null,
    fetchNext: null,
    mustSync: null,
    held: null,
    memory: { rows: new Map(), unwritten: new Set() },
    askedBefore: new Map(),
    isRegressed: false,
    isInDoubt: false,
    writing: new Map(),
    lastTicket: 0,
    lastRequestId: 0,
    queue: [],
    queueBytes: 0,
    heardMs: new Map(),
    calls: new Map(),
    forwards: new Map(),
    outcomes: new Map(),
    reads: [],
    asked: null,
    due: [],
    isSweeping: false,
  };
}

// ------------------------------------------------------------------ questions

export const selfOf = (state: PaxosState): Member | null => memberOf(state.map, state.config.self);

/** Members other than this node: nobody sends to itself. */
export const othersOf = ({ map, config }: PaxosState): readonly Member[] => map.members.filter(({ id }) => id !== config.self);

/** Whether this node's disk counts, and nothing is in doubt about it. */
export function canVote(state: PaxosState): boolean {
  const self = selfOf(state);
  return state.phase !== "syncing" && !state.isInDoubt && !state.isRegressed && self !== null && birthCounts(state.map, self.number, state.config.birth);
}

export const leaseRuns = ({ lease }: PaxosState, upMs: number): boolean => lease !== null && lease.untilMs > upMs;

/** The newest map known: chosen, or proposed by this leader (sync.md 3.7). */
export const newestMap = ({ leading, map }: PaxosState): ClusterMap => leading?.maps.at(-1)?.map ?? map;

/** The map in force for a version: those of versions below it. */
export const mapFor = ({ leading, map }: PaxosState, version: number): ClusterMap => leading?.maps.findLast((each) => each.version < version)?.map ?? map;

/** No leader before this one was ever settled: a majority had neither chosen nor accepted anything. So nobody ever granted a hold. */
export const isFirstReign = ({ ownVersion }: Leading): boolean => ownVersion === 1;

export const isSettled = ({ leading, last }: PaxosState): boolean => leading !== null && last >= leading.ownVersion;

/** Whether a majority's leases hold at this moment, this member's own included. */
export function leasesHold({ leading, map, config }: PaxosState, upMs: number): boolean {
  if (leading === null) return false;
  let count = 0;
  for (const member of map.members) if (member.id === config.self || (leading.heldUntilMs.get(member.number) ?? 0) > upMs) count++;
  return count >= majorityOf(map);
}

// ------------------------------------------------------------------ effects

export const scopeOf = ({ config, epoch }: PaxosState): { readonly cluster: Uint8Array; readonly epoch: number; readonly birth: Uint8Array } => ({
  cluster: config.cluster,
  epoch,
  birth: config.birth,
});

export function send({ state, out }: Turn, to: NodeId, body: Request): number {
  const requestId = ++state.lastRequestId;
  out.push({ kind: "send", to, requestId, body });
  return requestId;
}

/** Why a member does not do what it was asked, and what the asker may not know. */
export type Refusal =
  | "stranger"
  | "synchronizing"
  | "quiet"
  | "leased"
  | "behind"
  | "promised"
  | "epoch"
  | "rank"
  | "gap"
  | "stale"
  | "trimmed"
  | "not-leader"
  | "busy";

export function refuse(turn: Turn, id: number, why: Refusal, text: string): void {
  const { state } = turn;
  mark(turn, `paxos.${why}`, text);
  const { promised, first, last } = state;
  answer(turn, id, { kind: "paxos.refused", ...scopeOf(state), why, promised, first, last, leader: state.leader ?? "" });
}

/**
 * One commit of what this member's vote rests on, with what it remembers of others. What is listed behind it waits for it.
 * Entries that are applied go with it: until then they lie there and say nothing that the versions do not.
 */
export function writeVote({ state, out }: Turn, purpose: Purpose, rows: Batch): void {
  const drop: Op[] = [];
  if (state.applied > state.dropped) drop.push({ op: "delRange", key: acceptsKeys.accepted(0), end: acceptsKeys.accepted(state.applied + 1) });
  state.dropped = state.applied;
  out.push({ kind: "write", ticket: ticketOf(state, purpose), db: "accepts", batch: [...drop, ...rows, ...takeUnwritten(state.memory)] });
}

/** One commit of chosen versions to the store. It waits for no vote, and no vote for it. */
export function writeApply({ state, out }: Turn, upTo: number, batch: Batch): void {
  out.push({ kind: "write", ticket: ticketOf(state, { kind: "apply", upTo }), db: "replicated", batch });
}

function ticketOf(state: PaxosState, purpose: Purpose): number {
  state.writing.set(++state.lastTicket, purpose);
  return state.lastTicket;
}

export function enter(turn: Turn, next: Phase): void {
  const { state } = turn;
  if (state.phase === next) return;
  invariant(paxosTransitions[state.phase].includes(next), `paxos: ${next} may follow ${state.phase}`);
  state.phase = next;
  if (next !== "electing") state.electing = null;
  if (next !== "collecting") state.collecting = null;
}
