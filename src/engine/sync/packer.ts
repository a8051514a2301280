/**
 * Packs chunks of the key space (Table A step 10, sync.md section 4.5): from a snapshot and a key, the rows that follow as
 * one encoded batch with the cover it stands for. Bounded in bytes and keys, or one larger row; sizes are summed while
 * packing, each row is read and copied once. Each row keeps the version that wrote it. Never looks beyond one chunk.
 */
import { compareBytes } from "../base/bytes.ts";
import type { Op } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { mutant } from "../base/mutant.ts";
import { decodeBatch, encodeBatch, encodedOpBytes } from "../store/batch.ts";
import type { StoreSnapshot } from "../store/types.ts";
import { payloadOf, wroteAtOf } from "../store/value.ts";

export type ChunkLimits = { readonly chunkBytes: number; readonly chunkKeys: number };
/** `hi` is the first key that is not in it; null where none is left. */
export type Packed = { readonly batch: Uint8Array; readonly hi: Uint8Array | null; readonly keyCount: number };

/** `onRow` is shown each packed row in stored form, lent until it returns. */
export function pack(view: StoreSnapshot, lo: Uint8Array, limits: ChunkLimits, onRow: (key: Uint8Array, stored: Uint8Array) => void): Packed {
  const ops: Op[] = [];
  let bytes = 0;
  let hi: Uint8Array | null = null;
  for (const [key, stored] of view.peekStored(lo, undefined, { limit: limits.chunkKeys + 1 })) {
    const op: Op = { op: "put", key, value: payloadOf(stored), wroteAt: wroteAtOf(stored) };
    bytes += encodedOpBytes(op);
    if (ops.length > 0 && (ops.length === limits.chunkKeys || bytes > limits.chunkBytes)) {
      hi = key;
      break;
    }
    ops.push(op);
    onRow(key, stored);
  }
  if (hi !== null && mutant("sync.cover-gap")) ops.pop();
  return { batch: encodeBatch(ops, null), hi, keyCount: ops.length };
}

/** The rows of a chunk. Throws FRAME_CORRUPT unless they are copied rows in key order within `[lo, hi)`. */
export function unpack(raw: Uint8Array, lo: Uint8Array, hi: Uint8Array | null): readonly Op[] {
  const { batch, prev } = decodeBatch(raw);
  if (prev !== null) throw new EngineError("FRAME_CORRUPT", "a chunk follows no batch");
  let before: Uint8Array | null = null;
  for (const op of batch) {
    if (op.op !== "put" || op.wroteAt === undefined) throw new EngineError("FRAME_CORRUPT", `a chunk holds copied rows, not ${op.op}`);
    const fits = before === null ? compareBytes(op.key, lo) >= 0 : compareBytes(op.key, before) > 0;
    if (!fits || (hi !== null && compareBytes(op.key, hi) >= 0)) throw new EngineError("FRAME_CORRUPT", `key ${op.key.toHex()} lies outside its chunk`);
    before = op.key;
  }
  return batch;
}
