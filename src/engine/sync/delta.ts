/**
 * The requester of a delta copy (sync.md section 4.5): flagged as always, and nothing is cleared. It asks, the provider
 * answers; one question is on its way at a time, and asked again after a silence. What a run must lose and what it gets
 * become durable in one commit with the cursor, so that a crash needs no case of its own: the next transfer walks again.
 */

import { arm, disarm, mark } from "../base/effect-list.ts";
import type { Op } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { finishDigest } from "../store/digest.ts";
import { keyBehind } from "../store/keys.ts";
import type { AnswerOf, Request } from "../wire/messages.ts";
import { abandon, closeWalk } from "./abandon.ts";
import { count } from "./progress.ts";
import { type CursorRow, syncRows } from "./records.ts";
import { scanOn } from "./scan.ts";
import { SCAN_ROWS_MAX, scopeOf, send, type Turn, timingOf, write } from "./state.ts";
import { eraseBehind, erasures, nextNodes, type RunBatch, readOwn, takeDigests, takeRows, type Walk, wantedRuns } from "./walk.ts";

/** Rows that one question wants; the provider's answer is one chunk. */
const WANT_ITEMS_MAX = 2_000;

type Question = { readonly kind: "sync.range-req"; readonly level: number; readonly ends: readonly Uint8Array[] } | Wanted;
type Wanted = { readonly kind: "sync.range-want"; readonly runs: ReturnType<typeof wantedRuns> };

/** Whatever comes next, unless a commit or an answer is waited for. */
export function walkOn(turn: Turn): void {
  const { requester } = turn.state;
  const { walk, question, awaited, phase } = requester;
  if (walk === null || question !== null || awaited !== 0 || phase !== "copying") return;
  if (walk.root === null) ask(turn, { kind: "sync.range-req", level: 0, ends: [] });
  else if (walk.own === null)
    return; // its scan goes on
  else if (walk.batch !== null) workOn(turn, walk, walk.batch);
  else compareNext(turn, walk);
}

function compareNext(turn: Turn, walk: Walk): void {
  if (walk.own === null || walk.root === null) return;
  const nodes = nextNodes(walk, walk.own, (rowCount) => settle(turn, rowCount));
  const [first] = nodes;
  if (first === undefined) {
    finish(turn, walk, walk.root);
    return;
  }
  walk.asked = nodes;
  ask(turn, { kind: "sync.range-req", level: first.level, ends: nodes.map(({ end }) => end) });
}

/** Own rows are read in steps; then what is missing is asked for, and what is too much goes. */
function workOn(turn: Turn, walk: Walk, batch: RunBatch): void {
  if (batch.readCount < batch.runs.length && !readOwn(walk, batch, turn.ports.views.read(walk.view), SCAN_ROWS_MAX)) {
    arm(turn, "x.walk", 0);
    return;
  }
  if (batch.wanted.length > 0) ask(turn, { kind: "sync.range-want", runs: wantedRuns(batch, WANT_ITEMS_MAX) });
  else apply(turn, batch, []);
}

export function onRangeDigests(turn: Turn, requestId: number, body: AnswerOf<"sync.range-digests">): void {
  const walk = answered(turn, requestId, body.version, "sync.range-req");
  if (walk !== null && believed(turn, () => takeDigests(walk, body)) !== null) walkOn(turn);
}

export function onRangeRows(turn: Turn, requestId: number, body: AnswerOf<"sync.range-rows">): void {
  const walk = answered(turn, requestId, body.version, "sync.range-want");
  const batch = walk?.batch ?? null;
  if (walk === null || batch === null) return;
  const rows = believed(turn, () => takeRows(walk, batch, body.batch));
  if (rows !== null) apply(turn, batch, rows);
}

/** The walk, where this answers what it asked last. */
function answered(turn: Turn, requestId: number, version: number, kind: Question["kind"]): Walk | null {
  const { requester } = turn.state;
  const { walk, question } = requester;
  if (walk === null || question?.requestId !== requestId || question.body.kind !== kind || version !== walk.version) {
    mark(turn, "sync.late-range");
    return null;
  }
  requester.question = null;
  disarm(turn, "x.ask");
  return walk;
}

/** What came, where it makes sense; else null, and the transfer is over. */
function believed<T>(turn: Turn, take: () => T): T | null {
  try {
    return take();
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause;
    mark(turn, "sync.bad-range", cause.message);
    abandon(turn, "digest-mismatch");
    return null;
  }
}

/** Rows of a batch, and what must go up to the last of them, in one commit with the cursor. */
function apply(turn: Turn, batch: RunBatch, rows: readonly Op[]): void {
  const { requester } = turn.state;
  const { walk, cursor } = requester;
  if (walk === null || cursor === null) return;
  const isDone = batch.wanted.length === 0;
  const upTo = (isDone ? batch.runs.at(-1)?.end : rows.at(-1)?.key) ?? new Uint8Array(0);
  const ops = [...erasures(batch, upTo), ...rows];
  if (isDone) {
    walk.batch = null;
    for (const { items } of batch.runs) settle(turn, items.length);
  }
  if (ops.length === 0) walkOn(turn);
  else store(turn, { ...cursor, number: cursor.number + 1, cursor: keyBehind(upTo) ?? upTo }, ops);
}

function store(turn: Turn, row: CursorRow, batch: readonly Op[]): void {
  turn.state.requester.cursor = row;
  write(turn, "copy", { db: "replicated", batch, local: [syncRows.putCursor(row)] });
}

/** Every node was compared: what is behind the provider's last key is nothing of it. */
function finish(turn: Turn, walk: Walk, root: NonNullable<Walk["root"]>): void {
  const { requester } = turn.state;
  if (requester.cursor === null) return;
  mark(turn, "sync.walked", `runs that differed: ${walk.runCount}, rows taken: ${walk.takenCount}, dropped: ${walk.erasedCount}`);
  requester.root = root.digest;
  closeWalk(turn);
  store(turn, { ...requester.cursor, number: requester.cursor.number + 1, cursor: null }, eraseBehind(root.end));
}

export function onWalkTimer(turn: Turn): void {
  const { walk } = turn.state.requester;
  if (walk === null) return;
  if (walk.own !== null) walkOn(turn);
  else if (scanOn(turn, walk)) {
    walk.own = finishDigest(walk.build);
    walkOn(turn);
  } else arm(turn, "x.walk", 0);
}

// ------------------------------------------------------------------ questions

function ask(turn: Turn, body: Question): void {
  const { provider, transfer, walk } = turn.state.requester;
  if (provider === null || transfer === null || walk === null) return;
  const about: Request = { ...body, ...scopeOf(turn), transfer, version: walk.version };
  turn.state.requester.question = { requestId: send(turn, provider, about, { what: "range" }), body: about };
  arm(turn, "x.ask", timingOf(turn).stallMs);
}

/** No answer for a while: the same question, with a number of its own. */
export function askAgain(turn: Turn): void {
  const { requester } = turn.state;
  const { question, provider } = requester;
  if (question === null || provider === null) return;
  mark(turn, "sync.asked-again", `${provider} has not answered`);
  requester.question = { requestId: send(turn, provider, question.body, { what: "range" }), body: question.body };
  arm(turn, "x.ask", timingOf(turn).stallMs);
}

/** Rows that are as they must be, whether they came or were here. */
function settle(turn: Turn, rowCount: number): void {
  const { progress } = turn.state.requester;
  if (progress !== null) count(progress, rowCount, Math.round((rowCount * progress.bytes) / Math.max(1, progress.keys)), turn.upMs);
}
