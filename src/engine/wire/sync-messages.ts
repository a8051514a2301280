/**
 * The messages of store synchronisation (sync.md section 4.1) as field tables, tags 60–79 and 160–179 of the one wire. X is
 * the requester, Y the provider. What is asked and what answers it: SYNC_REQ by SYNC_GRANT, HOLD_REQ and HOLD_RENEW by
 * HOLD_ACK, SYNC_START and CHUNK by CHUNK_ACK, RECENT_REQ by RECENT, VERIFY_REQ by VERIFY, RANGE_REQ by RANGE_DIGESTS,
 * RANGE_WANT by RANGE_ROWS, the rest by `sync.noted`; each of them by `sync.aborted` where it is refused, and by
 * `sync.no-transfer` where the transfer is not known.
 */
import { bytes, fixed, flag, list, nullable, struct, text, u8, u32, u53 } from "./codec.ts";

const KEY_BYTES_MAX = 1_024;
/** An encoded batch: store/batch.ts has the same cap. */
const BATCH_BYTES_MAX = 8 * 1_024 * 1_024;
/** Versions in one RECENT: at most 1 MiB of them, or one. */
export const SYNC_RECENT_COUNT_MAX = 1_024;
/** Top-level digests in one VERIFY: the root's children, or none where there are more. */
export const TOP_DIGESTS_MAX = 256;
const DIGEST_BYTES = 16;
/** Nodes of a digest tree that one question of a delta copy is about. */
export const RANGE_NODES_MAX = 256;
/** Children of a node, or rows of a run: 16 on average. A tree with more below one node is copied whole. */
export const RANGE_BELOW_MAX = 4_096;
/** Of one row, salted with the transfer. */
export const ITEM_BYTES = 8;
/** SYNC_REQ's `mode`. */
export const MODE_FULL = 0;
export const MODE_DELTA = 1;

/** As in `paxos-messages.ts`: which cluster, the sender's epoch, the birth of the sender's disk. */
const scope = { cluster: fixed(8), epoch: u53, birth: fixed(8) };
/** Random per grant: a message of another transfer is dropped with a mark. */
const transfer = fixed(8);
const hash = fixed(32);
const reason = text(32);
const key = bytes(KEY_BYTES_MAX);
/** Of one chunk, and of all chunks on their way. */
const limits = struct({ chunkBytes: u32, chunkKeys: u32, windowChunks: u32, windowBytes: u32 });

export const syncRequests = {
  /** `resume`: the oldest snapshot a copy was begun from, its chain hash, the newest, and the first key that is missing (null: none). */
  "sync.req": [
    60,
    { ...scope, mode: u8, last: u53, floor: u53, resume: nullable(struct({ oldest: u53, oldestHash: hash, version: u53, cursor: nullable(key) })), limits },
  ],
  "hold.req": [61, { ...scope, hold: fixed(8), lowest: u53, leaseMs: u32 }],
  "hold.renew": [62, { ...scope, hold: fixed(8), lowest: u53, leaseMs: u32, bytes: u53, ending: flag }],
  "hold.release": [63, { ...scope, hold: fixed(8), reason }],
  /** `keys` and `bytes` are estimates. */
  "sync.start": [64, { ...scope, transfer, version: u53, hash, first: u53, keys: u53, bytes: u53, limits }],
  /** The rows of keys `[lo, hi)`, without `hi` to the end: an absent key is a deleted one. `digest` runs over all chunks. */
  "sync.chunk": [
    65,
    {
      ...scope,
      transfer,
      number: u53,
      lo: key,
      hi: nullable(key),
      batch: bytes(BATCH_BYTES_MAX),
      digest: hash,
      last: flag,
      root: nullable(fixed(DIGEST_BYTES)),
    },
  ],
  "sync.recent-req": [66, { ...scope, transfer, from: u53 }],
  "sync.verify-req": [67, { ...scope, transfer }],
  "sync.done": [68, { ...scope, transfer, version: u53 }],
  "sync.keepalive": [69, { ...scope, transfer }],
  "sync.abort": [70, { ...scope, transfer, reason }],
  /** What lies below nodes of one level of the tree at `version`, each named by its last key; none named: the root itself. */
  "sync.range-req": [71, { ...scope, transfer, version: u53, level: u8, ends: list(key, RANGE_NODES_MAX) }],
  /** Rows of runs, by their places in the lists of RANGE_DIGESTS. */
  "sync.range-want": [72, { ...scope, transfer, version: u53, runs: list(struct({ end: key, items: list(u32, RANGE_BELOW_MAX) }), RANGE_NODES_MAX) }],
} as const;

export const syncAnswers = {
  /** `resumes`: the copy goes on from the cursor asked for; otherwise it starts over. */
  "sync.grant": [160, { ...scope, transfer, resumes: flag, limits }],
  "sync.aborted": [161, { ...scope, transfer, reason, retryAfterMs: u32 }],
  "hold.ack": [162, { ...scope, hold: fixed(8), first: u53, last: u53, leaseMs: u32 }],
  "hold.refused": [163, { ...scope, hold: fixed(8), reason, retryAfterMs: u32 }],
  /** The highest durable chunk, the first key that is missing (null: none), and room for more. Number 0: cleared and ready. */
  "sync.chunk-ack": [164, { ...scope, transfer, number: u53, cursor: nullable(key), chunks: u32, bytes: u32 }],
  "sync.recent": [165, { ...scope, transfer, from: u53, last: u53, batches: list(bytes(BATCH_BYTES_MAX), SYNC_RECENT_COUNT_MAX) }],
  "sync.verify": [
    166,
    { ...scope, transfer, version: u53, root: fixed(DIGEST_BYTES), top: list(struct({ end: key, digest: fixed(DIGEST_BYTES) }), TOP_DIGESTS_MAX) },
  ],
  "sync.noted": [167, { ...scope, transfer }],
  "sync.no-transfer": [168, { ...scope, transfer }],
  /** For the first nodes of those asked about: their children, which are of `level`; or the digests of a run's rows, 8 bytes each. */
  "sync.range-digests": [
    169,
    {
      ...scope,
      transfer,
      version: u53,
      level: u8,
      groups: list(
        struct({ nodes: list(struct({ end: key, digest: fixed(DIGEST_BYTES) }), RANGE_BELOW_MAX), items: bytes(RANGE_BELOW_MAX * ITEM_BYTES) }),
        RANGE_NODES_MAX,
      ),
    },
  ],
  /** The first rows of those wanted, in their order. */
  "sync.range-rows": [170, { ...scope, transfer, version: u53, batch: bytes(BATCH_BYTES_MAX) }],
} as const;
