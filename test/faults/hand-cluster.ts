/**
 * A cluster of the compiled program with the merge's steps run by hand, as a shell script would: each call is a process,
 * and what it printed and its exit status are all that is looked at.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { selfEnvironment } from "../../src/engine/node/self.ts";
import { COMPILED, eventually, healthOf, isAlive, type Ready, type ReadyNode, UpBench } from "../node/up-bench.ts";

export type Step = {
  readonly step: string;
  readonly target?: string;
  readonly changed: boolean;
  readonly counts: Record<string, number>;
  readonly notes: readonly string[];
};
export type Said = {
  readonly status: number;
  /** Code of the error it ended with; empty where it ended well. */
  readonly code: string;
  readonly message: string;
  readonly steps: readonly Step[];
  readonly stdout: string;
  readonly stderr: string;
};

/** On a busy machine a frontend may not be done when a run of dist ends: the next run brings it the rest. */
const DIST_TRIES_MAX = 20;

const ADD_MS_MAX = 30_000;

export class HandCluster implements AsyncDisposable {
  readonly bench: UpBench;
  ready: Ready;
  private child: Bun.Subprocess;
  private readonly extra: Bun.Subprocess[] = [];

  private constructor(bench: UpBench, child: Bun.Subprocess, ready: Ready) {
    this.bench = bench;
    this.child = child;
    this.ready = ready;
  }

  static async open(...words: string[]): Promise<HandCluster> {
    const bench = await UpBench.open(COMPILED);
    const { child, ready } = await bench.up("--no-merge", ...words);
    return new HandCluster(bench, child, ready);
  }

  node(name: string): ReadyNode {
    const found = this.ready.nodes.find(({ id }) => id === name);
    if (found === undefined) throw new Error(`no node ${name}`);
    return found;
  }

  path(name: string, ...rest: string[]): string {
    return join(this.node(name).dir, ...rest);
  }

  /** A command on this cluster. */
  async cairn(...words: string[]): Promise<Said> {
    const { stdout, stderr, status } = await this.bench.run(...words, "--json", "--cluster", this.bench.data);
    return said(stdout, stderr, status);
  }

  merge(...words: string[]): Promise<Said> {
    return this.step("a", ...words);
  }

  /** A step in the folder of a node, the primary or not. */
  async step(name: string, ...words: string[]): Promise<Said> {
    const { stdout, stderr, status } = await this.bench.run("merge", ...words, "--dir", this.node(name).dir, "--json");
    return said(stdout, stderr, status);
  }

  /** Fetch, backup, dist, and all of them well; dist again while a frontend is owed the head. */
  async round(): Promise<void> {
    const run = async (words: string): Promise<Step | undefined> => {
      const { status, stdout, stderr, steps } = await this.merge(words);
      if (status !== 0) throw new Error(`merge ${words}: ${status}\n${stdout}${stderr}`);
      return steps.at(-1);
    };
    await run("fetch");
    await run("backup");
    for (let tries = 0, last = await run("dist"); last?.counts["published"] !== last?.counts["frontends"]; last = await run("dist"))
      if (++tries > DIST_TRIES_MAX) throw new Error(`merge dist: ${JSON.stringify(last)}`);
  }

  /** Each is acknowledged; as a client should, it asks again where too few nodes were quick enough to promise. */
  async add(name: string, ...entries: string[]): Promise<void> {
    for (const body of entries) {
      const add = async (): Promise<[number, string]> => {
        const answer = await fetch(`${this.node(name).log}/add`, { method: "POST", body });
        return [answer.status, await answer.text()];
      };
      const [status, text] = await eventually(add, ([each]) => each !== 503, ADD_MS_MAX);
      if (status !== 202) throw new Error(`add to ${name}: ${status} ${text}`);
    }
  }

  /** Of the head that a frontend serves. */
  async served(name: string): Promise<number> {
    return Number((await (await fetch(`${this.node(name).log}/checkpoint`)).text()).split("\n")[1]);
  }

  /** Stops all, does something to the folders, starts all again. */
  async whileDown(deed: () => Promise<void> | void): Promise<void> {
    this.child.kill("SIGTERM");
    await this.child.exited;
    await deed();
    const { child, ready } = await this.bench.up("--no-merge");
    this.child = child;
    this.ready = ready;
  }

  /** Kills one daemon, does something to its folder, starts it again. */
  async whileNodeIsDown(name: string, deed: () => Promise<void> | void, until: "ready" | "answers" = "ready"): Promise<void> {
    await this.killNode(name);
    await deed();
    await this.startNode(name, until);
  }

  async killNode(name: string): Promise<void> {
    const pid = await this.pidOf(name);
    process.kill(pid, "SIGKILL");
    await eventually(
      () => isAlive(pid) && !isZombie(pid),
      (alive) => !alive,
    );
  }

  /** `answers`: a node that its leader cannot reach runs, and is not ready. */
  async startNode(name: string, until: "ready" | "answers" = "ready"): Promise<void> {
    const { dir, admin } = this.node(name);
    this.extra.push(this.bench.spawn("node", "run", "--dir", dir, "--no-merge", "--stdin"));
    await eventually(
      () => healthOf({ admin }),
      (status) => status === 200 || (until === "answers" && status === 503),
      30_000,
    );
  }

  async pidOf(name: string): Promise<number> {
    return ((await (await fetch(`${this.node(name).admin}/status`)).json()) as { pid: number }).pid;
  }

  /** Runs with a hand-over file changed, and puts it back. */
  async withFile<T>(name: string, file: string, change: (text: string) => string, run: () => Promise<T>): Promise<T> {
    const path = this.path(name, file);
    const text = readFileSync(path, "utf8");
    writeFileSync(path, change(text));
    try {
      return await run();
    } finally {
      writeFileSync(path, text);
    }
  }

  /** As a shell runs it: with what follows the command, such as a closed stdin. */
  async shell(line: string): Promise<Said> {
    const env = {
      ...selfEnvironment(),
      XDG_STATE_HOME: join(this.bench.folder, "state"),
      CAIRN_CLUSTER: this.bench.data,
      CAIRN: COMPILED[0],
      DIR: this.node("a").dir,
    };
    const child = Bun.spawn(["/bin/sh", "-c", line], { stdin: "ignore", stdout: "pipe", stderr: "pipe", env });
    const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    return said(stdout, stderr, status);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGTERM");
    await this.bench[Symbol.asyncDispose]();
  }
}

function said(stdout: string, stderr: string, status: number): Said {
  const rows = stdout.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as Record<string, unknown>] : []));
  const error = rows.at(-1)?.["error"] as { code: string; message?: string } | undefined;
  const last = /error\[(\w+)\]: (.*)/.exec(stderr);
  return {
    status,
    code: error?.code ?? last?.[1] ?? "",
    message: error?.message ?? last?.[2] ?? "",
    steps: rows.filter((row) => "step" in row) as unknown as Step[],
    stdout,
    stderr,
  };
}

/** A killed child of a process that did not yet ask for it. */
function isZombie(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.startsWith("Z") === true;
  } catch {
    return true;
  }
}
