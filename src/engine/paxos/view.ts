/**
 * The replicated state at one version, as services and reads see it: the snapshot, and laid over it what is chosen and
 * not applied yet and, for the leader's own evaluation, what it has proposed. Read only; valid for one step.
 */
import { compareBytes, equalBytes, toHex } from "../base/bytes.ts";
import type { Entry, EntryIndex, KeyRange, Turn } from "./state.ts";

export type Found = { readonly value: Uint8Array /** The version that wrote it. */; readonly version: number };

export type View = {
  get(key: Uint8Array): Found | null;
  /** Rows of `[from, to)` in key order, at most `limit`. */
  range(from: Uint8Array, to: Uint8Array, limit: number): readonly (Found & { readonly key: Uint8Array })[];
};

/** A batch of fewer operations is searched, a larger one gets an index. */
const SEARCHED_COUNT_MAX = 8;

/** The state as of `version`: at most what this leader proposed, at least what is applied. */
export function viewAt(turn: Turn, version: number): View {
  const layers = layersOf(turn, version);
  const { snap } = turn;
  const get = (key: Uint8Array): Found | null => {
    const name = layers.length > 0 ? toHex(key) : "";
    for (const layer of layers) {
      const value = valueIn(layer, key, name);
      if (value !== undefined) return value === null ? null : { value, version: layer.version };
    }
    const row = snap.row("replicated", key);
    return row === undefined ? null : { value: row.value, version: row.wroteAt };
  };
  return { get, range: (from, to, limit) => rangeOf(turn, layers, get, from, to, limit) };
}

/** Entries above the applied state, newest first. */
function layersOf({ state }: Turn, version: number): Entry[] {
  const layers = state.unapplied.filter((entry) => entry.version <= version);
  for (let next = state.last + 1; next <= version; next++) {
    const entry = state.accepted.get(next);
    if (entry !== undefined) layers.push(entry);
  }
  return layers.reverse();
}

/** What a batch makes of a key: null where it deletes it, undefined where it does not touch it. The last operation counts. */
function valueIn(entry: Entry, key: Uint8Array, name: string): Uint8Array | null | undefined {
  const { ops } = entry;
  if (ops.length > SEARCHED_COUNT_MAX) {
    const { keys, ranges } = entry.index ?? indexed(entry);
    const value = keys.get(name);
    if (value !== undefined || ranges.length === 0) return value;
    return isWithin(ranges, key) ? null : undefined;
  }
  for (let at = ops.length - 1; at >= 0; at--) {
    const op = ops[at];
    if (op === undefined) continue;
    if (op.op === "delRange") {
      if (compareBytes(op.key, key) <= 0 && compareBytes(key, op.end) < 0) return null;
    } else if (equalBytes(op.key, key)) return op.op === "put" ? op.value : null;
  }
  return undefined;
}

function indexed(entry: Entry): EntryIndex {
  const keys = new Map<string, Uint8Array | null>();
  const ranges: KeyRange[] = [];
  for (const op of entry.ops) {
    if (op.op === "delRange") ranges.push({ from: op.key, end: op.end });
    else keys.set(toHex(op.key), op.op === "put" ? op.value : null);
  }
  entry.index = { keys, ranges };
  return entry.index;
}

/** Large batches with ranges are those of a trim: nothing in them is put into the ranges that they remove. */
function isWithin(ranges: readonly KeyRange[], key: Uint8Array): boolean {
  for (const { from, end } of ranges) if (compareBytes(from, key) <= 0 && compareBytes(key, end) < 0) return true;
  return false;
}

function rangeOf({ snap }: Turn, layers: readonly Entry[], get: View["get"], from: Uint8Array, to: Uint8Array, limit: number): ReturnType<View["range"]> {
  const touched = new Map<string, Uint8Array>();
  for (const { ops } of layers)
    for (const { op, key } of ops) if (op !== "delRange" && compareBytes(from, key) <= 0 && compareBytes(key, to) < 0) touched.set(toHex(key), key);
  const rows: (Found & { readonly key: Uint8Array })[] = [];
  // keys that layers deleted do not count against the limit
  for (const [key] of snap.range("replicated", from, to, { limit: limit + touched.size })) {
    if (!touched.has(toHex(key))) touched.set(toHex(key), key);
  }
  for (const key of [...touched.values()].sort(compareBytes)) {
    if (rows.length >= limit) break;
    const found = get(key);
    if (found !== null) rows.push({ key, ...found });
  }
  return rows;
}
