/**
 * What a person asks of synchronisation (sync.md section 4.7): where each transfer and hold stands, and why: why this node
 * syncs, why this provider, why not each other one, what it waits for. Plain values made from the state; it decides nothing.
 */

import type { History } from "../store/versions.ts";
import { type Candidate, candidates, isInfeasible } from "./choose.ts";
import { heldFrom } from "./hold.ts";
import type { HoldPhase, ProviderPhase, RequesterPhase } from "./phases.ts";
import { type ProgressStatus, progressStatus } from "./progress.ts";
import type { SendLimit, SyncState } from "./state.ts";

export type SyncStatus = {
  readonly phase: RequesterPhase;
  readonly synchronizing: boolean;
  readonly floor: number;
  readonly provider: string | null;
  /** Of the copy under way, as far as it is durable; `progress` is null while nothing comes. */
  readonly copy: {
    readonly mode: "full" | "delta";
    readonly version: number;
    readonly chunks: number;
    readonly complete: boolean;
    readonly replayedTo: number;
    readonly progress: ProgressStatus | null;
  } | null;
  readonly provides: readonly {
    readonly to: string;
    readonly phase: ProviderPhase;
    readonly version: number;
    readonly chunksSent: number;
    readonly chunksAcknowledged: number;
    readonly bytesSent: number;
    /** While it streams. */
    readonly limitedBy: SendLimit | null;
    readonly snapshotAgeMs: number | null;
    /** How much the store's file grew under the snapshot, whose pages no commit may use again. */
    readonly fileGrowthBytes: number | null;
  }[];
  readonly holds: readonly { readonly for: string; readonly phase: HoldPhase; readonly lowest: number; readonly leftMs: number }[];
  /** What sending is held to, and whether it is the floor; null: no limit. */
  readonly rate: { readonly bytesPerS: number; readonly isFloor: boolean } | null;
  /** The lowest version that trimming must leave: 0 while a new leader waits, null where nothing is held. */
  readonly heldFrom: number | null;
};

export function statusOf(state: SyncState, upMs: number): SyncStatus {
  const { requester } = state;
  const { durable, progress } = requester;
  return {
    phase: requester.phase,
    synchronizing: requester.flag !== null,
    floor: requester.floor,
    provider: requester.provider,
    copy:
      durable === null
        ? null
        : {
            mode: durable.isDelta ? ("delta" as const) : ("full" as const),
            ...{ version: durable.version, chunks: durable.number, complete: durable.cursor === null, replayedTo: durable.position },
            progress: progress === null ? null : progressStatus(progress, upMs),
          },
    provides: [...state.transfers.values()].map(({ requester: to, phase, version, sent, acked, sentBytes, limitedBy, view, viewSinceMs, grownBytes }) => ({
      to,
      phase,
      version,
      chunksSent: sent,
      chunksAcknowledged: acked,
      bytesSent: sentBytes,
      limitedBy: phase === "streaming" ? limitedBy : null,
      snapshotAgeMs: view === null ? null : upMs - viewSinceMs,
      fileGrowthBytes: view === null ? null : grownBytes,
    })),
    holds: [...state.holds.values()].map(({ provider, phase, lowest, renewedMs, leaseMs }) => ({
      for: provider,
      phase,
      lowest,
      leftMs: Math.max(0, renewedMs + leaseMs - upMs),
    })),
    rate: state.rate.bytesPerS === null ? null : { bytesPerS: state.rate.bytesPerS, isFloor: state.rate.bytesPerS <= state.rate.floorBytesPerS },
    heldFrom: heldFrom(state, upMs),
  };
}

/** Lines that say why, the reason first. `own` is what the store holds. */
export function explain(state: SyncState, own: History, upMs: number): readonly string[] {
  const lines = [whyOf(state, own), ...rateLines(state)];
  if (state.requester.phase === "joined") return lines;
  return [...lines, waitOf(state), ...costLines(state), ...candidates(state, own, upMs).map(candidateLine)];
}

/** Only commits that suffer limit it; at the floor a transfer goes on whatever they do. */
function rateLines({ rate, transfers }: SyncState): string[] {
  if (rate.bytesPerS === null || transfers.size === 0) return [];
  const isFloor = rate.bytesPerS <= rate.floorBytesPerS;
  const text = `sends at most ${Math.round(rate.bytesPerS)} bytes a second, since commits took long`;
  return [isFloor ? `${text}: no less, or a copy might never end` : text];
}

/** What a copy costs in each mode, as far as that is known: differences are, once they are looked for. */
function costLines({ requester: { progress, walk, isDelta } }: SyncState): string[] {
  if (progress === null) return [];
  const full = `about ${progress.keys} keys, ${progress.bytes} bytes`;
  if (!isDelta) return [`in full: ${full}; there is nothing here to compare with`];
  return [`in full: ${full}; as differences${walk === null ? " less" : `, so far: ${walk.runCount} runs, ${walk.takenCount} rows`}`];
}

function whyOf({ requester, config }: SyncState, own: History): string {
  const { flag, floor, isForced, replies } = requester;
  if (flag?.isForced === true || isForced) return `${config.self} syncs because an operator wants it; it had ${Math.max(floor, own.last)}`;
  if (flag !== null) return `${config.self} syncs: its store is not whole, and it must come back to ${floor} at least`;
  const ahead = [...replies].filter(([, reply]) => !reply.synchronizing && reply.last > own.last);
  if (!isInfeasible(own, replies.values())) return `${config.self} need not sync: it has ${own.first} to ${own.last}, and can take up what follows`;
  return `${config.self} must sync: it ends at ${own.last}, and ${ahead.map(([peer, { first }]) => `${peer} begins at ${first}`).join(", ")}`;
}

function waitOf({ requester }: SyncState): string {
  const { phase, provider, awaited, start, durable } = requester;
  if (awaited !== 0) return "it waits for its own disk";
  if (phase === "probing") return "it waits for members to say where they stand, or for one that can provide";
  if (phase === "clearing" && start === null) return `it waits for ${provider}'s snapshot, and so for a hold of the leader's`;
  return `it waits for ${provider}: ${durable === null ? "" : `${durable.number} ${durable.isDelta ? "steps" : "chunks"} of ${durable.version} are here, `}${phase}`;
}

const candidateLine = ({ peer, why }: Candidate): string => (why === null ? `${peer} could provide` : `not ${peer}: it ${why}`);
