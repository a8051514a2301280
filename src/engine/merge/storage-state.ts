/**
 * State of the storage role and the row of its counters (merge.md sections 2 and 6), shared by its three parts:
 * `storage.ts` takes requests and answers reads, `storage-group.ts` forms the one write in flight, `storage-copies.ts`
 * gets entries onto other storage nodes. Plain data; nothing here decides anything.
 */
import type { Effect, Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { logKeys } from "../store/keys.ts";
import { text, u53 } from "../wire/codec.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { record } from "../wire/record.ts";
import type { AddAnswer, AddRequest, MergeConfig, ReceiptForm, SpaceRequest } from "./config.ts";
import type { ReceiptRow } from "./receipt.ts";

/** From the node itself: take no more entries, finish what was begun. Answered when the role is closed. */
export type DrainRequest = { readonly kind: "drain" };
export type StorageRequest = Request | AddRequest | SpaceRequest | DrainRequest;
export type StorageReply = Answer | AddAnswer;
export type StorageEffect = Effect<Request, StorageReply>;

export type StoragePhase = "open" | "full" | "draining" | "closed" | "failed";
export const storageTransitions: Record<StoragePhase, readonly StoragePhase[]> = {
  open: ["full", "draining", "failed"],
  full: ["open", "draining", "failed"],
  draining: ["closed", "failed"],
  closed: ["failed"],
  failed: [],
};

/** A request that needs a write. Entries were hashed when it came. */
export type Waiting =
  | {
      readonly kind: "add";
      readonly id: number;
      readonly receipts: ReceiptForm;
      readonly bundle: Uint8Array;
      readonly hashes: Uint8Array;
      readonly offsets: Uint32Array;
    }
  | {
      readonly kind: "put";
      readonly id: number;
      readonly from: NodeId;
      readonly bundle: Uint8Array;
      readonly hashes: Uint8Array;
      readonly offsets: Uint32Array;
    }
  | { readonly kind: "settle"; readonly id: number; readonly seq: number };

/** Bytes that a waiting request keeps: an entry of none still has its hash. */
export const heldBytes = ({ bundle, hashes, offsets }: Exclude<Waiting, { kind: "settle" }>): number => bundle.length + hashes.length + 4 * offsets.length;

/** Entries of one write, in batches with a receipt row each, and who is answered when it is stored. */
export type Group = {
  readonly ticket: number;
  /** The sequence number after its last entry. */
  readonly endSeq: number;
  readonly adds: readonly OpenAdd[];
  readonly puts: readonly { readonly id: number; readonly count: number }[];
  readonly settles: readonly number[];
  readonly lots: readonly Lot[];
  readonly settledSeq: number;
  readonly forgottenSeq: number;
};

/** Up to 256 entries with one receipt row, until enough storage nodes have them on disk. */
export type Lot = {
  readonly firstSeq: number;
  readonly count: number;
  readonly bundle: Uint8Array;
  readonly receipts: ReceiptRow;
  /** Other storage nodes that have it on disk. */
  readonly holders: NodeId[];
  /** Other storage nodes that were asked, in order. Invariant: none is asked twice. */
  readonly asked: NodeId[];
  /** Who did not keep it, and why: for the refusal. */
  readonly silent: string[];
  /** Requests in `adds` that wait for it. */
  readonly waiters: number[];
};

/** An `add` whose entries are stored or being stored here, and not yet on enough other nodes. */
export type OpenAdd = {
  readonly id: number;
  readonly receipts: ReceiptForm;
  readonly hashes: Uint8Array;
  /** Sequence number of each entry, in the order submitted. */
  readonly seqs: Float64Array;
  /** First sequence numbers of the lots it waits for. */
  readonly lots: number[];
  /** Lots still missing copies. */
  missingCount: number;
};

export type StorageState = {
  readonly config: MergeConfig;
  phase: StoragePhase;
  /** Names this disk: its first write was made in that run of the daemon. A disk that took its place has another name. */
  born: string;
  /** All entries below are durable here. Invariant: forgottenSeq ≤ settledSeq ≤ storedSeq. */
  storedSeq: number;
  /** Entries below are signed: the primary said so. */
  settledSeq: number;
  /** Bytes of entries below are gone; their receipts stay. */
  forgottenSeq: number;
  /** Entries of `[from, to)` may be on too few nodes: whoever adds one again has it copied again. */
  doubt: { from: number; to: number };
  /** When the oldest entry that is not settled came, or null. */
  oldestMs: number | null;
  /** What the node said last about its disk. */
  spaceLow: boolean;
  readonly waiting: Waiting[];
  waitingBytes: number;
  writing: Group | null;
  /** By first sequence number: stored here, copies on their way. */
  readonly lots: Map<number, Lot>;
  lotBytes: number;
  /** By request id: stored here, waiting for lots. */
  readonly adds: Map<number, OpenAdd>;
  /** By request id: lots that a storage node was asked to keep. */
  readonly puts: Map<number, { readonly to: NodeId; readonly lots: readonly number[]; readonly count: number }>;
  /** Storage nodes that did not keep what they were asked to, and have neither kept nor put anything here since: asked last. */
  readonly failing: Set<NodeId>;
  /** Sizes the primary settled, and when: bytes go `storageKeepMs` later. */
  readonly settled: { readonly seq: number; readonly timeMs: number }[];
  readonly draining: number[];
  lastRequestId: number;
  lastTicket: number;
};

export function enter(state: StorageState, next: StoragePhase): void {
  if (state.phase === next) return;
  invariant(storageTransitions[state.phase].includes(next), `storage role of ${state.config.self}: ${next} may follow ${state.phase}`);
  state.phase = next;
}

export const answer = (id: number, body: StorageReply): StorageEffect => ({ kind: "answer", id, body });

/** `confirmedSeq`: entries below it are on enough nodes; after a restart, what lies above is in doubt. */
const countersRecord = record("storage counters", { born: text(64), nextSeq: u53, settledSeq: u53, forgottenSeq: u53, confirmedSeq: u53 });
export type Counters = ReturnType<typeof countersRecord.decode>;
export const encodeCounters = countersRecord.encode;

/** A disk without the row takes its name from this run of the daemon, and keeps it with the first write. */
export function readCounters(snap: Snapshot, config: MergeConfig): Counters {
  const raw = snap.get("log", logKeys.storage(config.log));
  return raw === undefined ? { born: config.boot ?? "", nextSeq: 0, settledSeq: 0, forgottenSeq: 0, confirmedSeq: 0 } : countersRecord.decode(raw);
}
