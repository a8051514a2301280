/**
 * The fetcher of one storage node (merge.md sections 1, 3 and 6; seed 000's third step): asks what the node has listed
 * since the last good line of `queue.<storage>` and appends it, tens of thousands of lines an fdatasync. Its cursor is that
 * line. Runs once: it stops at what the node had when first asked. It never touches the order and pulls no entry.
 * A torn tail is cut by the next append; a bad line inside puts the file aside and lists again from its first number.
 * Sequence numbers are those of one disk, named in the file's header: a node that answers from another is listed from 0.
 */
import { concatBytes } from "../base/bytes.ts";
import type { Effect, Event, FileChange, Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant, unreachable } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import { type Answer, type AnswerOf, LIST_COUNT_MAX, type Request } from "../wire/messages.ts";
import type { MergeConfig, StepResult } from "./config.ts";
import { cursorIn, readCursor } from "./cursor.ts";
import { badQueueFile, QUEUE_BYTES_MAX, type QueueItems, queueFile, queueHeader, queueLines, readQueueLines, readQueueStart } from "./queue-file.ts";

/** How long an answer may take: a node that needs more is passed over until the next run, and nothing is lost. */
export const ASK_WAIT_MS = 10_000;
/** A cursor that stands still for so long may stand before a line that was damaged since: then all is looked at again. */
export const RECHECK_MS = 2_000;
/** Lists kept ahead of the write in flight: 32,768 lines, one fdatasync. */
const AHEAD_COUNT_MAX = 4;
const SCAN_COUNT = 8_192;
const ASK_TIMER = "ask";

export type FetchPhase = "asking" | "appending" | "done" | "failed";
export const fetchTransitions: Record<FetchPhase, readonly FetchPhase[]> = {
  asking: ["appending", "done", "failed"],
  appending: ["asking", "done", "failed"],
  done: [],
  failed: [],
};

/** The end of a queue file as a run of this process left it: all lines before it were good, and durable. */
export type QueueEnd = {
  readonly generation: number;
  readonly offset: number;
  readonly nextSeq: number;
  /** Where the queue handler's cursor stood, and since when. */
  readonly cursorOffset: number;
  readonly cursorMs: number;
};

export type FetchState = {
  readonly config: MergeConfig;
  readonly storage: NodeId;
  /** What the last run of this process knew, or null; then what this one knows. */
  known: QueueEnd | null;
  phase: FetchPhase;
  /** Disk of the storage node that the file is about; null where the first answer is to say which. */
  born: string | null;
  /** A node that answers from one more disk in the same run is not believed. */
  isRelisted: boolean;
  generation: number;
  /** Whole lines end here; what lies behind is torn and cut by the next append. Moves when a write is asked for. */
  endOffset: number;
  /** The next sequence number to ask for. */
  nextSeq: number;
  /** Sequence number after the last entry the node had when first asked; null until then. */
  goalSeq: number | null;
  /** Request in flight, or null. */
  asked: number | null;
  /** Answered and not yet being written. */
  readonly ahead: QueueItems[];
  /** A new file, or the move of a bad one, to be done before the next lines. */
  readonly changes: FileChange[];
  writing: number | null;
  lastRequestId: number;
  lastTicket: number;
  fetchedCount: number;
  /** Why nothing more is asked: the node was silent, or answered nonsense. */
  failure: { readonly code: string; readonly detail: string } | null;
  readonly notes: string[];
};

export type FetchEffect = Effect<Request, StepResult>;

export const initialFetch = (config: MergeConfig, storage: NodeId, known: QueueEnd | null = null): FetchState => ({
  config,
  storage,
  known,
  phase: "asking",
  born: null,
  isRelisted: false,
  generation: 0,
  endOffset: 0,
  nextSeq: 0,
  goalSeq: null,
  asked: null,
  ahead: [],
  changes: [],
  writing: null,
  lastRequestId: 0,
  lastTicket: 0,
  fetchedCount: 0,
  failure: null,
  notes: [],
});

