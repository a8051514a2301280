/**
 * How far a copy is, how fast it goes and what it waits for (sync.md section 4.7), against what the provider's accounting says
 * its snapshot holds. Estimates for people, gone with the process: nothing is decided by them.
 */

/** What a store's own accounting says, without a scan. */
export type ViewStat = { readonly keyCount: number; readonly liveBytes: number; readonly fileBytes: number };

export type Progress = {
  /** Of the provider's snapshot, as it told them. */
  readonly keys: number;
  readonly bytes: number;
  readonly sinceMs: number;
  /** Here, an earlier transfer's too. Chunks and pages are counted alike: near enough. */
  keysDone: number;
  bytesDone: number;
  /** Own commits since `sinceMs`, and when the one that runs began. */
  diskMs: number;
  writingSinceMs: number | null;
  /** Of the last whole window. */
  bytesPerS: number;
  windowBytes: number;
  windowSinceMs: number;
};

export type ProgressStatus = {
  readonly keys: number;
  readonly keysDone: number;
  readonly bytes: number;
  readonly bytesDone: number;
  readonly percent: number;
  readonly bytesPerS: number;
  /** Null while nothing comes. */
  readonly etaMs: number | null;
  /** What took more of the time: own commits, or waiting for the provider. */
  readonly limitedBy: "disk" | "peer";
};

/** Long enough for a few chunks at the floor of the rate. */
const WINDOW_MS = 1_000;
/** A copy is whole when it is verified, not when an estimate says so. */
const PERCENT_MAX = 99;

export const newProgress = (all: { readonly keys: number; readonly bytes: number }, here: { keyCount: number; liveBytes: number }, upMs: number): Progress => ({
  ...{ keys: all.keys, bytes: all.bytes, sinceMs: upMs },
  ...{ keysDone: here.keyCount, bytesDone: here.liveBytes, diskMs: 0, writingSinceMs: null, bytesPerS: 0, windowBytes: 0, windowSinceMs: upMs },
});

export function count(progress: Progress, keys: number, bytes: number, upMs: number): void {
  progress.keysDone += keys;
  progress.bytesDone += bytes;
  progress.windowBytes += bytes;
  if (upMs - progress.windowSinceMs < WINDOW_MS) return;
  progress.bytesPerS = perSecond(progress, upMs);
  progress.windowBytes = 0;
  progress.windowSinceMs = upMs;
}

export function beginWrite(progress: Progress, upMs: number): void {
  progress.writingSinceMs = upMs;
}

export function endWrite(progress: Progress, upMs: number): void {
  if (progress.writingSinceMs !== null) progress.diskMs += upMs - progress.writingSinceMs;
  progress.writingSinceMs = null;
}

export function progressStatus(progress: Progress, upMs: number): ProgressStatus {
  const { keys, keysDone, bytes, bytesDone, windowSinceMs, sinceMs, diskMs, writingSinceMs } = progress;
  // in the first window, and where nothing came for longer than one, the last whole window says too much or too little
  const isLate = progress.bytesPerS === 0 || upMs - windowSinceMs >= 2 * WINDOW_MS;
  const bytesPerS = Math.round(isLate ? perSecond(progress, upMs) : progress.bytesPerS);
  const share = keys === 0 ? 0 : Math.min(1, keysDone / keys);
  const inDiskMs = diskMs + (writingSinceMs === null ? 0 : upMs - writingSinceMs);
  return {
    ...{ keys, keysDone, bytes, bytesDone, percent: Math.min(PERCENT_MAX, Math.floor(share * 100)), bytesPerS },
    etaMs: bytesPerS === 0 ? null : Math.round((bytes * (1 - share) * 1_000) / bytesPerS),
    limitedBy: inDiskMs * 2 > upMs - sinceMs ? "disk" : "peer",
  };
}

const perSecond = ({ windowBytes, windowSinceMs }: Progress, upMs: number): number =>
  upMs <= windowSinceMs ? 0 : (windowBytes * 1_000) / (upMs - windowSinceMs);
