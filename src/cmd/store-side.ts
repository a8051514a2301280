/**
 * One side of `store diff`: a node's folder, read from its databases, or a running node, read over its admin port. Either
 * gives rows in key order as of one moment, and the keys that versions behind an earlier one touched, so that sides which
 * stand at two versions can be compared at the one that both have. Not a command itself.
 */
import { fromHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { ROWS_PATH, TOUCHED_PATH, type Touched, touched } from "../engine/gateway/store-rows.ts";
import { checksumOf, payloadOf, STORED_HEADER_BYTES, wroteAtOf } from "../engine/store/value.ts";
import { historyOf } from "../engine/store/versions.ts";
import { askNode, type ClientNode } from "./cluster.ts";
import type { Fields } from "./http-answer.ts";
import { streamLines } from "./line-stream.ts";
import { type Bounds, type OpenDatabase, readOr } from "./store-open.ts";

export type SideRow = {
  readonly key: Uint8Array;
  readonly wroteAt: number;
  /** Covers the value, seeded by key and version. */
  readonly checksum: Uint8Array;
  readonly valueBytes: number;
  /** The value in its stored form, where it is here. */
  readonly stored: Uint8Array | null;
  /** Null where it was not asked for. */
  readonly value: Uint8Array | null;
};

export type Side = {
  readonly name: string;
  /** The newest version that the rows show; null in a database without versions. */
  readonly last: number | null;
  rows(): AsyncIterable<SideRow>;
  /** Keys that versions `(after, last]` touched. */
  touchedBehind(after: number): Promise<Touched>;
};

/** Beside what the node itself waits until it has come to a version. */
const ANSWER_MS = 1_000;
/** An interrupt ends the whole command. */
const NEVER = new AbortController().signal;

export type SideOptions = { readonly bounds: Bounds; readonly hasValues: boolean };

export function folderSide(dir: string, { db, file, snapshot }: OpenDatabase, { bounds, hasValues }: SideOptions): Side {
  const last = db === "replicated" ? readOr(file, () => historyOf(snapshot).last) : null;
  async function* rows(): AsyncGenerator<SideRow> {
    const stored = snapshot.stored(bounds.from, bounds.to)[Symbol.iterator]();
    try {
      for (let next = readOr(file, () => stored.next()); next.done !== true; next = readOr(file, () => stored.next())) {
        const [key, value] = next.value;
        const valueBytes = value.length - STORED_HEADER_BYTES;
        yield { key, wroteAt: wroteAtOf(value), checksum: checksumOf(value), valueBytes, stored: value, value: hasValues ? payloadOf(value) : null };
      }
    } finally {
      stored.return?.();
    }
  }
  return { name: dir, last, rows, touchedBehind: async (after) => readOr(file, () => touched(snapshot, after, last ?? 0)) };
}

export type LiveOptions = SideOptions & {
  /** The node must have come so far. */ readonly at: number;
  readonly timeoutMs: number;
};

/** Its version is known with the first line, so the answer begins here. */
export async function liveSide(node: ClientNode, { bounds, hasValues, at, timeoutMs }: LiveOptions): Promise<Side> {
  const query = new URLSearchParams({ at: String(at), wait: String(timeoutMs), values: hasValues ? "1" : "0" });
  for (const bound of ["from", "to"] as const) {
    const key = bounds[bound];
    if (key !== undefined) query.set(bound, key.toHex());
  }
  const lines = streamLines(node, { path: `${ROWS_PATH}?${query}`, timeoutMs: timeoutMs + ANSWER_MS, signal: NEVER });
  const head = (await lines.next()).value;
  const last = Number(head?.["last"]);
  if (!Number.isSafeInteger(last)) throw brokenOff(node);
  async function* rows(): AsyncGenerator<SideRow> {
    let count = 0;
    for await (const line of lines) {
      if (line["end"] === count) return;
      yield rowOf(node, line);
      count++;
    }
    throw brokenOff(node);
  }
  return { name: node.id, last, rows, touchedBehind: (after) => askTouched(node, after, last, timeoutMs) };
}

const brokenOff = (node: ClientNode): EngineError => new EngineError("UNAVAILABLE", `${node.id} at ${node.admin}: the rows broke off`);

function rowOf(node: ClientNode, { key, wroteAt, checksum, bytes, value }: Fields): SideRow {
  const [keyBytes, sum] = [fromHex(String(key)), fromHex(String(checksum))];
  const shown = value === undefined ? null : fromHex(String(value));
  if (keyBytes === null || sum === null || !Number.isSafeInteger(wroteAt) || !Number.isSafeInteger(bytes))
    throw new EngineError("FRAME_CORRUPT", `${node.id} at ${node.admin}: a line that is no row`);
  return { key: keyBytes, wroteAt: Number(wroteAt), checksum: sum, valueBytes: Number(bytes), stored: null, value: shown };
}

async function askTouched(node: ClientNode, after: number, upTo: number, timeoutMs: number): Promise<Touched> {
  const { keys, ranges } = await askNode(node, `${TOUCHED_PATH}?after=${after}&upTo=${upTo}`, timeoutMs);
  const bytesOf = (text: unknown): Uint8Array => {
    const key = fromHex(String(text));
    if (key === null) throw new EngineError("FRAME_CORRUPT", `${node.id} at ${node.admin}: ${JSON.stringify(text)} is no key`);
    return key;
  };
  if (!Array.isArray(keys) || !Array.isArray(ranges)) throw new EngineError("FRAME_CORRUPT", `${node.id} at ${node.admin}: no list of keys`);
  return { keys: keys.map(bytesOf), ranges: ranges.map((range: readonly unknown[]) => [bytesOf(range[0]), bytesOf(range[1])] as const) };
}
