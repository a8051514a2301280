/**
 * The provider of a delta copy (sync.md section 4.5): digests its snapshot once, in steps, and answers what the requester asks of
 * the tree and of rows, a megabyte at a time and no faster than its rate allows. It keeps one question, and nothing of the
 * walk: that is the requester's.
 */
import { answer, arm, mark } from "../base/effect-list.ts";
import type { Op } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { encodeBatch, encodedOpBytes } from "../store/batch.ts";
import { type DigestNode, findNode, finishDigest, itemDigest, rowsBetween } from "../store/digest.ts";
import { payloadOf, wroteAtOf } from "../store/value.ts";
import type { AnswerOf, RequestOf } from "../wire/messages.ts";
import { ITEM_BYTES, RANGE_BELOW_MAX } from "../wire/sync-messages.ts";
import { abort, adjustRate, isViewOld, takeView, timerOf } from "./provider.ts";
import { spend, waitMs } from "./rate.ts";
import { scanOn } from "./scan.ts";
import { MIB, scopeOf, type Transfer, type Turn, timingOf } from "./state.ts";

export type RangeAsk = RequestOf<"sync.range-req"> | RequestOf<"sync.range-want">;
type Groups = AnswerOf<"sync.range-digests">["groups"];

/** Digests in one answer; and rows read for it, whose values may be large. */
const ANSWER_BYTES_MAX = MIB;
const READ_BYTES_MAX = 8 * MIB;
const NODE_BYTES = 24;

export function onTreeScan(turn: Turn, transfer: Transfer): void {
  const { treeScan } = transfer;
  if (treeScan === null) return;
  if (!scanOn(turn, treeScan)) {
    arm(turn, timerOf(transfer, "tree"), 0);
    return;
  }
  transfer.tree = finishDigest(treeScan.build);
  transfer.treeScan = null;
  replyRange(turn, transfer);
}

export function onRangeAsk(turn: Turn, id: number, from: NodeId, body: RangeAsk): void {
  const transfer = turn.state.transfers.get(body.transfer.toHex());
  if (transfer === undefined || transfer.requester !== from || !transfer.isDelta || transfer.phase !== "streaming") {
    mark(turn, "sync.no-transfer", `${from} asks in a transfer that is over`);
    answer(turn, id, { kind: "sync.no-transfer", ...scopeOf(turn), transfer: body.transfer });
    return;
  }
  arm(turn, timerOf(transfer, "expire"), timingOf(turn).expireMs);
  if (body.version !== transfer.version) mark(turn, "sync.late-range", `${from} asks about ${body.version}, the snapshot is ${transfer.version}`);
  else if (isViewOld(turn, transfer)) {
    mark(turn, "sync.snapshot-old", `snapshot ${transfer.version} is too old`);
    takeView(turn, transfer);
  } else {
    transfer.question = { id, body }; // of a question asked again, the last one
    replyRange(turn, transfer);
  }
}

/** When the tree is there and the rate allows. */
export function replyRange(turn: Turn, transfer: Transfer): void {
  const { tree, view, question } = transfer;
  if (tree === null || view === null || question === null || transfer.phase !== "streaming") return;
  adjustRate(turn);
  const pauseMs = waitMs(turn.state.rate, turn.upMs);
  if (pauseMs > 0) {
    transfer.limitedBy = "rate";
    arm(turn, timerOf(transfer, "pack"), pauseMs);
    return;
  }
  transfer.question = null;
  transfer.limitedBy = "window";
  const { id, body } = question;
  const about = { ...scopeOf(turn), transfer: transfer.id, version: transfer.version };
  if (body.kind === "sync.range-want") {
    const batch = rowsOf(turn, transfer, tree, body.runs);
    if (batch === null) return;
    account(turn, transfer, batch.length);
    answer(turn, id, { kind: "sync.range-rows", ...about, batch });
    return;
  }
  const groups = body.ends.length === 0 ? rootOf(tree) : below(turn, transfer, tree, body);
  if (groups === null) return;
  account(turn, transfer, bytesOf(groups));
  const level = body.ends.length === 0 ? tree.level : Math.max(0, body.level - 1);
  answer(turn, id, { kind: "sync.range-digests", ...about, level, groups });
}

function account(turn: Turn, transfer: Transfer, bytes: number): void {
  transfer.sentBytes += bytes;
  spend(turn.state.rate, bytes);
}

const rootOf = ({ end, digest }: DigestNode): Groups => [{ nodes: end === null ? [] : [{ end, digest }], items: new Uint8Array(0) }];

const bytesOf = (groups: Groups): number =>
  groups.reduce((sum, { nodes, items }) => sum + items.length + nodes.reduce((all, { end }) => all + end.length + NODE_BYTES, 0), 0);

/** Children of nodes, or digests of the rows of runs: of the first of them, as many as one answer holds. Null: the transfer is over. */
function below(turn: Turn, transfer: Transfer, tree: DigestNode, { level, ends }: RequestOf<"sync.range-req">): Groups | null {
  const groups: Groups[number][] = [];
  let bytes = 0;
  let readBytes = 0;
  for (const end of ends) {
    const found = findNode(tree, level, end);
    if (found === null || Math.max(found.node.children.length, level === 0 ? found.node.rowCount : 0) > RANGE_BELOW_MAX) {
      abort(turn, transfer, found === null ? "digest-mismatch" : "no-delta");
      return null;
    }
    const nodes = found.node.children.map((child) => ({ end: child.end ?? new Uint8Array(0), digest: child.digest }));
    const items = new Uint8Array(level === 0 ? found.node.rowCount * ITEM_BYTES : 0);
    if (level === 0) readBytes += listItems(turn, transfer, found.after, end, items);
    groups.push({ nodes, items });
    bytes += bytesOf(groups.slice(-1));
    if (bytes > ANSWER_BYTES_MAX || readBytes > READ_BYTES_MAX) break;
  }
  return groups;
}

/** The digests of a run's rows, and how much was read for them. */
function listItems({ ports }: Turn, { view, id }: Transfer, after: Uint8Array | null, end: Uint8Array, items: Uint8Array): number {
  let at = 0;
  let bytes = 0;
  if (view === null) return bytes;
  for (const [key, stored] of rowsBetween(ports.views.read(view), after, end)) {
    items.set(itemDigest(id, key, stored, ITEM_BYTES), at);
    at += ITEM_BYTES;
    bytes += stored.length;
  }
  return bytes;
}

/** The first of the rows wanted: one chunk's worth. Null: the transfer is over. */
function rowsOf(turn: Turn, transfer: Transfer, tree: DigestNode, runs: RequestOf<"sync.range-want">["runs"]): Uint8Array | null {
  const { chunkBytes, chunkKeys } = transfer.limits;
  const ops: Op[] = [];
  let bytes = 0;
  for (const { end, items } of runs) {
    const found = findNode(tree, 0, end);
    if (found === null || transfer.view === null) {
      abort(turn, transfer, "digest-mismatch");
      return null;
    }
    const wanted = new Set(items);
    const last = items.at(-1) ?? 0;
    let at = 0;
    for (const [key, stored] of rowsBetween(turn.ports.views.read(transfer.view), found.after, end)) {
      if (!wanted.has(at++)) continue;
      const op: Op = { op: "put", key, value: payloadOf(stored), wroteAt: wroteAtOf(stored) };
      bytes += encodedOpBytes(op);
      if (ops.length > 0 && (ops.length === chunkKeys || bytes > chunkBytes)) return encodeBatch(ops, null);
      ops.push(op);
      if (at > last) break;
    }
  }
  return encodeBatch(ops, null);
}
