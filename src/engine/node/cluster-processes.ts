/**
 * The node processes of one cluster on this machine: starts each with `cairn node run`, waits until all are ready and the
 * log has its first head, stops them all. The nodes hang on our stdin pipe: when this process dies, however it dies,
 * they stop by themselves. A node that dies is started again only where that was asked for.
 */
import { join } from "node:path";
import { EngineError, errorCodeOf, errorTable, isErrorCode } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import type { Cluster, ClusterNode } from "./cluster-folder.ts";
import { loadNode, type NodeConfig } from "./config.ts";
import type { ReadyLine } from "./daemon.ts";
import { endpointText } from "./endpoint.ts";
import { lockFile } from "./lock.ts";
import { readRunning } from "./running.ts";
import { nodeEnvironment, selfCommand } from "./self.ts";
import { runStep } from "./steps.ts";

/** A node opens its store and ports in well under a second; a large store takes longer to check. */
const READY_MS = 60_000;
/** The first head is made and reaches the frontends at once; on an overloaded machine some tries meet nodes that are late. */
const HEAD_MS = 30_000;
const ASK_EVERY_MS = 50;
const TRY_AGAIN_MS = 500;
/** A node ends its requests, its merge steps and its writes within this, or is killed: its files are made for that. */
const STOP_MS = 10_000;
const RESTART_FIRST_MS = 200;
const RESTART_MAX_MS = 10_000;
/** Of a node's stderr, so much of the last line is kept for the message about its end. */
const LAST_LINE_CHARS_MAX = 2_000;

export type ClusterOptions = {
  readonly merge: boolean;
  readonly paranoid?: boolean;
  readonly restart: boolean;
  /** One line for people. */
  readonly note: (text: string) => void;
};

type Child = Bun.Subprocess<"pipe", "pipe", "pipe">;

export class ClusterProcesses {
  private readonly cluster: Cluster;
  private readonly options: ClusterOptions;
  /** Every process, from its spawn to its end. */
  private readonly children = new Set<Child>();
  /** Those that said that they are ready. */
  private readonly running = new Map<NodeId, ReadyLine>();
  /** Why those ended that said that they are ready and ended all the same: what is wrong with a store may show a moment later. */
  private readonly ends = new Map<NodeId, EngineError>();
  private readonly watchers: Promise<void>[] = [];
  private readonly stopped = Promise.withResolvers<void>();
  private readonly stopping = new AbortController();
  private starting: Promise<void> = Promise.resolve();

  constructor(cluster: Cluster, options: ClusterOptions) {
    this.cluster = cluster;
    this.options = options;
  }

