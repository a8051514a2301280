/**
 * One seed of the area `sync`: a cluster drawn from the seed, clients and faults in an order drawn from it, every invariant
 * looked at after every event (safety phase); then a majority is healed, the rest stays dead, and writes must go through
 * within ten virtual seconds, all live stores become equal (liveness phase, L1 of sync.md 5.1).
 */

import { equalBytes, utf8 } from "../base/bytes.ts";
import type { NodeId } from "../base/ids.ts";
import { nextBelow, nextChance, nextOf, type Prng, prng } from "../base/prng.ts";
import { storedAccepted } from "../paxos/records.ts";
import { firstIn } from "../paxos/trim.ts";
import { decodeBatch } from "../store/batch.ts";
import { historyIn } from "../store/versions.ts";
import type { SeedOptions, SeedReport } from "./area.ts";
import { stuckWrite } from "./liveness.ts";
import { PERFECT_LINK } from "./network.ts";
import { PaxosCheckers } from "./paxos-checkers.ts";
import { PaxosClients, put, read, remove } from "./paxos-clients.ts";
import { PaxosCluster } from "./paxos-world.ts";
import { endOneFault, healLinks, healNode, replayOne, safetyPhase, seedReport, storesEqual } from "./seed-run.ts";
import { runFor } from "./steer.ts";
import type { Tape } from "./tape.ts";

/** Events of a safety phase where nobody says: a few dozen seconds of virtual time with a dozen faults. */
export const SEED_EVENTS = 6_000;
const FAULTS = ["crash", "cut", "isolate", "pause", "full", "fsync", "slow", "replay", "disk", "wipe", "coup", "duel"] as const;
const REPLAYED = [
  "paxos.begin",
  "paxos.collect",
  "paxos.lease",
  "paxos.commit",
  "paxos.elect",
  "paxos.accept",
  "paxos.last",
  "paxos.lease-ack",
  "paxos.version",
];
const KEYS = ["a", "b", "c"];
/** Requests of clients that may be open at once. */
const OPEN_MAX = 24;
const EQUAL_MS = 10_000;

export function runPaxosSeed(seed: number, how: SeedOptions = {}): SeedReport {
  return new SeedRun(seed, how).run();
}

class SeedRun {
  private readonly seed: number;
  private readonly eventsMax: number;
  private readonly tape: Tape | undefined;
  private readonly dice: Prng;
  private readonly cluster: PaxosCluster;
  private readonly clients: PaxosClients;
  /** Faults this seed may use; drawn once, so that some seeds are about one thing. */
  private readonly allowed: ReadonlySet<(typeof FAULTS)[number]>;
  /** A node whose disk was lost, until its new one was taken in. */
  private lost: NodeId | null = null;
  /** Mostly no faults at all for a while: leases and pipelines need quiet to fill. */
  private readonly faultShare: number;

  constructor(seed: number, { eventsMax = SEED_EVENTS, onWorld, tape }: SeedOptions) {
    this.seed = seed;
    this.eventsMax = eventsMax;
    this.tape = tape;
    this.dice = prng(seed ^ 0x5eed);
    const nodeCount = nextChance(this.dice, 0.7) ? 3 : 5;
    const slow = nextChance(this.dice, 0.3);
    const lossy = nextChance(this.dice, 0.5);
    this.cluster = new PaxosCluster({
      seed,
      nodeCount,
      recording: false,
      keepCount: 12,
      timing: { trimWaitMs: 1_000, requestMs: 3_000 },
      sharesRank: nextChance(this.dice, 0.3),
      flushMs: [0, slow ? 40 : 4],
      keep: "random",
    });
    const { world, nodeIds } = this.cluster;
    for (const id of nodeIds) world.node(id).clockRate = 0.96 + nextBelow(this.dice, 81) / 1_000;
    world.network.faults = { delayMs: [1, slow ? 120 : 12], loss: lossy ? 0.03 : 0, repeat: lossy ? 0.05 : 0, corrupt: lossy ? 0.003 : 0 };
    const checkers = new PaxosCheckers(this.cluster);
    this.clients = new PaxosClients(this.cluster, checkers);
    world.check = () => checkers.check() ?? this.clients.check();
    this.allowed = new Set(FAULTS.filter(() => nextChance(this.dice, 0.5)));
    this.faultShare = nextOf(this.dice, [2, 6, 12]);
    onWorld?.(world);
  }

