/**
 * The requester from the last chunk to the fall of the flag (seed 002 steps 13, 14 and 16, sync.md sections 4.2 and 4.5).
 * A copy of one snapshot is compared with that snapshot's root; a copy of several is made whole by replaying every version
 * since the oldest of them, then compared at the provider's version. The root is this node's own, read back row by row.
 * The flag never falls unproved.
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import { arm, halt, mark } from "../base/effect-list.ts";
import type { Op } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { mutant } from "../base/mutant.ts";
import { finishDigest } from "../store/digest.ts";
import { hashAt, hashOf, historyIn, replicatedOf } from "../store/versions.ts";
import type { AnswerOf } from "../wire/messages.ts";
import { abandon, closeScan, forget } from "./abandon.ts";
import { applyOps, decodeNext, syncRows } from "./records.ts";
import { probe } from "./requester.ts";
import { newScan, scanOn } from "./scan.ts";
import { enterRequester, scopeOf, send, type Turn, timingOf, write } from "./state.ts";

/** Every row is here and durable. */
export function afterCopy(turn: Turn): void {
  const { state } = turn;
  const { cursor, root } = state.requester;
  if (cursor === null) return;
  // a snapshot may be older than what this node had when its flag was set: then what follows is replayed like anything else
  const isWhole = cursor.version >= state.requester.floor || mutant("sync.floor-ignored");
  if (root !== null && isWhole && cursor.oldest === cursor.version && cursor.position === cursor.version) {
    state.requester.verify = { version: cursor.version, root };
    startScan(turn);
    return;
  }
  enterRequester(state, "replaying");
  if (mutant("sync.resume-from-newest") && cursor.position < cursor.version) skipToNewest(turn);
  replayNext(turn);
}

/** What to ask for next: versions up to the provider's, its root, or the own one. */
function replayNext(turn: Turn): void {
  const { requester } = turn.state;
  const { cursor, provider, transfer, verify } = requester;
  if (cursor === null || provider === null || transfer === null) return;
  const scope = { ...scopeOf(turn), transfer };
  requester.askedMs = turn.upMs;
  if (verify !== null && verify.version === cursor.position) startScan(turn);
  else if (verify !== null || requester.newest !== cursor.position)
    send(turn, provider, { kind: "sync.recent-req", ...scope, from: cursor.position + 1 }, { what: "recent" });
  else send(turn, provider, { kind: "sync.verify-req", ...scope }, { what: "verify" });
}

/** A question or its answer was lost: asked again, and a late answer changes nothing. */
export function replayAgain(turn: Turn): void {
  const { requester } = turn.state;
  if (requester.phase === "replaying" && requester.awaited === 0 && turn.upMs - requester.askedMs >= timingOf(turn).stallMs) replayNext(turn);
}

export function onRecent(turn: Turn, body: AnswerOf<"sync.recent">): void {
  const { requester } = turn.state;
  const { cursor, verify } = requester;
  if (requester.phase !== "replaying" || cursor === null || requester.awaited !== 0 || body.from !== cursor.position + 1) {
    mark(turn, "sync.late-recent", `versions from ${body.from} on were not waited for`);
    return;
  }
  requester.newest = Math.max(cursor.position, body.last);
  const upTo = verify?.version ?? Number.POSITIVE_INFINITY;
  const ops: Op[] = [];
  let { position, positionHash } = cursor;
  try {
    for (const raw of body.batches) {
      if (position === upTo) break;
      const decoded = decodeNext(raw, position + 1, positionHash);
      for (const op of applyOps(position + 1, raw, decoded)) if (op.op === "put" || !mutant("sync.forgotten-erase")) ops.push(op);
      position++;
      positionHash = hashOf(raw);
    }
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause;
    // two histories that both count as committed: nobody may go on from here
    if (cause.code === "PAXOS_FORK") halt(turn, cause.code, cause.message);
    else abandon(turn, "digest-mismatch");
    return;
  }
  if (position === cursor.position) {
    if (body.last > position) {
      abandon(turn, "trimmed");
      return;
    }
    replayNext(turn);
    return;
  }
  requester.cursor = { ...cursor, position, positionHash };
  write(turn, "replay", { db: "replicated", batch: ops, local: [syncRows.putCursor(requester.cursor)] });
}

