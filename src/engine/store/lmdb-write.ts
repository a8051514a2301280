/**
 * A batch on its way into LMDB: encoded when it is asked for, applied when its transaction runs. LMDB's writer reads the
 * bytes from another thread, so they lie in one buffer that nobody else knows. Hot path: one allocation a batch.
 */
import { compareBytes } from "../base/bytes.ts";
import type { Batch } from "../base/effects.ts";
import { unreachable } from "../base/invariant.ts";
import type { Native } from "./lmdb-read.ts";
import { STORED_HEADER_BYTES, writeStored } from "./value.ts";

/** A batch in a buffer of its own: the caller may change what it passed. */
export type EncodedOps = {
  readonly ops: readonly Encoded[];
  readonly bytes: number;
  readonly hasRange: boolean;
  readonly hasPut: boolean;
};
type Encoded =
  | { readonly op: "put"; readonly key: Uint8Array; readonly stored: Uint8Array }
  | { readonly op: "del"; readonly key: Uint8Array }
  | { readonly op: "delRange"; readonly key: Uint8Array; readonly end: Uint8Array };

/** Keys removed at a time by a range deletion: bounds the list of them, not the range. */
const RANGE_KEYS_MAX = 10_000;

export function encodeOps(batch: Batch, wroteAt: number): EncodedOps {
  let bytes = 0;
  for (const op of batch) bytes += op.key.length + (op.op === "put" ? STORED_HEADER_BYTES + op.value.length : op.op === "delRange" ? op.end.length : 0);
  const buffer = new Uint8Array(bytes);
  let at = 0;
  const copy = (part: Uint8Array): Uint8Array => {
    buffer.set(part, at);
    at += part.length;
    return buffer.subarray(at - part.length, at);
  };
  let hasRange = false;
  const ops = batch.map((op): Encoded => {
    const key = copy(op.key);
    switch (op.op) {
      case "put": {
        const start = at;
        at = writeStored(buffer, start, key, op.value, op.wroteAt ?? wroteAt);
        return { op: "put", key, stored: buffer.subarray(start, at) };
      }
      case "del":
        return { op: "del", key };
      case "delRange":
        hasRange = true;
        return { op: "delRange", key, end: copy(op.end) };
      default:
        return unreachable(op);
    }
  });
  return { ops, bytes, hasRange, hasPut: ops.some(({ op }) => op === "put") };
}

/** Inside a transaction, or inside a list of operations that becomes one. A range must be inside a transaction. */
export function applyOp(db: Native, op: Encoded): void {
  switch (op.op) {
    case "put":
      void db.put(op.key, op.stored);
      return;
    case "del":
      void db.remove(op.key);
      return;
    case "delRange":
      deleteRange(db, op.key, op.end);
      return;
    default:
      unreachable(op);
  }
}

function deleteRange(db: Native, from: Uint8Array, to: Uint8Array): void {
  if (to.length === 0 || compareBytes(from, to) >= 0) return;
  const start = from.length === 0 ? Uint8Array.of(0) : from;
  if (isWithin(db, start, to)) {
    db.clearSync(); // page by page instead of key by key: a store is emptied before a copy
    return;
  }
  for (let full = true; full; ) {
    const keys = Array.from(db.getKeys({ start, end: to, limit: RANGE_KEYS_MAX }));
    for (const key of keys) void db.remove(key);
    full = keys.length === RANGE_KEYS_MAX;
  }
}

/** Whether a range holds every row that there is. */
function isWithin(db: Native, from: Uint8Array, to: Uint8Array): boolean {
  const [first] = db.getKeys({ start: Uint8Array.of(0), end: undefined, limit: 1 });
  const [last] = db.getKeys({ start: undefined, end: Uint8Array.of(0), reverse: true, inclusiveEnd: true, limit: 1 });
  return first !== undefined && last !== undefined && compareBytes(from, first) <= 0 && compareBytes(last, to) < 0;
}
