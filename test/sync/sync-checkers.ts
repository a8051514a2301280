/**
 * The invariants of sync.md section 5.1 that synchronisation answers for (I4, I7 to I12), looked at after every event of a
 * `SyncCluster`: a disk is compared with the model's only when it changed. They believe no state but what rests on disk and
 * what was promised to others.
 */
import { compareBytes, equalBytes, utf8 } from "../../src/engine/base/bytes.ts";
import type { NodeId } from "../../src/engine/base/ids.ts";
import { type DiskImage, DiskSnapshot } from "../../src/engine/sim/disk.ts";
import { localKeys } from "../../src/engine/store/keys.ts";
import { treeSnapshot } from "../../src/engine/store/memory.ts";
import { type Tree, treeCount, treeGet, treeIterate } from "../../src/engine/store/tree.ts";
import { payloadOf } from "../../src/engine/store/value.ts";
import { heldFrom } from "../../src/engine/sync/hold.ts";
import { type CursorRow, historyOf, syncRows } from "../../src/engine/sync/records.ts";
import { HOLD_LEASE_MS } from "../../src/engine/sync/state.ts";
import { mustAbstain } from "../../src/engine/sync/sync.ts";
import type { SyncCluster } from "./sync-cluster.ts";

/** Attaches them; `damaged` is set by whoever spoils a copy on purpose: then a failed verification is no surprise. */
export class SyncCheckers {
  damaged = false;
  private readonly cluster: SyncCluster;
  private readonly seen = new Map<NodeId, DiskImage>();
  private trimmedPast: string | null = null;

  constructor(cluster: SyncCluster) {
    this.cluster = cluster;
    cluster.world.check = () => this.check();
    cluster.onTrim = (first) => {
      this.trimmedPast ??= this.passesHold(first);
    };
  }

  private check(): string | null {
    if (this.trimmedPast !== null) return this.trimmedPast;
    for (const id of this.cluster.ids) {
      const { disk } = this.cluster.world.node(id);
      const before = this.seen.get(id);
      const wrong = (disk === before ? null : this.checkDisk(id, disk, before)) ?? (this.cluster.isUp(id) ? this.checkPromises(id) : null);
      this.seen.set(id, disk);
      if (wrong !== null) return `${wrong} (${id})`;
    }
    if (!this.damaged && this.cluster.world.trace.marks.has("sync.alarm")) return "I11 a verification failed and nothing was damaged";
    return null;
  }

  private checkDisk(id: NodeId, disk: DiskImage, before: DiskImage | undefined): string | null {
    const vote = treeGet(disk.dbs.local, localKeys.vote());
    if (vote === undefined || !equalBytes(payloadOf(vote), utf8("a promise"))) return "I4 a promise is gone";
    const snap = new DiskSnapshot(disk, id);
    const { last } = this.cluster.history(id);
    const floor = syncRows.floor(snap);
    if (syncRows.flag(snap) !== null) return this.checkCopy(disk, snap);
    const lastBefore = before === undefined ? last : historyOf(treeSnapshot(before.dbs.replicated, id)).last;
    if (last < lastBefore && syncRows.flag(new DiskSnapshot(before ?? disk, id)) === null) return `I8 it had version ${lastBefore}, has ${last}, and no flag`;
    if (last < floor) return `I12 serves ${last}, below its floor ${floor}`;
    if (disk.dbs.replicated === before?.dbs.replicated && before !== undefined && syncRows.flag(new DiskSnapshot(before, id)) === null) return null;
    return sameRows(disk.dbs.replicated, this.cluster.model.trees[last] ?? null) ? null : `I8 no flag, and its keys are not those of version ${last}`;
  }

