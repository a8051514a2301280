/**
 * One seed about store synchronisation: members that trim early, so that whoever was away must be copied to; writes all the
 * while, and faults where they hurt a copy: provider, laggard or leader dies, links fail, disks fill, an operator forces a
 * sync. A third of the seeds copies differences only; in a quarter snapshots are soon too old. Every invariant after every
 * event; then all is healed, and every node must be joined, equal, nothing held, and take writes.
 */
import { nextBelow, nextChance, nextOf, type Prng, prng } from "../base/prng.ts";
import { SYNC_TIMING, type SyncTiming } from "../sync/state.ts";
import type { SeedOptions, SeedReport } from "./area.ts";
import { stuckWrite } from "./liveness.ts";
import { PaxosCheckers } from "./paxos-checkers.ts";
import { PaxosClients, put, remove } from "./paxos-clients.ts";
import { PaxosCluster } from "./paxos-world.ts";
import { endOneFault, healLinks, healNode, safetyPhase, seedReport, storesEqual } from "./seed-run.ts";
import { runFor } from "./steer.ts";
import { SyncFaults } from "./sync-faults.ts";
import { watchSync } from "./sync-watch.ts";
import type { Tape } from "./tape.ts";

export const SYNC_SEED_EVENTS = 8_000;
const KEYS = Array.from({ length: 24 }, (_, n) => `key-${n}`);
const OPEN_MAX = 8;
const WHOLE_MS = 120_000;

/** A twentieth of the real times: the same order of waits in fewer events. */
const TIMING = Object.fromEntries(Object.entries(SYNC_TIMING).map(([name, ms]) => [name, Math.max(20, ms / 20)])) as unknown as SyncTiming;

/** A few round trips of the slowest link. */
const SHORT_AGE_MS = 800;

export function runSyncSeed(seed: number, how: SeedOptions = {}): SeedReport {
  return new SyncSeedRun(seed, how).run();
}

class SyncSeedRun {
  private readonly seed: number;
  private readonly eventsMax: number;
  private readonly tape: Tape | undefined;
  private readonly dice: Prng;
  private readonly cluster: PaxosCluster;
  private readonly clients: PaxosClients;
  private readonly faults: SyncFaults;
  private readonly faultShare: number;

  constructor(seed: number, { eventsMax = SYNC_SEED_EVENTS, onWorld, tape }: SeedOptions) {
    this.seed = seed;
    this.eventsMax = eventsMax;
    this.tape = tape;
    this.dice = prng(seed ^ 0x57ac);
    const isSeedProfile = nextChance(this.dice, 0.3);
    const lossy = nextChance(this.dice, 0.4);
    const profile = prng(seed ^ 0xde17a);
    const isDelta = nextChance(profile, 1 / 3);
    const timing = nextChance(profile, 0.25) ? { ...TIMING, snapshotAgeMaxMs: SHORT_AGE_MS } : TIMING;
    this.cluster = new PaxosCluster({
      seed,
      nodeCount: nextChance(this.dice, 0.6) ? 3 : 5,
      recording: false,
      keepCount: 6,
      timing: { trimWaitMs: TIMING.holdWaitMs },
      sync: {
        limits: { chunkBytes: 1_024, chunkKeys: 1 + nextBelow(this.dice, 8), windowChunks: isSeedProfile ? 1 : 4, windowBytes: 8_192 },
        timing,
        isResuming: !isSeedProfile,
        mode: isDelta ? "delta" : "full",
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
    this.faults = new SyncFaults({ cluster: this.cluster, dice: this.dice, checkers: watched, paxos: checkers, seed, isDelta });
    onWorld?.(world);
  }

  run(): SeedReport {
    const { world } = this.cluster;
    this.cluster.startNodes();
    runFor(world, 3_000);
    const { dice, eventsMax, tape } = this;
    safetyPhase(world, { dice, eventsMax, tape, driftMax: 40, act: () => this.act() });
    if (world.violations.length === 0) this.heal();
    return seedReport(world, this.seed);
  }

  private act(): void {
    this.faults.lurk();
    const roll = nextBelow(this.dice, 100);
    if (roll < this.faultShare) this.faults.make();
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

  /** L1: everything works again, and so does every node, and clients are served at each of them. */
  private heal(): void {
    const { world, nodeIds } = this.cluster;
    healLinks(world);
    for (const id of nodeIds) {
      healNode(world, id);
      if (!this.cluster.isUp(id)) world.startNode(id);
    }
    runFor(world, WHOLE_MS, () => world.violations.length > 0 || this.isWhole());
    if (world.violations.length > 0) return;
    const wrong = this.isWhole() ? stuckWrite(this.cluster, this.clients, nodeIds) : this.notWhole();
    if (wrong !== null) world.violations.push({ invariant: wrong, at: world.eventCount });
  }

  private notWhole(): string {
    const phases = this.cluster.nodeIds.map(
      (id) => `${id} ${this.cluster.stateOf(id)?.phase} ${this.cluster.syncOf(id)?.requester.phase} ${this.cluster.stateOf(id)?.last}`,
    );
    return `L1 not whole ${WHOLE_MS / 1_000} s after the last fault: ${phases.join(", ")}`;
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
