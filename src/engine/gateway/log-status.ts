/**
 * What one node knows of a log, read from its own rows and hand-over files: sizes of its copy, heads, and on the
 * primary the positions and the signed head. For `GET /status`, `GET /metrics` and the log's `GET /`. Pure reads.
 */
import type { Snapshot } from "../base/effects.ts";
import type { MergeConfig } from "../merge/config.ts";
import { readCurrentSize, readLatch, readPosition, readSth } from "../merge/files.ts";
import { readEdge, rows } from "../merge/records.ts";
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
  readonly merge?: {
    readonly currentSize: number | null;
    readonly signedSize: number | null;
    /** 0 where the file is missing or unreadable, as `dist` counts it. */
    readonly positions: Readonly<Record<string, number>>;
    readonly latch: { readonly code: string; readonly detail: string } | null;
  };
};

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

function mergeStatus(snap: Snapshot, config: MergeConfig): NonNullable<LogStatus["merge"]> {
  const current = readCurrentSize(snap, config);
  const sth = readSth(snap, config);
  const latch = readLatch(snap, config);
  const position = (secondary: string): number => {
    const read = readPosition(snap, config, secondary);
    return read.kind === "ok" ? read.value.size : 0;
  };
  return {
    currentSize: current.kind === "ok" ? current.value.size : null,
    signedSize: sth.kind === "ok" ? sth.value.size : null,
    positions: Object.fromEntries(config.secondaries.map((secondary) => [secondary, position(secondary)])),
    latch:
      latch.kind === "missing" ? null : latch.kind === "ok" ? { code: latch.value.code, detail: latch.value.detail } : { code: "FAILED", detail: latch.why },
  };
}
