/**
 * The part of a copy that proves: it re-reads entries from this node's own disk, hashes them, holds them against the
 * order, folds them onto the right edge, and only then compares roots (merge.md sections 2 and 5). For a verify the
 * result is this secondary's word; for a head its cosignature; for a publish the head that this frontend serves.
 * Chunk by chunk: one commit a chunk, so that a million entries block nobody.
 */
import { equalBytes, fromUtf8, toHex } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { mutant } from "../base/mutant.ts";
import { tileOps } from "../log/append.ts";
import { type Checkpoint, openCheckpoint } from "../log/checkpoint.ts";
import { cosign } from "../log/cosignature.ts";
import { insertOps } from "../log/hash-index.ts";
import { edgeRoot } from "../log/merkle.ts";
import { LogReader } from "../log/reader.ts";
import { type AnswerOf, type RequestOf, refused } from "../wire/messages.ts";
import type { Head } from "./config.ts";
import { answer, commit, enter, firstDifference, type Proving, type ReceiverEffect, type ReceiverState, sizesOf, type Waiting } from "./copy-state.ts";
import { type Pair, putEdge, readEdge, rows } from "./records.ts";

/** Entries folded in one commit: enough to make its fsync cheap, few enough to answer others in between. */
const PROVE_COUNT_MAX = 8_192;
const PROVE_BYTES_MAX = 8 * 1_024 * 1_024;

// ------------------------------------------------------------------ backup.verify

export function onVerify(state: ReceiverState, from: Waiting, request: RequestOf<"backup.verify">, snap: Snapshot): ReceiverEffect[] {
  const sizes = sizesOf(state, snap);
  if (request.size > sizes.storedSize) return [answer(from.id, notStored(state, request.size, sizes.storedSize))];
  return begin(state, { id: from.id, size: request.size, root: request.root, asked: from });
}

/** The root is ours too: written down, then said. */
function verified(state: ReceiverState, from: Waiting, request: RequestOf<"backup.verify">, snap: Snapshot): ReceiverEffect[] {
  const { log } = state.config;
  const sizes = sizesOf(state, snap);
  const said = answer(from.id, { kind: "backup.verified", size: request.size, root: request.root });
  const fence = rows.fence(snap, log) ?? { epoch: state.config.epoch, primary: state.config.primary, pairs: [] };
  const pair: Pair = { number: request.number, k: request.k, secondaries: request.secondaries };
  const known = fence.pairs.some((each) => each.number === pair.number);
  const batch: Op[] = [];
  if (!known) batch.push(rows.putFence(log, { ...fence, pairs: [...fence.pairs, pair].slice(-8) }));
  if (request.size > sizes.verifiedSize) batch.push(rows.putCopy(log, { ...sizes, verifiedSize: request.size, verifiedRoot: request.root }));
  return batch.length === 0 ? [said] : [commit(state, batch), said];
}

// ------------------------------------------------------------------ backup.head

export function onHead(state: ReceiverState, from: Waiting, request: RequestOf<"backup.head">, snap: Snapshot): ReceiverEffect[] {
  const { config } = state;
  const head = openHead(state, request.checkpoint, request.epoch, from.timeMs);
  const sizes = sizesOf(state, snap);
  if (head.size > sizes.verifiedSize) {
    return [
      answer(
        from.id,
        refused("LOG_NOT_VERIFIED", `${config.self} verified ${sizes.verifiedSize}, the head's size is ${head.size}`, {
          size: sizes.verifiedSize,
          retry: true,
        }),
      ),
    ];
  }
  const no = objection(state, head, rows.cosigned(snap, config.log), snap);
  if (no !== null) return [{ kind: "mark", name: "backup.head-refused", text: no.text }, answer(from.id, no)];
  const line = cosign({
    name: `${config.origin}/${config.self}`,
    seed: config.cosignerSeed,
    note: fromUtf8(request.checkpoint),
    timeSeconds: Math.floor(from.timeMs / 1_000),
  });
  return [commit(state, [rows.putCosigned(config.log, head)]), answer(from.id, { kind: "backup.cosigned", line })];
}

// ------------------------------------------------------------------ dist.publish

export function onPublish(state: ReceiverState, from: Waiting, request: RequestOf<"dist.publish">, snap: Snapshot): ReceiverEffect[] {
  const head = openHead(state, request.checkpoint, request.epoch, from.timeMs);
  const sizes = sizesOf(state, snap);
  if (head.size > sizes.storedSize) return [{ kind: "mark", name: "dist.not-stored" }, answer(from.id, notStored(state, head.size, sizes.storedSize))];
  const published = rows.published(snap, state.config.log);
  const no = mutant("merge.frontend-skips-consistency") ? null : rolledBack(state, head, published);
  if (no !== null) return [{ kind: "mark", name: "dist.head-refused", text: no.text }, answer(from.id, no)];
  if (published !== null && published.size === head.size && equalBytes(published.note, request.checkpoint))
    return [answer(from.id, { kind: "dist.published", size: head.size })];
  return begin(state, { id: from.id, size: head.size, root: head.root, asked: from });
}

