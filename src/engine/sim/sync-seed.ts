/**
 * One seed about store synchronisation: members that trim early, so that whoever was away must be copied to; writes all the
 * while, and faults where they hurt a copy: provider, laggard or leader dies, links fail, disks fill, an operator forces a
 * sync. Every invariant after every event; then all is healed, and every node must be joined, equal, and nothing held.
 */
import type { NodeId } from "../base/ids.ts";
import { nextBelow, nextChance, nextOf, type Prng, prng } from "../base/prng.ts";
import { SYNC_TIMING, type SyncTiming } from "../sync/state.ts";
import type { SeedReport } from "./area.ts";
import { PaxosCheckers } from "./paxos-checkers.ts";
import { PaxosClients, put, remove } from "./paxos-clients.ts";
import { PaxosCluster } from "./paxos-world.ts";
import { drift, endOneFault, healLinks, healNode, replayOne, seedReport, storesEqual } from "./seed-run.ts";
import { runFor } from "./steer.ts";
import { watchSync } from "./sync-watch.ts";

export const SYNC_SEED_EVENTS = 8_000;
const FAULTS = ["laggard", "laggard", "provider", "requester", "leader", "cut", "pause", "full", "force", "replay"] as const;
const REPLAYED = ["sync.chunk", "sync.chunk", "sync.chunk-ack", "sync.start", "sync.grant", "hold.req", "hold.ack", "sync.abort", "sync.recent", "sync.verify"];
const KEYS = Array.from({ length: 24 }, (_, n) => `key-${n}`);
const OPEN_MAX = 8;
const WHOLE_MS = 120_000;

/** A twentieth of the real times: the same order of waits in fewer events. */
const TIMING = Object.fromEntries(Object.entries(SYNC_TIMING).map(([name, ms]) => [name, Math.max(20, ms / 20)])) as unknown as SyncTiming;

export function runSyncSeed(seed: number, eventsMax = SYNC_SEED_EVENTS, onLine?: (line: string) => void): SeedReport {
  return new SyncSeedRun(seed, eventsMax, onLine).run();
}

class SyncSeedRun {
  private readonly seed: number;
  private readonly eventsMax: number;
  private readonly onLine: ((line: string) => void) | undefined;
  private readonly dice: Prng;
  private readonly cluster: PaxosCluster;
  private readonly clients: PaxosClients;
  private readonly faultShare: number;

  constructor(seed: number, eventsMax: number, onLine?: (line: string) => void) {
    this.seed = seed;
    this.eventsMax = eventsMax;
    this.onLine = onLine;
    this.dice = prng(seed ^ 0x57ac);
    const isSeedProfile = nextChance(this.dice, 0.3);
    const lossy = nextChance(this.dice, 0.4);
    this.cluster = new PaxosCluster({
      seed,
      nodeCount: nextChance(this.dice, 0.6) ? 3 : 5,
      recording: onLine !== undefined,
      keepCount: 6,
      timing: { trimWaitMs: TIMING.holdWaitMs },
      sync: {
        limits: { chunkBytes: 1_024, chunkKeys: 1 + nextBelow(this.dice, 8), windowChunks: isSeedProfile ? 1 : 4, windowBytes: 8_192 },
        timing: TIMING,
        isResuming: !isSeedProfile,
        holdsAll: isSeedProfile,
      },
      flushMs: [0, nextOf(this.dice, [2, 30])],
      keep: "random",
    });
    const { world, nodeIds } = this.cluster;
    for (const id of nodeIds) world.node(id).clockRate = 0.97 + nextBelow(this.dice, 61) / 1_000;
    world.network.faults = { delayMs: [1, nextOf(this.dice, [4, 40])], loss: lossy ? 0.02 : 0, repeat: lossy ? 0.04 : 0, corrupt: lossy ? 0.002 : 0 };
    const checkers = new PaxosCheckers(this.cluster);
    const watched = watchSync(this.cluster);
    this.clients = new PaxosClients(this.cluster, checkers);
    world.check = () => checkers.check() ?? this.clients.check() ?? watched.check();
    this.faultShare = nextOf(this.dice, [2, 5, 10]);
  }