  run(): SeedReport {
    const { world } = this.cluster;
    this.cluster.startNodes();
    runFor(world, 2_000);
    const { dice, eventsMax, tape } = this;
    safetyPhase(world, { dice, eventsMax, tape, driftMax: 30, act: () => this.act() });
    if (world.violations.length === 0) this.heal();
    if (world.trace.marks.has("paxos.old-copy")) this.broken("I4 a disk that is no old copy was taken for one");
    return seedReport(world, this.seed);
  }

  // ── safety phase ─────────────────────────────────────────────────────────────────────────────────────────────────

  private act(): void {
    const roll = nextBelow(this.dice, 100);
    if (this.lost !== null && roll >= 90) this.takeIn(this.lost);
    else if (roll < this.faultShare) this.fault();
    else if (roll < this.faultShare + 8) this.revive();
    else if (this.clients.openCount < OPEN_MAX) this.ask();
  }

  private ask(): void {
    const { nodeIds } = this.cluster;
    const id = nextOf(this.dice, nodeIds);
    if (!this.cluster.isUp(id)) return;
    const key = nextOf(this.dice, KEYS);
    const roll = nextBelow(this.dice, 10);
    if (roll < 4) this.clients.ask(id, put(key, this.clients.nextValue()));
    else if (roll < 5)
      this.clients.ask(id, put(key, this.clients.nextValue(), { ifMatch: this.clients.checkers.valueAt(kvKey(key), Number.MAX_SAFE_INTEGER).version }));
    else if (roll < 6) this.clients.ask(id, put(key, this.clients.nextValue(), { ifNoneMatch: true }));
    else if (roll < 7) this.clients.ask(id, remove(key));
    else this.clients.ask(id, read(key, nextChance(this.dice, 0.1)));
  }

  /** Ends one standing fault, most often by starting a node that is down. */
  private revive(): void {
    const { world, nodeIds } = this.cluster;
    const id = nextOf(this.dice, nodeIds);
    if (!this.cluster.isUp(id)) world.startNode(id);
    else endOneFault(world, id);
  }

  private fault(): void {
    const { world, nodeIds } = this.cluster;
    const kind = nextOf(this.dice, FAULTS);
    if (!this.allowed.has(kind)) return;
    const id = nextChance(this.dice, 0.5) ? (this.cluster.leader() ?? nextOf(this.dice, nodeIds)) : nextOf(this.dice, nodeIds);
    switch (kind) {
      case "crash":
        if (this.cluster.isUp(id)) world.crashNode(id);
        if (nextChance(this.dice, 0.6)) world.startNode(id);
        return;
      case "cut": {
        const other = nextOf(this.dice, nodeIds);
        world.network.cut(id, other);
        if (nextChance(this.dice, 0.5)) world.network.cut(other, id);
        return;
      }
      case "isolate":
        for (const other of nodeIds)
          for (const [from, to] of [
            [id, other],
            [other, id],
          ] as const)
            world.network.cut(from, to);
        return;
      case "pause":
        world.pauseNode(id);
        return;
      case "full":
        if (nextChance(this.dice, 0.5)) world.node(id).faults.full = true;
        else world.node(id).faults.fullNext = 1 + nextBelow(this.dice, 2);
        return;
      case "fsync":
        if (nextChance(this.dice, 0.3)) world.node(id).faults.failNext = 1;
        return;
      case "slow":
        for (const other of nodeIds) if (other !== id) world.network.setLink(id, other, { ...PERFECT_LINK, delayMs: [100, 900] });
        return;
      case "wipe":
        if (this.lost === null && nextChance(this.dice, 0.5)) this.wipe(nextOf(this.dice, nodeIds));
        return;
      case "duel":
        this.duel();
        return;
      case "coup":
        this.coup(id);
        return;
      case "disk":
        world.pauseDisk(id);
        return;
      default:
        replayOne(world, this.dice, { kinds: REPLAYED, withinMs: 3_000 });
    }
  }

  private wipe(id: NodeId): void {
    this.lost = id;
    this.clients.checkers.diskReplaced(id);
    this.cluster.loseDisk(id);
    this.cluster.world.startNode(id);
  }

  /** The new disk is to vote: asked of any node, until the map says so. */
  private takeIn(id: NodeId): void {
    const member = this.clients.checkers.map?.members.find((each) => each.id === id);
    const birth = this.cluster.birthOf(id);
    if (member !== undefined && equalBytes(member.birth, birth)) this.lost = null;
    else {
      const at = nextOf(this.dice, this.cluster.nodeIds);
      if (this.cluster.isUp(at)) this.cluster.request(at, { kind: "cluster.change", what: "replace", id, rank: 0, birth });
    }
  }

