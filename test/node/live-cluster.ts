/** Three real nodes for the tests of one file: up before the first, gone after the last, and killed and started again in between. */
import { afterAll, beforeAll } from "bun:test";
import { eventually, FROM_SOURCE, healthOf, isAlive, type Ready, type ReadyNode, statusOf, UpBench } from "./up-bench.ts";

/** A start, with an election behind it, on a busy machine. */
const READY_MS = 60_000;

export class LiveCluster {
  private opened: { readonly bench: UpBench; readonly ready: Ready } | null = null;

  async open(program: readonly string[]): Promise<void> {
    const bench = await UpBench.open(program);
    this.opened = { bench, ready: (await bench.up("--no-merge")).ready };
  }

  async close(): Promise<void> {
    await this.opened?.bench[Symbol.asyncDispose]();
  }

  get bench(): UpBench {
    return this.now().bench;
  }

  get ready(): Ready {
    return this.now().ready;
  }

  node(at: number): ReadyNode {
    return this.ready.nodes[at] as ReadyNode;
  }

  /** Resolves when the process is gone: the one that runs now, where none is named. */
  async kill(at: number, pid?: number): Promise<void> {
    const running = pid ?? (await statusOf(this.node(at)))?.pid ?? this.node(at).pid;
    process.kill(running, "SIGKILL");
    await eventually(
      () => isAlive(running),
      (lives) => !lives,
    );
  }

  start(at: number): void {
    this.bench.spawn("node", "run", "--dir", this.node(at).dir, "--no-merge", "--stdin");
  }

  async serves(at: number): Promise<void> {
    await eventually(
      () => healthOf(this.node(at)),
      (status) => status === 200,
      READY_MS,
    );
  }

  private now(): { readonly bench: UpBench; readonly ready: Ready } {
    if (this.opened === null) throw new Error("the cluster is up once the tests run");
    return this.opened;
  }
}

/** To be called once, where a file begins. */
export function liveCluster(program: readonly string[] = FROM_SOURCE, withinMs?: number): LiveCluster {
  const live = new LiveCluster();
  beforeAll(() => live.open(program), withinMs);
  afterAll(() => live.close());
  return live;
}
