/**
 * The requester while it copies (seed 002 steps 11 to 13, sync.md section 4.2): chunks in the order of their numbers, each
 * checked against its cover and the running digest; rows and cursor become durable in one commit, and only then the chunk
 * is acknowledged. What waits while a commit runs shares the next one. Repeated, early and foreign chunks change nothing.
 */
import { equalBytes } from "../base/bytes.ts";
import { answer, mark } from "../base/effect-list.ts";
import type { Op } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import type { RequestOf } from "../wire/messages.ts";
import { abandon } from "./abandon.ts";
import { walkOn } from "./delta.ts";
import { afterCopy } from "./finish.ts";
import { unpack } from "./packer.ts";
import { count } from "./progress.ts";
import { type CursorRow, chainHash, syncRows } from "./records.ts";
import { begin, chunkAck, isOurs } from "./requester.ts";
import { MIB, scopeOf, type Turn, write } from "./state.ts";

/** Chunks that share one commit: an fsync of more holds up everybody else's. */
const GROUP_BYTES_MAX = 2 * MIB;

export function onChunk(turn: Turn, id: number, from: NodeId, body: RequestOf<"sync.chunk">): void {
  const { config, requester } = turn.state;
  if (!isOurs(turn, from, body.transfer) && !(mutant("sync.old-chunk-applied") && requester.phase === "copying")) {
    mark(turn, "sync.foreign-chunk", `chunk ${body.number} of another transfer`);
    answer(turn, id, { kind: "sync.no-transfer", ...scopeOf(turn), transfer: body.transfer });
    return;
  }
  const { durable, cursor } = requester;
  if (durable === null || cursor === null || requester.phase === "clearing") {
    mark(turn, "sync.chunk-early", `chunk ${body.number} before the copy began`);
    return;
  }
  if (body.number <= cursor.number || requester.waiting.has(body.number)) {
    mark(turn, "sync.chunk-again", `chunk ${body.number} again, ${durable.number} durable`);
    answer(turn, id, chunkAck(turn, durable));
    return;
  }
  if (requester.phase !== "copying" || body.number > cursor.number + config.limits.windowChunks) {
    mark(turn, "sync.chunk-ahead", `chunk ${body.number}, ${cursor.number} came before`);
    return;
  }
  requester.waiting.set(body.number, { id, body });
  copyNext(turn);
}

/** The chunks that follow each other, up to one commit's worth. */
export function copyNext(turn: Turn): void {
  const { requester } = turn.state;
  if (requester.awaited !== 0 || requester.phase !== "copying") return;
  let row = requester.cursor;
  const ops: Op[] = [];
  const acks: { readonly id: number; readonly row: CursorRow }[] = [];
  for (let bytes = 0; row !== null && bytes < GROUP_BYTES_MAX; ) {
    const next = requester.waiting.get(row.number + 1);
    if (next === undefined) break;
    const taken = take(turn, row, next.body, ops);
    if (taken === null) return;
    requester.waiting.delete(next.body.number);
    bytes += next.body.batch.length;
    row = taken;
    acks.push({ id: next.id, row });
  }
  if (row === null || acks.length === 0) return;
  requester.cursor = row;
  if (mutant("sync.ack-before-commit")) for (const ack of acks.splice(0)) answer(turn, ack.id, chunkAck(turn, ack.row));
  write(turn, "copy", { db: "replicated", batch: ops, local: [syncRows.putCursor(row)] });
  for (const ack of acks) answer(turn, ack.id, chunkAck(turn, ack.row));
}

/** The cursor behind a chunk, its rows added to `ops`; null where it is wrong: then the transfer is over. */
function take(turn: Turn, row: CursorRow, body: RequestOf<"sync.chunk">, ops: Op[]): CursorRow | null {
  const digest = chainHash(row.digest, body.batch);
  const { progress } = turn.state.requester;
  const isForged = mutant("sync.old-chunk-applied");
  try {
    if (row.cursor === null || !equalBytes(row.cursor, body.lo)) throw new EngineError("FRAME_CORRUPT", "its cover does not begin where the copy stands");
    if (!equalBytes(digest, body.digest) && !isForged) throw new EngineError("FRAME_CORRUPT", "the digest over all chunks differs");
    if (body.last !== (body.hi === null)) throw new EngineError("FRAME_CORRUPT", "only the last chunk covers the rest");
    const rows = unpack(body.batch, body.lo, body.hi);
    for (const op of rows) ops.push(op);
    if (progress !== null) count(progress, rows.length, body.batch.length, turn.upMs);
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause;
    mark(turn, "sync.bad-chunk", `chunk ${body.number}: ${cause.message}`);
    abandon(turn, "digest-mismatch");
    return null;
  }
  if (body.last) turn.state.requester.root = body.root;
  return { ...row, number: body.number, digest, cursor: body.hi };
}

/** A commit of chunks, or of where the copy begins, is durable. */
export function onCopied(turn: Turn): void {
  const { requester } = turn.state;
  requester.durable = requester.cursor;
  requester.backoffMs = 0;
  if (requester.phase !== "copying") return;
  if (requester.cursor?.cursor === null) {
    afterCopy(turn);
    return;
  }
  begin(turn); // a newer snapshot that was told while this was on its way to disk
  if (requester.walk !== null) walkOn(turn);
  else copyNext(turn);
}
