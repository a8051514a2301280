/**
 * The invariants I1 to I6 of sync.md 5.1 over a simulated cluster, looked at after every event: a node is read again only
 * where its disk or its newest version changed. The oracle is dumb on purpose: one list of batches by version, and one
 * map of keys folded from it; it believes nothing that a node says about itself.
 */

import { compareBytes, equalBytes, toHex } from "../base/bytes.ts";
import type { Batch, Op } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { type Ballot, ballotText, compareBallots, NO_BALLOT } from "../paxos/ballot.ts";
import { type ClusterMap, configMap, majorityOf, mapIn } from "../paxos/cluster-map.ts";
import { storedAccepted, storedVote } from "../paxos/records.ts";
import { type Entry, isSettled, leasesHold, type PaxosState } from "../paxos/state.ts";
import { keyText } from "../store/value.ts";
import { batchOf, hashOf, historyIn, replicatedOf } from "../store/versions.ts";
import { isFlagged, syncRows } from "../sync/records.ts";
import { type DiskImage, DiskSnapshot } from "./disk.ts";
import type { PaxosCluster } from "./paxos-world.ts";
import { DAEMON } from "./process.ts";

/** A version as it was chosen, for ever. */
type Chosen = { readonly hash: Uint8Array; readonly ops: Batch; readonly by: NodeId /** Of the leader that learned it first. */; readonly ballot: Ballot };
/** What was last seen of a node. */
type Seen = {
  disk: DiskImage | null;
  last: number;
  lastHash: Uint8Array | null;
  epoch: number;
  promised: Ballot;
  first: number;
  applied: number;
  /** Its store is being replaced: `sync/synchronizing` is on disk. */
  isFlagged: boolean;
  leading: PaxosState["leading"];
  process: number;
  /** Accepted entries on disk, by version. */
  accepted: Map<number, Ballot>;
};

const NOTHING: Seen = {
  disk: null,
  last: 0,
  lastHash: null,
  epoch: 0,
  promised: NO_BALLOT,
  first: 1,
  applied: 0,
  isFlagged: false,
  leading: null,
  process: 0,
  accepted: new Map(),
};

export class PaxosCheckers {
  /** By version; index 0 is unused. */
  readonly chosen: (Chosen | undefined)[] = [];
  /** The newest version that a client was told of. */
  acknowledged = 0;
  /** The newest map of members that was chosen. */
  map: ClusterMap | null = null;
  /** Who looks at each new version: client histories. */
  onChosen: ((version: number, ops: Batch) => string | null) | null = null;
  private readonly cluster: PaxosCluster;
  private readonly seen = new Map<NodeId, Seen>();
  /** Node and hash of a batch: held by a disk that was lost before a client was told. */
  private readonly heldBefore = new Set<string>();
  private readonly leaders = new Map<number, NodeId>();
  /** Values of every key after each version that touched it, oldest first. */
  private readonly keys = new Map<string, { readonly version: number; readonly value: Uint8Array | null }[]>();

  constructor(cluster: PaxosCluster) {
    this.cluster = cluster;
    for (const id of cluster.nodeIds) this.seen.set(id, { ...NOTHING, accepted: new Map() });
  }

  /** What is wrong, or null. */
  check(): string | null {
    for (const id of this.cluster.nodeIds) {
      const wrong = this.checkNode(id, this.seen.get(id) as Seen);
      if (wrong !== null) return wrong;
    }
    return this.rivals();
  }

  /** I13: where a leader may still read on its leases, nobody leads under a newer ballot: it could have answered a write since. */
  private rivals(): string | null {
    let newest: { readonly id: NodeId; readonly ballot: Ballot } | null = null;
    const others: NodeId[] = [];
    for (const id of this.cluster.nodeIds) {
      const leading = this.cluster.stateOf(id)?.leading;
      if (!leading) continue;
      if (newest === null || compareBallots(leading.ballot, newest.ballot) > 0) {
        if (newest !== null) others.push(newest.id);
        newest = { id, ballot: leading.ballot };
      } else others.push(id);
    }
    for (const id of others) {
      const state = this.cluster.stateOf(id);
      const { nowMs } = this.cluster.world;
      if (state !== null && isSettled(state) && leasesHold(state, nowMs * this.cluster.world.node(id).clockRate))
        return `I13 ${id} may still read on its leases, and ${newest?.id} leads under ${ballotText(newest?.ballot ?? NO_BALLOT)}`;
    }
    return null;
  }

