/**
 * State and small moves that the receiver (`receiver.ts`) and its proving half (`verifier.ts`) share: what a node
 * remembers between two requests for its copy of the log. Nothing here reads a request.
 */
import type { Effect, Op, Snapshot } from "../base/effects.ts";
import { invariant } from "../base/invariant.ts";
import { wordsOf } from "../log/hash-record.ts";
import { edgeRoot } from "../log/merkle.ts";
import type { Answer, Request } from "../wire/messages.ts";
import type { MergeConfig } from "./config.ts";
import { type CopySizes, readEdge, rows } from "./records.ts";

export type Waiting = { readonly id: number; readonly from: string; readonly body: Request; readonly timeMs: number };
/** A range being proven for a verify or a publish. Invariant: the edge on disk is at most `size`, or the range is proven. */
export type Proving = { readonly id: number; readonly size: number; readonly root: Uint8Array; readonly asked: Waiting };
export type Fork = { readonly index: number; readonly mine: Uint8Array; readonly yours: Uint8Array };
export type ReceiverPhase = "following" | "verifying" | "forked";

export type ReceiverState = {
  readonly config: MergeConfig;
  phase: ReceiverPhase;
  /** In the order they came. Owner: `pump`. */
  waiting: Waiting[];
  /** Ticket of the commit in flight, or null. */
  writing: number | null;
  /** Requests that were taken together, and wait for that commit or for the end of a proof. */
  taken: number[];
  lastTicket: number;
  /** The range being re-read and folded, chunk by chunk, for a verify or a publish. */
  proving: Proving | null;
  /** Both values of the first entry that differs below the verified size. Once set, nothing more is copied. */
  fork: Fork | null;
};

export const receiverTransitions: Record<ReceiverPhase, readonly ReceiverPhase[]> = {
  following: ["verifying", "forked"],
  verifying: ["following"],
  forked: [],
};

export type ReceiverEffect = Effect<Request, Answer>;

export const initialReceiver = (config: MergeConfig): ReceiverState => ({
  config,
  phase: "following",
  waiting: [],
  writing: null,
  taken: [],
  lastTicket: 0,
  proving: null,
  fork: null,
});

/** On the primary the queue handler owns order and bytes: its own frontend only publishes. */
export function sizesOf(state: ReceiverState, snap: Snapshot): CopySizes {
  if (state.config.self !== state.config.primary) return rows.copy(snap, state.config.log);
  const edge = readEdge(snap, state.config.log);
  return { orderSize: edge.size, storedSize: edge.size, verifiedSize: edge.size, verifiedRoot: edgeRoot(edge) };
}

export const answer = (id: number, body: Answer): ReceiverEffect => ({ kind: "answer", id, body });

/** The write that the taken requests wait for: their answers are listed behind it. */
export function commit(state: ReceiverState, batch: readonly Op[]): ReceiverEffect {
  const ticket = ++state.lastTicket;
  state.writing = ticket;
  return { kind: "write", ticket, db: "log", batch };
}

export function enter(state: ReceiverState, next: ReceiverPhase): void {
  if (state.phase === next) return;
  invariant(receiverTransitions[state.phase].includes(next), `receiver: ${next} may follow ${state.phase}`);
  state.phase = next;
}

/** Index of the first hash that differs in the common length, or null. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number | null {
  const [mine, yours] = [wordsOf(a), wordsOf(b)];
  const count = Math.min(mine.length, yours.length);
  for (let i = 0; i < count; i++) if (mine[i] !== yours[i]) return i >> 3;
  return null;
}
