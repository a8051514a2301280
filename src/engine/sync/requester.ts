/**
 * The requester up to the first chunk (seed 002 steps 1 to 4, sync.md section 4.2): probes, asks a provider, makes flag and
 * floor durable, and only then clears `replicated`, and nothing else. Until a grant came it still owns its data; from the
 * flag on it abstains, whatever happens, until `finish.ts` has proved the copy. A flagged node that starts goes on here.
 */
import { equalBytes, utf8 } from "../base/bytes.ts";
import { answer, arm, disarm, mark } from "../base/effect-list.ts";
import type { Batch } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import { LAST_KEY } from "../store/keys.ts";
import { historyIn } from "../store/versions.ts";
import type { AnswerOf, RequestOf } from "../wire/messages.ts";
import { MODE_DELTA, MODE_FULL } from "../wire/sync-messages.ts";
import { abandon, backOff, closeWalk, withdraw } from "./abandon.ts";
import { candidates, isInfeasible, neededFloor } from "./choose.ts";
import { majorityOf, mayHoldACopy, othersWith } from "./others.ts";
import { newProgress } from "./progress.ts";
import { closeTransfers } from "./provider.ts";
import { type CursorRow, syncRows } from "./records.ts";
import { seedOf } from "./scan.ts";
import { enterRequester, factsOf, type Requester, scopeOf, send, type Turn, timingOf, write } from "./state.ts";
import { newWalk } from "./walk.ts";

/** Rounds of probing until a wish is refused, because too few others have what this store had when it was made. */
const WISH_TRIES = 3;
/** The same once the flag is durable: a write that was under way may still reach the others, and then this node must vote again. */
const CONFIRM_TRIES = 5;
export const NO_DIGEST = new Uint8Array(32);
const FIRST_KEY = new Uint8Array(0);
/** One commit, and no row is read for it: a store whose rows are damaged can be cleared too. */
const CLEAR: Batch = [
  { op: "delRange", key: FIRST_KEY, end: LAST_KEY },
  { op: "del", key: LAST_KEY },
];

/** The disk first: a flag found there leads to a sync, never to an election. */
export function startRequester(turn: Turn): void {
  const { requester } = turn.state;
  reload(turn);
  requester.isForced = requester.flag?.isForced ?? false;
  if (requester.flag !== null) mark(turn, "sync.flag-on-boot", `flag found, floor ${requester.floor}: will not vote`);
  if (!withdraw(turn)) probe(turn);
}

/** The disk has the last word after a start, and after a write that was refused. */
export function reload({ state: { requester }, snap }: Turn): void {
  requester.flag = syncRows.flag(snap);
  requester.floor = syncRows.floor(snap);
  requester.durable = requester.flag === null ? null : syncRows.cursor(snap);
  requester.cursor = requester.durable;
}

export function probe(turn: Turn): void {
  const { config, requester } = turn.state;
  requester.replies.clear();
  requester.probedMs = turn.upMs;
  for (const peer of config.members) if (peer !== config.self) send(turn, peer, { kind: "paxos.probe", ...scopeOf(turn) }, { what: "probe" });
  arm(turn, "x.probe", timingOf(turn).probeMs);
  if (config.members.every((peer) => peer === config.self)) decide(turn);
}

export function onProbeReply(turn: Turn, from: NodeId, reply: AnswerOf<"paxos.probe-reply">): void {
  const { state, upMs } = turn;
  const { config, requester } = state;
  if (!config.members.includes(from)) return;
  requester.replies.set(from, { ...reply, tookMs: upMs - requester.probedMs });
  if (requester.phase === "clearing") confirm(turn);
  else if (requester.phase === "probing" && requester.replies.size === config.members.length - 1) decide(turn);
}

