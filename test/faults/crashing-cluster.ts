/**
 * A cluster of the compiled program whose processes die one by one: each daemon and the merge loop is a child of ours, so
 * that any of them, or all at once, can be killed at a system call (strace injects the signal) or at any time, and
 * started again on what its disk holds. The binary is copied, so that a build meanwhile changes nothing.
 */
import { openSync } from "node:fs";
import { copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { selfEnvironment } from "../../src/engine/node/self.ts";
import { isAlive, type Ready, type ReadyNode, UpBench } from "../node/up-bench.ts";
import { straceInject } from "./strace.ts";

export const NODES = ["a", "b", "c"] as const;
export type NodeName = (typeof NODES)[number];

/** The n-th such call of one thread ends its process before it is done. */
export type Call = { readonly name: string; readonly nth: number };

/** A warm step is asked to run again after this. */
const GO_EVERY_MS = 100;

const straceKill = ({ name, nth }: Call): string[] => straceInject(name, `signal=SIGKILL:when=${nth}`);

type Child = Bun.Subprocess<"pipe", "pipe", number>;
type Running = { readonly child: Child; readonly pid: number };

const isOver = (child: Child): boolean => child.exitCode !== null || child.signalCode !== null;

export class CrashingCluster implements AsyncDisposable {
  readonly ready: Ready;
  private readonly bench: UpBench;
  private readonly nodes = new Map<NodeName, Running>();
  private loop: Child | null = null;

  private constructor(bench: UpBench, ready: Ready) {
    this.bench = bench;
    this.ready = ready;
  }

  /** Three nodes that were up once; none runs. */
  static async open(binary: string, ...words: readonly string[]): Promise<CrashingCluster> {
    const copy = join(await mkdtemp(join(tmpdir(), "cairn-crash-")), "cairn");
    await copyFile(binary, copy);
    const bench = await UpBench.open([copy]);
    const made = await bench.run("up", "--data", bench.data, "--nodes", "3", ...words, "--run", 'printf "%s" "$CAIRN_READY"');
    if (made.status !== 0) throw new Error(`up ended with ${made.status}: ${made.stderr}`);
    return new CrashingCluster(bench, JSON.parse(made.stdout) as Ready);
  }

  get folder(): string {
    return this.bench.folder;
  }

  /** A command of the binary, beside this cluster. */
  run(...words: string[]): Promise<{ stdout: string; stderr: string; status: number }> {
    return this.bench.run(...words, "--cluster", this.bench.data, "--timeout", "60s");
  }

  /** How the replicated stores of each two nodes differ: empty where all are equal. */
  differences(): Promise<string[]> {
    return this.bench.differences(this.ready.nodes);
  }

  node(name: NodeName): ReadyNode {
    const found = this.ready.nodes.find(({ id }) => id === name);
    if (found === undefined) throw new Error(`no node ${name}`);
    return found;
  }

  isUp(name: NodeName): boolean {
    const running = this.nodes.get(name);
    return running !== undefined && !isOver(running.child);
  }

  /** Starts what is down; resolves when all daemons are ready. */
  async startAll(): Promise<void> {
    await Promise.all(NODES.filter((name) => !this.isUp(name)).map((name) => this.startNode(name)));
    if (this.loop === null || isOver(this.loop)) this.loop = this.spawn("loop", ["merge", "run", "--dir", this.node("a").dir, "--stdin"]);
  }

  /** Resolves when it is ready, or died on the way there. */
  async startNode(name: NodeName, at?: Call): Promise<void> {
    const child = this.spawn(name, ["node", "run", "--dir", this.node(name).dir, "--no-merge", "--stdin", "--json"], at);
    const line = await firstLine(child.stdout);
    const pid = line.startsWith("{") ? (JSON.parse(line) as { pid: number }).pid : child.pid;
    this.nodes.set(name, { child, pid });
    if (line === "" && at === undefined) throw new Error(`node ${name} did not start: ${await readFile(this.saidFile(name), "utf8")}`);
  }

  /** Another instance of a step, kept warm beside the loop's own: it runs until it dies at the call; false where it did not. */
  async stepDies(words: readonly string[], at: Call, withinMs: number): Promise<boolean> {
    const step = this.spawn("step", ["merge", ...words, "--dir", this.node("a").dir, "--warm", "--wait", "--json"], at);
    void new Response(step.stdout).text();
    const deadline = performance.now() + withinMs;
    while (!isOver(step) && performance.now() < deadline) {
      await say(step, "go\n");
      await Promise.race([step.exited, Bun.sleep(GO_EVERY_MS)]);
    }
    if (step.exitCode !== null) throw new Error(`step ${words.join(" ")} ended with ${step.exitCode}: ${await readFile(this.saidFile("step"), "utf8")}`);
    const died = isOver(step);
    for (const pid of died ? [] : await childrenOf(step.pid)) process.kill(pid, "SIGKILL");
    await step.exited;
    return died;
  }

  /** Resolves whether the daemon was gone within the time. */
  async dies(name: NodeName, withinMs: number): Promise<boolean> {
    const running = this.nodes.get(name);
    if (running === undefined) return true;
    return Promise.race([running.child.exited.then(() => true), Bun.sleep(withinMs).then(() => false)]);
  }

  async kill(name: NodeName): Promise<void> {
    const running = this.nodes.get(name);
    if (running === undefined) return;
    if (isAlive(running.pid)) process.kill(running.pid, "SIGKILL");
    await running.child.exited;
    this.nodes.delete(name);
  }

  /** The loop and its steps, all in the same moment: they are a process group of their own. */
  async killLoop(): Promise<void> {
    const { loop } = this;
    if (loop === null) return;
    if (!isOver(loop)) process.kill(-loop.pid, "SIGKILL");
    await loop.exited;
    this.loop = null;
  }

  async killAll(): Promise<void> {
    await Promise.all([this.killLoop(), ...NODES.map((name) => this.kill(name))]);
  }

  /** Ends every process in the order that loses nothing. */
  async stop(): Promise<void> {
    if (this.loop !== null) await end(this.loop);
    await Promise.all([...this.nodes.values()].map(({ child }) => end(child)));
    this.loop = null;
    this.nodes.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.killAll();
    await this.bench[Symbol.asyncDispose]();
    await rm(join(this.bench.program[0] ?? "", ".."), { recursive: true, force: true });
  }

  private saidFile(name: string): string {
    return join(this.bench.folder, `${name}.stderr`);
  }

  /** Each in a process group of its own: a signal to it reaches what it started, and a Ctrl-C of ours does not. */
  private spawn(name: string, words: readonly string[], at?: Call): Child {
    const command = [...(at === undefined ? [] : straceKill(at)), ...this.bench.program, ...words];
    const env = { ...selfEnvironment(), XDG_STATE_HOME: join(this.bench.folder, "state"), CAIRN_CLUSTER: undefined };
    return Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: openSync(this.saidFile(name), "a"), env, detached: true });
  }
}

/** A process that is about to be noticed as dead takes no words. */
async function say(child: Child, words: string): Promise<void> {
  try {
    child.stdin.write(words);
    await child.stdin.flush();
  } catch {
    await child.exited;
  }
}

/** All of these end at the end of their stdin. */
async function end(child: Child): Promise<void> {
  await child.stdin.end();
  await child.exited;
}

const childrenOf = async (pid: number): Promise<number[]> =>
  (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "")).split(" ").filter(Boolean).map(Number);

/** The first line; empty where there is none. What follows is read and dropped. */
async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of stream) {
      if (text.includes("\n")) continue;
      text += decoder.decode(chunk, { stream: true });
      if (text.includes("\n")) resolve(text.slice(0, text.indexOf("\n")));
    }
    resolve("");
  };
  void read();
  return promise;
}
