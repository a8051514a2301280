/**
 * A simulated cluster for the merge: nodes with their roles, keys made from the seed, the daemon and register of each,
 * and the step processes, all built by `node/assemble.ts` as real nodes are. Stories and seed runs both start here.
 */
import { utf8 } from "../base/bytes.ts";
import { publicKeyOf } from "../base/ed25519.ts";
import type { Core } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { type NodeId, nodeId } from "../base/ids.ts";
import type { AddAnswer, AddRequest, MergeConfig, SpaceRequest, StepResult } from "../merge/config.ts";
import { assembleDaemon, assembleRegister, assembleStep, type StepName } from "../node/assemble.ts";
import { type Answer, answers, type Request, requests } from "../wire/messages.ts";
import type { LinkFaults } from "./network.ts";
import type { Keep, Process } from "./process.ts";
import { type WireCodec, World } from "./world.ts";

export type MergeIn = Request | AddRequest | SpaceRequest;
export type MergeReply = Answer | AddAnswer | StepResult;
export type MergeWorld = World<MergeIn, Answer, Request, MergeReply>;
export type MergeProcess = Process<MergeIn, Answer, Request, MergeReply>;
type MergeCore = Core<MergeIn, Answer, Request, MergeReply>;

export type MergeShape = {
  readonly storages: readonly NodeId[];
  readonly primary: NodeId;
  readonly secondaries: readonly NodeId[];
  readonly frontends: readonly NodeId[];
  readonly backupquorum: number;
  readonly storagequorum: number;
  readonly cosign: "prefer" | "require";
};

export type MergeWorldOptions = {
  readonly seed: number;
  readonly shape: MergeShape;
  readonly recording: boolean;
  readonly link?: Partial<LinkFaults>;
  readonly flushMs?: readonly [number, number];
  readonly keep?: Keep;
};

const wire: WireCodec<MergeIn, Answer, Request, MergeReply> = {
  encodeRequest: (body) => requests.encode(body),
  decodeRequest: (raw) => requests.decode(raw),
  encodeAnswer: (body) => answers.encode(body as Answer),
  decodeAnswer: (raw) => answers.decode(raw),
};

/** A merge cluster in a world: what stories and seed runs act on. */
export class MergeCluster {
  readonly shape: MergeShape;
  readonly nodeIds: readonly NodeId[];
  readonly world: MergeWorld;
  private readonly seed: number;
  /** Starts of each node's daemon: they name its runs. */
  private readonly boots = new Map<NodeId, number>();
  /** What every node's config says alike; deriving keys is dear. */
  private readonly common: Omit<MergeConfig, "self" | "boot" | "logSeed" | "cosignerSeed" | "receiptSeed">;

  constructor({ seed, shape, ...rest }: MergeWorldOptions) {
    this.seed = seed;
    this.shape = shape;
    this.nodeIds = [...new Set([...shape.storages, shape.primary, ...shape.secondaries, ...shape.frontends])].sort();
    this.common = this.commonConfig();
    this.world = new World({ seed, wire, periodic: () => false, ...rest });
    for (const id of this.nodeIds) {
      this.world.addNode(id, {
        daemon: () => {
          this.boots.set(id, (this.boots.get(id) ?? 0) + 1);
          return assembleDaemon(this.config(id)) as MergeCore;
        },
        ...(id === shape.primary ? { register: () => assembleRegister(this.config(id)) as MergeCore } : {}),
      });
    }
  }

  /** What config.toml would say to this node; keys follow from seed and name. */
  config(self: NodeId): MergeConfig {
    const isPrimary = self === this.shape.primary;
    return {
      ...this.common,
      self,
      boot: `${self}.${this.boots.get(self) ?? 0}`,
      logSeed: isPrimary ? this.secret(self, "log") : null,
      cosignerSeed: this.secret(self, "cosigner"),
      receiptSeed: this.secret(self, "receipt"),
    };
  }

  private commonConfig(): MergeCluster["common"] {
    const origin = `sim.example/${this.seed}`;
    const keys = (purpose: string): Record<string, Uint8Array> => Object.fromEntries(this.nodeIds.map((id) => [id, publicKeyOf(this.secret(id, purpose))]));
    return {
      ...this.shape,
      log: sha256(origin).slice(0, 8),
      origin,
      logName: "main",
      folder: "merge",
      epoch: 1,
      promiseMs: 600_000,
      intervalMs: 50,
      cosignWaitMs: 200,
      storageKeepMs: 3_600_000,
      logPublicKey: publicKeyOf(this.secret(this.shape.primary, "log")),
      cosignerKeys: keys("cosigner"),
      receiptKeys: keys("receipt"),
    };
  }

  private secret(id: NodeId, purpose: string): Uint8Array {
    return sha256(`${this.seed}/${id}/${purpose}`);
  }

  startNodes(ids: readonly NodeId[] = this.nodeIds): void {
    for (const id of ids) this.world.startNode(id);
  }

  /** Starts a step on the primary; refused with MERGE_STEP_BUSY while another instance of it runs. */
  startStep(name: StepName): MergeProcess {
    const { primary } = this.shape;
    if (this.world.running(primary, "daemon") === null) throw new EngineError("UNAVAILABLE", `${primary} is down`);
    const core = assembleStep(this.config(primary), name) as unknown as MergeCore;
    return this.world.startProcess(primary, core.name, core);
  }

  /** Every step of one round, in order: each group may run side by side. */
  get roundSteps(): readonly (readonly StepName[])[] {
    return [
      this.shape.storages.map((storage) => ({ step: "fetch", storage }) as const),
      [{ step: "queue" }],
      this.shape.secondaries.map((secondary) => ({ step: "backup", secondary }) as const),
      [{ step: "dist" }],
    ];
  }

  /** Runs the world until these steps have ended, at most `limitMs` of virtual time. */
  runSteps(steps: readonly StepName[], limitMs = 60_000): MergeProcess[] {
    const started = steps.map((step) => this.startStep(step));
    const endMs = this.world.nowMs + limitMs;
    while (started.some((process) => process.end === null) && (this.world.nextMs() ?? Number.POSITIVE_INFINITY) <= endMs) this.world.step();
    return started;
  }

  /** Makes the first head; the nodes must be up. */
  init(): void {
    const [made] = this.runSteps([{ step: "init" }]);
    const result = made === undefined ? null : resultOf(made);
    if (result === null || result.error !== undefined) throw new EngineError("FAILED", `the first head was not made: ${result?.error?.detail ?? "no result"}`);
  }
}

function sha256(text: string): Uint8Array {
  const out = new Uint8Array(32);
  Bun.SHA256.hash(utf8(text), out);
  return out;
}

export function resultOf(process: MergeProcess): StepResult | null {
  return process.end?.kind === "done" ? (process.end.body as StepResult) : null;
}

/** Names of a comma-separated list, checked. */
export const namesOf = (text: string): NodeId[] => (text === "" ? [] : text.split(",").map(nodeId));