  run(): SeedReport {
    const { world } = this.cluster;
    this.cluster.startNodes();
    runFor(world, 3_000);
    while (world.eventCount < this.eventsMax && world.violations.length === 0) {
      this.act();
      drift(world, nextBelow(this.dice, 40));
    }
    if (world.violations.length === 0) this.heal();
    return seedReport({ world, seed: this.seed, onLine: this.onLine });
  }

  private act(): void {
    const roll = nextBelow(this.dice, 100);
    if (roll < this.faultShare) this.fault(nextOf(this.dice, FAULTS));
    else if (roll < this.faultShare + 5) this.revive();
    else this.write();
  }

  private write(): void {
    const id = this.cluster.leader();
    if (id === null || this.clients.openCount >= OPEN_MAX) return;
    const key = nextOf(this.dice, KEYS);
    this.clients.ask(id, nextChance(this.dice, 0.2) ? remove(key) : put(key, this.clients.nextValue()));
  }

  private revive(): void {
    const { world, nodeIds } = this.cluster;
    const id = nextOf(this.dice, nodeIds);
    if (!this.cluster.isUp(id)) world.startNode(id);
    else endOneFault(world, id);
  }

  private fault(kind: (typeof FAULTS)[number]): void {
    const { world, nodeIds } = this.cluster;
    const any = nextOf(this.dice, nodeIds);
    const role = this.inRole(kind) ?? any;
    switch (kind) {
      case "laggard":
      case "provider":
      case "requester":
      case "leader":
        if (this.downCount() * 2 + 2 < nodeIds.length + 1 && this.cluster.isUp(role)) world.crashNode(role);
        if (kind !== "laggard" && !this.cluster.isUp(role) && nextChance(this.dice, 0.7)) world.startNode(role);
        return;
      case "cut":
        world.network.cut(any, nextOf(this.dice, nodeIds));
        return;
      case "pause":
        world.pauseNode(any);
        return;
      case "full":
        if (nextChance(this.dice, 0.5)) world.node(any).faults.full = true;
        else world.node(any).faults.fullNext = 1;
        return;
      case "force":
        if (this.cluster.isUp(any)) world.request(any, { kind: "sync.force" });
        return;
      default:
        replayOne(world, this.dice, { kinds: REPLAYED, withinMs: 3_000 });
    }
  }

  /** The node that a fault is meant for, where somebody plays that part now. */
  private inRole(kind: (typeof FAULTS)[number]): NodeId | null {
    const states = this.cluster.nodeIds.map((id) => [id, this.cluster.syncOf(id)] as const);
    if (kind === "leader") return this.cluster.leader();
    if (kind === "provider") return states.find(([, state]) => (state?.transfers.size ?? 0) > 0)?.[0] ?? null;
    if (kind === "requester") return states.find(([, state]) => state !== null && state.requester.flag !== null)?.[0] ?? null;
    return null;
  }

  private downCount(): number {
    return this.cluster.nodeIds.filter((id) => !this.cluster.isUp(id)).length;
  }

  /** L1: everything works again, and so does every node. */
  private heal(): void {
    const { world, nodeIds } = this.cluster;
    healLinks(world);
    for (const id of nodeIds) {
      healNode(world, id);
      if (!this.cluster.isUp(id)) world.startNode(id);
    }
    runFor(world, WHOLE_MS, () => world.violations.length > 0 || this.isWhole());
    if (world.violations.length > 0 || this.isWhole()) return;
    const phases = nodeIds.map(
      (id) => `${id} ${this.cluster.stateOf(id)?.phase} ${this.cluster.syncOf(id)?.requester.phase} ${this.cluster.stateOf(id)?.last}`,
    );
    world.violations.push({ invariant: `L1 not whole ${WHOLE_MS / 1_000} s after the last fault: ${phases.join(", ")}`, at: world.eventCount });
  }

  private isWhole(): boolean {
    const { world, nodeIds } = this.cluster;
    const isQuiet = nodeIds.every((id) => {
      const state = this.cluster.syncOf(id);
      return state?.requester.phase === "joined" && state.transfers.size + state.holds.size === 0;
    });
    return isQuiet && storesEqual(world, nodeIds);
  }
}