export function stepFetch(state: FetchState, event: Event<never, Answer>, snap: Snapshot): FetchEffect[] {
  if (state.phase === "done" || state.phase === "failed") return [late(state, event.kind)];
  switch (event.kind) {
    case "start":
      return [...resume(state, snap, event.timeMs), ...advance(state)];
    case "message":
      return onAnswer(state, event.from, event.requestId, event.body);
    case "timer":
      return onSilence(state, `no answer in ${ASK_WAIT_MS} ms`);
    case "lost":
      return event.peer === state.storage ? onSilence(state, "link lost") : [];
    case "stored":
      return onStored(state, event.ticket);
    case "full":
      return [end(state, { code: "STORE_FULL", detail: `queue.${state.storage} could not be written: disk full` })];
    case "request":
      return [];
    default:
      return unreachable(event);
  }
}

const late = (state: FetchState, what: string): FetchEffect => ({ kind: "mark", name: "fetch.late", text: `${state.storage}: ${what} after the end` });

// ── where the last run stopped ───────────────────────────────────────────────────────────────────────────────────────

/** Finds the last good line, or begins a new generation. Lines before the queue handler's cursor are not read again. */
function resume(state: FetchState, snap: Snapshot, timeMs: number): FetchEffect[] {
  const { config, storage } = state;
  const start = readQueueStart(snap, config, storage);
  const cursor = readCursor(snap, config.log, storage);
  if (start.kind === "foreign") {
    state.failure = { code: "MERGE_FILE_FOREIGN", detail: start.why };
    return [];
  }
  const left = cursor === null ? { born: null, generation: 0, firstSeq: 0 } : { born: cursor.born, generation: cursor.generation, firstSeq: cursor.seq };
  if (start.kind === "missing") return begin(state, { ...left, generation: left.generation + 1 }, "fetch.new-queue");
  if (start.kind === "torn") return putAside(state, left, start.why);
  const { header, end: headerEnd } = start.value;
  const { born, generation } = header;
  const passed = cursorIn(cursor, header);
  const size = snap.fileSize(queueFile(config, storage)) ?? 0;
  // a tail that was read before it was durable, and lost with the power: what the cursor covers is in the order
  if (passed !== null && passed.offset > size) return begin(state, { born, generation: generation + 1, firstSeq: passed.seq }, "fetch.tail-lost");
  Object.assign(state, { born, generation, endOffset: passed?.offset ?? headerEnd, nextSeq: passed?.seq ?? header.firstSeq });
  const passedAt = state.endOffset;
  goOn(state, size, timeMs);
  if (!scan(state, snap, size)) return putAside(state, header, `bad line at byte ${state.endOffset}`);
  if (passed !== null && passed.offset === state.endOffset && passedAt >= QUEUE_BYTES_MAX)
    return begin(state, { born, generation: generation + 1, firstSeq: passed.seq }, "fetch.rotated");
  return state.endOffset < size ? [{ kind: "mark", name: "fetch.torn-tail", text: `queue.${storage}: ${size - state.endOffset} torn bytes cut` }] : [];
}

/** Passes over what a run of this process has looked at or written, while the queue handler gets on with it. */
function goOn(state: FetchState, size: number, timeMs: number): void {
  const { known, generation, endOffset } = state;
  const isMoving = known?.generation !== generation || known.cursorOffset !== endOffset;
  const cursorMs = isMoving ? timeMs : known.cursorMs;
  state.known = { generation, offset: endOffset, nextSeq: state.nextSeq, cursorOffset: endOffset, cursorMs };
  if (known?.generation !== generation || known.offset < endOffset || known.offset > size) return;
  if (known.offset > endOffset && timeMs - cursorMs >= RECHECK_MS) {
    state.known = { ...state.known, cursorMs: timeMs };
    return;
  }
  state.endOffset = known.offset;
  state.nextSeq = known.nextSeq;
}

/** What the next run of this process may pass over: told where this one ended well, since all it wrote is durable. */
export function queueEnd({ phase, known, generation, endOffset, nextSeq }: FetchState): QueueEnd | null {
  return phase === "done" && known?.generation === generation ? { ...known, offset: endOffset, nextSeq } : null;
}

