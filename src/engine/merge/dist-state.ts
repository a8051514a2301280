/**
 * State of one run of the dist step, shared by its two halves: `signer.ts` up to the swap, `release.ts` after it
 * (merge.md section 5). Phases are data; every change of phase is checked here.
 */
import type { Effect } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import type { AnswerOf, Request } from "../wire/messages.ts";
import type { Head, MergeConfig, StepResult } from "./config.ts";
import { latchFile } from "./files.ts";
import type { Stage } from "./records.ts";
import type { Failure, Sender } from "./sender.ts";

export type DistPhase = "gating" | "choosing" | "rehashing" | "staging" | "swapping" | "reading" | "releasing" | "done" | "latched";

export const distTransitions: Record<DistPhase, readonly DistPhase[]> = {
  gating: ["choosing", "done", "latched"],
  choosing: ["rehashing", "releasing", "done", "latched"],
  rehashing: ["staging", "latched"],
  staging: ["swapping", "done"],
  swapping: ["reading", "releasing", "latched", "done"],
  reading: ["swapping", "releasing", "latched", "done"],
  releasing: ["done"],
  done: [],
  latched: ["done"],
};

export type DistState = {
  readonly config: MergeConfig;
  /** The run that makes the first head, of size 0: `log init`. */
  readonly init: boolean;
  phase: DistPhase;
  /** The register's head as last read in this run. */
  head: Head | null;
  /** Whether the register answered in the gate. */
  registerAnswered: boolean;
  /** The request to the register that is still awaited: older answers are late. */
  registerAsked: number;
  /** Gate questions by request id, and what came back. */
  gateAsked: Map<number, NodeId>;
  gateAnswers: Map<NodeId, AnswerOf<"copy.at"> | "lost">;
  gateNeeded: boolean;
  /** Nothing below it is signed: the longest size met at the gate. */
  floor: number;
  stage: Stage | null;
  candidate: Head | null;
  /** Cosignature questions by request id; lines by secondary. */
  cosignAsked: Map<number, NodeId>;
  cosignLines: Map<NodeId, string>;
  /** The note that frontends get: the register's, with cosignatures. */
  note: Uint8Array | null;
  senders: Sender[];
  /** Storage nodes that were told what is settled and have not answered, by request id. */
  settleAsked: Map<number, NodeId>;
  /** Storage nodes that have not answered to that: another run tells them again. */
  settleOwed: number;
  signedNow: boolean;
  /** Only silent peers are missing: their time runs. */
  hurried: boolean;
  lastRequestId: number;
  lastTicket: number;
  /** The write whose `stored` moves the phase on. */
  awaited: number;
  failure: Failure | null;
  notes: string[];
};

export type DistEffect = Effect<Request, StepResult>;

export const initialDist = (config: MergeConfig, init = false): DistState => ({
  config,
  init,
  phase: "gating",
  head: null,
  registerAnswered: false,
  registerAsked: 0,
  gateAsked: new Map(),
  gateAnswers: new Map(),
  gateNeeded: false,
  floor: 0,
  stage: null,
  candidate: null,
  cosignAsked: new Map(),
  cosignLines: new Map(),
  note: null,
  senders: [],
  settleAsked: new Map(),
  settleOwed: 0,
  signedNow: false,
  hurried: false,
  lastRequestId: 0,
  lastTicket: 0,
  awaited: 0,
  failure: null,
  notes: [],
});

export function enter(state: DistState, next: DistPhase): void {
  if (state.phase === next) return;
  invariant(distTransitions[state.phase].includes(next), `dist: ${next} may follow ${state.phase}`);
  state.phase = next;
}

export function finish(state: DistState, failure: Failure | null = state.failure): DistEffect[] {
  enter(state, "done");
  const published = state.senders.filter((each) => each.phase === "done").length;
  const size = state.head?.size ?? 0;
  const body: StepResult = {
    step: state.init ? "init" : "dist",
    log: state.config.logName,
    changed: state.signedNow,
    counts: { signed: size, published, frontends: state.config.frontends.length, cosigned: state.cosignLines.size, owed: state.settleOwed },
    notes: state.notes,
    ...(failure === null ? {} : { error: failure }),
  };
  return [{ kind: "done", body }];
}

/** Any doubt about a signature stops the signer until a person looked: the latch is a file that outlives the run. */
export function latch(state: DistState, failure: Failure, timeMs: number): DistEffect[] {
  enter(state, "latched");
  const ticket = ++state.lastTicket;
  return [
    { kind: "mark", name: "sign.latched", text: `latched: ${failure.code}: ${failure.detail}` },
    { kind: "write", ticket, db: "log", batch: [], files: [latchFile(state.config, { ...failure, timeMs })] },
    ...finish(state, failure),
  ];
}
