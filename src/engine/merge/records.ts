/**
 * The merge's own rows in LMDB (merge.md section 6), each with its codec: copy sizes, fence and pairs, heads, the
 * signer's stage and its open gate. Values carry the store's checksum; what does not decode is STORE_CORRUPT.
 */

import type { Snapshot } from "../base/effects.ts";
import type { Hash, LogId } from "../base/ids.ts";
import { decodeEdge, encodeEdge } from "../log/append.ts";
import { type Edge, EMPTY_EDGE, EMPTY_ROOT } from "../log/merkle.ts";
import { type RegisterRow, registerRecord } from "../paxos/register.ts";
import { localKeys, logKeys, replicatedKeys } from "../store/keys.ts";
import { bytes, fixed, type Infer, list, struct, text, u32, u53 } from "../wire/codec.ts";
import { record } from "../wire/record.ts";
import type { Head } from "./config.ts";

const hash = fixed(32);
const headFields = { epoch: u53, size: u53, root: hash, note: bytes(64 * 1_024), timeMs: u53 };

/** Sizes of a copy. Invariant: verifiedSize ≤ storedSize ≤ orderSize. */
const copyRecord = record("copy sizes", { orderSize: u53, storedSize: u53, verifiedSize: u53, verifiedRoot: hash });
export type CopySizes = Infer<{ orderSize: typeof u53; storedSize: typeof u53; verifiedSize: typeof u53; verifiedRoot: typeof hash }>;

const pairFields = { number: u32, k: u32, secondaries: list(text(32), 64) };
/** A numbered (k, list of secondaries): merge.md section 5, "Changing k". */
export type Pair = Infer<typeof pairFields>;
const fenceRecord = record("fence", { epoch: u53, primary: text(32), pairs: list(struct(pairFields), 8) });
export type Fence = { readonly epoch: number; readonly primary: string; readonly pairs: readonly Pair[] };

const headRecord = record("head", headFields);
const stageRecord = record("stage", { epoch: u53, size: u53, root: hash, timeMs: u53, counted: list(text(32), 64) });
/** The signer's candidate: all that `sth` will say, so that a run after a crash writes the same bytes. */
export type Stage = { readonly epoch: number; readonly size: number; readonly root: Hash; readonly timeMs: number; readonly counted: readonly string[] };

const gateRecord = record("gate", { boot: text(64), floor: u53 });
/** The gate stays open for one run of the node's daemon; nothing below `floor` is signed. */
export type Gate = { readonly boot: string; readonly floor: number };

const NO_COPY: CopySizes = { orderSize: 0, storedSize: 0, verifiedSize: 0, verifiedRoot: EMPTY_ROOT };

/** Reads and puts of these rows, by name, so that nobody else spells a key or a codec. */
export const rows = {
  copy: (snap: Snapshot, log: LogId): CopySizes => {
    const raw = snap.get("log", logKeys.copy(log));
    return raw === undefined ? NO_COPY : copyRecord.decode(raw);
  },
  putCopy: (log: LogId, sizes: CopySizes) => ({ op: "put", key: logKeys.copy(log), value: copyRecord.encode(sizes) }) as const,
  fence: (snap: Snapshot, log: LogId): Fence | null => {
    const raw = snap.get("log", logKeys.fence(log));
    return raw === undefined ? null : fenceRecord.decode(raw);
  },
  putFence: (log: LogId, fence: Fence) => ({ op: "put", key: logKeys.fence(log), value: fenceRecord.encode(fence) }) as const,
  published: (snap: Snapshot, log: LogId): Head | null => decodeHead(snap.get("log", logKeys.published(log))),
  putPublished: (log: LogId, head: Head) => ({ op: "put", key: logKeys.published(log), value: headRecord.encode(head) }) as const,
  cosigned: (snap: Snapshot, log: LogId): Head | null => decodeHead(snap.get("log", logKeys.cosigned(log))),
  putCosigned: (log: LogId, head: Head) => ({ op: "put", key: logKeys.cosigned(log), value: headRecord.encode(head) }) as const,
  /** A head this node published, by its exact size. */
  head: (snap: Snapshot, log: LogId, size: number): Head | null => decodeHead(snap.get("log", logKeys.head(log, size))),
  putHead: (log: LogId, head: Head) => ({ op: "put", key: logKeys.head(log, head.size), value: headRecord.encode(head) }) as const,
  stage: (snap: Snapshot, log: LogId): Stage | null => {
    const raw = snap.get("log", logKeys.stage(log));
    return raw === undefined ? null : stageRecord.decode(raw);
  },
  putStage: (log: LogId, stage: Stage) => ({ op: "put", key: logKeys.stage(log), value: stageRecord.encode(stage) }) as const,
  delStage: (log: LogId) => ({ op: "del", key: logKeys.stage(log) }) as const,
  gate: (snap: Snapshot, log: LogId): Gate | null => {
    const raw = snap.get("log", logKeys.gate(log));
    return raw === undefined ? null : gateRecord.decode(raw);
  },
  putGate: (log: LogId, gate: Gate) => ({ op: "put", key: logKeys.gate(log), value: gateRecord.encode(gate) }) as const,
  /** Wherever it lives: in the replicated store, or before that as a local record. */
  register: (snap: Snapshot, log: LogId): RegisterRow | null => {
    const raw = snap.get("replicated", replicatedKeys.register(log)) ?? snap.get("local", localKeys.register(log));
    return raw === undefined ? null : registerRecord.decode(raw);
  },
  putRegister: (log: LogId, row: RegisterRow) => ({ op: "put", key: localKeys.register(log), value: registerRecord.encode(row) }) as const,
} as const;

const decodeHead = (raw: Uint8Array | undefined): Head | null => (raw === undefined ? null : headRecord.decode(raw));

/** The tree's right edge: on the primary the whole order, on a copy what was re-read and folded. */
export function readEdge(snap: Snapshot, log: LogId): Edge {
  const raw = snap.get("log", logKeys.edge(log));
  return raw === undefined ? EMPTY_EDGE : decodeEdge(raw);
}

export const putEdge = (log: LogId, edge: Edge) => ({ op: "put", key: logKeys.edge(log), value: encodeEdge(edge) }) as const;
