/**
 * The size a head may have: `desc([currentsize, …positions])[k]`, zero-based (merge.md section 1), with what each
 * position is worth and who the next one waits for. Pure; `merge explain` and the signer share it.
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import type { Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import { LogReader } from "../log/reader.ts";
import type { MergeConfig } from "./config.ts";
import { readCurrentSize, readPosition } from "./files.ts";
import { readEdge } from "./records.ts";

export type Standing = {
  readonly secondary: NodeId;
  /** What counts: 0 where the file is missing, torn, foreign, or its root is not ours. */
  readonly size: number;
  readonly timeMs: number | null;
  /** Why a file that is there counts for nothing. */
  readonly why: string | null;
};

export type Choice = {
  /** 0 where the file cannot be read, or says more than the order. */
  readonly currentSize: number;
  readonly currentWhy: string | null;
  readonly standings: readonly Standing[];
  readonly k: number;
  /** The size in force. */
  readonly size: number;
  /** `desc(positions)[k]` without the primary: the other reading of the seed, shown and not used. Null where k ≥ S. */
  readonly otherReading: number | null;
  /** Secondaries whose verified size is at least `size`. */
  readonly counted: readonly NodeId[];
  /** To sign `currentSize`, so many more of these must verify it. */
  readonly missingCount: number;
  readonly behind: readonly NodeId[];
};

/** Highest first. */
const desc = (sizes: readonly number[]): number[] => [...sizes].sort((a, b) => b - a);

/** `desc([currentsize, …positions])[k]`; k above the number of positions has no answer. */
export function quorumSize(currentSize: number, positions: readonly number[], k: number): number | null {
  const at = mutant("merge.quorum-off-by-one") && k > 0 ? k - 1 : k;
  return desc([currentSize, ...positions])[at] ?? null;
}

export function choose(snap: Snapshot, config: MergeConfig, k: number = config.backupquorum): Choice {
  const reader = new LogReader(snap, config.log);
  const { currentSize, currentWhy } = readCurrent(snap, config, reader);
  const standings = config.secondaries.map((secondary) => standing(snap, config, reader, secondary, currentSize));
  const sizes = standings.map((each) => each.size);
  const size = quorumSize(currentSize, sizes, k) ?? 0;
  const behind = standings.filter((each) => each.size < currentSize).map((each) => each.secondary);
  return {
    currentSize,
    currentWhy,
    standings,
    k,
    size,
    otherReading: desc(sizes)[k] ?? null,
    counted: standings.filter((each) => each.size >= size && size > 0).map((each) => each.secondary),
    missingCount: Math.max(0, k - (standings.length - behind.length)),
    behind,
  };
}

/** A file that says more than the order, or was written for another one, counts for nothing. */
function readCurrent(snap: Snapshot, config: MergeConfig, reader: LogReader): Pick<Choice, "currentSize" | "currentWhy"> {
  const current = readCurrentSize(snap, config);
  if (current.kind !== "ok") return { currentSize: 0, currentWhy: current.why };
  const { size, root } = current.value;
  const edgeSize = readEdge(snap, config.log).size;
  if (size > edgeSize) return { currentSize: 0, currentWhy: `currentsize says ${size}, the order ends at ${edgeSize}` };
  const mine = reader.rootAt(size);
  if (equalBytes(mine, root)) return { currentSize: size, currentWhy: null };
  return { currentSize: 0, currentWhy: `currentsize ${size} names root ${toHex(root)}, ours is ${toHex(mine)}` };
}

function standing(snap: Snapshot, config: MergeConfig, reader: LogReader, secondary: NodeId, currentSize: number): Standing {
  const file = readPosition(snap, config, secondary);
  if (file.kind !== "ok") return { secondary, size: 0, timeMs: null, why: file.kind === "missing" ? null : file.why };
  const { size, root, timeMs } = file.value;
  if (size > currentSize) return { secondary, size: 0, timeMs, why: `position ${size} is above currentsize ${currentSize}` };
  const mine = reader.rootAt(size);
  if (!equalBytes(mine, root)) return { secondary, size: 0, timeMs, why: `position ${size} names root ${toHex(root)}, ours is ${toHex(mine)}` };
  return { secondary, size, timeMs, why: null };
}

/** So many secondaries must answer before a folder with a local register may sign: F of merge.md section 5. */
export function gateCount(secondaryCount: number, k: number): number {
  const majority = secondaryCount === 0 ? 0 : Math.floor(secondaryCount / 2) + 1;
  return k === 0 ? majority : Math.max(secondaryCount - k + 1, majority);
}

/** One line for people: the formula with its numbers. */
export function formula(choice: Choice): string {
  return `desc([${desc([choice.currentSize, ...choice.standings.map((each) => each.size)]).join(", ")}])[${choice.k}] = ${choice.size}`;
}
