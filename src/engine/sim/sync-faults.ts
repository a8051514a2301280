/**
 * What a seed of store synchronisation does to its cluster (sync.md section 5.2), each deed where it hurts a copy: who leads,
 * provides or is copied to dies, links fail in silence, disks stall, fill or lie, an operator has a provider replaced, and
 * chunks of a transfer that is over come once more. It draws from the seed's dice and decides nothing about what is right.
 */
import { equalBytes, utf8 } from "../base/bytes.ts";
import type { Op } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { nextBelow, nextChance, nextOf, type Prng, prng } from "../base/prng.ts";
import { replicatedKeys } from "../store/keys.ts";
import { applyBatch } from "../store/memory.ts";
import { treeIterate } from "../store/tree.ts";
import { historyIn } from "../store/versions.ts";
import { syncRows } from "../sync/records.ts";
import type { SyncState } from "../sync/state.ts";
import { type Frame, PERFECT_LINK } from "./network.ts";
import type { PaxosCheckers } from "./paxos-checkers.ts";
import type { PaxosCluster } from "./paxos-world.ts";
import { replayOne } from "./seed-run.ts";
import type { SyncCheckers } from "./sync-checkers.ts";

const FAULTS = [
  "laggard",
  "laggard",
  "provider",
  "requester",
  "leader",
  "cut",
  "mute",
  "pause",
  "stall",
  "full",
  "force",
  "turn",
  "replay",
  "echo",
  "damage",
] as const;
type Fault = (typeof FAULTS)[number];
const REPLAYED = ["sync.chunk", "sync.chunk", "sync.chunk-ack", "sync.start", "sync.grant", "hold.req", "hold.ack", "sync.abort", "sync.recent", "sync.verify"];
const REPLAYED_DELTA = [...REPLAYED, "sync.range-req", "sync.range-want", "sync.range-digests", "sync.range-rows"];
/** Chunks kept for an echo. */
const KEPT_MAX = 16;
const ECHO_MS = 30;
/** Between two deeds: about two in a seed. */
const LOSS_CHANCE = 0.005;
const KV_FROM = replicatedKeys.kv(new Uint8Array(0));
const KV_TO = replicatedKeys.kv(new Uint8Array(1).fill(0xff));

export type SyncFaultOptions = {
  readonly cluster: PaxosCluster;
  readonly dice: Prng;
  readonly checkers: SyncCheckers;
  readonly paxos: PaxosCheckers;
  readonly seed: number;
  readonly isDelta: boolean;
};

export class SyncFaults {
  private readonly cluster: PaxosCluster;
  private readonly dice: Prng;
  private readonly checkers: SyncCheckers;
  private readonly paxos: PaxosCheckers;
  private readonly replayed: readonly string[];
  /** In few seeds only: where a copy was spoilt, chunks are not compared any more. */
  private readonly maySpoil: boolean;
  /** Waits for a copy that has something to be spoilt. */
  private spoils = false;
  /** From now on each new transfer meets chunks of older ones. */
  private echoes = false;
  private echoed = "";
  /** In few seeds a disk is lost, by dice of their own: the other seeds are what they were. */
  private readonly losses: Prng | null;
  /** A node whose disk was lost, until its new one votes. */
  private lost: NodeId | null = null;
  private readonly chunks: { readonly frame: Frame; readonly transfer: string }[] = [];

  constructor({ cluster, dice, checkers, paxos, seed, isDelta }: SyncFaultOptions) {
    this.cluster = cluster;
    this.dice = dice;
    this.checkers = checkers;
    this.replayed = isDelta ? REPLAYED_DELTA : REPLAYED;
    this.maySpoil = nextChance(dice, 0.15);
    this.paxos = paxos;
    const losses = prng(seed ^ 0x10057);
    this.losses = nextChance(losses, 0.2) ? losses : null;
  }