/** Walks good lines to the end; false at a bad one. */
function scan(state: FetchState, snap: Snapshot, size: number): boolean {
  for (;;) {
    const lines = readQueueLines(snap, state.config, state.storage, { offset: state.endOffset, limit: size, countMax: SCAN_COUNT });
    state.endOffset = lines.end;
    if (lines.count > 0) state.nextSeq = (lines.seqs[lines.count - 1] as number) + 1;
    if (lines.badAt !== null) return false;
    if (lines.count === 0) return true;
  }
}

/** How a queue file begins, or is to; `born` is null where nobody has said yet. */
type Beginning = { readonly born: string | null; readonly generation: number; readonly firstSeq: number };

/** A new generation, listed from `firstSeq` on. The old file is replaced: the queue handler has passed it, or it never was. */
function begin(state: FetchState, { born, generation, firstSeq }: Beginning, why: string): FetchEffect[] {
  Object.assign(state, { generation, nextSeq: firstSeq });
  if (born !== null) putHeader(state, born);
  return [{ kind: "mark", name: why, text: `queue.${state.storage}: generation ${generation} from ${firstSeq}` }];
}

function putHeader(state: FetchState, born: string): void {
  const { config, storage, generation, nextSeq } = state;
  const header = queueHeader(config, { storage, born, generation, firstSeq: nextSeq });
  state.changes.push({ change: "replace", file: queueFile(config, storage), bytes: header });
  state.born = born;
  state.endOffset = header.length;
}

/** The bad file is kept for whoever wants to look; listing its range again is harmless. */
function putAside(state: FetchState, { born, generation, firstSeq }: Beginning, why: string): FetchEffect[] {
  const { config, storage } = state;
  const to = badQueueFile(config, storage, generation);
  state.changes.push({ change: "rename", file: queueFile(config, storage), to });
  state.notes.push(`queue.${storage}: ${why}; kept as ${to}, listed again from ${firstSeq}`);
  return begin(state, { born, generation: generation + 1, firstSeq }, "fetch.bad-line");
}

// ── asking ahead and appending ───────────────────────────────────────────────────────────────────────────────────────

/** Writes what has come and asks for more while there is room; ends when both are over. The ask goes first: it waits for no write. */
function advance(state: FetchState): FetchEffect[] {
  const writes = state.writing === null && (state.ahead.length > 0 || state.changes.length > 0) ? [append(state)] : [];
  const effects = [...(wantsMore(state) ? ask(state) : []), ...writes];
  enter(state, state.writing !== null ? "appending" : "asking");
  if (state.writing === null && state.asked === null) effects.push(end(state, state.failure));
  return effects;
}

const wantsMore = (state: FetchState): boolean =>
  state.failure === null && state.asked === null && state.ahead.length < AHEAD_COUNT_MAX && (state.goalSeq === null || state.nextSeq < state.goalSeq);

function ask(state: FetchState): FetchEffect[] {
  const { log, epoch } = state.config;
  state.asked = ++state.lastRequestId;
  return [
    { kind: "send", to: state.storage, requestId: state.asked, body: { kind: "storage.list", log, epoch, fromSeq: state.nextSeq, limit: LIST_COUNT_MAX } },
    { kind: "arm", timer: ASK_TIMER, afterMs: ASK_WAIT_MS },
  ];
}

function append(state: FetchState): FetchEffect {
  const files = state.changes.splice(0);
  const items = state.ahead.splice(0);
  if (items.length > 0) {
    const bytes = concatBytes(...items.map((each) => queueLines(state.storage, each)));
    files.push({ change: "append", file: queueFile(state.config, state.storage), at: state.endOffset, bytes });
    state.endOffset += bytes.length;
  }
  state.writing = ++state.lastTicket;
  return { kind: "write", ticket: state.writing, db: "log", batch: [], files };
}

function onStored(state: FetchState, ticket: number): FetchEffect[] {
  if (ticket !== state.writing) return [];
  state.writing = null;
  return advance(state);
}

