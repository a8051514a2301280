/**
 * From leaf hashes to indexes: the index that the engine uses (merge.md section 6). Sorted runs, whose cost an entry does
 * not grow with the log; the tests hold them against plain rows, one a hash.
 */
import type { Op, Snapshot } from "../base/effects.ts";
import type { LogId } from "../base/ids.ts";
import type { FullHashAt, IndexSpace } from "./hash-record.ts";
import { runsIndex } from "./hash-runs.ts";

/** One cache of filters for the process: what it holds follows from what is stored, whoever's store it is. */
const engineIndex = runsIndex();

/** For each hash the smallest index where `fullHashAt` confirms it, or −1. What an earlier end of the log left behind is passed over. */
export function find(snap: Snapshot, log: LogId, space: IndexSpace, hashes: Uint8Array, fullHashAt: FullHashAt): Float64Array {
  return engineIndex.find(snap, log, space, hashes, fullHashAt);
}

/** Operations that make these hashes found at `firstIndex` and on. At most one call a batch, log and space. */
export function insertOps(snap: Snapshot, log: LogId, space: IndexSpace, hashes: Uint8Array, firstIndex: number): Op[] {
  return engineIndex.insertOps(snap, log, space, hashes, firstIndex);
}
