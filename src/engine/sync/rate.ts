/**
 * How fast a provider may send (sync.md section 4.6): without a limit until commits of the cluster suffer, then half of it,
 * and a tenth more each second once they are well again; never below a floor, nor below twice what the cluster writes, so
 * every transfer ends. One rate for all transfers of a node. Times are the process's own clock; it sends nothing and arms nothing.
 */
/** Against the p99 of commits with no transfer under way. */
const SUFFERS = 2.5;
const IS_WELL = 1.5;
const ADJUST_MS = 1_000;
const GROWTH = 1.1;
export const RATE_FLOOR = 32 * 1_024 * 1_024;
/** A copy that is no faster than this is behind for ever. */
const WRITES_FLOOR = 2;
/** Above it a limit is none. */
const RATE_MAX = 1_024 * 1_024 * 1_024;
/** What may be sent at once after a pause, in seconds of the rate. */
const BURST_S = 0.25;
/** An idle cluster's p99 is a running mean: one slow commit does not make it idle. */
const IDLE_WEIGHT = 0.2;

export type Rate = {
  /** Null: no limit. Invariant: otherwise at least `floorBytesPerS`. */
  bytesPerS: number | null;
  /** Invariant: at least RATE_FLOOR. */
  floorBytesPerS: number;
  /** What the cluster had written at the last adjustment. */
  writtenBytes: number;
  /** Microseconds, while nothing was sent. */
  idleP99Us: number | null;
  /** May be sent now; below zero: owed. */
  allowance: number;
  filledMs: number;
  adjustedMs: number;
  /** Since the last adjustment. */
  sentBytes: number;
};

export const newRate = (): Rate => ({
  ...{ bytesPerS: null, floorBytesPerS: RATE_FLOOR, writtenBytes: 0 },
  ...{ idleP99Us: null, allowance: 0, filledMs: 0, adjustedMs: 0, sentBytes: 0 },
});

/** What the cluster shows: `p99Us` of the last second's commits, as the leader's LEASE told it, null where it told none. */
export type Load = { readonly p99Us: number | null; readonly writtenBytes: number; readonly isStreaming: boolean };

export const isDue = (rate: Rate, upMs: number): boolean => upMs - rate.adjustedMs >= ADJUST_MS;

export function adjust(rate: Rate, { p99Us, writtenBytes, isStreaming }: Load, upMs: number): void {
  if (!isDue(rate, upMs)) return;
  const elapsedMs = upMs - rate.adjustedMs;
  const sentPerS = (rate.sentBytes * 1_000) / elapsedMs;
  rate.floorBytesPerS = Math.max(RATE_FLOOR, (WRITES_FLOOR * (writtenBytes - rate.writtenBytes) * 1_000) / elapsedMs);
  rate.writtenBytes = writtenBytes;
  rate.adjustedMs = upMs;
  rate.sentBytes = 0;
  if (rate.bytesPerS !== null && rate.bytesPerS < rate.floorBytesPerS) limit(rate, rate.floorBytesPerS, upMs);
  if (p99Us === null || p99Us === 0) return;
  if (!isStreaming) {
    rate.bytesPerS = null;
    rate.idleP99Us = rate.idleP99Us === null ? p99Us : rate.idleP99Us * (1 - IDLE_WEIGHT) + p99Us * IDLE_WEIGHT;
    return;
  }
  if (rate.idleP99Us === null) return; // nothing to compare with: the node began with a transfer
  if (p99Us > SUFFERS * rate.idleP99Us) limit(rate, Math.max(rate.floorBytesPerS, (rate.bytesPerS ?? sentPerS) / 2), upMs);
  else if (p99Us < IS_WELL * rate.idleP99Us && rate.bytesPerS !== null) limit(rate, rate.bytesPerS * GROWTH, upMs);
}

function limit(rate: Rate, bytesPerS: number, upMs: number): void {
  fill(rate, upMs);
  rate.bytesPerS = bytesPerS > RATE_MAX ? null : bytesPerS;
}

/** Milliseconds until something may be sent again; 0: now. */
export function waitMs(rate: Rate, upMs: number): number {
  fill(rate, upMs);
  if (rate.bytesPerS === null || rate.allowance >= 0) return 0;
  return Math.ceil((-rate.allowance * 1_000) / rate.bytesPerS);
}

export function spend(rate: Rate, bytes: number): void {
  rate.sentBytes += bytes;
  if (rate.bytesPerS !== null) rate.allowance -= bytes;
}

function fill(rate: Rate, upMs: number): void {
  const elapsedS = (upMs - rate.filledMs) / 1_000;
  rate.filledMs = upMs;
  rate.allowance = rate.bytesPerS === null ? 0 : Math.min(rate.bytesPerS * BURST_S, rate.allowance + elapsedS * rate.bytesPerS);
}
