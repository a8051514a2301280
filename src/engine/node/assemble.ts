/**
 * Binds the cores to their state: what runs in a node's daemon, what a step process runs, and the register beside it.
 * Both drivers build nodes here, so the simulator runs what ships. Knows no clock, socket or file.
 */
import type { Clocks, Core, Effect, Event, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { initialBackup, stepBackup } from "../merge/backup.ts";
import type { AddAnswer, AddRequest, MergeConfig, SpaceRequest, StepResult } from "../merge/config.ts";
import { initialReceiver } from "../merge/copy-state.ts";
import { stepDist } from "../merge/dist.ts";
import { initialDist } from "../merge/dist-state.ts";
import { initialFetch, type QueueEnd, queueEnd, stepFetch } from "../merge/fetch.ts";
import { findEntries } from "../merge/find.ts";
import { initialQueue, stepQueue } from "../merge/queue.ts";
import { isReceiverRequest, stepReceiver } from "../merge/receiver.ts";
import { initialRegister, stepRegister } from "../merge/register.ts";
import { initialStorage, isStorageRequest, stepStorage } from "../merge/storage.ts";
import { beginSync, endSync, factsOf, isPaxosRequest, type ReplicaFacts, setHeld, stepPaxos } from "../paxos/paxos.ts";
import { clusterService } from "../paxos/service-cluster.ts";
import { kvService } from "../paxos/service-kv.ts";
import { logService, type RegisterOwner } from "../paxos/service-log.ts";
import { initialPaxos, type PaxosConfig, type PaxosState } from "../paxos/state.ts";
import type { SyncCall, SyncPorts, SyncState } from "../sync/state.ts";
import { stepSync } from "../sync/sync.ts";
import { type Answer, type Request, refused } from "../wire/messages.ts";
import { numbered, routed } from "./parts.ts";

/** What a daemon is asked: by peers, and by its own node's HTTP side. */
export type DaemonRequest = Request | AddRequest | SpaceRequest;
export type DaemonAnswer = Answer | AddAnswer;
export type DaemonCore = Core<DaemonRequest, Answer, Request, DaemonAnswer>;
export type StepCore = Core<never, Answer, Request, StepResult>;
export type SyncCore = Core<Request | SyncCall, Answer, Request, Answer>;
export type RegisterCore = Core<Request, Answer, Request, Answer>;

/** A step of the merge: one process, run once. */
export type StepName =
  | { readonly step: "fetch"; readonly storage: NodeId }
  | { readonly step: "queue" }
  | { readonly step: "backup"; readonly secondary: NodeId }
  | { readonly step: "dist" }
  | { readonly step: "init" };

type Part = {
  readonly handles: (body: DaemonRequest) => boolean;
  readonly step: (event: Event<DaemonRequest, Answer>, snap: Snapshot) => readonly Effect<Request, DaemonAnswer>[];
};

/** A node's daemon: the storage role, its copy of the log, and `log.find`. */
export function assembleDaemon(config: MergeConfig): DaemonCore {
  const storage = initialStorage(config);
  const receiver = initialReceiver(config);
  const parts: Part[] = [
    { handles: isStorageRequest, step: (event, snap) => stepStorage(storage, event as Event<Request | AddRequest | SpaceRequest, Answer>, snap) },
    { handles: isReceiverRequest, step: (event, snap) => stepReceiver(receiver, event as Event<Request, Answer>, snap) },
    { handles: () => true, step: (event, snap) => stepFind(config, event, snap) },
  ];
  return { name: "daemon", step: (event, snap) => stepParts(parts, event, snap) };
}

function stepParts(parts: readonly Part[], event: Event<DaemonRequest, Answer>, snap: Snapshot): readonly Effect<Request, DaemonAnswer>[] {
  const steps = routed(event, parts.length, (body) => parts.findIndex((part) => part.handles(body)));
  return steps.flatMap(([part, own]) => (parts[part] as Part).step(own, snap).map((effect) => numbered(effect, part, parts.length)));
}

function stepFind(config: MergeConfig, event: Event<DaemonRequest, Answer>, snap: Snapshot): readonly Effect<Request, DaemonAnswer>[] {
  if (event.kind !== "request") return [];
  const { body, id } = event;
  if (body.kind === "log.find") return [{ kind: "answer", id, body: found(config, body.hashes, snap) }];
  if (body.kind === "storage.ready") return [{ kind: "answer", id, body: { kind: "storage.noted" } }];
  return [{ kind: "answer", id, body: refused("NOT_ALLOWED", `${config.self} does not answer ${body.kind} here`) }];
}

/** What a warm process need not read again: no more than its own last run could tell. By storage node. */
export type WarmEnds = Map<NodeId, QueueEnd | null>;

/** A row that fails its checksum is a refusal, not the end of the node: another node's copy may be whole. */
function found(config: MergeConfig, hashes: Uint8Array, snap: Snapshot): Answer {
  try {
    return findEntries(snap, config, hashes);
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause;
    return refused(cause.code, `${config.self}: ${cause.message}`);
  }
}

export function assembleStep(config: MergeConfig, name: StepName, ends: WarmEnds = new Map()): StepCore {
  switch (name.step) {
    case "fetch": {
      const { storage } = name;
      const state = initialFetch(config, storage, ends.get(storage) ?? null);
      const step: StepCore["step"] = (event, snap) => {
        const effects = stepFetch(state, event, snap);
        ends.set(storage, queueEnd(state));
        return effects;
      };
      return { name: `fetch.${storage}`, step };
    }
    case "queue": {
      const state = initialQueue(config);
      return { name: "queue", step: (event, snap) => stepQueue(state, event, snap) };
    }
    case "backup": {
      const state = initialBackup(config, name.secondary);
      return { name: `backup.${name.secondary}`, step: (event, snap) => stepBackup(state, event, snap) };
    }
    case "dist":
    case "init": {
      const state = initialDist(config, name.step === "init");
      return { name: name.step, step: (event, snap) => stepDist(state, event, snap) };
    }
  }
}

/** A replica, and what assembly carries between it and the store's synchronisation: facts out, and three words in. */
export type ReplicaCore = Core<Request, Answer, Request, Answer> & {
  /** For status and checkers: nobody else changes it. */
  readonly state: PaxosState;
  /** Whether a request is the replica's. */
  handles(body: Request): boolean;
  facts(upMs: number): ReplicaFacts;
  /** The lowest version that a live hold keeps, or null. */
  hold(lowest: number | null): void;
  /** The flag is being set, or was found set: abstain from here on. */
  beginSync(clocks: Clocks, snap: Snapshot): readonly Effect<Request, Answer>[];
  /** The flag is off and the store is whole. */
  endSync(clocks: Clocks, snap: Snapshot): readonly Effect<Request, Answer>[];
};

/** One member of the cluster: Paxos with the services `cluster`, `kv` and `log`. */
export function assembleReplica(config: PaxosConfig, registers: readonly RegisterOwner[]): ReplicaCore {
  const state = initialPaxos(config);
  const services = [clusterService, kvService, logService(registers)];
  return {
    name: "replica",
    state,
    step: (event, snap) => stepPaxos(state, services, event, snap),
    handles: (body) => isPaxosRequest(services, body),
    facts: (upMs) => factsOf(state, upMs),
    hold: (lowest) => setHeld(state, lowest),
    beginSync: (clocks, snap) => beginSync(state, services, clocks, snap),
    endSync: (clocks, snap) => endSync(state, services, clocks, snap),
  };
}

/** The register as a local record: it runs in the process that asks it. */
export function assembleRegister(config: MergeConfig): RegisterCore {
  const state = initialRegister(config);
  return { name: "register", step: (event, snap) => stepRegister(state, event, snap) };
}

/** Store synchronisation: what it reads of Paxos comes through the ports, what Paxos reads of it is in the state. */
export function assembleSync(state: SyncState, ports: SyncPorts): SyncCore {
  return { name: "sync", step: (event, snap) => stepSync(state, event, snap, ports) };
}