  /** The newest version that is known to be chosen. */
  get newest(): number {
    return this.chosen.length - 1;
  }

  /** The newest version on a node's disk. */
  appliedOn(id: NodeId): number {
    return historyIn(this.cluster.snapOf(id)).last;
  }

  /** What a key was as of a version. */
  valueAt(key: Uint8Array, version: number): { readonly version: number; readonly value: Uint8Array | null } {
    const writes = this.keys.get(toHex(key)) ?? [];
    for (let at = writes.length - 1; at >= 0; at--) {
      const found = writes[at];
      if (found !== undefined && found.version <= version) return found;
    }
    return { version: 0, value: null };
  }

  /** Whether a key had this version, 0 where it was absent, at some version from `floor` on. */
  wasAt(key: Uint8Array, version: number, floor: number): boolean {
    const writes = [{ version: 0, value: null }, ...(this.keys.get(toHex(key)) ?? [])];
    return writes.some((each, at) => (each.value === null ? 0 : each.version) === version && (writes[at + 1]?.version ?? Number.POSITIVE_INFINITY) > floor);
  }

  /** I2: what a client was told is on the disks of a majority. */
  told(version: number): string | null {
    if (version <= this.acknowledged) return null;
    this.acknowledged = version;
    const map = this.map ?? configMap(this.cluster.members);
    const holders = map.members.filter(({ id, birth }) => equalBytes(birth, this.cluster.birthOf(id)) && this.holds(id, version)).map(({ id }) => id);
    const hash = toHex(this.chosen[version]?.hash ?? new Uint8Array(0));
    const lost = map.members.filter(({ id }) => !holders.includes(id) && this.heldBefore.has(`${id} ${hash}`));
    const wanted = majorityOf(map);
    return holders.length + lost.length >= wanted ? null : `I2 version ${version} was acknowledged and is on ${holders.join(", ") || "no disk"} only`;
  }

  private holds(id: NodeId, version: number): boolean {
    const snap = this.cluster.snapOf(id);
    // a flag alone takes nothing away: the store is whole until it is cleared
    if (historyIn(snap).last >= version && syncRows.flag(snap)?.isCleared !== true) return true;
    const wanted = this.chosen[version]?.hash;
    for (const entry of storedAccepted(snap)) if (entry.version === version && wanted !== undefined && equalBytes(hashOf(entry.batch), wanted)) return true;
    return false;
  }

  // ── one node ─────────────────────────────────────────────────────────────────────────────────────────────────────

  private checkNode(id: NodeId, seen: Seen): string | null {
    const node = this.cluster.world.node(id);
    const process = node.running.get(DAEMON) ?? 0;
    if (process !== seen.process) {
      const wrong = this.ended(id, seen.process);
      if (wrong !== null) return wrong;
      Object.assign(seen, { process, last: 0, lastHash: null, leading: null });
    }
    const state = this.cluster.stateOf(id);
    if (node.disk !== seen.disk) seen.isFlagged = isFlagged(this.cluster.snapOf(id));
    if (state?.phase === "syncing" || seen.isFlagged) return this.checkFlagged(id, seen);
    if (state !== null && state.last !== seen.last) {
      const wrong = this.checkHistory(id, state, seen);
      if (wrong !== null) return wrong;
    }
    if (state !== null && state.leading !== seen.leading) {
      seen.leading = state.leading;
      const wrong = this.checkLeader(id, state);
      if (wrong !== null) return wrong;
    }
    if (node.disk === seen.disk) return null;
    const before = seen.disk;
    seen.disk = node.disk;
    const snap = new DiskSnapshot(node.disk, id);
    return (before?.dbs.accepts === node.disk.dbs.accepts ? null : this.checkVotes(id, snap, seen)) ?? this.checkApplied(id, before, snap, seen);
  }

