/**
 * The way on after a majority of the disks is lost (sync.md 3.7): nobody is left to decide, so one survivor's store decides
 * alone, offline and by an operator's word. What it accepted is taken as chosen, for it may have been acknowledged; then the
 * others leave the cluster map, one version each, written as a proposal would have. What only their disks held is lost. Never
 * done to a store that is half, an old copy, or runs.
 */
import { join } from "node:path";
import { compareBytes, utf8 } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { configMap, decodeMap, type Member, memberOf, putMap } from "../paxos/cluster-map.ts";
import { entryOf, follows, storedAccepted } from "../paxos/records.ts";
import { clusterService } from "../paxos/service-cluster.ts";
import { evaluate } from "../paxos/services.ts";
import type { Entry } from "../paxos/state.ts";
import type { View } from "../paxos/view.ts";
import { encodeBatch } from "../store/batch.ts";
import { acceptsKeys, replicatedKeys } from "../store/keys.ts";
import { hashAt, historyIn, lastOp, replicatedOf, versionOps, ZERO_HASH } from "../store/versions.ts";
import { isFlagged } from "../sync/records.ts";
import type { RequestOf } from "../wire/messages.ts";
import { birthOf } from "./birth.ts";
import { type NodeConfig, votersOf } from "./config.ts";
import { type Disk, openDisk } from "./disk.ts";
import { lockFile } from "./lock.ts";

export type RecoveryPlan = {
  readonly id: NodeId;
  /** The newest version that is known to be chosen. */
  readonly last: number;
  /** Versions above it that this disk accepted, and that become chosen. */
  readonly accepted: readonly number[];
  /** Members that leave the map. */
  readonly leaving: readonly NodeId[];
};

export type Recovery = AsyncDisposable & {
  readonly plan: RecoveryPlan /** Returns the version from which on this member decides alone. */;
  run(): Promise<number>;
};

/** Opens the folder under its node's lock. Throws NODE_RUNNING, NOT_READY, PAXOS_REGRESSED. */
export async function openRecovery(node: NodeConfig): Promise<Recovery> {
  const closers = new AsyncDisposableStack();
  try {
    const lock = await lockFile(join(node.dir, "lock.node"), { busy: "NODE_RUNNING" });
    closers.defer(() => lock.release());
    const disk = await openDisk(node.dir, { create: false });
    closers.defer(() => disk.close());
    const plan = planned(node, disk);
    return { plan, run: () => recover(node, disk, plan), [Symbol.asyncDispose]: () => closers.disposeAsync() };
  } catch (error) {
    await closers.disposeAsync();
    throw error;
  }
}

function planned(node: NodeConfig, disk: Disk): RecoveryPlan {
  using snap = disk.snapshot();
  if (isFlagged(snap)) throw new EngineError("NOT_READY", `${node.dir} is half a store: its copy was not finished`);
  if (snap.get("accepts", acceptsKeys.regressed()) !== undefined) throw new EngineError("PAXOS_REGRESSED", `${node.dir} is an old copy of its disk`);
  const { last } = historyIn(snap);
  const leaving = membersOf(node, snap).flatMap(({ id }) => (id === node.self.name ? [] : [id]));
  return { id: node.self.name, last, accepted: acceptedAbove(snap, last).map(({ version }) => version), leaving };
}

/** As they follow the newest version, without a gap: others can not have been chosen. */
function acceptedAbove(snap: Snapshot, last: number): Entry[] {
  const known = new Map([...storedAccepted(snap)].map(({ version, ballot, batch }) => [version, entryOf(version, ballot, batch.slice())]));
  const entries: Entry[] = [];
  let hash = hashAt(replicatedOf(snap), last) ?? ZERO_HASH;
  for (let next = known.get(last + 1); next !== undefined && follows(next, hash); next = known.get(next.version + 1)) {
    entries.push(next);
    hash = next.hash;
  }
  return entries;
}

function membersOf(node: NodeConfig, snap: Snapshot): readonly Member[] {
  const raw = snap.get("replicated", replicatedKeys.clusterMap());
  if (raw !== undefined) return decodeMap(raw).members;
  return votersOf(node);
}

async function recover(node: NodeConfig, disk: Disk, { last, leaving }: RecoveryPlan): Promise<number> {
  for (const { version, batch, ops } of readEntries(disk, last)) await apply(disk, version, batch, ops);
  await settleMap(node, disk);
  for (const id of leaving) {
    const body: RequestOf<"cluster.change"> = { kind: "cluster.change", what: "remove", id, rank: 0, birth: new Uint8Array(8) };
    await decide(node, disk, (view, version) => {
      const command = { id: 0, isForwarded: false, deadlineMs: 0, from: node.self.name, body };
      const { operations, outcomes } = evaluate([clusterService], [command], view, version);
      const [outcome] = outcomes;
      invariant(outcome?.body.kind === "cluster.is", `${id} leaves the map: ${JSON.stringify(outcome?.body.kind)}`);
      return operations;
    });
  }
  using snap = disk.snapshot();
  return historyIn(snap).last;
}

function readEntries(disk: Disk, last: number): Entry[] {
  using snap = disk.snapshot();
  return acceptedAbove(snap, last);
}

/** The map names this disk, also where nothing was decided yet, or another disk had its place. */
async function settleMap(node: NodeConfig, disk: Disk): Promise<void> {
  const birth = birthOf(disk, node.dir);
  await decide(node, disk, (view, version) => {
    const found = view.get(replicatedKeys.clusterMap());
    const map = found === null ? configMap(votersOf(node)) : decodeMap(found.value);
    const self = memberOf(map, node.self.name);
    if (self === null) throw new EngineError("UNKNOWN_NODE", `${node.self.name} is no member any more: ${map.members.map(({ id }) => id).join(", ")} are`);
    if (found !== null && compareBytes(self.birth, birth) === 0) return [];
    return [putMap({ ...map, version, members: map.members.map((member) => (member.id === self.id ? { ...member, birth } : member)) })];
  });
}

/** One version, as a leader would have proposed it; none where it would change nothing. */
async function decide(node: NodeConfig, disk: Disk, operationsOf: (view: View, version: number) => readonly Op[]): Promise<void> {
  const { version, operations, batch } = (() => {
    using snap = disk.snapshot();
    const { last } = historyIn(snap);
    const view: View = {
      get(key) {
        const row = snap.row("replicated", key);
        return row === undefined ? null : { value: row.value, version: row.wroteAt };
      },
      range: () => [],
    };
    const changes = operationsOf(view, last + 1);
    const signed: Op[] = [
      ...changes,
      { op: "put", key: replicatedKeys.proposer(), value: utf8(`recovered by ${node.self.name}, disk ${birthOf(disk, node.dir).toHex()}`) },
    ];
    const prev = last === 0 ? null : hashAt(replicatedOf(snap), last);
    return { version: last + 1, operations: changes.length === 0 ? [] : signed, batch: encodeBatch(signed, prev) };
  })();
  if (operations.length > 0) await apply(disk, version, batch, operations);
}

const apply = (disk: Disk, version: number, batch: Uint8Array, ops: readonly Op[]): Promise<void> =>
  disk.write({
    db: "replicated",
    batch: [...versionOps(version, batch, ops), lastOp(version)],
  });
