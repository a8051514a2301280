/**
 * What the queue handler finds at its start (merge.md section 3, "found / what happens"): LMDB is the truth, `logorder`
 * and `currentsize` are completed from it. A file that says more than LMDB, or another thing, belongs to another folder or
 * log: MERGE_FILE_FOREIGN, and nothing is overwritten.
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import type { FileChange, Snapshot } from "../base/effects.ts";
import { edgeRoot } from "../log/merkle.ts";
import { LogReader } from "../log/reader.ts";
import type { MergeConfig } from "./config.ts";
import { type CurrentSize, currentSizeFile, readCurrentSize } from "./files.ts";
import { ORDER_LINE_BYTES, orderFile, orderFileSize, orderLines, readOrderLine } from "./order-file.ts";
import type { QueueFailure } from "./queue-state.ts";
import { readEdge } from "./records.ts";

/** Lines appended by one write while `logorder` is completed. */
const REBUILD_COUNT = 8_192;
/** An append of one batch may be torn anywhere, so that so many lines at the end may be no lines. */
const TORN_COUNT_MAX = 8_192;

export type Recovery =
  /** `files` is the next write; it is asked again when that is stored, until there is nothing to do. */
  { readonly kind: "ok"; readonly files: readonly FileChange[]; readonly why: string } | ({ readonly kind: "failed" } & QueueFailure);

const foreign = (detail: string): Recovery => ({ kind: "failed", code: "MERGE_FILE_FOREIGN", detail });

export function recoverFiles(snap: Snapshot, config: MergeConfig, timeMs: number): Recovery {
  const edge = readEdge(snap, config.log);
  const reader = new LogReader(snap, config.log);
  const current = currentSizeAt(snap, config, timeMs);
  const found = readCurrentSize(snap, config);
  const wrong = found.kind === "foreign" ? foreign(found.why) : found.kind === "ok" ? wrongCurrentSize(found.value, current, reader, config) : null;
  if (wrong !== null) return wrong;
  const lines = goodLines(snap, config, edge.size, reader);
  if (typeof lines !== "number") return lines;
  if (lines < edge.size || orderFileSize(snap, config).torn > 0)
    return { kind: "ok", files: [orderAppend(config, reader, lines, edge.size)], why: `logorder had ${lines} whole lines of ${edge.size}` };
  if (found.kind === "ok" && found.value.size === edge.size && found.value.epoch === config.epoch) return { kind: "ok", files: [], why: "" };
  const why = found.kind === "ok" ? `currentsize was ${found.value.size} of epoch ${found.value.epoch}` : found.why;
  return { kind: "ok", files: [currentSizeFile(config, current)], why };
}

/** What `currentsize` has to say about the order in this snapshot. */
export function currentSizeAt(snap: Snapshot, config: MergeConfig, timeMs: number): CurrentSize {
  const edge = readEdge(snap, config.log);
  const hash = edge.size === 0 ? null : new LogReader(snap, config.log).hashAt(edge.size - 1);
  return { epoch: config.epoch, size: edge.size, last: hash === null ? null : { index: edge.size - 1, hash }, root: edgeRoot(edge), timeMs };
}

function wrongCurrentSize(found: CurrentSize, ours: CurrentSize, reader: LogReader, config: MergeConfig): Recovery | null {
  if (found.epoch > config.epoch)
    return { kind: "failed", code: "MERGE_FENCED", detail: `currentsize is of epoch ${found.epoch}, this primary's is ${config.epoch}` };
  if (found.size > ours.size) return foreign(`currentsize says ${found.size}, the order has ${ours.size} entries`);
  const { last } = found;
  const mine = last === null ? null : reader.hashAt(last.index);
  if (last !== null && (mine === null || !equalBytes(mine, last.hash)))
    return foreign(`currentsize ends with ${toHex(last.hash)} at index ${last.index}, the order has ${mine === null ? "nothing" : toHex(mine)} there`);
  if (found.size === ours.size && !equalBytes(found.root, ours.root))
    return foreign(`currentsize ${found.size} has root ${toHex(found.root)}, the order's is ${toHex(ours.root)}`);
  return null;
}

/** Number of lines at the start of `logorder` that are good as far as its last one tells; broken ones behind are torn. */
function goodLines(snap: Snapshot, config: MergeConfig, size: number, reader: LogReader): number | Recovery {
  const { count } = orderFileSize(snap, config);
  if (count > size) return foreign(`logorder has ${count} lines, the order ${size} entries`);
  for (let lines = count; lines > Math.max(0, count - TORN_COUNT_MAX); lines--) {
    const hash = readOrderLine(snap, config, lines - 1);
    if (hash === null) continue;
    const mine = reader.hashAt(lines - 1);
    if (mine !== null && equalBytes(mine, hash)) return lines;
    return foreign(`logorder line ${lines - 1} has ${toHex(hash)}, the order ${mine === null ? "nothing" : toHex(mine)}`);
  }
  return count > TORN_COUNT_MAX ? foreign(`the last ${TORN_COUNT_MAX} lines of logorder are no lines of this log`) : 0;
}

function orderAppend(config: MergeConfig, reader: LogReader, from: number, size: number): FileChange {
  const to = Math.min(size, from + REBUILD_COUNT);
  return { change: "append", file: orderFile(config), at: from * ORDER_LINE_BYTES, bytes: orderLines(from, reader.orderHashes(from, to)) };
}
