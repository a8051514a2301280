/**
 * What a sync keeps on disk (sync.md sections 4.2 and 4.5), rows of `local` under `sync/`: the flag, the floor and the
 * cursor; and how one version is replayed over a copy. The replicated history itself is read by `store/versions.ts`.
 */
import { equalBytes, u64be } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { Hash } from "../base/ids.ts";
import { decodeBatch, type EncodedBatch } from "../store/batch.ts";
import { localKeys } from "../store/keys.ts";
import { lastOp, storedNumber, versionOps, ZERO_HASH } from "../store/versions.ts";
import { bytes, fixed, flag, type Infer, nullable, text, u53 } from "../wire/codec.ts";
import { record } from "../wire/record.ts";

const flagFields = {
  provider: text(32),
  transfer: fixed(8),
  /** An operator's wish, not distance: this store may be one of the copies that made a version chosen. */
  isForced: flag,
  /** Written by the commit that cleared, or before the first difference is taken: before it the store is whole. */
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
  /** Nothing was cleared: rows from `cursor` on are what they were. Of no use to a copy that goes on: it walks again. */
  isDelta: flag,
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
  floor: (snap: Snapshot): number => storedNumber(snap.get("local", localKeys.syncFloor())) ?? 0,
  putFloor: (floor: number): Op => ({ op: "put", key: localKeys.syncFloor(), value: u64be(floor) }),
  cursor(snap: Snapshot): CursorRow | null {
    const raw = snap.get("local", localKeys.syncCursor());
    if (raw === undefined) return null;
    const row = cursorRecord.decode(raw);
    return { ...row, cursor: row.cursor?.slice() ?? null };
  },
  putCursor: (row: CursorRow): Op => ({ op: "put", key: localKeys.syncCursor(), value: cursorRecord.encode(row) }),
  dropCursor: (): Op => ({ op: "del", key: localKeys.syncCursor() }),
} as const;

/** Whether this disk must not vote, lead, serve or provide. */
export const isFlagged = (snap: Snapshot): boolean => syncRows.flag(snap) !== null;

/** A digest over parts, as one: what runs over chunks, and what names of transfers are made of. */
export function chainHash(...parts: readonly Uint8Array[]): Hash {
  const hasher = new Bun.CryptoHasher("sha256");
  for (const part of parts) hasher.update(part);
  return new Uint8Array(hasher.digest());
}

/** Throws PAXOS_FORK unless the batch is the one that follows a version of this hash. */
export function decodeNext(raw: Uint8Array, version: number, hashBefore: Hash): EncodedBatch {
  const decoded = decodeBatch(raw);
  const prev = decoded.prev ?? ZERO_HASH;
  if (!equalBytes(prev, hashBefore))
    throw new EngineError(
      "PAXOS_FORK",
      `version ${version} follows ${prev.toHex().slice(0, 16)}, the one before it here is ${hashBefore.toHex().slice(0, 16)}`,
    );
  return decoded;
}

/** All that replaying one version writes. */
export const applyOps = (version: number, raw: Uint8Array, { batch }: EncodedBatch): Op[] => [...versionOps(version, raw, batch), lastOp(version)];
