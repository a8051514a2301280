/**
 * The backup step for one secondary: copies order and entries up to `currentsize`, has the secondary verify, and moves
 * `position.<secondary>` only to a size whose root both sides computed and found equal (merge.md sections 1 to 3).
 * Runs once: it does what is visible at its start. It never signs and never looks at other secondaries.
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import type { Effect, Event, FileChange, Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { unreachable } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import { LogReader } from "../log/reader.ts";
import type { Answer, AnswerOf, Request, RequestOf } from "../wire/messages.ts";
import type { MergeConfig, StepResult } from "./config.ts";
import { type Position, positionFile, readCurrentSize, readPosition } from "./files.ts";
import { readEdge } from "./records.ts";
import { ask, compare, type Failure, isOver, newSender, onAnswer, onSilence, type SendContext, type Sender, scope } from "./sender.ts";

export type BackupState = {
  readonly config: MergeConfig;
  readonly secondary: NodeId;
  /** Root of `sender.size`, from our own tiles. */
  root: Uint8Array | null;
  sender: Sender | null;
  /** Size in the position file as last written or read. */
  position: number;
  lastRequestId: number;
  lastTicket: number;
  /** The write in flight and whether it is the run's last. */
  recording: { readonly ticket: number; readonly last: boolean } | null;
  /** Whether this run moved the position, either way. */
  changed: boolean;
  notes: string[];
};

export type BackupEffect = Effect<Request, StepResult>;

export const initialBackup = (config: MergeConfig, secondary: NodeId): BackupState => ({
  config,
  secondary,
  root: null,
  sender: null,
  position: 0,
  lastRequestId: 0,
  lastTicket: 0,
  recording: null,
  changed: false,
  notes: [],
});

export function stepBackup(state: BackupState, event: Event<never, Answer>, snap: Snapshot): BackupEffect[] {
  switch (event.kind) {
    case "start":
      return onStart(state, snap);
    case "message":
      return copying(state, snap, (sender, ctx) => onAnswer(sender, event.requestId, event.body, ctx, snap), event.timeMs);
    case "timer":
      return copying(state, snap, (sender, ctx) => onSilence(sender, ctx, "timer"), event.timeMs);
    case "lost":
      return copying(state, snap, (sender, ctx) => onSilence(sender, ctx, "lost"), event.timeMs);
    case "stored":
      return state.recording?.ticket === event.ticket && state.recording.last ? [done(state, null)] : [];
    case "full":
      return [done(state, { code: "STORE_FULL", detail: `position.${state.secondary} could not be written: disk full` })];
    case "request":
      return [];
    default:
      return unreachable(event);
  }
}

function onStart(state: BackupState, snap: Snapshot): BackupEffect[] {
  const current = readCurrentSize(snap, state.config);
  if (current.kind !== "ok") {
    state.notes.push(current.why);
    return [done(state, null)];
  }
  const edge = readEdge(snap, state.config.log);
  if (current.value.size > edge.size) {
    return [done(state, { code: "MERGE_FILE_FOREIGN", detail: `currentsize says ${current.value.size}, the order ends at ${edge.size}` })];
  }
  const reader = new LogReader(snap, state.config.log);
  const root = reader.rootAt(current.value.size);
  if (!equalBytes(root, current.value.root)) {
    return [
      done(state, {
        code: "MERGE_FILE_FOREIGN",
        detail: `currentsize ${current.value.size} names root ${toHex(current.value.root)}, the order's is ${toHex(root)}`,
      }),
    ];
  }
  state.position = knownPosition(state, reader, snap);
  state.root = root;
  state.sender = newSender(state.secondary, current.value.size);
  return ask(state.sender, context(state, snap));
}

/** What the file is worth: 0 where it cannot be read, is above the order, or names a root that is not ours. */
function knownPosition(state: BackupState, reader: LogReader, snap: Snapshot): number {
  const found = readPosition(snap, state.config, state.secondary);
  if (found.kind !== "ok") {
    if (found.kind !== "missing") state.notes.push(found.why);
    return 0;
  }
  const { size, root } = found.value;
  if (size <= readEdge(snap, state.config.log).size && equalBytes(reader.rootAt(size), root)) return size;
  state.notes.push(`position.${state.secondary} says ${size} with a root that is not ours: it is verified again`);
  return 0;
}

