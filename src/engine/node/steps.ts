/**
 * Runs steps of the merge in this process (merge.md sections 1 and 3): each run takes the step's lock, steps a fresh core until
 * it is done, and gives up after a bounded time. Disk and links stay open from run to run, so that a warm step costs no
 * start. A step that ended with an error is a result too: the caller decides what becomes of the process.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { EngineError } from "../base/errors.ts";
import { type NodeId, nodeId } from "../base/ids.ts";
import { unreachable } from "../base/invariant.ts";
import type { StepResult } from "../merge/config.ts";
import { assembleStep, type StepName, type WarmEnds } from "./assemble.ts";
import type { NodeConfig } from "./config.ts";
import { type Disk, openDisk } from "./disk.ts";
import { describeFailure, type Ending, openDriver } from "./driver.ts";
import { MemberLinks } from "./hosting.ts";
import { latchAfterSyncFailure } from "./latch.ts";
import { lockFile } from "./lock.ts";

/** A step moves what is there at its start; at 10,000 entries a second this is six million of them. */
export const STEP_TOTAL_MS = 600_000;

export type StepOptions = {
  /** Wait for another instance of the step to end, instead of MERGE_STEP_BUSY. */
  readonly wait?: boolean;
  readonly totalMs?: number;
  /** Ends the run where it is, with NOT_READY: the next one goes on from the files. */
  readonly signal?: AbortSignal;
  readonly mark?: (name: string, text: string | undefined) => void;
};

export type StepHost = {
  /** Never rejects: what went wrong is in the result's `error`. After STORE_SYNC_FAILED every run ends with it. */
  run(step: StepName, options?: StepOptions): Promise<StepResult>;
  close(): Promise<void>;
};

export async function openSteps(node: NodeConfig): Promise<StepHost> {
  const disk = await openDisk(node.dir, { create: false });
  return new Steps(node, disk);
}

/** One run, and everything closed behind it. */
export async function runStep(node: NodeConfig, step: StepName, options: StepOptions = {}): Promise<StepResult> {
  const host = await openSteps(node);
  try {
    return await host.run(step, options);
  } finally {
    await host.close();
  }
}

class Steps implements StepHost {
  private readonly node: NodeConfig;
  private readonly disk: Disk;
  private readonly links: MemberLinks;
  private readonly ends: WarmEnds = new Map();
  /** Why a peer was lost last, for the message of a step that waited in vain. */
  private lastLoss = "";
  /** Peers that did not prove who they are, or took us for nobody: no matter of waiting. */
  private readonly refused = new Map<NodeId, EngineError>();
  /** The first failed fsync: whatever the disk says afterwards proves nothing. */
  private dead: { readonly code: string; readonly detail: string } | null = null;

  constructor(node: NodeConfig, disk: Disk) {
    this.node = node;
    this.disk = disk;
    this.links = new MemberLinks(node, (peer, reason) => {
      this.lastLoss = `; ${peer} was lost: ${reason.message}`;
      if (reason.code === "PEER_UNKNOWN" || reason.code === "HANDSHAKE_FAILED") this.refused.set(peer, reason);
      else this.refused.delete(peer);
    });
  }

  async run(step: StepName, options: StepOptions = {}): Promise<StepResult> {
    try {
      if (this.dead !== null) return this.failed(step, this.dead);
      const result = await this.runLocked(step, options);
      if (result.error?.code === "STORE_SYNC_FAILED") {
        this.dead = result.error;
        await latchAfterSyncFailure(this.node, result.error.detail);
      }
      return result;
    } catch (error) {
      return this.failed(step, describeFailure(error));
    }
  }

  async close(): Promise<void> {
    this.links.close();
    await this.disk.close();
  }

  private async runLocked(step: StepName, options: StepOptions): Promise<StepResult> {
    const folder = join(this.node.dir, this.node.merge.folder);
    await mkdir(folder, { recursive: true });
    const lock = await lockFile(join(folder, `lock.${lockName(step)}`), { wait: options.wait === true, busy: "MERGE_STEP_BUSY" });
    try {
      return await this.runCore(step, options);
    } finally {
      await lock.release();
    }
  }

  private async runCore(step: StepName, { totalMs = STEP_TOTAL_MS, signal, mark }: StepOptions): Promise<StepResult> {
    const { node, disk } = this;
    const { connect } = this.links;
    const driver = openDriver({ core: assembleStep(node.merge, step, this.ends), disk, connect, ...(mark === undefined ? {} : { mark }) });
    const timer = setTimeout(() => driver.halt("TIMEOUT", `${lockName(step)} was not done within ${totalMs} ms${this.lastLoss}`), totalMs);
    const stop = (): void => driver.halt("NOT_READY", "the process is stopping");
    signal?.addEventListener("abort", stop, { once: true });
    driver.start();
    if (signal?.aborted === true) stop();
    const ending: Ending<StepResult> = await driver.ended;
    signal?.removeEventListener("abort", stop);
    clearTimeout(timer);
    await driver.close(); // writes in flight end before the lock is given up
    if (ending.kind === "done") return this.withRefusal(ending.body);
    return this.failed(step, ending.kind === "halt" ? ending : { code: "NOT_READY", detail: "the process is stopping" });
  }

  /** A core knows that its peer was lost; only the links know that a key was refused. */
  private withRefusal(result: StepResult): StepResult {
    const { target, error } = result;
    const reason = target === undefined || error?.code !== "UNAVAILABLE" ? undefined : this.refused.get(nodeId(target));
    return reason === undefined ? result : { ...result, error: { code: reason.code, detail: `${target}: ${reason.message}` } };
  }

  private failed(name: StepName, { code, detail }: { code: string; detail: string }): StepResult {
    const target = name.step === "fetch" ? { target: name.storage } : name.step === "backup" ? { target: name.secondary } : {};
    return { step: name.step, log: this.node.merge.logName, ...target, changed: false, counts: {}, notes: [], error: { code, detail } };
  }
}

/** `fetch.a`, `queue`, `backup.b`, `dist`. A log is initialised under the lock of `dist`: both sign. */
function lockName(name: StepName): string {
  switch (name.step) {
    case "fetch":
      return `fetch.${name.storage}`;
    case "backup":
      return `backup.${name.secondary}`;
    case "queue":
      return "queue";
    case "dist":
    case "init":
      return "dist";
    default:
      return unreachable(name);
  }
}
