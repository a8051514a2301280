/**
 * The invariants of sync.md section 5.1 that synchronisation answers for (I4 and I7 to I12), looked at after every event over
 * a simulated cluster: a disk is compared with what its version was elsewhere only when it changed. They believe no state
 * but what rests on disk and what was promised to others. I1 to I6 are `paxos-checkers.ts`.
 */

import { compareBytes, equalBytes } from "../base/bytes.ts";
import type { NodeId } from "../base/ids.ts";
import { treeSnapshot } from "../store/memory.ts";
import { type Tree, treeCount, treeGet, treeIterate } from "../store/tree.ts";
import { historyOf } from "../store/versions.ts";
import { heldFrom } from "../sync/hold.ts";
import { isHeld } from "../sync/provider.ts";
import { type CursorRow, syncRows } from "../sync/records.ts";
import type { Hold, SyncState } from "../sync/state.ts";
import { mustAbstain } from "../sync/sync.ts";
import { type DiskImage, DiskSnapshot } from "./disk.ts";

/** What the checkers look at: a cluster of members, or one whose Paxos is a script. */
export type SyncClusterView = {
  readonly nodeIds: readonly NodeId[];
  diskOf(id: NodeId): DiskImage;
  /** The state of a node's daemon, or null where it is down. */
  syncOf(id: NodeId): SyncState | null;
  upMs(id: NodeId): number;
  isPaused(id: NodeId): boolean;
  /** The node leads, is settled, and a majority's leases hold now. */
  mayGrant(id: NodeId): boolean;
  /** The first version that a chosen trim left. */
  chosenFirst(): number;
  /** `replicated` as it was at a version, where that is known. */
  treeAt(version: number): Tree | undefined;
  /** A node that is in service shows this store for this version. */
  showTree(version: number, tree: Tree): void;
  /** How often a mark was made. */
  markCount(name: string): number;
};

/** What a disk says, read once for each change of it. */
type OnDisk = {
  readonly disk: DiskImage;
  readonly last: number;
  readonly flagged: boolean;
  readonly floor: number;
  readonly row: CursorRow | null;
  /** `replicated` as the delta copy under way found it. */
  readonly found: Tree;
};

export class SyncCheckers {
  /** Set by whoever spoils a copy on purpose: then a failed verification is no surprise. */
  damaged = false;
  private readonly cluster: SyncClusterView;
  private readonly seen = new Map<NodeId, OnDisk>();
  /** When a node was last seen stopped: its timers are late, and what it keeps for too long harms nobody. */
  private readonly pausedMs = new Map<NodeId, number>();
  /** When each leader's hold was granted or renewed last. */
  private readonly renewed = new WeakMap<Hold, number>();

  constructor(cluster: SyncClusterView) {
    this.cluster = cluster;
  }

  /** What is wrong, or null. */
  check(): string | null {
    const { cluster } = this;
    const first = cluster.chosenFirst();
    for (const id of cluster.nodeIds) {
      const disk = cluster.diskOf(id);
      const before = this.seen.get(id);
      if (disk !== before?.disk) {
        const now = readDisk(disk, id, before);
        this.seen.set(id, now);
        const wrong = this.checkDisk(now, before);
        if (wrong !== null) return `${wrong} (${id})`;
      }
      const state = cluster.syncOf(id);
      const wrong = state === null ? null : this.checkPromises(id, state, first);
      if (wrong !== null) return `${wrong} (${id})`;
    }
    return !this.damaged && cluster.markCount("sync.mismatch") + cluster.markCount("sync.alarm") > 0
      ? "I11 a verification failed and nothing was damaged"
      : null;
  }

  /** A disk was lost, or an older copy put in its place: what it once said binds it no more. */
  diskReplaced(id: NodeId): void {
    this.seen.delete(id);
  }

  private checkDisk(now: OnDisk, before: OnDisk | undefined): string | null {
    const { replicated } = now.disk.dbs;
    if (before !== undefined && before.disk.dbs.local === now.disk.dbs.local && before.disk.dbs.replicated === replicated) return null;
    if (now.flagged) return this.checkCopy(replicated, now);
    if (before !== undefined && !before.flagged && now.last < before.last) return `I8 it had version ${before.last}, has ${now.last}, and no flag`;
    if (now.last < now.floor) return `I12 serves ${now.last}, below its floor ${now.floor}`;
    if (before !== undefined && replicated === before.disk.dbs.replicated && !before.flagged) return null;
    const want = this.cluster.treeAt(now.last);
    if (want === undefined) this.cluster.showTree(now.last, replicated);
    else if (!sameRows(replicated, want)) return `I8 no flag, and its keys are not those of version ${now.last}`;
    return null;
  }