  /** Its store is being replaced: what it had binds it no more, what it promised does. Compared as a whole when the flag falls. */
  private checkFlagged(id: NodeId, seen: Seen): string | null {
    const { disk } = this.cluster.world.node(id);
    Object.assign(seen, { last: 0, lastHash: null });
    if (disk === seen.disk) return null;
    const before = seen.disk;
    Object.assign(seen, { disk, first: 1, applied: 0 });
    return before?.dbs.accepts === disk.dbs.accepts ? null : this.checkVotes(id, new DiskSnapshot(disk, id), seen);
  }

  private ended(id: NodeId, process: number): string | null {
    const end = this.cluster.world.processes.get(process)?.end;
    return end?.kind === "halted" && end.code !== "STORE_SYNC_FAILED" ? `I1 ${id} halted with ${end.code}: ${end.detail}` : null;
  }

  /** I1 and I5: every node that holds a version as chosen holds the same batch, and each follows the one before. */
  private checkHistory(id: NodeId, state: PaxosState, seen: Seen): string | null {
    if (state.last < seen.last) return `I5 ${id} went back from version ${seen.last} to ${state.last}`;
    for (const entry of state.unapplied) {
      if (entry.version <= seen.last) continue;
      const wrong = this.agree(id, entry);
      if (wrong !== null) return wrong;
    }
    seen.last = state.last;
    const known = this.chosen[state.last];
    if (state.last > 0 && known !== undefined && !equalBytes(known.hash, state.lastHash))
      return `I1 version ${state.last} is ${toHex(state.lastHash).slice(0, 12)} on ${id} and ${toHex(known.hash).slice(0, 12)} on ${known.by}`;
    return null;
  }

  private agree(id: NodeId, entry: Entry): string | null {
    const { version, hash, ops } = entry;
    const known = this.chosen[version];
    if (known !== undefined)
      return equalBytes(known.hash, hash)
        ? null
        : `I1 version ${version} is ${toHex(hash).slice(0, 12)} on ${id} and ${toHex(known.hash).slice(0, 12)} on ${known.by}`;
    if (version > 1 && this.chosen[version - 1] === undefined) return `I5 version ${version} is chosen before ${version - 1}`;
    this.map = mapIn(ops) ?? this.map;
    this.chosen[version] = { hash, ops, by: id, ballot: entry.ballot };
    return this.fold(version, ops) ?? this.onChosen?.(version, ops) ?? null;
  }

  /** I6, the oracle's half: a version names one value of each key. */
  private fold(version: number, ops: Batch): string | null {
    const written = new Set<string>();
    for (const op of ops) {
      if (op.op === "delRange") {
        this.foldRange(version, op);
        continue;
      }
      const key = toHex(op.key);
      if (written.has(key)) return `I6 version ${version} writes ${keyText(op.key)} twice`;
      written.add(key);
      const writes = this.keys.get(key) ?? [];
      if (writes.length === 0) this.keys.set(key, writes);
      writes.push({ version, value: op.op === "put" ? op.value : null });
    }
    return null;
  }

  private foldRange(version: number, { key: from, end }: Extract<Op, { op: "delRange" }>): void {
    for (const [key, writes] of this.keys) {
      const raw = Uint8Array.fromHex(key);
      if (compareBytes(from, raw) <= 0 && compareBytes(raw, end) < 0) writes.push({ version, value: null });
    }
  }

  /** I3, and I2's other half: one leader an epoch, and each holds all that was acknowledged before it proposes. */
  private checkLeader(id: NodeId, state: PaxosState): string | null {
    const { leading } = state;
    if (leading === null) return null;
    const other = this.leaders.get(state.epoch);
    if (other !== undefined && other !== id) return `I3 epoch ${state.epoch} is led by ${id} and by ${other}`;
    this.leaders.set(state.epoch, id);
    for (let version = state.last + 1; version <= this.acknowledged; version++) {
      const [entry, known] = [state.accepted.get(version), this.chosen[version]];
      // a collector that slept through a newer leader only thinks that it leads
      if (known !== undefined && compareBallots(known.ballot, leading.ballot) >= 0) continue;
      if (entry === undefined || known === undefined || !equalBytes(entry.hash, known.hash))
        return `I2 ${id} leads under ${ballotText(leading.ballot)} without version ${version}, which was acknowledged`;
    }
    return null;
  }