function onAnswer(state: FetchState, from: NodeId, requestId: number, body: Answer): FetchEffect[] {
  if (from !== state.storage || requestId !== state.asked) return [{ kind: "mark", name: "fetch.late", text: `${from}: answer ${requestId} is over` }];
  state.asked = null;
  const disarm: FetchEffect = { kind: "disarm", timer: ASK_TIMER };
  if (body.kind === "storage.listed") return [disarm, ...onListed(state, body), ...advance(state)];
  const told =
    body.kind === "refused" ? { code: body.code, detail: body.text } : { code: "FRAME_CORRUPT", detail: `${from} answered storage.list with ${body.kind}` };
  state.failure = told;
  return [disarm, { kind: "mark", name: "fetch.refused", text: told.detail }, ...advance(state)];
}

function onListed(state: FetchState, listed: AnswerOf<"storage.listed">): FetchEffect[] {
  const { bytes, hashes, born, nextSeq, lastSeq } = listed;
  const isOther = state.born !== null && born !== state.born && !mutant("merge.born-ignored");
  if (isOther || lastSeq < state.nextSeq) return listAgain(state, listed);
  const firstSeq = nextSeq - bytes.length;
  const whole = hashes.length === bytes.length * 32 && firstSeq >= state.nextSeq && nextSeq <= lastSeq && bytes.every((each) => each <= 65_535);
  if (!whole || (nextSeq === state.nextSeq && nextSeq < lastSeq))
    return nonsense(state, `${state.storage} listed ${bytes.length} entries up to ${nextSeq} of ${lastSeq}, asked from ${state.nextSeq}`);
  if (state.born === null) putHeader(state, born);
  if (bytes.length > 0) state.ahead.push({ firstSeq, hashes, bytes });
  state.fetchedCount += bytes.length;
  state.nextSeq = nextSeq;
  state.goalSeq ??= lastSeq;
  return [];
}

function nonsense(state: FetchState, detail: string): FetchEffect[] {
  state.failure = { code: "FRAME_CORRUPT", detail };
  return [{ kind: "mark", name: "fetch.nonsense", text: detail }];
}

/**
 * The node counts anew: its disk is another one, or an older copy of its own. So do we: numbers that both used name
 * different entries. What was listed before is in the order, or listed by the other nodes that keep it.
 */
function listAgain(state: FetchState, { born, lastSeq }: AnswerOf<"storage.listed">): FetchEffect[] {
  const { storage, nextSeq, generation } = state;
  if (state.isRelisted) return nonsense(state, `${storage} counts anew for the second time in this run, now from disk ${born}`);
  const isOther = born !== state.born;
  const had = isOther ? `another disk than the one it had listed ${nextSeq} entries of` : `entries below ${lastSeq}, it had listed up to ${nextSeq}`;
  if (nextSeq > 0) state.notes.push(`${storage} has ${had}; listed again from 0`);
  state.ahead.length = 0;
  state.goalSeq = null;
  state.isRelisted = true;
  const text = isOther ? `${storage}: disk ${born} after ${state.born}` : `${storage}: ${lastSeq} below ${nextSeq}`;
  return [
    { kind: "mark", name: isOther ? "fetch.other-disk" : "fetch.regressed", text },
    ...begin(state, { born, generation: generation + 1, firstSeq: 0 }, "fetch.new-queue"),
  ];
}

function onSilence(state: FetchState, why: string): FetchEffect[] {
  if (state.asked === null) return [];
  state.asked = null;
  const detail = `${state.storage}: ${why}; its entries wait for the next run`;
  state.failure = { code: "UNAVAILABLE", detail };
  state.notes.push(detail);
  return [{ kind: "disarm", timer: ASK_TIMER }, { kind: "mark", name: "fetch.silent", text: detail }, ...advance(state)];
}

function end(state: FetchState, error: FetchState["failure"]): FetchEffect {
  enter(state, error === null ? "done" : "failed");
  const { config, storage, fetchedCount, nextSeq, notes } = state;
  const body: StepResult = {
    step: "fetch",
    log: config.logName,
    target: storage,
    changed: fetchedCount > 0,
    counts: { fetched: fetchedCount, seq: nextSeq },
    notes,
  };
  return { kind: "done", body: error === null ? body : { ...body, error } };
}

function enter(state: FetchState, next: FetchPhase): void {
  if (state.phase === next) return;
  invariant(fetchTransitions[state.phase].includes(next), `fetcher of ${state.storage}: ${next} may follow ${state.phase}`);
  state.phase = next;
}
