/** `cairn up` as a process, of the source tree or compiled, in folders of its own, for the tests that watch it from outside. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { selfEnvironment } from "../../src/engine/node/self.ts";

export type ReadyNode = { id: string; pid: number; dir: string; admin: string; peer: string; s3: null; nbd: null; log: string };
export type Ready = { event: string; nodes: ReadyNode[]; s3: null; log: { origin: string; vkey: string } };

/** The part of `/status` that tests look at. */
export type NodeStatus = {
  readonly pid: number;
  readonly paxos: { readonly leader: string | null; readonly first: number; readonly last: number; readonly applied: number };
  readonly sync: { readonly phase: string; readonly synchronizing: boolean; readonly provider: string | null } | null;
};

const ROOT = join(import.meta.dir, "../..");
/** Words that start the program. */
export const FROM_SOURCE: readonly string[] = [process.execPath, join(ROOT, "src/cmd/main.ts")];
export const COMPILED: readonly string[] = [join(ROOT, "dist/cairn")];

export class UpBench implements AsyncDisposable {
  readonly folder: string;
  readonly data: string;
  readonly program: readonly string[];
  private readonly children: Bun.Subprocess[] = [];

  private constructor(folder: string, program: readonly string[]) {
    this.folder = folder;
    this.data = join(folder, "data");
    this.program = program;
  }

  static async open(program: readonly string[] = FROM_SOURCE): Promise<UpBench> {
    return new UpBench(await mkdtemp(join(tmpdir(), "cairn-up-")), program);
  }

  spawn(...words: string[]): Bun.Subprocess<"pipe", "pipe", "pipe"> {
    const env = { ...selfEnvironment(), XDG_STATE_HOME: join(this.folder, "state"), CAIRN_CLUSTER: undefined };
    const child = Bun.spawn([...this.program, ...words], { stdin: "pipe", stdout: "pipe", stderr: "pipe", env });
    this.children.push(child);
    return child;
  }

  /** Runs a command to its end. */
  async run(...words: string[]): Promise<{ stdout: string; stderr: string; status: number }> {
    const child = this.spawn(...words);
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { stdout, stderr, status: await child.exited };
  }

  /** Starts `up` on this bench's data folder and waits for its ready line. */
  async up(...words: string[]): Promise<{ child: Bun.Subprocess<"pipe", "pipe", "pipe">; ready: Ready; line: string }> {
    const child = this.spawn("up", "--data", this.data, ...words);
    const errors = new Response(child.stderr).text();
    const line = await firstLine(child.stdout);
    if (line === null) throw new Error(`up ended with ${await child.exited}: ${await errors}`);
    return { child, ready: JSON.parse(line) as Ready, line };
  }

  /** How the replicated stores of each two nodes differ: empty where all are equal. */
  async differences(nodes: readonly ReadyNode[]): Promise<string[]> {
    const found: string[] = [];
    for (const [at, left] of nodes.entries())
      for (const right of nodes.slice(at + 1)) {
        const { stdout, stderr, status } = await this.run("store", "diff", left.dir, right.dir, "--db", "replicated");
        if (status !== 0 || !stdout.includes("equal")) found.push(`${left.id} ${right.id}: ${stdout}${stderr}`);
      }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.children) {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
      await child.exited;
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string | null> {
  const decoder = new TextDecoder();
  let text = "";
  const reader = stream.getReader();
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) return null;
    text += decoder.decode(value, { stream: true });
  }
  reader.releaseLock();
  return text.slice(0, text.indexOf("\n"));
}

/** Null where nobody answers. */
export async function statusOf({ admin }: ReadyNode): Promise<NodeStatus | null> {
  const answer = await fetch(`${admin}/status`).catch(() => null);
  return answer === null ? null : ((await answer.json()) as NodeStatus);
}

/** The HTTP status of `/health`; 0 where nobody answers. */
export const healthOf = async ({ admin }: Pick<ReadyNode, "admin">): Promise<number> => (await fetch(`${admin}/health`).catch(() => ({ status: 0 }))).status;

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Asks until the answer is the one wanted; fails with the last one when the time is over. */
export async function eventually<T>(ask: () => Promise<T> | T, isWanted: (value: T) => boolean, withinMs = 10_000): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const value = await ask();
    if (isWanted(value)) return value;
    if (performance.now() > deadline) throw new Error(`after ${withinMs} ms still ${JSON.stringify(value)}`);
    await Bun.sleep(25);
  }
}
