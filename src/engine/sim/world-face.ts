/**
 * A world as those see it who steer it without knowing its messages: verbs of stories, seed runs, the crash grid.
 * `World` is the one implementation.
 */
import type { NodeId } from "../base/ids.ts";
import type { DiskImage } from "./disk.ts";
import type { Frame, Network } from "./network.ts";
import type { CrashPoint, DiskFaults, Keep } from "./process.ts";
import type { Trace } from "./trace.ts";

export type Violation = { readonly invariant: string; readonly at: number };

export interface WorldFace {
  readonly trace: Trace;
  readonly network: Network;
  readonly violations: readonly Violation[];
  readonly nowMs: number;
  readonly eventCount: number;
  readonly boundaryCount: number;
  /** Nothing in flight, nothing to be flushed. */
  readonly settled: boolean;
  /** Settled, and no timer armed but periodic ones. */
  readonly idle: boolean;
  /** Looked at after every event: what is wrong, or null. */
  check: (() => string | null) | null;
  nodeIds(): readonly NodeId[];
  /** Names of the live processes of a node. Throws UNKNOWN_NODE. */
  runningOn(id: NodeId): readonly string[];
  diskOf(id: NodeId): DiskImage;
  /** Damages a disk, or mends it, behind the node's back. */
  changeDisk(id: NodeId, change: (disk: DiskImage) => DiskImage): void;
  /** Faults of a node's disk, to be set; a paused disk is resumed by `resumeDisk`. */
  diskFaults(id: NodeId): DiskFaults;
  /** Moves a node's wall clock; answers how far it is off. */
  skewClock(id: NodeId, byMs: number): number;
  step(): boolean;
  nextMs(): number | null;
  advanceTo(atMs: number): void;
  startNode(id: NodeId): void;
  crashNode(id: NodeId, keep?: Keep): void;
  /** Ends one process of a node; throws NOT_FOUND where it does not run. */
  killByName(id: NodeId, name: string, keep?: Keep): void;
  pauseNode(id: NodeId): void;
  resumeNode(id: NodeId): void;
  crashAt(point: CrashPoint): void;
  pauseDisk(id: NodeId): void;
  resumeDisk(id: NodeId): void;
  saveFolder(id: NodeId, name: string): void;
  restoreFolder(id: NodeId, name: string | null): void;
  /** Frames under way. */
  readonly courier: {
    /** On their way, oldest first, then those that are held (without a time). */
    frames(): { frame: Frame; atMs: number | null }[];
    /** Takes a frame off its way, or out of those that are held. */
    pluck(frame: Frame): void;
    /** Puts a frame on its way, past every rule and fault. */
    launch(frame: Frame, afterMs: number): void;
    copyOf(frame: Frame): Frame;
    lineOf(frame: Frame): string;
  };
  /** A frame that was plucked reaches its process now, or finds nobody. */
  arrive(frame: Frame): void;
  /** Armed timers by process label, with the time they fire. */
  timers(): readonly { owner: string; timer: string; atMs: number }[];
}
