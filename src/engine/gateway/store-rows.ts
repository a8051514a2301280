/**
 * The replicated store of a running node, row by row and without its values, for a comparison from afar (sync.md, table B
 * row 5): one snapshot, `[from, to)`, each row with the version that wrote it and its checksum, which says as much as the
 * bytes. A second path tells which keys versions touched, so that two nodes can be compared at the version that both have.
 */
import { fromHex } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { decodeBatch } from "../store/batch.ts";
import type { StoreSnapshot } from "../store/types.ts";
import { checksumOf, payloadOf, STORED_HEADER_BYTES, wroteAtOf } from "../store/value.ts";
import { batchOf, historyOf, lastOp, versionOps } from "../store/versions.ts";
import { type HttpAnswer, type HttpRequest, jsonAnswer, NO_STORE, splitTarget } from "./http-types.ts";
import { errorLine, jsonLine } from "./kv-line.ts";

export const ROWS_PATH = "/store/rows";
export const TOUCHED_PATH = "/store/touched";

export type PinnedStore = {
  /** Until `close`: versions that are applied here are kept by it. Throws NOT_READY, LOG_BUSY where too many are open. */
  pin(): { readonly rows: StoreSnapshot; close(): void };
  /** Resolves when a version behind this one is applied, when the time is over, or when it is aborted. */
  moved(behind: number, withinMs: number, signal: AbortSignal): Promise<void>;
};

/** Rows of one piece of the answer. */
const PAGE_ROWS = 1_000;
/** A node that has not come to a version by then is told to be behind. */
const WAIT_MS_MAX = 30_000;
/** Versions between two nodes that are compared. */
const TOUCHED_VERSIONS_MAX = 10_000;
const TOUCHED_KEYS_MAX = 100_000;

export async function answerRows(request: HttpRequest, store: PinnedStore): Promise<HttpAnswer> {
  const { query } = splitTarget(request.target);
  const bounds = { from: keyOf(query, "from"), to: keyOf(query, "to") };
  const at = numberOf(query, "at") ?? 0;
  const waitMs = Math.min(numberOf(query, "wait") ?? 0, WAIT_MS_MAX);
  await store.moved(at - 1, waitMs, request.signal);
  const lines = rowLines(store, { ...bounds, at, hasValues: query.get("values") === "1" });
  return { status: 200, headers: { ...NO_STORE, "content-type": "application/jsonl" }, body: new Uint8Array(0), stream: lines };
}

type Wanted = { readonly from: Uint8Array | undefined; readonly to: Uint8Array | undefined; readonly at: number; readonly hasValues: boolean };

/** The version first, then the rows, then how many there were: without that line the answer is not whole. */
async function* rowLines(store: PinnedStore, { from, to, at, hasValues }: Wanted): AsyncGenerator<Uint8Array> {
  try {
    const pinned = store.pin();
    try {
      const { first, last } = historyOf(pinned.rows);
      if (last < at) throw new EngineError("NOT_READY", `version ${at} is asked for, this node has applied ${last}`);
      yield jsonLine({ first, last });
      let count = 0;
      let page = "";
      for (const [key, stored] of pinned.rows.stored(from, to)) {
        const row = { key: key.toHex(), wroteAt: wroteAtOf(stored), checksum: checksumOf(stored).toHex(), bytes: stored.length - STORED_HEADER_BYTES };
        page += `${JSON.stringify(hasValues ? { ...row, value: payloadOf(stored).toHex() } : row)}\n`;
        if (++count % PAGE_ROWS > 0 && page.length < 1_048_576) continue;
        yield new TextEncoder().encode(page);
        page = "";
      }
      yield new TextEncoder().encode(page);
      yield jsonLine({ end: count });
    } finally {
      pinned.close();
    }
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    yield errorLine(error);
  }
}

/** Keys and ranges that the versions `(after, upTo]` wrote or removed, their own rows included. */
export function answerTouched(request: HttpRequest, store: PinnedStore): HttpAnswer {
  const { query } = splitTarget(request.target);
  const pinned = store.pin();
  try {
    const { keys, ranges } = touched(pinned.rows, numberOf(query, "after") ?? 0, numberOf(query, "upTo") ?? 0);
    return jsonAnswer(200, { keys: keys.map((key) => key.toHex()), ranges: ranges.map(([low, high]) => [low.toHex(), high.toHex()]) });
  } finally {
    pinned.close();
  }
}

export type Touched = { readonly keys: readonly Uint8Array[]; readonly ranges: readonly (readonly [from: Uint8Array, to: Uint8Array])[] };

/** Throws SYNC_TRIMMED where those versions are gone. */
export function touched(rows: StoreSnapshot, after: number, upTo: number): Touched {
  const { first } = historyOf(rows);
  if (after < upTo && after + 1 < first) throw new EngineError("SYNC_TRIMMED", `versions behind ${after} are asked for, the first one kept is ${first}`);
  if (upTo - after > TOUCHED_VERSIONS_MAX) throw new EngineError("USAGE", `versions ${after} to ${upTo}: more than ${TOUCHED_VERSIONS_MAX}`);
  const keys: Uint8Array[] = [];
  const ranges: (readonly [Uint8Array, Uint8Array])[] = [];
  for (let version = after + 1; version <= upTo; version++) {
    const raw = batchOf(rows, version);
    if (raw === undefined) throw new EngineError("STORE_CORRUPT", `version ${version} is missing`);
    for (const op of [...versionOps(version, raw, decodeBatch(raw).batch), lastOp(version)])
      if (op.op === "delRange") ranges.push([op.key, op.end]);
      else keys.push(op.key);
    if (keys.length > TOUCHED_KEYS_MAX) throw new EngineError("USAGE", `versions ${after} to ${upTo} touch more than ${TOUCHED_KEYS_MAX} keys`);
  }
  return { keys, ranges };
}

function keyOf(query: URLSearchParams, name: string): Uint8Array | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const key = fromHex(text);
  if (key === null) throw new EngineError("USAGE", `${name} is ${JSON.stringify(text)}: want lower-case hex`);
  return key;
}

function numberOf(query: URLSearchParams, name: string): number | null {
  const text = query.get(name);
  if (text === null) return null;
  if (!/^[0-9]{1,15}$/.test(text)) throw new EngineError("USAGE", `${name} is ${JSON.stringify(text)}: want a whole number`);
  return Number(text);
}
