/**
 * The long trimming run with real processes (sync.md section 1, row 7): three nodes, clients that write all the while, and
 * nodes killed or stopped in turn until what they need next is trimmed away. Each comes back by itself; then writes
 * pause, all stores must be equal, and their files may not have grown beyond a bound however long it runs.
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { eventually, healthOf, isAlive, type NodeStatus, type Ready, type ReadyNode, statusOf, UpBench } from "../node/up-bench.ts";

const CLIENTS = 4;
const KEYS = 500;
const VALUE_BYTES = 1_024;
/** Some hundred writes a second: the horizon passes quickly, and the disk is not what is measured. */
const PACE_MS = 20;
/** A leader trims nothing in its first minute. */
const TRIM_MS = 150_000;
const BACK_MS = 60_000;
/** Keys, kept versions and histories are some 3 MiB; LMDB keeps what it freed, and a snapshot pins pages for a while. */
const FILE_BYTES_MAX = 64 << 20;

export type TrimTurn = {
  readonly node: string;
  readonly by: "SIGTERM" | "SIGKILL";
  readonly behind: number;
  readonly backMs: number;
  readonly fileBytes: number;
};
export type TrimReport = { readonly writes: number; readonly versions: number; readonly first: number; readonly turns: readonly TrimTurn[] };

export async function runTrimReal(binary: string, minutes: number, onTurn: (turn: TrimTurn) => void): Promise<TrimReport> {
  await using bench = await UpBench.open([binary]);
  const { ready } = await bench.up("--no-merge");
  const run = new TrimRun(bench, ready);
  const turns: TrimTurn[] = [];
  for (const endMs = performance.now() + minutes * 60_000; performance.now() < endMs; ) {
    const turn = await run.turn(turns.length);
    turns.push(turn);
    onTurn(turn);
  }
  const { first, last } = await run.end();
  return { writes: run.writes, versions: last, first, turns };
}

class TrimRun {
  writes = 0;
  private readonly bench: UpBench;
  private readonly nodes: readonly ReadyNode[];
  private readonly pids: number[];
  private isPaused = false;
  private isOver = false;
  private writing = 0;
  private readonly clients: readonly Promise<void>[];

  constructor(bench: UpBench, { nodes }: Ready) {
    this.bench = bench;
    this.nodes = nodes;
    this.pids = nodes.map(({ pid }) => pid);
    this.clients = Array.from({ length: CLIENTS }, () => this.client());
  }

  async turn(count: number): Promise<TrimTurn> {
    const at = count % this.nodes.length;
    const by = count % 2 === 0 ? "SIGKILL" : "SIGTERM";
    const node = this.node(at);
    const { last } = await this.paxosOf(at);
    const pid = this.pids[at] as number;
    process.kill(pid, by);
    await eventually(
      () => isAlive(pid) && healthOf(node).then((status) => status !== 0),
      (lives) => !lives,
      30_000,
    );
    const other = (at + 1) % this.nodes.length;
    const { first } = await eventually(
      () => this.paxosOf(other),
      (status) => status.first > last + 1,
      TRIM_MS,
    );
    const startMs = performance.now();
    this.pids[at] = this.bench.spawn("node", "run", "--dir", node.dir, "--no-merge", "--stdin").pid;
    await eventually(
      () => healthOf(node),
      (status) => status === 200,
      BACK_MS,
    );
    const backMs = Math.round(performance.now() - startMs);
    return { node: node.id, by, behind: first - last - 1, backMs, fileBytes: await this.compare() };
  }

  async end(): Promise<NodeStatus["paxos"]> {
    this.isOver = true;
    await Promise.all(this.clients);
    return this.paxosOf(0);
  }

  /** Resolves with the size of the largest store. */
  private async compare(): Promise<number> {
    this.isPaused = true;
    await eventually(
      () => this.writing,
      (count) => count === 0,
      BACK_MS,
    );
    await eventually(
      () => Promise.all(this.nodes.map(async (_, at) => (await this.paxosOf(at)).applied)),
      (applied) => new Set(applied).size === 1,
    );
    const differences = await this.bench.differences(this.nodes);
    if (differences.length > 0) throw new Error(differences.join("\n"));
    const sizes = await Promise.all(this.nodes.map(async ({ dir }) => (await stat(join(dir, "store", "data.mdb"))).size));
    const largest = Math.max(...sizes);
    if (largest > FILE_BYTES_MAX) throw new Error(`a store has ${largest} bytes, more than ${FILE_BYTES_MAX}`);
    this.isPaused = false;
    return largest;
  }

  private async client(): Promise<void> {
    while (!this.isOver) {
      await Bun.sleep(PACE_MS);
      if (this.isPaused) continue;
      this.writing += 1;
      const node = this.node(Math.floor(Math.random() * this.nodes.length));
      const body = crypto.getRandomValues(new Uint8Array(VALUE_BYTES));
      const answer = await fetch(`${node.admin}/kv/key-${Math.floor(Math.random() * KEYS)}`, { method: "PUT", body }).catch(() => null);
      if (answer?.status === 200) this.writes += 1;
      this.writing -= 1;
    }
  }

  private node(at: number): ReadyNode {
    return this.nodes[at] as ReadyNode;
  }

  private async paxosOf(at: number): Promise<NodeStatus["paxos"]> {
    const status = await statusOf(this.node(at));
    if (status === null) throw new Error(`${this.node(at).id} does not answer`);
    return status.paxos;
  }
}
