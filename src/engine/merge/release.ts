/**
 * The half of dist after the swap: `sth`, cosignatures, frontends, and word to the storage nodes of what is settled
 * (merge.md section 5, step 6). Whatever fails here stays owed: the next run goes on with the same head, byte for byte.
 */
import { equalBytes, fromUtf8, utf8 } from "../base/bytes.ts";
import type { FileChange, Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { addCosignature, checkCosignature } from "../log/cosignature.ts";
import { LogReader } from "../log/reader.ts";
import type { Answer, AnswerOf, RequestOf } from "../wire/messages.ts";
import type { Head } from "./config.ts";
import { readCovered } from "./cursor.ts";
import { type DistEffect, type DistState, enter, finish } from "./dist-state.ts";
import { readSth, sthFile } from "./files.ts";
import { rows } from "./records.ts";
import { ask, type Failure, isOver, newSender, onAnswer, onSilence, type SendContext, type Sender, scope } from "./sender.ts";

/** A frontend that is slow or silent holds back the next head no longer than this; the rest stays owed to it. */
const PUBLISH_WAIT_MS = 1_000;
/** A link and a commit take a few milliseconds: who has not even said where it stands by then is slow. */
const SILENT_WAIT_MS = 150;
/** With nothing to sign, a frontend that lags is given more time. */
const CATCH_UP_MS = 10_000;

export function release(state: DistState, head: Head, snap: Snapshot): DistEffect[] {
  enter(state, "releasing");
  state.head = head;
  const effects: DistEffect[] = [...recordSth(state, head, snap)];
  const published = rows.published(snap, state.config.log);
  state.note = published !== null && published.size === head.size && equalBytes(published.root, head.root) ? published.note : null;
  if (state.note !== null || state.config.secondaries.length === 0 || head.size === 0)
    return [...effects, ...publish(state, head, state.note ?? head.note, snap)];
  for (const secondary of state.config.secondaries) {
    const requestId = ++state.lastRequestId;
    state.cosignAsked.set(requestId, secondary);
    const body: RequestOf<"backup.head"> = { kind: "backup.head", ...scope(state.config), checkpoint: head.note, proof: new Uint8Array(0) };
    effects.push({ kind: "send", to: secondary, requestId, body });
  }
  return [...effects, { kind: "arm", timer: "cosign", afterMs: state.config.cosignWaitMs }];
}

/** `sth` says what the register says; the stage has done its work. */
function recordSth(state: DistState, head: Head, snap: Snapshot): DistEffect[] {
  const { config, stage } = state;
  const old = readSth(snap, config);
  const same = old.kind === "ok" && old.value.size === head.size && equalBytes(old.value.root, head.root);
  if (same && stage === null) return [];
  const counted = stage !== null && stage.size === head.size ? stage.counted : [];
  const files: FileChange[] = same
    ? []
    : [sthFile(config, { epoch: head.epoch, size: head.size, root: head.root, counted, timeMs: head.timeMs, note: fromUtf8(head.note) })];
  return [{ kind: "write", ticket: ++state.lastTicket, db: "log", batch: stage === null ? [] : [rows.delStage(config.log)], files }];
}

// ------------------------------------------------------------------ cosignatures

export function onCosign(state: DistState, requestId: number, body: Answer | "lost", snap: Snapshot): DistEffect[] {
  const secondary = state.cosignAsked.get(requestId);
  if (secondary === undefined || isPublishing(state)) return [{ kind: "mark", name: "sign.late-answer" }];
  state.cosignAsked.delete(requestId);
  if (body !== "lost" && body.kind === "backup.cosigned") takeLine(state, secondary, body);
  else if (body !== "lost" && body.kind === "refused" && body.code !== "LOG_NOT_VERIFIED")
    state.notes.push(`${secondary} does not cosign: ${body.code}: ${body.text}`);
  const enough = state.cosignLines.size >= state.config.backupquorum && state.config.backupquorum > 0;
  return enough || state.cosignAsked.size === 0 ? onCosignEnd(state, snap) : [];
}

function takeLine(state: DistState, secondary: NodeId, body: AnswerOf<"backup.cosigned">): void {
  const publicKey = state.config.cosignerKeys[secondary];
  const name = `${state.config.origin}/${secondary}`;
  if (state.head === null || publicKey === undefined) return;
  if (checkCosignature({ note: fromUtf8(state.head.note), line: body.line, name, publicKey })) state.cosignLines.set(secondary, body.line);
  else state.notes.push(`${secondary}: its cosignature does not verify`);
}

/** Enough lines, or the time is over. */
export function onCosignEnd(state: DistState, snap: Snapshot): DistEffect[] {
  const { config, head } = state;
  if (head === null || isPublishing(state)) return [];
  const short = state.cosignLines.size < config.backupquorum;
  if (short && config.cosign === "require") {
    const silent = config.secondaries.filter((each) => !state.cosignLines.has(each));
    return [
      { kind: "mark", name: "sign.cosign-waits" },
      ...finish(state, {
        code: "UNAVAILABLE",
        detail: `${config.backupquorum} cosignatures required, ${state.cosignLines.size} came; missing: ${silent.join(", ")}`,
      }),
    ];
  }
  const lines = config.secondaries.flatMap((each) => state.cosignLines.get(each) ?? []);
  const note = lines.reduce(addCosignature, fromUtf8(head.note));
  return [{ kind: "disarm", timer: "cosign" }, ...publish(state, head, utf8(note), snap)];
}

// ------------------------------------------------------------------ frontends

function publish(state: DistState, head: Head, note: Uint8Array, snap: Snapshot): DistEffect[] {
  state.note = note;
  const effects: DistEffect[] = [...startSenders(state, head, snap), ...settle(state, head, snap)];
  if (everyoneIsDone(state)) return [...effects, ...finish(state, refusal(state))];
  return [...effects, { kind: "arm", timer: "publish", afterMs: state.signedNow ? PUBLISH_WAIT_MS : CATCH_UP_MS }];
}

function startSenders(state: DistState, head: Head, snap: Snapshot): DistEffect[] {
  state.senders = state.config.frontends.map((frontend) => newSender(frontend, head.size));
  return state.senders.flatMap((sender) => ask(sender, context(state, snap)));
}

function context(state: DistState, snap: Snapshot): SendContext {
  const { config } = state;
  return {
    config,
    nextRequestId: () => ++state.lastRequestId,
    last: () => ({ kind: "dist.publish", ...scope(config), checkpoint: state.note ?? state.candidate?.note ?? new Uint8Array(0), proof: new Uint8Array(0) }),
    inspect: (sender, at) => inspect(state, sender, at, snap),
    enough: (sender, at) => at.publishedSize === sender.size && sender.size > 0 && !state.signedNow,
  };
}

/** A frontend ahead of the head in force, or with another root below it, is a fork: told, never overwritten. */
function inspect(state: DistState, sender: Sender, at: AnswerOf<"copy.at">, snap: Snapshot): Failure | null {
  if (at.publishedSize > sender.size)
    return { code: "LOG_HEAD_ROLLBACK", detail: `${sender.peer} serves ${at.publishedSize}, the head in force is ${sender.size}` };
  if (at.publishedSize === 0 || at.headSize !== at.publishedSize) return null;
  const mine = new LogReader(snap, state.config.log).rootAt(at.publishedSize);
  return equalBytes(mine, at.headRoot) ? null : { code: "LOG_HEAD_FORK", detail: `${sender.peer} serves size ${at.publishedSize} with another root` };
}

export function onFrontend(state: DistState, requestId: number, body: Answer, snap: Snapshot): DistEffect[] {
  const sender = state.senders.find((each) => each.inFlight.has(requestId));
  if (sender === undefined) return onSettled(state, requestId);
  const effects: DistEffect[] = onAnswer(sender, requestId, body, context(state, snap), snap);
  return [...effects, ...end(state)];
}

export function onFrontendSilence(state: DistState, peer: string, why: "lost" | "timer", snap: Snapshot): DistEffect[] {
  if (why === "lost") for (const [requestId, storage] of state.settleAsked) if (storage === peer) state.settleAsked.delete(requestId);
  const sender = state.senders.find((each) => each.peer === peer);
  const effects: DistEffect[] = sender === undefined ? [] : onSilence(sender, context(state, snap), why);
  return [...effects, ...end(state)];
}

function onSettled(state: DistState, requestId: number): DistEffect[] {
  if (!state.settleAsked.delete(requestId)) return [{ kind: "mark", name: "copy.late-answer" }];
  state.settleOwed--;
  return end(state);
}

/** The note that goes out is known from the moment that cosignatures are no longer waited for. */
export const isPublishing = (state: DistState): boolean => state.note !== null;

const everyoneIsDone = (state: DistState): boolean => state.senders.every(isOver) && state.settleAsked.size === 0;

/** Once everybody who answered is done, silent frontends and storage nodes hold the next head back no longer than this. */
function end(state: DistState): DistEffect[] {
  if (state.phase !== "releasing" || !isPublishing(state)) return []; // a peer that goes before is one of an earlier run
  if (everyoneIsDone(state)) return finish(state, refusal(state));
  const silent = state.senders.every((sender) => isOver(sender) || sender.at === null);
  if (!silent || state.hurried) return [];
  state.hurried = true;
  return [{ kind: "arm", timer: "publish", afterMs: SILENT_WAIT_MS }];
}

/** The time for publishing is over: what is missing stays owed. */
export function onPublishEnd(state: DistState): DistEffect[] {
  for (const sender of state.senders) if (!isOver(sender)) state.notes.push(`${sender.peer} is not done with ${sender.size} yet`);
  return finish(state, refusal(state));
}

/** A frontend that cannot be reached is a note; one that refuses the head itself is a failure of the run. */
function refusal(state: DistState): Failure | null {
  let worst: Failure | null = null;
  for (const { failure, peer } of state.senders) {
    if (failure === null) continue;
    state.notes.push(`${peer}: ${failure.code}: ${failure.detail}`);
    if (failure.code.startsWith("LOG_HEAD_") || failure.code === "LOG_ORDER_FORK" || failure.code === "LOG_ROOT_MISMATCH") worst = failure;
  }
  return worst;
}

// ------------------------------------------------------------------ storage nodes

/**
 * Entries below these numbers are in a signed prefix: storage nodes may drop their bytes after `storageKeepMs`. Told in
 * every run: a word lost with an earlier run would leave its entries unsettled, and once they are too old the storage
 * node takes no new ones, so that no new head would ever bring it again.
 */
function settle(state: DistState, head: Head, snap: Snapshot): DistEffect[] {
  const covered = head.size === 0 ? [] : readCovered(snap, state.config.log, head.size);
  state.settleOwed = covered.length;
  return covered.map(({ storage, born, seq }): DistEffect => {
    const requestId = ++state.lastRequestId;
    state.settleAsked.set(requestId, storage as NodeId);
    return { kind: "send", to: storage as NodeId, requestId, body: { kind: "storage.settle", ...scope(state.config), born, settledSeq: seq } };
  });
}