  /** The leader is cut off while it may still read on its leases; those who gave them are stopped, or start anew. */
  private coup(leader: NodeId): void {
    const { world, nodeIds } = this.cluster;
    const isQuiet = nextChance(this.dice, 0.5);
    const first = nextOf(this.dice, nodeIds);
    if (isQuiet) {
      for (const [from, to] of [
        [leader, first],
        [first, leader],
      ] as const)
        world.network.cut(from, to);
      runFor(world, 600 + nextBelow(this.dice, 900), () => world.violations.length > 0);
    }
    for (const other of nodeIds) {
      for (const [from, to] of [
        [leader, other],
        [other, leader],
      ] as const)
        world.network.cut(from, to);
      if (isQuiet || other === leader || !this.cluster.isUp(other)) continue;
      world.crashNode(other);
      world.startNode(other);
    }
    for (let i = 0; i < 16 && world.violations.length === 0; i++) {
      for (const id of [leader, nextOf(this.dice, nodeIds)]) {
        if (!this.cluster.isUp(id) || this.clients.openCount >= OPEN_MAX) continue;
        this.clients.ask(id, id === leader ? read("a") : put("a", this.clients.nextValue()));
      }
      runFor(world, 70, () => world.violations.length > 0);
    }
  }

  /** All start anew, and the first two, who may be of one rank, do not hear each other: both may win, and collect at once. */
  private duel(): void {
    const { world, nodeIds } = this.cluster;
    const [one, two, ...others] = nodeIds as [NodeId, NodeId, ...NodeId[]];
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const)
      world.network.cut(from, to);
    for (const other of others) world.network.setLink(one, other, { ...PERFECT_LINK, delayMs: [50, 500] });
    for (const id of nodeIds) {
      if (this.cluster.isUp(id)) world.crashNode(id);
      world.startNode(id);
    }
    runFor(world, 2_500, () => world.violations.length > 0);
  }

  // ── liveness phase ───────────────────────────────────────────────────────────────────────────────────────────────

  /** A majority comes back, on whole links; the others stay as dead as they are. */
  private heal(): void {
    const { world, nodeIds } = this.cluster;
    healLinks(world);
    const live = this.drawMajority();
    if (live.length * 2 <= nodeIds.length) return;
    for (const id of nodeIds) {
      healNode(world, id);
      if (!live.includes(id) && this.cluster.isUp(id)) world.crashNode(id);
      if (live.includes(id) && !this.cluster.isUp(id)) world.startNode(id);
    }
    const wrong = stuckWrite(this.cluster, this.clients, live);
    if (wrong !== null) this.broken(wrong);
    if (world.violations.length > 0) return;
    runFor(world, EQUAL_MS, () => world.violations.length > 0 || storesEqual(world, live));
    if (world.violations.length === 0 && !storesEqual(world, live))
      this.broken(`L1 stores of ${live.join(", ")} are not equal ${EQUAL_MS / 1_000} s after the last write`);
  }

  private drawMajority(): NodeId[] {
    const { nodeIds } = this.cluster;
    const least = Math.floor(nodeIds.length / 2) + 1;
    // whoever is behind what others trimmed needs the store's synchronisation, which is not what this phase is about
    const first = Math.max(...nodeIds.map((id) => this.firstLeftBy(id)));
    const left = nodeIds.filter((id) => historyIn(this.cluster.snapOf(id)).last + 1 >= first && !this.isForeign(id));
    const count = Math.min(left.length, least + nextBelow(this.dice, nodeIds.length - least + 1));
    return Array.from({ length: count }, () => left.splice(nextBelow(this.dice, left.length), 1)[0] as NodeId);
  }

  /** Trims that a node applied, knows of or accepted: a proposed one waits for nobody who is down, and is chosen before he is back (seed 4546). */
  private firstLeftBy(id: NodeId): number {
    const snap = this.cluster.snapOf(id);
    const state = this.cluster.stateOf(id);
    const accepted = [...storedAccepted(snap)].map(({ batch }) => decodeBatch(batch).batch);
    for (const { ops } of state?.accepted.values() ?? []) accepted.push(ops);
    return Math.max(historyIn(snap).first, state?.first ?? 1, ...accepted.map((ops) => firstIn(ops) ?? 1));
  }

  /** Whether a node's disk is not the one that votes. */
  private isForeign(id: NodeId): boolean {
    const member = this.clients.checkers.map?.members.find((each) => each.id === id);
    return member !== undefined && !equalBytes(member.birth, this.cluster.birthOf(id));
  }

  private broken(invariant: string): void {
    const { world } = this.cluster;
    world.violations.push({ invariant, at: world.eventCount });
  }
}

const kvKey = (key: string): Uint8Array => utf8(`kv/key/${key}`);
