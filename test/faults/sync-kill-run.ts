/**
 * Kill -9 of real processes at the steps of a synchronisation (sync.md section 5.3, level "real"): a node is told to have its
 * store replaced while clients write; it, its provider or the leader dies, at a call to the disk or in a phase, and is
 * started again. Whoever holds half a store serves nothing; in the end all are ready, equal, and nothing acknowledged is gone.
 */
import { nextBelow, nextOf, type Prng, prng } from "../../src/engine/base/prng.ts";
import { eventually, healthOf, type NodeStatus, statusOf } from "../node/up-bench.ts";
import { type Call, CrashingCluster, NODES, type NodeName } from "./crashing-cluster.ts";

/** 16 MiB: a copy takes some hundred milliseconds, in 16 chunks and more. */
const VALUE_BYTES = 128 * 1_024;
const VALUE_COUNT = 128;
const VICTIMS = ["requester at a call", "requester", "provider", "leader"] as const;
const PHASES = ["clearing", "copying", "verifying"] as const;
/** Calls of one thread, from the first one behind a start to the last one of a copy. */
const CALLS: readonly { readonly name: Call["name"]; readonly from: number; readonly count: number }[] = [
  { name: "fdatasync", from: 6, count: 40 },
  { name: "pwrite64", from: 30, count: 400 },
];
const DIES_MS = 15_000;
const PHASE_MS = 15_000;
const BACK_MS = 90_000;

export type SyncKill = {
  readonly who: (typeof VICTIMS)[number];
  readonly node: NodeName;
  /** Of the node that is copied to, when the victim died; null where its synchronisation had ended already. */
  readonly phase: string | null;
  readonly call: Call | null;
  readonly backMs: number;
};

export async function runSyncKills(binary: string, count: number, seed: number, onKill: (kill: SyncKill) => void): Promise<{ readonly writes: number }> {
  await using cluster = await CrashingCluster.open(binary);
  for (const name of NODES) await cluster.startNode(name);
  const run = new SyncKillRun(cluster, prng(seed));
  await run.fill();
  for (let at = 0; at < count; at++) onKill(await run.kill(at));
  return { writes: await run.end() };
}

class SyncKillRun {
  private readonly cluster: CrashingCluster;
  private readonly dice: Prng;
  /** Of each key, what was acknowledged last. */
  private readonly written = new Map<string, string>();

  constructor(cluster: CrashingCluster, dice: Prng) {
    this.cluster = cluster;
    this.dice = dice;
  }

  async fill(): Promise<void> {
    await this.allReady();
    for (let at = 0; at < VALUE_COUNT; at++) await this.write(`large/${at}`, String(at % 10).repeat(VALUE_BYTES));
  }

  async kill(at: number): Promise<SyncKill> {
    const { cluster } = this;
    const who = VICTIMS[at % VICTIMS.length] as (typeof VICTIMS)[number];
    const copied = NODES[at % NODES.length] as NodeName;
    const call = who === "requester at a call" ? this.drawCall() : null;
    if (call !== null) {
      await cluster.kill(copied);
      await cluster.startNode(copied, call);
      await eventually(
        () => !cluster.isUp(copied) || this.isReady(copied),
        (isDone) => isDone,
        BACK_MS,
      );
    }
    const before = this.write(`between/${at}`, `kill ${at}`);
    await fetch(`${cluster.node(copied).admin}/sync/force`, { method: "POST", body: "{}" }).catch(() => null); // it may die of it
    const wanted = PHASES[Math.floor(at / VICTIMS.length) % PHASES.length] as string;
    const seen = await this.follow(copied, call === null ? wanted : null);
    const node = who === "provider" ? seen.provider : who === "leader" ? await this.leader(copied) : copied;
    if (call !== null) await cluster.dies(copied, DIES_MS);
    const startMs = performance.now();
    await cluster.kill(node);
    await cluster.startNode(node);
    await this.allReady();
    await before;
    return { who, node, phase: seen.phase, call, backMs: Math.round(performance.now() - startMs) };
  }

  /** All is there, on every node, and every two stores are equal. */
  async end(): Promise<number> {
    const lasts = async (): Promise<(number | undefined)[]> => Promise.all(NODES.map(async (name) => (await statusOf(this.cluster.node(name)))?.paxos.applied));
    await eventually(lasts, (applied) => new Set(applied).size === 1);
    for (const name of NODES)
      for (const [key, value] of this.written) {
        const answer = await fetch(`${this.cluster.node(name).admin}/kv/${key}?consistency=local`);
        if (answer.status !== 200 || (await answer.text()) !== value) throw new Error(`${key} at ${name}: ${answer.status}, not what was acknowledged`);
      }
    const differences = await this.cluster.differences();
    if (differences.length > 0) throw new Error(differences.join("\n"));
    return this.written.size;
  }

  private drawCall(): Call {
    const { name, from, count } = nextOf(this.dice, CALLS);
    return { name, nth: from + nextBelow(this.dice, count) };
  }

  /** Until the phase, or until its synchronisation or its process ended; half a store is never read meanwhile. */
  private async follow(name: NodeName, wanted: string | null): Promise<{ phase: string | null; provider: NodeName }> {
    const node = this.cluster.node(name);
    let [phase, provider]: [string | null, NodeName] = [null, NODES.find((each) => each !== name) ?? "a"];
    for (const untilMs = performance.now() + PHASE_MS; performance.now() < untilMs && this.cluster.isUp(name); ) {
      const sync: NodeStatus["sync"] = (await statusOf(node))?.sync ?? null;
      if (sync?.synchronizing !== true) {
        if (phase !== null || wanted === null) break;
        continue;
      }
      phase = sync.phase;
      provider = NODES.find((each) => each === sync.provider) ?? provider;
      const read = await fetch(`${node.admin}/kv/large%2F1?consistency=local`).catch(() => null);
      if (read?.status === 200 && (await statusOf(node))?.sync?.synchronizing === true) throw new Error(`${name} is read while its store is replaced`);
      if (phase === wanted) break;
    }
    return { phase, provider };
  }

  private async leader(asked: NodeName): Promise<NodeName> {
    const other = NODES.find((name) => name !== asked) ?? "a";
    const leader = (await statusOf(this.cluster.node(other)))?.paxos.leader;
    return NODES.find((name) => name === leader) ?? other;
  }

  private async write(key: string, value: string): Promise<void> {
    for (const untilMs = performance.now() + BACK_MS; performance.now() < untilMs; await Bun.sleep(50)) {
      const name = NODES[nextBelow(this.dice, NODES.length)] as NodeName;
      const answer = await fetch(`${this.cluster.node(name).admin}/kv/${key}`, { method: "PUT", body: value }).catch(() => null);
      if (answer?.status !== 200) continue; // done or not, it is written again
      this.written.set(key, value);
      return;
    }
    throw new Error(`${key} was not written within ${BACK_MS} ms`);
  }

  private isReady(name: NodeName): Promise<boolean> {
    return healthOf(this.cluster.node(name)).then((status) => status === 200);
  }

  private async allReady(): Promise<void> {
    for (const name of NODES)
      await eventually(
        () => this.isReady(name),
        (isReady) => isReady,
        BACK_MS,
      );
  }
}
