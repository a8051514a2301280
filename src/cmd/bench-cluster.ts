/**
 * A cluster of its own for a bench: `up` started from this very program in a fresh folder, and what can be seen of it from
 * outside: the hand-over files of its primary and the checkpoints its frontends serve. Ends with the bench, however that
 * ends: the nodes hang on a pipe. Never looks into a node's memory.
 */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EngineError } from "../engine/base/errors.ts";
import { selfCommand, selfEnvironment } from "../engine/node/self.ts";

export type BenchNode = { readonly id: string; readonly pid: number; readonly dir: string; readonly admin: string; readonly log: string };
/** How far the log is, in entries; of several copies, the one furthest behind. */
export type Reached = { readonly sequenced: number; readonly verified: number; readonly signed: number; readonly published: number };

const NODES = 3;
/** `up` ends its nodes within its own time, or is killed with them. */
const STOP_MS = 20_000;
const ASK_MS = 10_000;

export class BenchCluster implements AsyncDisposable {
  readonly pid: number;
  readonly vkey: string;
  /** The first is the primary. */
  readonly nodes: readonly BenchNode[];
  private readonly folder: string;
  private readonly child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  private isStopped = false;

  private constructor(folder: string, child: Bun.Subprocess<"pipe", "pipe", "inherit">, { nodes, log }: Ready) {
    this.folder = folder;
    this.child = child;
    this.pid = child.pid;
    this.nodes = nodes;
    this.vkey = log.vkey;
  }

  /** A cluster with nothing in its log or its store; `words` are further options of `up`. */
  static async start(...words: readonly string[]): Promise<BenchCluster> {
    const folder = await mkdtemp(join(tmpdir(), "cairn-bench-"));
    const up = ["up", "--data", join(folder, "data"), "--nodes", String(NODES), ...words, "--json"];
    const env = { ...selfEnvironment(), XDG_STATE_HOME: join(folder, "state") };
    const child = Bun.spawn(selfCommand(...up), { stdin: "pipe", stdout: "pipe", stderr: "inherit", env });
    const ready = parseReady(await firstLine(child.stdout));
    if (ready !== null) return new BenchCluster(folder, child, ready);
    child.kill("SIGTERM");
    await child.exited;
    await rm(folder, { recursive: true, force: true });
    throw new EngineError("UNAVAILABLE", `the bench's cluster did not start: up ended with ${child.exitCode ?? child.signalCode}`);
  }

  /** From the primary's files and its frontends' checkpoints. */
  async reached(): Promise<Reached> {
    const [primary, ...secondaries] = this.nodes as readonly [BenchNode, ...BenchNode[]];
    const sizeIn = (file: string): number => sizeOf(readOr(join(primary.dir, "merge", file), "{}"));
    return {
      sequenced: sizeIn("currentsize"),
      verified: Math.min(...secondaries.map(({ id }) => sizeIn(`position.${id}`))),
      signed: sizeIn("sth"),
      published: Math.min(...(await Promise.all(this.nodes.map(publishedSize)))),
    };
  }

  /** What stopped the signer, where something did: a line for people. */
  latched(): string {
    return readOr(join(this.nodes[0]?.dir ?? "", "merge", "latch"), "not latched").trim();
  }

  /** Ends the processes; the folders stay until the cluster is disposed of. */
  async stop(): Promise<void> {
    if (this.isStopped) return;
    this.isStopped = true;
    this.child.kill("SIGTERM");
    const killer = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS);
    await this.child.exited;
    clearTimeout(killer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

type Ready = { readonly nodes: readonly BenchNode[]; readonly log: { readonly vkey: string } };

function parseReady(line: string): Ready | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && "event" in value && value.event === "ready" ? (value as unknown as Ready) : null; // of this very program
  } catch {
    return null; // its error is on stderr
  }
}

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    if (text.includes("\n")) break;
  }
  return text.slice(0, text.indexOf("\n") + 1);
}

function readOr(path: string, missing: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return missing;
  }
}

function sizeOf(line: string): number {
  const { size } = JSON.parse(line) as { readonly size?: unknown };
  return typeof size === "number" ? size : 0;
}

/** The second line of a checkpoint. */
async function publishedSize({ log }: BenchNode): Promise<number> {
  const answer = await fetch(`${log}/checkpoint`, { signal: AbortSignal.timeout(ASK_MS) });
  const size = Number((await answer.text()).split("\n")[1]);
  return Number.isNaN(size) ? 0 : size;
}
