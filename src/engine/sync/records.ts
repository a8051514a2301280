/**
 * What a sync keeps on disk (sync.md sections 4.2 and 4.5), rows of `local` under `sync/`: the flag, the floor and the
 * cursor; and how the replicated history is read and applied: `paxos/<version>`, `paxos/first`, `paxos/last`. A version's
 * operations, its row and the new last are one list, each row kept with that version, as on every other node.
 */
import { equalBytes, readU64be, u64be } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { Hash } from "../base/ids.ts";
import { decodeBatch, type EncodedBatch } from "../store/batch.ts";
import { localKeys, replicatedKeys } from "../store/keys.ts";
import { bytes, fixed, flag, type Infer, nullable, text, u53 } from "../wire/codec.ts";
import { record } from "../wire/record.ts";

const flagFields = {
  provider: text(32),
  transfer: fixed(8),
  /** An operator's wish, not distance: this store may be one of the copies that made a version chosen. */
  isForced: flag,
  /** Written by the commit that cleared: before it the store is whole. */
  isCleared: flag,
};
const flagRecord = record("synchronizing", flagFields);
/** There is such a row: keys may be missing or mixed. The node does not vote, lead, serve or provide. */
export type FlagRow = Infer<typeof flagFields>;

const cursorFields = {
  transfer: fixed(8),
  /** The first snapshot of this copy, and the hash of its batch: replay starts behind it. */
  oldest: u53,
  oldestHash: fixed(32),
  /** The newest snapshot. */
  version: u53,
  /** Rows of keys below `cursor` are here; null: all of them. */
  cursor: nullable(bytes(1_024)),
  /** Chunks of this transfer that are here, and the digest that runs over them. */
  number: u53,
  digest: fixed(32),
  /** Versions up to `position` were replayed over the copy. Invariant: oldest ≤ position. */
  position: u53,
  positionHash: fixed(32),
};
const cursorRecord = record("sync cursor", cursorFields);
/** How far the copy is durable; written in the commit that stored what it covers. */
export type CursorRow = Infer<typeof cursorFields>;

export const syncRows = {
  flag(snap: Snapshot): FlagRow | null {
    const raw = snap.get("local", localKeys.synchronizing());
    return raw === undefined ? null : flagRecord.decode(raw);
  },
  putFlag: (row: FlagRow): Op => ({ op: "put", key: localKeys.synchronizing(), value: flagRecord.encode(row) }),
  dropFlag: (): Op => ({ op: "del", key: localKeys.synchronizing() }),
  floor: (snap: Snapshot): number => number(snap.get("local", localKeys.syncFloor())) ?? 0,
  putFloor: (floor: number): Op => ({ op: "put", key: localKeys.syncFloor(), value: u64be(floor) }),
  cursor(snap: Snapshot): CursorRow | null {
    const raw = snap.get("local", localKeys.syncCursor());
    if (raw === undefined) return null;
    const row = cursorRecord.decode(raw);
    return { ...row, cursor: row.cursor?.slice() ?? null };
  },
  putCursor: (row: CursorRow): Op => ({ op: "put", key: localKeys.syncCursor(), value: cursorRecord.encode(row) }),
  dropCursor: (): Op => ({ op: "del", key: localKeys.syncCursor() }),
  /** What was accepted up to `last` is part of the copy and decided. */
  dropAccepted: (last: number): Op => ({ op: "delRange", key: localKeys.accepted(0), end: localKeys.accepted(last + 1) }),
} as const;

/** Whether this disk must not vote, lead, serve or provide. */
export const isFlagged = (snap: Snapshot): boolean => syncRows.flag(snap) !== null;

/** Committed versions held are `[first, last]`; none where last is below first. */
export type History = { readonly first: number; readonly last: number };

type Reads = { get(key: Uint8Array): Uint8Array | undefined };

export const historyOf = (rows: Reads): History => ({
  first: number(rows.get(replicatedKeys.first())) ?? 1,
  last: number(rows.get(replicatedKeys.last())) ?? 0,
});
export const historyIn = (snap: Snapshot): History => historyOf(replicatedOf(snap));
export const replicatedOf = (snap: Snapshot): Reads => ({ get: (key) => snap.get("replicated", key) });

/** The encoded batch of a version. */
export const batchOf = (rows: Reads, version: number): Uint8Array | undefined => rows.get(replicatedKeys.version(version));

/** The chain's hash at a version: of its encoded batch. Zeros before the first. */
export function hashAt(rows: Reads, version: number): Hash | null {
  if (version === 0) return new Uint8Array(32);
  const raw = batchOf(rows, version);
  return raw === undefined ? null : chainHash(raw);
}

export function chainHash(...parts: readonly Uint8Array[]): Hash {
  const hash = new Uint8Array(32);
  if (parts.length === 1) Bun.SHA256.hash(parts[0] as Uint8Array, hash);
  else {
    const hasher = new Bun.CryptoHasher("sha256");
    for (const part of parts) hasher.update(part);
    hash.set(hasher.digest());
  }
  return hash;
}

/** Throws PAXOS_FORK unless the batch is the one that follows a version of this hash. */
export function decodeNext(raw: Uint8Array, version: number, hashBefore: Hash): EncodedBatch {
  const decoded = decodeBatch(raw);
  const prev = decoded.prev ?? new Uint8Array(32);
  if (!equalBytes(prev, hashBefore))
    throw new EngineError(
      "PAXOS_FORK",
      `version ${version} follows ${prev.toHex().slice(0, 16)}, the one before it here is ${hashBefore.toHex().slice(0, 16)}`,
    );
  return decoded;
}

/** All that applying one version writes: operations are absolute, so doing it twice or over a newer copy is harmless. */
export function applyOps(version: number, raw: Uint8Array, { batch }: EncodedBatch): Op[] {
  const ops: Op[] = batch.map((op) => (op.op === "put" ? { ...op, wroteAt: version } : op));
  ops.push({ op: "put", key: replicatedKeys.version(version), value: raw, wroteAt: version });
  ops.push({ op: "put", key: replicatedKeys.last(), value: u64be(version), wroteAt: version });
  return ops;
}

function number(raw: Uint8Array | undefined): number | null {
  if (raw === undefined) return null;
  const value = raw.length === 8 ? readU64be(raw) : null;
  if (value === null) throw new EngineError("STORE_CORRUPT", `a version of ${raw.length} bytes: ${raw.toHex().slice(0, 32)}`);
  return value;
}
