/**
 * One seed of the merge: a cluster drawn from the seed, steps and clients and faults in an order drawn from it, every
 * invariant looked at after every event (safety phase); then the faults stop, and what was promised must come true
 * within bounded rounds (liveness phase, I9). The same seed is the same run, down to the trace hash.
 */
import { utf8 } from "../base/bytes.ts";
import type { NodeId } from "../base/ids.ts";
import { nextBelow, nextChance, nextOf, type Prng, prng } from "../base/prng.ts";
import type { StepName } from "../node/assemble.ts";
import type { SeedOptions, SeedReport } from "./area.ts";
import { MergeRun } from "./merge-run.ts";
import type { MergeCluster, MergeShape } from "./merge-world.ts";
import { endOneFault, replayOne, safetyPhase, seedReport } from "./seed-run.ts";
import type { Tape } from "./tape.ts";

/** Events of a safety phase where nobody says: enough for a dozen rounds with faults. */
export const SEED_EVENTS = 3_000;
const FAULTS = ["crash", "kill", "cut", "pause", "full", "fsync", "wipe", "restore", "late-swap", "replay"] as const;
/** What may reach a node again, or late, from a process that is gone: it was on its way in a socket. */
const REPLAYED = ["dist.publish", "backup.verify", "backup.head", "copy.order", "copy.entries", "storage.put", "register.swap"];
const SWAPS = { kind: "register.swap", from: "*", to: "*" };
/** Between two deeds time moves no further: a timer of an hour is for other seeds than those of a merge round. */
const DRIFT_MS_MAX = 15_000;
/** Distinct entries that clients of one seed submit: few, so that repeats meet. */
const ENTRY_COUNT = 400;

export function runMergeSeed(seed: number, how: SeedOptions = {}): SeedReport {
  return new SeedRun(seed, how).run();
}

/** 1 to 3 storage nodes and secondaries, 1 or 2 frontends; often one node has several roles, as `cairn up` gives them. */
function drawShape(dice: Prng): MergeShape {
  const name = (text: string) => text as NodeId;
  const storageCount = 1 + nextBelow(dice, 3);
  const secondaryCount = nextBelow(dice, 4);
  const shared = nextChance(dice, 0.5);
  const secondaries = ["s1", "s2", "s3"].slice(0, secondaryCount).map(name);
  const storages = (shared ? ["p", ...secondaries].slice(0, storageCount) : ["a", "b", "c"].slice(0, storageCount)).map(name);
  const frontends = (shared ? ["p", ...secondaries].slice(0, 2) : ["f", "g"].slice(0, 1 + nextBelow(dice, 2))).map(name);
  return {
    storages: storages.toSorted(),
    primary: name("p"),
    secondaries,
    frontends: frontends.toSorted(),
    // mostly above 0: only then does a register that is a local record guard anything
    backupquorum: secondaryCount > 0 && nextChance(dice, 0.75) ? 1 + nextBelow(dice, secondaryCount) : nextBelow(dice, secondaryCount + 1),
    storagequorum: Math.min(storages.length, 1 + nextBelow(dice, 2)),
    cosign: "prefer",
  };
}

class SeedRun {
  private readonly seed: number;
  private readonly eventsMax: number;
  private readonly tape: Tape | undefined;
  private readonly dice: Prng;
  private readonly merge: MergeRun;
  private readonly cluster: MergeCluster;
  /** Faults this seed may use; drawn once, so that some seeds are about one thing. */
  private readonly allowed: ReadonlySet<(typeof FAULTS)[number]>;
  private restored = false;
  private wiped = false;
  /** A storage node whose disk is lost, and the event from which on it may be; null where none is. */
  private loss: { readonly id: NodeId; readonly at: number } | null;
  /** A secondary that is not backed up in the first half: so that a restored primary meets one that knows nothing. */
  private readonly cold: NodeId | null;

  constructor(seed: number, { eventsMax = SEED_EVENTS, onWorld, tape }: SeedOptions) {
    this.seed = seed;
    this.eventsMax = eventsMax;
    this.tape = tape;
    this.dice = prng(seed ^ 0x5eed);
    const shape = drawShape(this.dice);
    const slow = nextChance(this.dice, 0.4);
    const lossy = nextChance(this.dice, 0.5);
    const link = { delayMs: [1, slow ? 400 : 20] as const, loss: lossy ? 0.03 : 0, repeat: lossy ? 0.05 : 0, corrupt: lossy ? 0.005 : 0 };
    this.merge = new MergeRun({ seed, shape, recording: false, flushMs: [0, slow ? 30 : 4], keep: "random" });
    this.cluster = this.merge.cluster;
    this.allowed = new Set(FAULTS.filter(() => nextChance(this.dice, 0.5)));
    this.cold = shape.secondaries.length > 1 && nextChance(this.dice, 0.3) ? nextOf(this.dice, shape.secondaries) : null;
    this.loss = this.drawLoss();
    this.cluster.world.network.faults = link;
    onWorld?.(this.cluster.world);
  }

