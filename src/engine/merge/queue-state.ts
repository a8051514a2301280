/**
 * State of the queue handler (merge.md sections 1, 3 and 6), shared by its parts: `queue-recover.ts` puts the files right,
 * `queue-read.ts` forms a batch from the queue files, `queue-pull.ts` gets its entries, `queue-commit.ts` writes it.
 * At most one batch is being pulled while one is being written. Plain data; nothing here decides anything.
 */
import type { Effect } from "../base/effects.ts";
import type { ErrorCode } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import type { Request } from "../wire/messages.ts";
import type { MergeConfig, StepResult } from "./config.ts";
import type { Cursor } from "./cursor.ts";
import type { HashTable } from "./hash-table.ts";

export type QueuePhase = "reading" | "pulling" | "committing" | "handing" | "done" | "latched";
/** While a batch is being written the next one is pulled: the phase is that of the older one. */
export const queueTransitions: Record<QueuePhase, readonly QueuePhase[]> = {
  reading: ["pulling", "done", "latched"],
  pulling: ["committing", "done", "latched"],
  committing: ["handing", "done", "latched"],
  handing: ["reading", "done", "latched"],
  done: [],
  latched: [],
};

/** One storage node's queue file in this run. */
export type Lane = {
  readonly storage: NodeId;
  /** As committed. Invariant: every line before it is sequenced, a repeat, or held. Null before the first commit. */
  cursor: Cursor | null;
  /** Where reading goes on: at or behind the cursor. */
  readonly born: string;
  readonly generation: number;
  offset: number;
  seq: number;
  /** Bytes the file had at the start of the run, or where a bad line begins: nothing behind is read. */
  limit: number;
  /** Index in the order behind the last repeat, or -1: repeats come in runs. */
  nextIndex: number;
  /** Requests in flight, and candidates not asked for yet. */
  askedCount: number;
  readonly wanted: number[];
  /** Why it is not asked any more in this run. */
  gone: string | null;
  /** Its cursor stays for this run: an entry could not be asked for. */
  blocked: boolean;
};

/** Lines of one lane in a batch, in file order. */
export type Slice = {
  readonly lane: number;
  readonly offset: number;
  readonly end: number;
  readonly seqs: Float64Array;
  /** Candidate of each line, or -1 where it repeats what is already in the order. */
  readonly candidates: Int32Array;
};

/** Held entries that are asked for again, from an earlier run. */
export type HeldLine = { readonly lane: number; readonly seq: number; readonly candidate: number };

/** Entries to be sequenced, in the order they will have. Per candidate: one slot in each of the arrays. */
export type Batch = {
  readonly table: HashTable;
  readonly bytes: number[];
  /** Bit i: lane i listed it; lane i does not have it. */
  readonly listers: number[];
  readonly absent: number[];
  /** Where its bytes are: number of the chunk, or -1 before it came; offsets of its record there. */
  readonly chunk: number[];
  readonly from: number[];
  readonly to: number[];
  readonly chunks: Uint8Array[];
  readonly slices: Slice[];
  readonly held: HeldLine[];
  bytesTotal: number;
  lineCount: number;
  /** Candidates neither here nor given up. */
  openCount: number;
};

export type QueueState = {
  readonly config: MergeConfig;
  phase: QueuePhase;
  /** Sorted by name: their number is their bit. */
  readonly lanes: Lane[];
  /** Being pulled, or waiting for the write in flight. */
  pulling: Batch | null;
  /** Being written: its hashes count as sequenced. */
  writing: { readonly ticket: number; readonly table: HashTable | null; readonly size: number } | null;
  /** By request id. */
  readonly gets: Map<number, { readonly lane: number; readonly candidates: readonly number[] }>;
  /** Held entries of earlier runs are asked for once a run. */
  heldAsked: boolean;
  lastRequestId: number;
  lastTicket: number;
  size: number;
  sequencedCount: number;
  repeatCount: number;
  /** A file that another step reads has changed. */
  changed: boolean;
  readonly notes: string[];
};

export type QueueEffect = Effect<Request, StepResult>;
export type QueueFailure = { readonly code: ErrorCode; readonly detail: string };

export function enter(state: QueueState, next: QueuePhase): void {
  if (state.phase === next) return;
  invariant(queueTransitions[state.phase].includes(next), `queue handler: ${next} may follow ${state.phase}`);
  state.phase = next;
}
