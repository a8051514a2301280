/**
 * Watching keys (sync.md 3.8): every change after a version, in the order in which it was decided, as this node applies it.
 * The service's history says which versions touched which keys, the batches of those versions say what became of them: a
 * watcher sees each value, not only the newest. It holds one page at a time and asks for the next when its client took that,
 * so one that is too slow for the trimming is told `SYNC_TRIMMED`, and never costs memory. It reads applied state alone.
 */
import { concatBytes, utf8 } from "../base/bytes.ts";
import type { Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { historyNames, historyVersion } from "../paxos/services.ts";
import { decodeBatch } from "../store/batch.ts";
import { replicatedKeys } from "../store/keys.ts";
import { batchOf, historyIn, replicatedOf, storedNumber } from "../store/versions.ts";
import { errorLine, type KvLine, kvLine } from "./kv-line.ts";

/** The applied state of a node's replica, as a watcher reads it. */
export type AppliedStore = {
  /** Throws NOT_READY while the store is being replaced, or the node is stopping. */
  read<T>(work: (snap: Snapshot) => T): T;
  /** Resolves when a version behind this one is applied, when the time is over, or when it is aborted. */
  moved(behind: number, withinMs: number, signal: AbortSignal): Promise<void>;
};

export type Watch = { readonly prefix: Uint8Array /** Changes behind this version are told. */; readonly after: number };
export type Page = { readonly changes: readonly KvLine[] /** Everything up to here was told. */; readonly upTo: number; readonly more: boolean };

/** A page ends behind the version that reaches either. */
const PAGE_BYTES = 256 * 1_024;
const PAGE_VERSIONS = 1_024;
/** A line that says how far everything was told, where nothing happens: shorter than any deadline of a connection. */
const KEEPALIVE_MS = 5_000;

const KV = "kv";
const KEY_PREFIX = replicatedKeys.kv(new Uint8Array(0));

/** Throws SYNC_TRIMMED where versions behind `after` are gone. */
export function changesAfter(snap: Snapshot, { prefix, after }: Watch): Page {
  const { first, last } = historyIn(snap);
  if (after + 1 < first) throw new EngineError("SYNC_TRIMMED", `changes behind version ${after} are asked for, the first version kept is ${first}`);
  const rows = replicatedOf(snap);
  const wanted = concatBytes(KEY_PREFIX, prefix);
  const changes: KvLine[] = [];
  let bytes = 0;
  let versions = 0;
  const newest = storedNumber(rows.get(replicatedKeys.serviceLast(KV))) ?? 0;
  for (let n = firstBehind(snap, after, newest); n <= newest; n++) {
    const row = historyRow(snap, n);
    const version = historyVersion(row);
    if (bytes >= PAGE_BYTES || versions >= PAGE_VERSIONS) return { changes, upTo: version - 1, more: true };
    versions++;
    if (!historyNames(row).some((name) => begins(name, prefix))) continue;
    const batch = batchOf(rows, version);
    if (batch === undefined) throw new EngineError("STORE_CORRUPT", `versions ${first} to ${last} are held, ${version} is missing`);
    bytes += batch.length;
    for (const op of decodeBatch(batch).batch)
      if (op.op !== "delRange" && begins(op.key, wanted))
        changes.push({ key: op.key.slice(KEY_PREFIX.length), version, value: op.op === "put" ? op.value : null });
  }
  return { changes, upTo: Math.max(after, last), more: false };
}

/** Number of the first history row about a version behind this one: rows ascend in both. */
function firstBehind(snap: Snapshot, after: number, newest: number): number {
  let low = storedNumber(snap.get("replicated", replicatedKeys.serviceFirst(KV))) ?? 1;
  for (let high = newest + 1; low < high; ) {
    const middle = Math.floor((low + high) / 2);
    if (historyVersion(historyRow(snap, middle)) > after) high = middle;
    else low = middle + 1;
  }
  return low;
}

function historyRow(snap: Snapshot, n: number): Uint8Array {
  const row = snap.get("replicated", replicatedKeys.history(KV, n));
  if (row === undefined) throw new EngineError("STORE_CORRUPT", `row ${n} of the history of ${KV} is missing`);
  return row;
}

const begins = (key: Uint8Array, head: Uint8Array): boolean => key.length >= head.length && head.every((byte, at) => key[at] === byte);

/** The first page was read before the answer began: what refuses it is the answer's status. Later it is the last line. */
export async function* watchLines(store: AppliedStore, watch: Watch, first: Page, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (let page = first; ; ) {
    yield utf8(page.changes.map(kvLine).join("") + progress(page.upTo));
    if (!page.more) await store.moved(page.upTo, KEEPALIVE_MS, signal);
    if (signal.aborted) return;
    try {
      page = store.read((snap) => changesAfter(snap, { ...watch, after: page.upTo }));
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      yield errorLine(error);
      return;
    }
  }
}

const progress = (upTo: number): string => `${JSON.stringify({ upTo })}\n`;