function serve(state: ReceiverState, from: Waiting, request: RequestOf<"dist.publish">, snap: Snapshot): ReceiverEffect[] {
  const { log } = state.config;
  const head = openHead(state, request.checkpoint, request.epoch, from.timeMs);
  const sizes = sizesOf(state, snap);
  const batch: Op[] = [rows.putPublished(log, head), rows.putHead(log, head)];
  if (state.config.self !== state.config.primary && head.size > sizes.verifiedSize)
    batch.push(rows.putCopy(log, { ...sizes, verifiedSize: head.size, verifiedRoot: head.root }));
  return [
    { kind: "mark", name: "dist.serves", text: `serves ${head.size}` },
    commit(state, batch),
    answer(from.id, { kind: "dist.published", size: head.size }),
  ];
}

// ------------------------------------------------------------------ proving a range

function begin(state: ReceiverState, proving: Proving): ReceiverEffect[] {
  enter(state, "verifying");
  state.proving = proving;
  return []; // the pump goes on with it
}

/** One chunk further, or the comparison at the end. */
export function prove(state: ReceiverState, proving: Proving, snap: Snapshot): ReceiverEffect[] {
  const { log } = state.config;
  const reader = new LogReader(snap, log);
  const edge = readEdge(snap, log);
  if (edge.size >= proving.size) return conclude(state, proving, edge.size === proving.size ? edgeRoot(edge) : reader.rootAt(proving.size), snap);
  const to = Math.min(proving.size, edge.size + PROVE_COUNT_MAX);
  const { hashes: got, to: end } = reader.entryHashes(edge.size, to, PROVE_BYTES_MAX);
  const want = reader.orderHashes(edge.size, end);
  const wrong = firstDifference(want, got);
  if (wrong !== null) {
    const index = edge.size + wrong;
    const mine = got.slice(wrong * 32, wrong * 32 + 32);
    const yours = want.slice(wrong * 32, wrong * 32 + 32);
    return finish(state, [
      answer(
        proving.id,
        refused("LOG_ENTRY_MISMATCH", `${state.config.self}: entry ${index} on disk hashes to ${toHex(mine)}, the order says ${toHex(yours)}`, {
          index,
          mine,
          yours,
        }),
      ),
    ]);
  }
  const tiles = tileOps(snap, log, edge, got);
  return [commit(state, [...tiles.ops, ...insertOps(snap, log, "i", got, edge.size), putEdge(log, tiles.edge)])];
}

function conclude(state: ReceiverState, proving: Proving, mine: Uint8Array, snap: Snapshot): ReceiverEffect[] {
  const { asked } = proving;
  const forgiving = mutant("merge.frontend-skips-consistency") && asked.body.kind === "dist.publish";
  if (!equalBytes(mine, proving.root) && !forgiving) {
    const text = `size ${proving.size}: ${state.config.self} computes root ${toHex(mine)}, ${asked.from} says ${toHex(proving.root)}`;
    return finish(state, [
      { kind: "mark", name: "copy.root-mismatch", text },
      answer(proving.id, refused("LOG_ROOT_MISMATCH", text, { size: proving.size, mine, yours: proving.root })),
    ]);
  }
  const effects =
    asked.body.kind === "backup.verify"
      ? verified(state, asked, asked.body, snap)
      : asked.body.kind === "dist.publish"
        ? serve(state, asked, asked.body, snap)
        : [];
  return finish(state, effects);
}

function finish(state: ReceiverState, effects: ReceiverEffect[]): ReceiverEffect[] {
  state.proving = null;
  enter(state, "following");
  return effects;
}

// ------------------------------------------------------------------ heads

/** Throws LOG_SIGNATURE or LOG_ENCODING: the pump answers with it. */
function openHead(state: ReceiverState, note: Uint8Array, epoch: number, timeMs: number): Head {
  const checkpoint: Checkpoint = openCheckpoint(note, { origin: state.config.origin, publicKey: state.config.logPublicKey });
  return { epoch, size: checkpoint.size, root: checkpoint.root, note: note.slice(), timeMs };
}

/** A head below the last one, or of the same size with another root, or with a root that is not our own. */
function objection(state: ReceiverState, head: Head, last: Head | null, snap: Snapshot): AnswerOf<"refused"> | null {
  const back = rolledBack(state, head, last);
  if (back !== null) return back;
  const mine = new LogReader(snap, state.config.log).rootAt(head.size);
  if (equalBytes(mine, head.root)) return null;
  return refused("LOG_ROOT_MISMATCH", `size ${head.size}: ${state.config.self} computes root ${toHex(mine)}, the head says ${toHex(head.root)}`, {
    size: head.size,
    mine,
    yours: head.root,
  });
}

function rolledBack(state: ReceiverState, head: Head, last: Head | null): AnswerOf<"refused"> | null {
  if (last === null || head.size > last.size) return null;
  if (head.size < last.size)
    return refused("LOG_HEAD_ROLLBACK", `${state.config.self} has a head of size ${last.size}, this one is of size ${head.size}`, { size: last.size });
  if (equalBytes(head.root, last.root)) return null;
  return refused("LOG_HEAD_FORK", `size ${head.size}: ${state.config.self} holds a head with root ${toHex(last.root)}, this one has ${toHex(head.root)}`, {
    size: head.size,
    mine: last.root,
    yours: head.root,
  });
}

function notStored(state: ReceiverState, size: number, storedSize: number): AnswerOf<"refused"> {
  return refused("LOG_ORDER_GAP", `${state.config.self} stored ${storedSize}, asked about ${size}`, { size: storedSize, retry: true });
}
