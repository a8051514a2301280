/**
 * The replicated history as rows (architecture.md section 3): `paxos/<version>` encoded batches, each naming the hash of the one
 * before, and the range `[first, last]` that a store holds. What reading one is, and what applying one writes, is the same
 * whether Paxos or a sync does it. Decides nothing.
 */
import { readU64be, u64be } from "../base/bytes.ts";
import type { Batch, Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { Hash } from "../base/ids.ts";
import { replicatedKeys } from "./keys.ts";

/** Rows of `replicated`, of a step's snapshot or of one that outlives it. */
export type Reads = { get(key: Uint8Array): Uint8Array | undefined };
/** Committed versions held are `[first, last]`; none where last is below first. */
export type History = { readonly first: number; readonly last: number };

/** The chain's hash before the first version. */
export const ZERO_HASH: Hash = new Uint8Array(32);
/** In one answer, or a single larger version. */
const RECENT_BYTES_MAX = 1_024 * 1_024;

export const replicatedOf = (snap: Snapshot): Reads => ({ get: (key) => snap.get("replicated", key) });

/** Throws STORE_CORRUPT where a bound is no number. */
export const historyOf = (rows: Reads): History => ({
  first: storedNumber(rows.get(replicatedKeys.first())) ?? 1,
  last: storedNumber(rows.get(replicatedKeys.last())) ?? 0,
});
export const historyIn = (snap: Snapshot): History => historyOf(replicatedOf(snap));

/** The encoded batch of a version. */
export const batchOf = (rows: Reads, version: number): Uint8Array | undefined => rows.get(replicatedKeys.version(version));

/** The chain's hash of an encoded batch. */
export function hashOf(batch: Uint8Array): Hash {
  const hash = new Uint8Array(32);
  Bun.SHA256.hash(batch, hash);
  return hash;
}

/** The chain's hash at a version; null where it is not held. */
export function hashAt(rows: Reads, version: number): Hash | null {
  if (version === 0) return ZERO_HASH;
  const batch = batchOf(rows, version);
  return batch === undefined ? null : hashOf(batch);
}

/** Encoded batches of versions from one on, up to `last` or the first that is missing: so many, at most 1 MiB of them, or one. */
export function recentBatches(batchAt: (version: number) => Uint8Array | undefined, from: number, last: number, countMax: number): Uint8Array[] {
  const batches: Uint8Array[] = [];
  let bytes = 0;
  for (let version = from; version <= last && batches.length < countMax; version++) {
    const batch = batchAt(version);
    if (batch === undefined || (batches.length > 0 && bytes + batch.length > RECENT_BYTES_MAX)) break;
    bytes += batch.length;
    batches.push(batch);
  }
  return batches;
}

/**
 * What applying a version writes, less the new `last`: its operations and its own row, each kept with that version, as on every
 * other node. Operations are absolute, so doing it twice or over a newer copy is harmless.
 */
export function versionOps(version: number, encoded: Uint8Array, batch: Batch): Op[] {
  const ops: Op[] = batch.map((op) => (op.op === "put" ? { ...op, wroteAt: version } : op));
  ops.push({ op: "put", key: replicatedKeys.version(version), value: encoded, wroteAt: version });
  return ops;
}

export const lastOp = (version: number): Op => ({ op: "put", key: replicatedKeys.last(), value: u64be(version), wroteAt: version });

/** A stored number, null where there is none. Throws STORE_CORRUPT. */
export function storedNumber(raw: Uint8Array | undefined): number | null {
  if (raw === undefined) return null;
  const value = raw.length === 8 ? readU64be(raw) : null;
  if (value === null) throw new EngineError("STORE_CORRUPT", `a version of ${raw.length} bytes: ${raw.toHex().slice(0, 32)}`);
  return value;
}