  /** I3 and I4, from the disk: promise and epoch never fall, and nothing is accepted below the promise. */
  private checkVotes(id: NodeId, snap: DiskSnapshot, seen: Seen): string | null {
    const { epoch, promised } = storedVote(snap);
    if (epoch < seen.epoch) return `I3 ${id}: epoch fell from ${seen.epoch} to ${epoch}`;
    if (compareBallots(promised, seen.promised) < 0) return `I3 ${id}: promise fell from ${ballotText(seen.promised)} to ${ballotText(promised)}`;
    const accepted = new Map<number, Ballot>();
    for (const { version, ballot } of storedAccepted(snap)) {
      accepted.set(version, ballot);
      // what is accepted goes when it is applied, the promise stays
      if (compareBallots(ballot, promised) > 0)
        return `I4 ${id} has version ${version} of ${ballotText(ballot)} on disk, and the promise of ${ballotText(promised)}`;
      const before = seen.accepted.get(version);
      if (before !== undefined && compareBallots(before, ballot) === 0) continue;
      if (compareBallots(ballot, seen.promised) < 0)
        return `I4 ${id} accepted version ${version} under ${ballotText(ballot)}, promised ${ballotText(seen.promised)}`;
    }
    Object.assign(seen, { epoch, promised, accepted });
    return null;
  }

  /** I5 and I6, from the disk: `[first, last]` has no gap, trim leaves enough, and rows are what the batches say. */
  private checkApplied(id: NodeId, before: DiskImage | null, snap: DiskSnapshot, seen: Seen): string | null {
    if (before?.dbs.replicated === this.cluster.world.node(id).disk.dbs.replicated) return null;
    const { first, last } = historyIn(snap);
    if (first < seen.first || last < seen.applied) return `I5 ${id}: versions fell from [${seen.first}, ${seen.applied}] to [${first}, ${last}]`;
    if (first > seen.first) {
      const left = last - first + 1;
      if (left < this.cluster.keepCount) return `I5 ${id}: a trim left ${left} versions, at least ${this.cluster.keepCount} are kept`;
      if (batchOf(replicatedOf(snap), first - 1) !== undefined) return `I5 ${id}: version ${first - 1} is below first and was not removed`;
    }
    for (let version = Math.max(seen.applied + 1, first); version <= last; version++) {
      const known = this.chosen[version];
      if (known === undefined) return `I5 ${id} applied version ${version}, which is not known to be chosen`;
      const wrong = this.checkRows(id, snap, known.ops, last);
      if (wrong !== null) return wrong;
    }
    Object.assign(seen, { first, applied: last });
    return null;
  }

  private checkRows(id: NodeId, snap: DiskSnapshot, ops: Batch, last: number): string | null {
    for (const op of ops) {
      if (op.op === "delRange") continue;
      const wanted = this.valueAt(op.key, last);
      const found = snap.get("replicated", op.key);
      const isEqual = wanted.value === null ? found === undefined : found !== undefined && equalBytes(found, wanted.value);
      const wroteAt = snap.wroteAt("replicated", op.key) ?? wanted.version;
      if (!isEqual || wroteAt !== wanted.version) return `I6 ${id}: ${keyText(op.key)} is not what version ${wanted.version} made of it`;
    }
    return null;
  }

  /** A disk is about to be lost, or replaced by an older copy: what it once said binds it no more, what it held was held. */
  diskReplaced(id: NodeId): void {
    const snap = this.cluster.snapOf(id);
    for (const { batch } of storedAccepted(snap)) this.heldBefore.add(`${id} ${toHex(hashOf(batch))}`);
    for (let version = this.acknowledged + 1; version <= historyIn(snap).last; version++)
      this.heldBefore.add(`${id} ${toHex(this.chosen[version]?.hash ?? new Uint8Array(0))}`);
    this.seen.set(id, { ...NOTHING, accepted: new Map(), disk: null });
  }
}
