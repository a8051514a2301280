/**
 * A cluster of members under the checkers of synchronisation: which store each version had, as the first node in service
 * showed it, and which first version a chosen trim left. Remembers the newest versions only.
 */
import type { NodeId } from "../base/ids.ts";
import { isSettled, leasesHold } from "../paxos/state.ts";
import type { Tree } from "../store/tree.ts";
import type { SyncState } from "../sync/state.ts";
import type { DiskImage } from "./disk.ts";
import type { PaxosCluster } from "./paxos-world.ts";
import { SyncCheckers, type SyncClusterView } from "./sync-checkers.ts";

const VERSIONS_MAX = 2_000;

class Watched implements SyncClusterView {
  private readonly cluster: PaxosCluster;
  private readonly trees = new Map<number, Tree>();
  constructor(cluster: PaxosCluster) {
    this.cluster = cluster;
  }
  get nodeIds(): readonly NodeId[] {
    return this.cluster.nodeIds;
  }
  diskOf(id: NodeId): DiskImage {
    return this.cluster.world.node(id).disk;
  }
  syncOf(id: NodeId): SyncState | null {
    return this.cluster.syncOf(id);
  }
  upMs(id: NodeId): number {
    return this.cluster.world.nowMs * this.cluster.world.node(id).clockRate;
  }
  isPaused(id: NodeId): boolean {
    return this.cluster.world.node(id).paused;
  }
  mayGrant(id: NodeId): boolean {
    const state = this.cluster.stateOf(id);
    return state !== null && isSettled(state) && leasesHold(state, this.upMs(id));
  }
  chosenFirst(): number {
    let first = 1;
    for (const id of this.nodeIds) first = Math.max(first, this.cluster.stateOf(id)?.first ?? 1);
    return first;
  }
  treeAt(version: number): Tree | undefined {
    return this.trees.get(version);
  }
  showTree(version: number, tree: Tree): void {
    this.trees.set(version, tree);
    this.trees.delete(version - VERSIONS_MAX);
  }
  markCount(name: string): number {
    return this.cluster.world.trace.marks.get(name) ?? 0;
  }
}

export const watchSync = (cluster: PaxosCluster): SyncCheckers => new SyncCheckers(new Watched(cluster));