/** All answered, or their time is over. */
export function decide(turn: Turn): void {
  const { state, snap, upMs } = turn;
  const { requester } = state;
  if (requester.phase !== "probing") return;
  disarm(turn, "x.probe");
  if (withdraw(turn)) return;
  if (requester.awaited !== 0) {
    arm(turn, "x.retry", timingOf(turn).backoffMs); // what is on its way to disk decides where a copy goes on
    return;
  }
  const own = historyIn(snap);
  // under writes others are a moment behind; once the flag is durable nothing comes any more, and they are asked for all of it
  if (requester.isForced && requester.flag === null && othersWith(turn, requester.wishedLast) < majorityOf(turn)) {
    if (++requester.wishTries < WISH_TRIES) {
      arm(turn, "x.retry", timingOf(turn).backoffMs);
      return;
    }
    requester.isForced = false;
    mark(turn, "sync.force-refused", `too few others have ${requester.wishedLast}: this store stays`);
  }
  if (requester.flag === null && !requester.isForced && !isInfeasible(own, requester.replies.values())) {
    if (factsOf(turn).mustSync) {
      backOff(turn); // Paxos met somebody else: either it hears better, or that one answers here
      return;
    }
    enterRequester(state, "joined");
    disarm(turn, "x.retry");
    mark(turn, "sync.feasible", `last ${own.last}: the rest is recovered by Paxos`);
    return;
  }
  const rated = candidates(state, own, upMs);
  const [best] = rated;
  if (best === undefined || best.why !== null) {
    mark(turn, "sync.no-provider", `nobody can provide: ${rated.map(({ peer, why }) => `${peer} ${why}`).join(", ")}`);
    backOff(turn);
    return;
  }
  const { first = 0 } = requester.replies.get(best.peer) ?? {};
  if (requester.flag === null && !requester.isForced) mark(turn, "sync.infeasible", `last ${own.last}, ${best.peer} has first ${first}: not recoverable`);
  ask(turn, best.peer);
}

function ask(turn: Turn, peer: NodeId): void {
  const { config, requester } = turn.state;
  const own = historyIn(turn.snap);
  const { cursor } = requester;
  requester.isDelta = wantsDelta(turn, own.last);
  const resume =
    cursor === null || cursor.isDelta || requester.isDelta || !config.isResuming
      ? null
      : { oldest: cursor.oldest, oldestHash: cursor.oldestHash, version: cursor.version, cursor: cursor.cursor };
  enterRequester(turn.state, "requested");
  requester.provider = peer;
  const wants = { mode: requester.isDelta ? MODE_DELTA : MODE_FULL, last: own.last, floor: neededFloor(turn.state, own), resume, limits: config.limits };
  requester.grantRequest = send(turn, peer, { kind: "sync.req", ...scopeOf(turn), ...wants }, { what: "grant" });
  arm(turn, "x.patience", timingOf(turn).patienceMs);
}

/** A store that is there, and not what an interrupted copy left, is worth comparing. */
function wantsDelta({ state: { config, requester } }: Turn, last: number): boolean {
  if (requester.avoidsDelta || (requester.cursor !== null && !requester.cursor.isDelta)) return false;
  return requester.isRepairing || (config.mode === "delta" && last > 0);
}

/** From here on this node abstains. Flag, floor and all that Paxos promised are durable before one key is cleared. */
export function onGrant(turn: Turn, from: NodeId, requestId: number, grant: AnswerOf<"sync.grant">): void {
  const { state } = turn;
  const { requester } = state;
  if (requester.phase !== "requested" || requester.grantRequest !== requestId) {
    mark(turn, "sync.late-grant", `${from} grants what was given up`);
    send(turn, from, { kind: "sync.abort", ...scopeOf(turn), transfer: grant.transfer, reason: "expired" }, { what: "told" });
    return;
  }
  if (!mutant("sync.provide-flagged")) closeTransfers(turn, "provider-syncing");
  requester.transfer = grant.transfer;
  requester.floor = neededFloor(state, historyIn(turn.snap));
  requester.flag = { provider: from, transfer: grant.transfer, isForced: requester.isForced, isCleared: requester.flag?.isCleared ?? false };
  requester.resumes = grant.resumes && requester.cursor !== null;
  if (!requester.resumes) requester.cursor = null;
  requester.isCleared = requester.resumes;
  if (requester.start !== null && !equalBytes(requester.start.body.transfer, grant.transfer)) requester.start = null;
  enterRequester(state, "clearing");
  if (mutant("sync.flag-after-clear")) clear(turn);
  const keeps = requester.resumes ? [] : [syncRows.dropCursor()];
  if (mutant("sync.promise-cleared"))
    turn.out.push({ kind: "write", ticket: 0, db: "accepts", batch: [{ op: "delRange", key: utf8("paxos/"), end: utf8("paxos0") }] });
  write(turn, "flag", { db: "local", batch: [syncRows.putFlag(requester.flag), syncRows.putFloor(requester.floor), ...keeps] });
  arm(turn, "x.patience", timingOf(turn).patienceMs);
  arm(turn, "x.keep", timingOf(turn).keepaliveMs);
}

