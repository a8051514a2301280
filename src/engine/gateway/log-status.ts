/**
 * What one node knows of a log, read from its own rows and hand-over files: sizes of its copy, heads, and on the
 * primary the positions and the signed head. For `GET /status`, `GET /metrics` and the log's `GET /`. Pure reads.
 */
import type { Snapshot } from "../base/effects.ts";
import { choose, formula, type Standing } from "../merge/choose.ts";
import type { MergeConfig } from "../merge/config.ts";
import { readCurrentSize, readLatch, readPosition, readSth } from "../merge/files.ts";
import { readEdge, rows } from "../merge/records.ts";
import { replicatedKeys } from "../store/keys.ts";
import { logVkey } from "./loghttp.ts";

export type LogStatus = {
  readonly name: string;
  readonly origin: string;
  readonly vkey: string;
  readonly epoch: number;
  readonly primary: string;
  readonly backupquorum: number;
  readonly storagequorum: number;
  /** Entries whose order this node has, whose bytes it has, whose root it has proven. */
  readonly orderSize: number;
  readonly storedSize: number;
  readonly verifiedSize: number;
  readonly publishedSize: number | null;
  readonly cosignedSize: number | null;
  /** On the primary only. */
  readonly merge?: MergeStatus;
};

export type MergeStatus = {
  readonly currentSize: number | null;
  readonly signedSize: number | null;
  /** 0 where the file is missing or unreadable, as `dist` counts it. */
  readonly positions: Readonly<Record<string, number>>;
  readonly latch: { readonly code: string; readonly detail: string } | null;
  /** backupquorum: index into the descending list of the formula. */
  readonly k: number;
  /** The size that could be signed now, and how it is found. */
  readonly size: number;
  readonly formula: string;
  /** The seed's formula over the positions alone; shown, never used. Null where k is not below their number. */
  readonly otherReading: number | null;
  readonly standings: readonly Standing[];
  /** Secondaries that verified `size`; those below currentsize, of which `missingCount` more must reach it. */
  readonly counted: readonly string[];
  readonly behind: readonly string[];
  readonly missingCount: number;
  /** Null before the first dist; open for the run of the daemon that found enough secondaries, from `floor` on. */
  readonly gate: { readonly open: boolean; readonly floor: number } | null;
  /** Files that count for nothing, and what nothing guards. */
  readonly notes: readonly string[];
};

/** Merge.md section 5, step 1: no answer of a secondary and no other disk would know better than an old folder. */
const UNGUARDED = "backupquorum 0 with a local register: nothing keeps an old copy of this folder from signing again";

export function logStatus(snap: Snapshot, config: MergeConfig): LogStatus {
  const edgeSize = readEdge(snap, config.log).size;
  const isPrimary = config.self === config.primary;
  // On the primary the queue handler owns order and bytes; a copy has rows of its own.
  const sizes = isPrimary ? { orderSize: edgeSize, storedSize: edgeSize, verifiedSize: edgeSize } : rows.copy(snap, config.log);
  return {
    name: config.logName,
    origin: config.origin,
    vkey: logVkey(config),
    epoch: config.epoch,
    primary: config.primary,
    backupquorum: config.backupquorum,
    storagequorum: config.storagequorum,
    orderSize: sizes.orderSize,
    storedSize: sizes.storedSize,
    verifiedSize: sizes.verifiedSize,
    publishedSize: rows.published(snap, config.log)?.size ?? null,
    cosignedSize: rows.cosigned(snap, config.log)?.size ?? null,
    ...(isPrimary ? { merge: mergeStatus(snap, config) } : {}),
  };
}

function mergeStatus(snap: Snapshot, config: MergeConfig): MergeStatus {
  const current = readCurrentSize(snap, config);
  const sth = readSth(snap, config);
  const latch = readLatch(snap, config);
  const choice = choose(snap, config);
  const gate = rows.gate(snap, config.log);
  const position = (secondary: string): number => {
    const read = readPosition(snap, config, secondary);
    return read.kind === "ok" ? read.value.size : 0;
  };
  const { k, size, otherReading, standings, counted, behind, missingCount } = choice;
  const isGuarded = k > 0 || snap.get("replicated", replicatedKeys.register(config.log)) !== undefined;
  return {
    currentSize: current.kind === "ok" ? current.value.size : null,
    signedSize: sth.kind === "ok" ? sth.value.size : null,
    positions: Object.fromEntries(config.secondaries.map((secondary) => [secondary, position(secondary)])),
    latch:
      latch.kind === "missing" ? null : latch.kind === "ok" ? { code: latch.value.code, detail: latch.value.detail } : { code: "FAILED", detail: latch.why },
    k,
    size,
    formula: formula(choice),
    otherReading,
    standings,
    counted,
    behind,
    missingCount,
    gate: gate === null ? null : { open: config.boot !== null && gate.boot === config.boot, floor: gate.floor },
    notes: [choice.currentWhy, ...standings.map(({ why }) => why), isGuarded ? null : UNGUARDED].filter((note) => note !== null),
  };
}