function context(state: BackupState, snap: Snapshot): SendContext {
  const { config } = state;
  return {
    config,
    nextRequestId: () => ++state.lastRequestId,
    last: (sender) => verifyRequest(config, sender, state.root as Uint8Array),
    inspect: (sender, at) => inspect(state, sender, at, snap),
    enough: () => false, // the verify also brings the pair in force
  };
}

function verifyRequest(config: MergeConfig, sender: Sender, root: Uint8Array): RequestOf<"backup.verify"> {
  return { kind: "backup.verify", ...scope(config), size: sender.size, root, number: 1, k: config.backupquorum, secondaries: config.secondaries, floor: 0 };
}

/** A secondary ahead of us, or with another root, ends the step: our folder is old, or somebody forked. */
function inspect(state: BackupState, sender: Sender, at: AnswerOf<"copy.at">, snap: Snapshot): Failure | null {
  return compare(sender.peer, at.verifiedSize, at.verifiedRoot, new LogReader(snap, state.config.log), readEdge(snap, state.config.log).size);
}

/** Runs one move of the copy, then writes down what it proved. */
function copying(state: BackupState, snap: Snapshot, move: (sender: Sender, ctx: SendContext) => Effect<Request, never>[], timeMs: number): BackupEffect[] {
  const { sender } = state;
  if (sender === null || isOver(sender)) return [];
  const knew = sender.at;
  const effects: BackupEffect[] = move(sender, context(state, snap));
  if (sender.phase === "refused") return [...effects, done(state, sender.failure)];
  if (sender.phase === "done") return [...effects, ...onVerified(state, sender, timeMs)];
  if (sender.at !== null && sender.at !== knew) effects.push(...onWhere(state, sender, sender.at, timeMs));
  if (mutant("merge.position-before-root") && sender.phase === "proving")
    effects.push(record(state, { size: sender.size, root: state.root as Uint8Array }, timeMs, false));
  return effects;
}

/** The secondary's own word on what it verified: a wiped disk lowers the position at once, a lost answer raises it. */
function onWhere(state: BackupState, sender: Sender, at: AnswerOf<"copy.at">, timeMs: number): BackupEffect[] {
  if (at.verifiedSize === state.position || at.verifiedSize >= sender.size) return [];
  const lower = at.verifiedSize < state.position;
  const text = `position.${sender.peer} ${state.position} -> ${at.verifiedSize}`;
  if (lower) state.notes.push(`${sender.peer} has verified only ${at.verifiedSize}, its position said ${state.position}`);
  return [
    { kind: "mark", name: lower ? "backup.position-lowered" : "backup.position-caught-up", text },
    record(state, { size: at.verifiedSize, root: at.verifiedRoot }, timeMs, false),
  ];
}

function onVerified(state: BackupState, sender: Sender, timeMs: number): BackupEffect[] {
  const result = sender.result;
  const root = state.root as Uint8Array;
  if (result?.kind !== "backup.verified" || result.size !== sender.size || !equalBytes(result.root, root)) {
    const said = result?.kind === "backup.verified" ? `root ${toHex(result.root)} for ${result.size}` : `${result?.kind}`;
    return [done(state, { code: "LOG_ROOT_MISMATCH", detail: `${sender.peer} answers ${said}; asked for root ${toHex(root)} of ${sender.size}` })];
  }
  if (state.position === sender.size) return [done(state, null)];
  const text = `position.${sender.peer} ${state.position} -> ${sender.size}`;
  return [{ kind: "mark", name: "backup.position", text }, record(state, { size: sender.size, root }, timeMs, true)];
}

function record(state: BackupState, position: Pick<Position, "size" | "root">, timeMs: number, last: boolean): BackupEffect {
  const ticket = ++state.lastTicket;
  state.position = position.size;
  state.changed = true;
  state.recording = { ticket, last };
  const files: FileChange[] = [positionFile(state.config, { ...position, secondary: state.secondary, epoch: state.config.epoch, timeMs })];
  return { kind: "write", ticket, db: "log", batch: [], files };
}

function done(state: BackupState, failure: Failure | null): BackupEffect {
  const size = state.sender?.size ?? 0;
  const body: StepResult = {
    step: "backup",
    log: state.config.logName,
    target: state.secondary,
    changed: state.changed,
    counts: { size, position: state.position, stored: state.sender?.entriesAcked ?? 0 },
    notes: state.notes,
    ...(failure === null ? {} : { error: failure }),
  };
  return { kind: "done", body };
}