  /** I9: what was copied is the state of its snapshot; nothing is there that a snapshot did not bring. */
  private checkCopy({ dbs: { replicated } }: DiskImage, snap: DiskSnapshot): string | null {
    const row = syncRows.cursor(snap);
    const { trees } = this.cluster.model;
    if (row === null) return null; // between the flag and the clear, or cleared: nothing of it will be believed
    if (this.damaged) return null;
    if (row.oldest === row.version && row.position === row.version) {
      const want = row.cursor === null ? treeIterate(trees[row.version] ?? null) : treeIterate(trees[row.version] ?? null, undefined, row.cursor);
      return sameIterators(treeIterate(replicated), want) ? null : `I9 up to chunk ${row.number}: not the rows of version ${row.version}`;
    }
    return this.checkMixture(replicated, row);
  }

  private checkMixture(replicated: Tree, row: CursorRow): string | null {
    const { trees } = this.cluster.model;
    const versions = trees.slice(row.oldest, Math.max(row.version, row.position) + 1);
    for (const [key, stored] of treeIterate(replicated)) {
      if (row.cursor !== null && compareBytes(key, row.cursor) >= 0) return "I9 a row at or behind the cursor";
      if (!versions.some((tree) => sameBytes(treeGet(tree, key), stored))) return `I9 ${key.toHex()} is of no version from ${row.oldest} on`;
    }
    return null;
  }

  /** What a node's memory promises to others, held against disks. */
  private checkPromises(id: NodeId): string | null {
    const { cluster } = this;
    const state = cluster.state(id);
    const nowMs = cluster.world.nowMs;
    if (cluster.isFlagged(id) && state.requester.phase !== "joined") {
      const booted = state.requester.flag !== null; // before its first event it does nothing at all
      if (booted && !mustAbstain(state)) return "I8 flagged, and it would vote";
      if (booted && state.transfers.size > 0) return "I8 flagged, and it provides";
    }
    for (const transfer of state.transfers.values()) {
      const { disk } = cluster.world.node(transfer.requester);
      const row = syncRows.cursor(new DiskSnapshot(disk, transfer.requester));
      if (row !== null && equalBytes(row.transfer, transfer.id) && transfer.acked > row.number)
        return `I10 chunk ${transfer.acked} is acknowledged, ${row.number} durable`;
      if (cluster.history(id).last < transfer.floor) return `I12 provides ${cluster.history(id).last} to a floor of ${transfer.floor}`;
    }
    for (const hold of state.holds.values())
      if (nowMs - hold.renewedMs > hold.leaseMs + 1) return `I7 hold ${hold.name} was renewed ${nowMs - hold.renewedMs} ms ago`;
    if (state.holds.size === 0 && state.leading !== null && nowMs >= state.leading.waitUntilMs && heldFrom(state, nowMs) !== null)
      return "I7 trimming is off, and nothing is held";
    return null;
  }

  /** Asked when a trim commits: whoever counts on a hold still finds the version it needs next. */
  private passesHold(first: number): string | null {
    const nowMs = this.cluster.world.nowMs;
    for (const id of this.cluster.ids) {
      if (!this.cluster.isUp(id)) continue;
      for (const { phase, heldFromMs, oldest, version, ack } of this.cluster.state(id).transfers.values()) {
        if (heldFromMs === null || nowMs - heldFromMs >= HOLD_LEASE_MS) continue;
        const needs = phase === "holding" ? (oldest ?? ack?.first ?? first) : (oldest ?? version) + 1;
        if (first > needs) return `I7 trimmed to ${first}, ${id} holds ${needs} for another ${HOLD_LEASE_MS - (nowMs - heldFromMs)} ms`;
      }
    }
    return null;
  }
}

export const sameRows = (a: Tree, b: Tree): boolean => a === b || (treeCount(a) === treeCount(b) && sameIterators(treeIterate(a), treeIterate(b)));

function sameIterators(left: Iterator<readonly [Uint8Array, Uint8Array]>, right: Iterator<readonly [Uint8Array, Uint8Array]>): boolean {
  for (;;) {
    const [a, b] = [left.next(), right.next()];
    if (a.done === true || b.done === true) return a.done === b.done;
    if (!equalBytes(a.value[0], b.value[0]) || !equalBytes(a.value[1], b.value[1])) return false;
  }
}

const sameBytes = (a: Uint8Array | undefined, b: Uint8Array): boolean => a !== undefined && equalBytes(a, b);