  /** Makes one that is drawn. */
  make(): void {
    const { world, nodeIds } = this.cluster;
    const kind = nextOf(this.dice, FAULTS);
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
      case "mute":
        world.network.setLink(role, nextOf(this.dice, nodeIds), { ...PERFECT_LINK, loss: 1 });
        return;
      case "pause":
        world.pauseNode(any);
        return;
      case "stall":
        world.pauseDisk(any);
        return;
      case "full":
        if (nextChance(this.dice, 0.5)) world.node(any).faults.full = true;
        else world.node(any).faults.fullNext = 1;
        return;
      case "force":
      case "turn":
        if (this.cluster.isUp(role)) world.request(role, { kind: "sync.force" });
        return;
      case "echo":
        this.echoes = true;
        return;
      case "damage":
        this.spoils = this.maySpoil;
        return;
      default:
        replayOne(world, this.dice, { kinds: this.replayed, withinMs: 3_000 });
    }
  }

  /** Between deeds: what waits for a copy to begin, or to be under way. */
  lurk(): void {
    if (this.losses !== null) this.loseDisks(this.losses);
    const id = this.find(({ requester }) => requester.phase === "copying" || requester.phase === "clearing");
    const transfer = id === null ? undefined : this.cluster.syncOf(id)?.requester.transfer?.toHex();
    if (id === null || transfer === undefined) return;
    this.keep(id);
    if (this.echoes && this.echoed !== transfer) this.echo(id, transfer);
    if (this.spoils) this.spoil(id);
  }

  /** A chunk on its way now may come again long after. */
  private keep(id: NodeId): void {
    const { network, courier } = this.cluster.world;
    const frame = network.lastDelivered({ kind: "sync.chunk", from: "*", to: id });
    if (frame === undefined || this.chunks.some((each) => each.frame === frame)) return;
    const body = courier.decodeRequest(frame);
    if (body.kind !== "sync.chunk") return;
    this.chunks.push({ frame, transfer: body.transfer.toHex() });
    if (this.chunks.length > KEPT_MAX) this.chunks.shift();
  }

  private echo(id: NodeId, transfer: string): void {
    const { courier } = this.cluster.world;
    this.echoed = transfer;
    for (const { frame, transfer: earlier } of this.chunks)
      if (frame.to === id && earlier !== transfer) courier.launch(courier.copyOf(frame), nextBelow(this.dice, ECHO_MS));
  }

  /** A row that was copied changes before its checksum is made: nothing but the root tells. */
  private spoil(id: NodeId): void {
    const { world } = this.cluster;
    if (syncRows.flag(this.cluster.snapOf(id))?.isCleared !== true) return;
    const rows = [...treeIterate(world.node(id).disk.dbs.replicated, KV_FROM, KV_TO)];
    if (rows.length === 0) return;
    this.spoils = false;
    this.checkers.damaged = true;
    const [key] = nextOf(this.dice, rows);
    const wrong: Op = { op: "put", key, value: utf8("of nobody") };
    world.changeDisk(id, (disk) => ({ ...disk, dbs: { ...disk.dbs, replicated: applyBatch(disk.dbs.replicated, [wrong], 1) } }));
  }

  /** One disk at a time: it is copied to as a learner, and votes again once the members say so. */
  private loseDisks(dice: Prng): void {
    const { cluster, lost } = this;
    if (lost === null) {
      if (!nextChance(dice, LOSS_CHANCE)) return;
      const id = nextOf(dice, cluster.nodeIds);
      // two of three stores are no majority, whoever has the third
      if (cluster.nodeIds.filter((other) => other !== id && this.isWhole(other)).length * 2 <= cluster.nodeIds.length) return;
      this.lost = id;
      this.paxos.diskReplaced(id);
      this.checkers.diskReplaced(id);
      cluster.loseDisk(id);
      cluster.world.startNode(id);
      return;
    }
    const birth = cluster.birthOf(lost);
    const member = this.paxos.map?.members.find(({ id }) => id === lost);
    if (member !== undefined && equalBytes(member.birth, birth)) this.lost = null;
    else if (nextChance(dice, 0.1)) {
      const at = cluster.leader();
      if (at !== null) cluster.request(at, { kind: "cluster.change", what: "replace", id: lost, rank: 0, birth });
    }
  }

  /** The node that a fault is meant for, where somebody plays that part now. */
  private inRole(kind: Fault): NodeId | null {
    if (kind === "leader") return this.cluster.leader();
    if (kind === "provider" || kind === "turn" || kind === "mute") return this.find(({ transfers }) => transfers.size > 0);
    if (kind === "requester") return this.find(({ requester }) => requester.flag !== null);
    return null;
  }

  private find(plays: (state: SyncState) => boolean): NodeId | null {
    for (const id of this.cluster.nodeIds) {
      const state = this.cluster.syncOf(id);
      if (state !== null && plays(state)) return id;
    }
    return null;
  }

  /** Up or not, it could vote and catch up by itself. */
  private isWhole(id: NodeId): boolean {
    const snap = this.cluster.snapOf(id);
    const first = Math.max(...this.cluster.nodeIds.map((other) => this.cluster.stateOf(other)?.first ?? 1));
    return syncRows.flag(snap) === null && historyIn(snap).last + 1 >= first;
  }

  private downCount(): number {
    return this.cluster.nodeIds.filter((id) => !this.cluster.isUp(id)).length;
  }
}