/** The flag is durable: clear, at once where distance forced it, else when a majority without this node has all it had. */
export function onFlagged(turn: Turn): void {
  const { requester } = turn.state;
  if (requester.phase !== "clearing") return;
  const { flag } = requester;
  const { last } = historyIn(turn.snap);
  if (flag !== null && !flag.isCleared && last > requester.floor) {
    // versions were on their way to disk when the flag was asked for; from here on none is: this store may be one of those that chose them
    requester.floor = last;
    requester.isForced = true;
    requester.flag = { ...flag, isForced: true };
    mark(turn, "sync.floor-rose", `${last} was stored before the flag: the floor is raised, and others must have it`);
    write(turn, "flag", { db: "local", batch: [syncRows.putFlag(requester.flag), syncRows.putFloor(last)] });
    return;
  }
  if (requester.isCleared) {
    begin(turn);
    return;
  }
  if (!mayHoldACopy(requester)) {
    makeRoom(turn);
    return;
  }
  requester.wishTries = 0;
  probe(turn);
}

/** The others had it all when the flag was asked for: those that went since may stay away for ever, and this store is whole. */
export function confirmLater(turn: Turn): void {
  if (++turn.state.requester.wishTries < CONFIRM_TRIES) probe(turn);
  else abandon(turn, "unconfirmed");
}

/** This node may hold one of the copies that made a version chosen: it goes only when enough others show that they have it. */
function confirm(turn: Turn): void {
  const { requester } = turn.state;
  if (!mayHoldACopy(requester) || requester.isCleared || requester.awaited !== 0) return;
  const count = othersWith(turn, requester.floor);
  if (count < majorityOf(turn)) return;
  disarm(turn, "x.probe");
  mark(turn, "sync.confirmed", `${count} others have ${requester.floor}: this store may be cleared`);
  makeRoom(turn);
}

/** Room for rows: an empty store, or what is here already. */
function makeRoom(turn: Turn): void {
  const { requester } = turn.state;
  requester.isCleared = requester.isDelta;
  if (!requester.isDelta) {
    clear(turn);
    return;
  }
  mark(turn, "sync.kept", `flag and floor ${requester.floor} durable, and nothing cleared: what differs is fetched`);
  begin(turn);
}

function clear(turn: Turn): void {
  const { flag } = turn.state.requester;
  const cleared = flag === null ? [] : [syncRows.putFlag({ ...flag, isCleared: true })];
  write(turn, "clear", { db: "replicated", batch: CLEAR, local: mutant("sync.flag-after-clear") ? [] : cleared });
}

export function onCleared(turn: Turn): void {
  const { requester } = turn.state;
  if (requester.flag === null) return;
  requester.flag = { ...requester.flag, isCleared: true }; // also where the transfer was given up meanwhile
  if (requester.phase !== "clearing") return;
  requester.isCleared = true;
  mark(turn, "sync.cleared", `flag and floor ${requester.floor} durable, then every key cleared`);
  begin(turn);
}

/**
 * SYNC_START: what the snapshot is. A second one while copying is a newer snapshot, taken where this copy stands. One may
 * overtake its own grant: they come by two links.
 */
export function onStart(turn: Turn, id: number, from: NodeId, body: RequestOf<"sync.start">): void {
  const { requester } = turn.state;
  if (requester.phase === "requested" && requester.provider === from) {
    mark(turn, "sync.start-early", `${from} starts before its grant is here`);
    requester.start = { id, body };
  } else if (isOurs(turn, from, body.transfer) && (requester.phase === "clearing" || requester.phase === "copying")) {
    requester.start = { id, body };
    begin(turn);
  } else {
    mark(turn, "sync.foreign", `${from} speaks of another transfer`);
    answer(turn, id, { kind: "sync.no-transfer", ...scopeOf(turn), transfer: body.transfer });
  }
}