  /** I9: what was copied is the state of its snapshot; nothing is there that a snapshot did not bring. */
  private checkCopy(replicated: Tree, { row, found }: OnDisk): string | null {
    if (row === null || this.damaged) return null; // between flag and clear, or cleared: nothing of it will be believed
    if (row.oldest !== row.version || row.position !== row.version) return this.checkMixture(replicated, row);
    const tree = this.cluster.treeAt(row.version);
    if (tree === undefined) return null;
    if (row.isDelta && row.cursor !== null && !sameIterators(treeIterate(replicated, row.cursor), treeIterate(found, row.cursor)))
      return `I9 behind the cursor: not the rows that were here before version ${row.version} was copied`;
    const has = row.isDelta && row.cursor !== null ? treeIterate(replicated, undefined, row.cursor) : treeIterate(replicated);
    const want = row.cursor === null ? treeIterate(tree) : treeIterate(tree, undefined, row.cursor);
    return sameIterators(has, want) ? null : `I9 up to chunk ${row.number}: not the rows of version ${row.version}`;
  }

  private checkMixture(replicated: Tree, row: CursorRow): string | null {
    const versions: Tree[] = [];
    for (let version = row.oldest; version <= Math.max(row.version, row.position); version++) {
      const tree = this.cluster.treeAt(version);
      if (tree === undefined) return null;
      versions.push(tree);
    }
    for (const [key, stored] of treeIterate(replicated)) {
      if (row.cursor !== null && compareBytes(key, row.cursor) >= 0) return "I9 a row at or behind the cursor";
      if (!versions.some((tree) => sameBytes(treeGet(tree, key), stored))) return `I9 ${key.toHex()} is of no version from ${row.oldest} on`;
    }
    return null;
  }

  /** What a node's memory promises to others, held against disks. */
  private checkPromises(id: NodeId, state: SyncState, first: number): string | null {
    const upMs = this.cluster.upMs(id);
    if (this.cluster.isPaused(id)) this.pausedMs.set(id, upMs);
    const { flag } = state.requester;
    if (flag !== null && !mustAbstain(state)) return "I8 flagged, and it would vote";
    if (flag !== null && state.transfers.size > 0) return "I8 flagged, and it provides";
    for (const transfer of state.transfers.values()) {
      const row = this.seen.get(transfer.requester)?.row ?? null;
      // a newer snapshot may begin the count again: until the requester says where it stands, the number is the older one's
      if (row !== null && transfer.isReady && transfer.acked > row.number && equalBytes(row.transfer, transfer.id))
        return `I10 chunk ${transfer.acked} is acknowledged, ${row.number} durable`;
      const last = this.seen.get(id)?.last ?? 0;
      if (last < transfer.floor) return `I12 provides ${last} to a floor of ${transfer.floor}`;
      const { phase, oldest, version, ack } = transfer;
      const needs = phase === "holding" ? (ack?.first ?? first) : (oldest ?? version) + 1;
      if (first > needs && isHeld({ state, upMs }, transfer)) return `I7 trimmed to ${first}, a hold keeps ${needs}`;
    }
    for (const hold of state.holds.values()) {
      if (this.renewed.get(hold) === hold.renewedMs) continue;
      this.renewed.set(hold, hold.renewedMs);
      if (!this.cluster.mayGrant(id)) return `I7 hold ${hold.name} was granted by a leader without a majority's leases`;
    }
    for (const hold of state.holds.values())
      if (upMs - hold.renewedMs > hold.leaseMs * 1.05 && upMs - (this.pausedMs.get(id) ?? -1_000) > 100)
        return `I7 hold ${hold.name} was renewed ${upMs - hold.renewedMs} ms ago`;
    if (state.holds.size === 0 && state.leading !== null && upMs >= state.leading.waitUntilMs && heldFrom(state, upMs) !== null)
      return "I7 trimming is off, and nothing is held";
    return null;
  }
}

function readDisk(disk: DiskImage, id: NodeId, before: OnDisk | undefined): OnDisk {
  const snap = new DiskSnapshot(disk, id);
  const { last } = historyOf(treeSnapshot(disk.dbs.replicated, id));
  const row = syncRows.cursor(snap);
  const isSame = before?.row?.isDelta === true && row?.isDelta === true && equalBytes(before.row.transfer, row.transfer) && before.row.version === row.version;
  const found = isSame ? before.found : disk.dbs.replicated;
  return { disk, last, flagged: syncRows.flag(snap) !== null, floor: syncRows.floor(snap), row, found };
}

const sameRows = (a: Tree, b: Tree): boolean => a === b || (treeCount(a) === treeCount(b) && sameIterators(treeIterate(a), treeIterate(b)));

function sameIterators(left: Iterator<readonly [Uint8Array, Uint8Array]>, right: Iterator<readonly [Uint8Array, Uint8Array]>): boolean {
  for (;;) {
    const [a, b] = [left.next(), right.next()];
    if (a.done === true || b.done === true) return a.done === b.done;
    if (!equalBytes(a.value[0], b.value[0]) || !equalBytes(a.value[1], b.value[1])) return false;
  }
}

const sameBytes = (a: Uint8Array | undefined, b: Uint8Array): boolean => a !== undefined && equalBytes(a, b);