export function onReplayed(turn: Turn): void {
  const { requester } = turn.state;
  requester.durable = requester.cursor;
  requester.backoffMs = 0;
  if (requester.phase === "replaying") replayNext(turn);
}

export function onVerify(turn: Turn, body: AnswerOf<"sync.verify">): void {
  const { requester } = turn.state;
  if (requester.phase !== "replaying" || requester.cursor === null || body.version < requester.cursor.position) {
    mark(turn, "sync.late-verify", `a root at ${body.version} was not waited for`);
    return;
  }
  requester.verify = { version: body.version, root: body.root };
  if (requester.awaited === 0) replayNext(turn);
}

// ------------------------------------------------------------------ the own root

function startScan(turn: Turn): void {
  const { state, ports } = turn;
  enterRequester(state, "verifying");
  state.requester.scan = newScan(state.config, ports.views.open(), state.requester.verify?.version ?? 0);
  arm(turn, "x.scan", 0);
}

export function onScan(turn: Turn): void {
  const { requester } = turn.state;
  const { scan, verify } = requester;
  if (scan === null || verify === null) return;
  if (!scanOn(turn, scan)) {
    arm(turn, "x.scan", 0);
    return;
  }
  const { digest } = finishDigest(scan.build);
  closeScan(turn);
  const { last } = historyIn(turn.snap);
  if (!mutant("sync.flag-off-unverified")) {
    if (!equalBytes(digest, verify.root) || last !== verify.version) {
      amend(turn, `root ${toHex(digest)} at ${last}, ${requester.provider} has ${toHex(verify.root)} at ${verify.version}`);
      return;
    }
    if (last < requester.floor && !mutant("sync.floor-ignored")) {
      startOver(turn, `the copy ends at ${last}, below the floor ${requester.floor}`);
      return;
    }
  }
  mark(turn, "sync.verified", `root equal to ${requester.provider} at ${last}`);
  const batch = [syncRows.dropFlag(), syncRows.dropCursor(), syncRows.putFloor(last)];
  write(turn, "finish", { db: "local", batch });
}

/**
 * A copy that proved wrong. What differs is fetched, once, from whoever can provide; where that does not help, nothing of
 * the copy is believed, another provider is asked, and somebody should look.
 */
function amend(turn: Turn, text: string): void {
  const { requester } = turn.state;
  if (requester.isRepairing) {
    startOver(turn, text);
    return;
  }
  mark(turn, "sync.mismatch", text);
  requester.isRepairing = true;
  again(turn, 0);
}

function startOver(turn: Turn, text: string): void {
  const { requester } = turn.state;
  mark(turn, "sync.alarm", text);
  requester.isRepairing = false;
  requester.avoidsDelta = true;
  again(turn, wrongMs(turn));
}

function again(turn: Turn, avoidMs: number): void {
  abandon(turn, "digest-mismatch", avoidMs);
  turn.state.requester.cursor = null;
  write(turn, "restart", { db: "local", batch: [syncRows.dropCursor()] });
}

/** A provider that gave a copy with a wrong root, or one that this node may not take, is passed over for so long. */
const wrongMs = (turn: Turn): number => 2 * timingOf(turn).patienceMs;

/** The flag fell, durably: what is left is ordinary recovery. */
export function onFinished(turn: Turn): void {
  const { state, snap } = turn;
  const { requester } = state;
  const { provider, transfer } = requester;
  const { last } = historyIn(snap);
  requester.flag = null;
  requester.floor = last;
  requester.durable = null;
  requester.cursor = null;
  requester.isForced = false;
  requester.isRepairing = false;
  requester.avoidsDelta = false;
  state.synced = last;
  mark(turn, "sync.flag-off", `flag off at ${last}`);
  if (provider !== null && transfer !== null) send(turn, provider, { kind: "sync.done", ...scopeOf(turn), transfer, version: last }, { what: "told" });
  if (requester.phase !== "verifying") return; // given up meanwhile: it is probing already
  forget(turn);
  enterRequester(state, "probing");
  probe(turn);
}

/** The planted mistake: the copy's older half is left as it was at the older snapshot. */
function skipToNewest(turn: Turn): void {
  const { requester } = turn.state;
  if (requester.cursor === null) return;
  const { version, positionHash } = requester.cursor;
  requester.cursor = { ...requester.cursor, position: version, positionHash: hashAt(replicatedOf(turn.snap), version) ?? positionHash };
}