  /**
   * A storage node other than the primary loses its disk, in a seed where no folder is restored: what else was on one disk
   * only is then rightly gone with it. Dice of its own: the other seeds stay what they were.
   */
  private drawLoss(): SeedRun["loss"] {
    const dice = prng(this.seed ^ 0xd15c);
    const { storages, primary } = this.cluster.shape;
    const able = storages.filter((id) => id !== primary);
    if (able.length === 0 || this.allowed.has("restore") || nextChance(dice, 0.4)) return null;
    return { id: nextOf(dice, able), at: nextBelow(dice, Math.ceil(this.eventsMax * 0.7)) };
  }

  run(): SeedReport {
    const { world } = this.cluster;
    const { dice, eventsMax, tape } = this;
    const act = (): void => {
      if (this.loss !== null && world.eventCount >= this.loss.at) this.lose(this.loss.id);
      this.act();
    };
    safetyPhase(world, { dice, eventsMax, tape, driftMax: 40, driftMs: DRIFT_MS_MAX, act });
    if (world.violations.length === 0) this.merge.heal();
    return seedReport(world, this.seed);
  }

  // ── safety phase ─────────────────────────────────────────────────────────────────────────────────────────────────

  private act(): void {
    const roll = nextBelow(this.dice, 100);
    if (roll < 25) this.add();
    else if (roll < 75) this.step();
    else if (roll < 82) this.revive();
    else this.fault();
  }

  private add(): void {
    const storage = nextOf(this.dice, this.cluster.shape.storages);
    const entries = Array.from({ length: 1 + nextBelow(this.dice, 8) }, () => utf8(`entry ${nextBelow(this.dice, ENTRY_COUNT)}`));
    this.merge.add(storage, entries);
  }

  private step(): void {
    const { primary, storages, secondaries } = this.cluster.shape;
    const steps: StepName[] = [
      ...storages.map((storage) => ({ step: "fetch", storage }) as const),
      { step: "queue" },
      ...secondaries.map((secondary) => ({ step: "backup", secondary }) as const),
      { step: "dist" },
    ];
    const step = nextOf(this.dice, steps);
    if (step.step === "backup" && step.secondary === this.cold && this.cluster.world.eventCount < this.eventsMax / 2) return;
    const name = step.step === "fetch" ? `fetch.${step.storage}` : step.step === "backup" ? `backup.${step.secondary}` : step.step;
    if (this.cluster.world.running(primary, "daemon") === null || this.cluster.world.running(primary, name) !== null) return;
    this.cluster.startStep(step);
  }

  /** Ends one standing fault, most often by starting a node that is down. */
  private revive(): void {
    const { world } = this.cluster;
    const id = nextOf(this.dice, this.cluster.nodeIds);
    const node = world.node(id);
    if (!node.running.has("daemon") || (node.services.has("register") && !node.running.has("register"))) {
      if (node.running.size > 0) world.crashNode(id);
      world.startNode(id);
    } else if (world.network.holdList().length > 0) {
      for (const frame of world.network.release(SWAPS)) world.courier.launch(frame, nextBelow(this.dice, 50));
    } else endOneFault(world, id);
  }

  private fault(): void {
    const { world, nodeIds, shape } = this.cluster;
    const kind = nextOf(this.dice, FAULTS);
    if (!this.allowed.has(kind)) return;
    const id = nextOf(this.dice, nodeIds);
    switch (kind) {
      case "crash":
        world.crashNode(id);
        return;
      case "kill": {
        const steps = [...world.live()].filter((process) => process.name !== "daemon" && process.name !== "register");
        if (steps.length > 0) world.kill(nextOf(this.dice, steps));
        return;
      }
      case "cut":
        world.network.cut(id, nextOf(this.dice, nodeIds));
        return;
      case "pause":
        world.pauseNode(id);
        return;
      case "full":
        world.node(id).faults.full = true;
        return;
      case "fsync":
        if (nextChance(this.dice, 0.3)) world.node(id).faults.failNext = 1;
        return;
      case "wipe":
        this.wipe();
        return;
      case "late-swap":
        world.network.hold(SWAPS);
        return;
      case "replay":
        replayOne(world, this.dice, { kinds: REPLAYED, withinMs: 5_000 });
        return;
      default:
        this.restore(shape.primary);
    }
  }

  /**
   * One secondary loses its disk, once a seed; never one that is a storage node too: those have a draw of their own. Never
   * beside a restored primary: with both gone no copy of a signed entry may be left, and no rule can help.
   */
  private wipe(): void {
    const { shape } = this.cluster;
    const able = shape.secondaries.filter((id) => !shape.storages.includes(id));
    if (this.wiped || this.restored || able.length === 0 || !nextChance(this.dice, 0.2)) return;
    this.wiped = true;
    this.merge.wipe(nextOf(this.dice, able));
  }

  private lose(id: NodeId): void {
    this.loss = null;
    this.merge.wipe(id);
  }

  /** The primary's folder is saved, and later put back; with k = 0 nothing guards a local register against that (merge.md section 5). */
  private restore(primary: NodeId): void {
    const { world, shape } = this.cluster;
    if (shape.backupquorum === 0) return;
    const saved = world.node(primary).saved.has("old");
    if (!saved) {
      world.saveFolder(primary, "old");
      return;
    }
    if (this.restored || this.wiped || !nextChance(this.dice, 0.3)) return;
    this.restored = true;
    this.merge.restore(primary, "old");
  }
}
