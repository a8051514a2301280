/**
 * A merge cluster under watch: clients' adds are followed to their receipts, every invariant is looked at after every
 * event, and at the end the faults stop and what was promised must come true within bounded rounds (I9 of merge.md
 * section 7). Seed runs, the crash grid and campaigns are this with different things done in the middle.
 */
import type { NodeId } from "../base/ids.ts";
import { bundleOf } from "../log/entry.ts";
import { readEdge, rows } from "../merge/records.ts";
import { DiskSnapshot } from "./disk.ts";
import { MergeAdds } from "./merge-adds.ts";
import { MergeCheckers } from "./merge-checkers.ts";
import { MergeCluster, type MergeWorldOptions, resultOf } from "./merge-world.ts";
import { healLinks, healNode } from "./seed-run.ts";

/** Rounds within which a healed cluster has signed and published all it promised. */
const HEALED_ROUNDS_MAX = 12;

export class MergeRun {
  readonly cluster: MergeCluster;
  readonly checkers: MergeCheckers;
  private readonly adds: MergeAdds;
  private restored = false;

  /** A cluster that is up, with its first head made. */
  constructor(options: MergeWorldOptions) {
    this.cluster = new MergeCluster(options);
    this.checkers = new MergeCheckers(this.cluster);
    this.adds = new MergeAdds(this.checkers);
    this.cluster.startNodes();
    this.cluster.init();
    this.cluster.world.check = () => this.adds.check() ?? this.checkers.check();
  }

  add(storage: NodeId, entries: readonly Uint8Array[]): void {
    this.adds.follow(this.cluster.world.request(storage, { kind: "add", bundle: bundleOf(entries) }));
  }

  /** The disk of a node that is not the primary is gone. */
  wipe(id: NodeId): void {
    const { world } = this.cluster;
    world.crashNode(id);
    this.checkers.diskReplaced(id);
    world.restoreFolder(id, null);
    world.startNode(id);
  }

  /** A saved copy of a folder is put in its place. */
  restore(id: NodeId, name: string): void {
    const { world } = this.cluster;
    this.restored = true;
    this.checkers.doubtful = true;
    world.crashNode(id);
    this.checkers.diskReplaced(id);
    world.restoreFolder(id, name);
    world.startNode(id);
  }

  /** Ends every fault, starts every node anew, and runs rounds until nothing is owed. */
  heal(): void {
    const { world, nodeIds } = this.cluster;
    healLinks(world);
    for (const frame of world.network.release({ kind: "*", from: "*", to: "*" })) world.courier.launch(frame, 0);
    for (const id of nodeIds) {
      healNode(world, id);
      world.crashNode(id, "none");
    }
    this.cluster.startNodes();
    let shut = false;
    for (let round = 0; round < HEALED_ROUNDS_MAX && world.violations.length === 0; round++) {
      for (const group of this.cluster.roundSteps) {
        const results = this.cluster.runSteps(group).map(resultOf);
        shut ||= results.some((result) => result?.error !== undefined && (this.restored || result.error.code === "MERGE_LATCHED"));
      }
      if (this.unfinished() === null) return;
    }
    const missing = this.unfinished();
    // an old folder is rightly kept from signing: the seed only asks that nothing wrong was signed
    if (missing !== null && !(this.restored && shut) && world.violations.length === 0)
      world.violations.push({ invariant: `I9 ${missing}`, at: world.eventCount });
  }

  /** What a healed cluster still owes, or null. */
  private unfinished(): string | null {
    const { shape, world } = this.cluster;
    const { log } = this.cluster.config(shape.primary);
    const snapOf = (id: NodeId): DiskSnapshot => new DiskSnapshot(world.node(id).disk, id);
    const order = readEdge(snapOf(shape.primary), log).size;
    const signed = rows.register(snapOf(shape.primary), log)?.head?.size ?? 0;
    if (signed !== order) return `signed ${signed}, order ${order}`;
    const behind = shape.frontends.filter((id) => (rows.published(snapOf(id), log)?.size ?? 0) !== signed);
    if (behind.length > 0) return `${behind.join(", ")} does not serve ${signed}`;
    const lost = this.restored ? null : this.checkers.receiptMissing();
    return lost === null ? null : `receipt of ${lost.slice(0, 12)} is not in the order`;
  }
}