/** With the clear and SYNC_START both here: where the copy stands becomes durable, then the provider may send. */
export function begin(turn: Turn): void {
  const { state } = turn;
  const { requester } = state;
  const { start, cursor, isCleared, awaited, transfer } = requester;
  if (start === null || !isCleared || awaited !== 0 || transfer === null || requester.waiting.size > 0) return;
  const { version, hash } = start.body;
  if (cursor !== null && version < cursor.version) {
    requester.start = null;
    mark(turn, "sync.start-late", `a snapshot at ${version} after one at ${cursor.version}`);
    return;
  }
  if (requester.isDelta) {
    beginWalk(turn, transfer, start);
    return;
  }
  requester.cursor =
    cursor === null
      ? freshCursor(transfer, version, hash)
      : { ...cursor, version, ...(equalBytes(cursor.transfer, transfer) ? {} : { transfer, number: 0, digest: NO_DIGEST }) };
  requester.start = null;
  if (requester.phase === "clearing") {
    enterRequester(state, "copying");
    requester.progress = newProgress(start.body, cursor === null ? { keyCount: 0, liveBytes: 0 } : turn.ports.views.stat(), turn.upMs);
  }
  write(turn, "begin", { db: "local", batch: [syncRows.putCursor(requester.cursor)] });
  if (requester.resumes && cursor !== null) mark(turn, "sync.resumed", `resumed: replay from ${cursor.oldest}, snapshot ${version}`);
  answer(turn, start.id, chunkAck(turn, requester.cursor));
}

/** A walk of the snapshot, from its first key: what an earlier one made equal is passed. From here on the store is not whole. */
function beginWalk(turn: Turn, transfer: Uint8Array, { id, body }: NonNullable<Requester["start"]>): void {
  const { state, ports, upMs } = turn;
  const { requester } = state;
  requester.start = null;
  if (requester.walk?.version === body.version && requester.cursor !== null) {
    answer(turn, id, chunkAck(turn, requester.cursor)); // told twice
    return;
  }
  closeWalk(turn);
  requester.cursor = { ...freshCursor(transfer, body.version, body.hash), isDelta: true };
  if (requester.phase === "clearing") enterRequester(state, "copying");
  if (requester.flag !== null) requester.flag = { ...requester.flag, isCleared: true };
  const flag = requester.flag === null ? [] : [syncRows.putFlag(requester.flag)];
  write(turn, "begin", { db: "local", batch: [...flag, syncRows.putCursor(requester.cursor)] });
  answer(turn, id, chunkAck(turn, requester.cursor));
  requester.progress = newProgress(body, { keyCount: 0, liveBytes: 0 }, upMs);
  requester.walk = newWalk({ version: body.version, salt: transfer, view: ports.views.open(), seed: seedOf(state.config) });
  arm(turn, "x.walk", 0);
}

const freshCursor = (transfer: Uint8Array, version: number, hash: Uint8Array): CursorRow => ({
  transfer,
  oldest: version,
  oldestHash: hash,
  version,
  cursor: FIRST_KEY,
  number: 0,
  digest: NO_DIGEST,
  position: version,
  positionHash: hash,
  isDelta: false,
});

/** What is durable, and room for more. */
export function chunkAck(turn: Turn, row: CursorRow): AnswerOf<"sync.chunk-ack"> {
  const { config, requester } = turn.state;
  let bytes = config.limits.windowBytes;
  for (const { body } of requester.waiting.values()) bytes -= body.batch.length;
  const room = { chunks: Math.max(0, config.limits.windowChunks - requester.waiting.size), bytes: Math.max(0, bytes) };
  return { kind: "sync.chunk-ack", ...scopeOf(turn), transfer: row.transfer, number: row.number, cursor: row.cursor, ...room };
}

/** Whether this is of the transfer that runs; its provider is alive then. */
export function isOurs(turn: Turn, from: NodeId, transfer: Uint8Array): boolean {
  const { requester } = turn.state;
  if (requester.transfer === null || requester.provider !== from || !equalBytes(requester.transfer, transfer)) return false;
  arm(turn, "x.patience", timingOf(turn).patienceMs);
  return true;
}

export function onKeep(turn: Turn): void {
  const { provider, transfer } = turn.state.requester;
  if (provider === null || transfer === null) return;
  send(turn, provider, { kind: "sync.keepalive", ...scopeOf(turn), transfer }, { what: "keepalive" });
  arm(turn, "x.keep", timingOf(turn).keepaliveMs);
}

/** The flag that was set for a wish is gone, and the store is what it was. */
export function onWithdrawn(turn: Turn): void {
  const { state, snap } = turn;
  const { requester } = state;
  requester.flag = null;
  requester.isForced = false;
  requester.durable = null;
  requester.cursor = null;
  state.synced = historyIn(snap).last;
  if (requester.phase === "probing") probe(turn);
}

/** No vote, no lead, no read, no provider: while keys may be missing or mixed, and while it is not known. */
export const abstains = ({ flag }: Requester): boolean => flag !== null && !mutant("sync.serve-flagged");