  /** Resolves when every node is ready and serves a head; on any failure nothing is left running. */
  async start(): Promise<readonly ReadyLine[]> {
    this.starting = this.startAll();
    try {
      await this.starting;
      return this.cluster.nodes.flatMap(({ id }) => this.running.get(id) ?? []);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Stops every node of the cluster, also one that is not ready yet, and one that somebody started again by hand. */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.stopped.resolve();
    await Promise.all([...this.children].map(endChild));
    await this.starting.catch(() => {}); // whoever started knows why
    await Promise.all(this.watchers);
    for (const { dir } of this.cluster.nodes) {
      const running = await readRunning(dir);
      if (running !== null) process.kill(running.pid, "SIGTERM");
    }
  }

  private get isStopping(): boolean {
    return this.stopping.signal.aborted;
  }

  private async startAll(): Promise<void> {
    const started = await Promise.allSettled(this.cluster.nodes.map((node) => this.startNode(node)));
    for (const each of started) if (each.status === "rejected") throw each.reason;
    await Promise.all(this.cluster.nodes.map((node) => this.awaitReady(node)));
    await this.initialise();
  }

  /** Until `/health` says 200: the node runs, and knows a leader with a majority behind it. */
  private async awaitReady(node: ClusterNode): Promise<void> {
    const { adminToken } = await loadNode(node.dir);
    for (const untilMs = performance.now() + READY_MS; ; ) {
      const missing = await missingOf(node, adminToken);
      if (missing === null) return;
      if (this.isStopping) throw stoppingError();
      const end = this.ends.get(node.id);
      if (end !== undefined && !this.options.restart) throw end;
      if (performance.now() >= untilMs) throw new EngineError("TIMEOUT", `node ${node.id} was not ready within ${READY_MS / 1_000} s: ${missing}`);
      await Bun.sleep(ASK_EVERY_MS);
    }
  }

  private async startNode(node: ClusterNode): Promise<void> {
    await Promise.race([awaitEnd(node), this.stopped.promise]);
    if (this.isStopping) throw stoppingError();
    const words = ["node", "run", "--dir", node.dir, "--stdin", "--json"];
    if (!this.options.merge) words.push("--no-merge");
    if (this.options.paranoid === true) words.push("--paranoid");
    const child: Child = Bun.spawn(selfCommand(...words), { stdin: "pipe", stdout: "pipe", stderr: "pipe", env: nodeEnvironment() });
    this.children.add(child);
    void child.exited.then(() => this.children.delete(child));
    const said = this.relay(node.id, child);
    const ready = await firstLine(child);
    if (ready === null) {
      await endChild(child);
      throw startFailure(node, await said, child);
    }
    this.running.set(node.id, ready);
    this.watchers.push(this.watch(node, child, said));
  }

  /** Passes on what a node says on stderr; resolves with the last error line of it. */
  private async relay(id: NodeId, child: Child): Promise<string> {
    let last = "";
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of child.stderr) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = (lines.pop() ?? "").slice(-LAST_LINE_CHARS_MAX);
      for (const line of lines) {
        if (line.startsWith("error[")) last = line.slice(0, LAST_LINE_CHARS_MAX);
        if (line !== "") this.options.note(`${id}: ${line}`);
      }
    }
    return last;
  }

  private async watch(node: ClusterNode, child: Child, said: Promise<string>): Promise<void> {
    await child.exited;
    const last = await said;
    this.running.delete(node.id);
    this.ends.set(node.id, startFailure(node, last, child));
    if (this.isStopping) return;
    this.options.note(
      `node ${node.id} ended with ${child.exitCode ?? child.signalCode}${this.options.restart ? "" : `; start it again with: cairn node run --dir ${node.dir}`}`,
    );
    for (let waitMs = RESTART_FIRST_MS; this.options.restart && !this.isStopping; waitMs = Math.min(waitMs * 2, RESTART_MAX_MS)) {
      await Promise.race([Bun.sleep(waitMs), this.stopped.promise]);
      if (this.isStopping) return;
      try {
        return await this.startNode(node);
      } catch (error) {
        this.options.note(error instanceof Error ? error.message : String(error));
      }
    }
  }

  /** Makes the log's first head where there is none, and waits until each frontend serves one. */
  private async initialise(): Promise<void> {
    if (await this.allServeHead(0)) return;
    const [primary] = this.cluster.nodes;
    if (primary === undefined) return;
    const node = await loadNode(primary.dir);
    await this.makeHead(node);
    await this.pushHead(node);
  }

  /** What may pass is tried again: nodes that are ready may still be too slow to answer in time. */
  private async makeHead(node: NodeConfig): Promise<void> {
    for (const untilMs = performance.now() + HEAD_MS; ; ) {
      const { error } = await runStep(node, { step: "init" }, { wait: true, totalMs: HEAD_MS, signal: this.stopping.signal });
      if (error === undefined || error.code === "LOG_EXISTS") return;
      const code = errorCodeOf(error.code);
      if (!errorTable[code].retryable || this.isStopping || performance.now() >= untilMs) throw new EngineError(code, `log init: ${error.detail}`);
      await Promise.race([Bun.sleep(TRY_AGAIN_MS), this.stopped.promise]);
    }
  }

  private async pushHead(node: NodeConfig): Promise<void> {
    if (await this.allServeHead(ASK_EVERY_MS)) return;
    for (const untilMs = performance.now() + HEAD_MS; ; ) {
      const { error, notes } = await runStep(node, { step: "dist" }, { wait: true, totalMs: HEAD_MS, signal: this.stopping.signal });
      if (await this.allServeHead(TRY_AGAIN_MS)) return;
      if (this.isStopping) throw stoppingError();
      if (performance.now() >= untilMs) throw new EngineError("TIMEOUT", `the log's head did not reach every frontend: ${error?.detail ?? notes.join("; ")}`);
    }
  }

  private async allServeHead(withinMs: number): Promise<boolean> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const served = await Promise.all(this.cluster.nodes.map(servesHead));
      if (served.every(Boolean)) return true;
      if (performance.now() >= deadline || this.isStopping) return false;
      await Bun.sleep(ASK_EVERY_MS);
    }
  }
}

async function servesHead({ log }: ClusterNode): Promise<boolean> {
  try {
    const answer = await fetch(`http://${endpointText(log)}/log/checkpoint`, { signal: AbortSignal.timeout(5_000) });
    await answer.arrayBuffer();
    return answer.ok;
  } catch {
    return false; // not yet: the caller has the deadline
  }
}

/** Why a node is not ready, or null where it is. */
async function missingOf({ admin }: ClusterNode, token: string | null): Promise<string | null> {
  try {
    const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` };
    const answer = await fetch(`http://${endpointText(admin)}/health`, { headers, signal: AbortSignal.timeout(5_000) });
    const text = (await answer.text()).trim();
    return answer.ok ? null : text;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const stoppingError = (): EngineError => new EngineError("NOT_READY", "the cluster is being stopped");

/** The nodes of an `up` that was killed end by themselves, a moment after it. Throws NODE_RUNNING where one stays. */
async function awaitEnd({ dir }: ClusterNode): Promise<void> {
  const lock = await lockFile(join(dir, "lock.node"), { wait: true, waitMs: STOP_MS, busy: "NODE_RUNNING" });
  await lock.release();
}

/** Asks a node to end by closing its stdin, and kills it when it does not. */
async function endChild(child: Child): Promise<void> {
  await child.stdin.end();
  const killer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  await child.exited;
  clearTimeout(killer);
}

/** The node's ready line; null where it ended, or took too long. The rest of its stdout is read and dropped. */
async function firstLine(child: Child): Promise<ReadyLine | null> {
  const { promise, resolve } = Promise.withResolvers<ReadyLine | null>();
  const timer = setTimeout(() => resolve(null), READY_MS);
  void readStdout(child, resolve).finally(() => resolve(null));
  const ready = await promise;
  clearTimeout(timer);
  return ready;
}

async function readStdout(child: Child, found: (ready: ReadyLine | null) => void): Promise<void> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of child.stdout) {
    if (text.includes("\n")) continue;
    text += decoder.decode(chunk, { stream: true });
    if (text.includes("\n")) found(parseReady(text.slice(0, text.indexOf("\n"))));
  }
}

function parseReady(line: string): ReadyLine | null {
  try {
    const value: unknown = JSON.parse(line);
    const isReady = typeof value === "object" && value !== null && "event" in value && value.event === "ready" && "pid" in value && "log" in value;
    return isReady ? (value as ReadyLine) : null; // made by this very program
  } catch {
    return null; // an error line: stderr says more
  }
}

/** The node's own error as ours, so that a code like NODE_RUNNING keeps its exit status. */
function startFailure(node: ClusterNode, said: string, child: Child): EngineError {
  const match = /^error\[([A-Z_]+)\]: (.*)$/.exec(said);
  const code = match?.[1] ?? "";
  const how = `node ${node.id} did not start (${child.exitCode ?? child.signalCode})`;
  return isErrorCode(code) ? new EngineError(code, `${how}: ${match?.[2]}`) : new EngineError("FAILED", `${how}: ${errorTable.FAILED.means}; see ${node.dir}`);
}
