/**
 * Histories of concurrent clients on three real nodes, through kills, stops, partitions and a store synchronisation, judged from
 * outside (sync.md I13): Porcupine finds an order in which one copy of each key would have answered like that, and afterwards
 * all stores are equal. Needs Go, so it runs in the ci tier; on the compiled binary.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Links } from "../node/links.ts";
import { COMPILED, eventually, healthOf, type Ready, type ReadyNode, statusOf, UpBench } from "../node/up-bench.ts";

const BUILD_MS_MAX = 300_000;
const LIMIT_MS = 400_000;
const OPERATIONS_MIN = 10_000;
/** Few, so that clients meet; enough that unknown outcomes, which the judge must try everywhere, spread. */
const KEYS = 12;
const CLIENTS = 10;
/** A node that is stopped answers nobody: longer than its requests' own limit of 5 s. */
const ASK_MS = 8_000;
/** Each of the four in turn. */
const FAULTS = 12;
/** Longer than two leases. */
const FAULT_MS = 2_500;
/** A leader trims nothing before a minute is over, since an earlier one's holds may last as long. */
const TRIM_MS = 150_000;
/** Clients wait so long between two operations while that minute goes by: the judge's work grows with the history. */
const PACE_MS = 60;

let bench: UpBench;
let ready: Ready;
let links: Links;

beforeAll(async () => {
  bench = await UpBench.open(COMPILED);
  const go = Bun.spawn(["go", "build", "-o", join(bench.folder, "linearizable"), "./cmd/linearizable"], { cwd: import.meta.dir, stderr: "inherit" });
  expect(await go.exited).toBe(0);
  const first = await bench.up("--no-merge");
  first.child.kill("SIGTERM");
  await first.child.exited;
  links = await Links.lay(first.ready.nodes);
  ({ ready } = await bench.up("--no-merge"));
}, BUILD_MS_MAX);
afterAll(async () => {
  links[Symbol.dispose]();
  await bench[Symbol.asyncDispose]();
  await rm(bench.folder, { recursive: true, force: true });
});

type Operation = {
  readonly client: number;
  readonly op: "get" | "put" | "cas" | "delete";
  readonly key: string;
  readonly value?: string;
  readonly expected?: string | null;
  readonly out?: string | null;
  readonly failed?: boolean;
  readonly call: number;
  /** Null where nobody knows the outcome. */
  readonly return: number | null;
};
type Seen = { readonly value: string; readonly version: number };

const node = (at: number): ReadyNode => ready.nodes[at] as ReadyNode;
const nowNs = (): number => Math.round(performance.now() * 1e6);
const pick = (count: number): number => Math.floor(Math.random() * count);

class Client {
  private readonly number: number;
  private readonly history: Operation[];
  private readonly seen = new Map<string, Seen>();
  private count = 0;

  constructor(number: number, history: Operation[]) {
    this.number = number;
    this.history = history;
  }

  async once(): Promise<void> {
    const key = `key-${pick(KEYS)}`;
    const dice = Math.random();
    const known = this.seen.get(key);
    if (dice < 0.5) await this.get(key);
    else if (dice < 0.8 || known === undefined) await this.write("put", key, {});
    else if (dice < 0.95) await this.write("cas", key, { "if-match": `"${known.version}"` }, known.value);
    else await this.write("delete", key, {});
  }

  private async get(key: string): Promise<void> {
    const call = nowNs();
    const answer = await this.ask(key, { method: "GET" });
    // a read that failed says nothing about the key
    if (typeof answer === "string" || (answer.status !== 200 && answer.status !== 404)) return;
    const out = answer.status === 200 ? answer.text : null;
    this.history.push({ client: this.number, op: "get", key, out, call, return: nowNs() });
    if (out !== null) this.seen.set(key, { value: out, version: answer.version });
  }

  private async write(op: "put" | "cas" | "delete", key: string, headers: Record<string, string>, expected: string | null = null): Promise<void> {
    const value = `${this.number}.${++this.count}`;
    const call = nowNs();
    const answer = await this.ask(key, op === "delete" ? { method: "DELETE" } : { method: "PUT", headers, body: value });
    const done = { client: this.number, op, key, value, expected, call };
    if (answer === "unheard") return;
    if (answer === "unknown" || answer.code === "PAXOS_OUTCOME_UNKNOWN") this.history.push({ ...done, return: null });
    else if (answer.status === 412) this.history.push({ ...done, failed: true, return: nowNs() });
    else if (answer.status < 300) {
      this.history.push({ ...done, return: nowNs() });
      if (op !== "delete") this.seen.set(key, { value, version: answer.version });
    } else expect(answer.code).toBeOneOf(["PAXOS_NO_QUORUM", "NOT_READY"]); // surely not done
  }

  private async ask(key: string, init: RequestInit): Promise<"unheard" | "unknown" | { status: number; text: string; version: number; code: string }> {
    try {
      const answer = await fetch(`${node(pick(3)).admin}/kv/${key}`, { ...init, signal: AbortSignal.timeout(ASK_MS) });
      const text = await answer.text();
      const code = answer.status === 503 ? (JSON.parse(text) as { error: { code: string } }).error.code : "";
      return { status: answer.status, text, version: Number(answer.headers.get("x-cairn-version")), code };
    } catch (error) {
      return error instanceof Error && "code" in error && error.code === "ConnectionRefused" ? "unheard" : "unknown";
    }
  }
}

/** What befalls one node, until it is over. */
const FAULT_KINDS: readonly ((at: number, pids: number[]) => Promise<void>)[] = [
  async (at, pids) => {
    await kill(at, pids);
    start(at, pids);
  },
  async (at, pids) => {
    process.kill(pids[at] as number, "SIGSTOP");
    await Bun.sleep(FAULT_MS);
    process.kill(pids[at] as number, "SIGCONT");
  },
  async (at) => {
    links.isolate(node(at).id);
    await Bun.sleep(FAULT_MS);
    expect(await healthOf(node(at))).toBe(503); // it knows of no leader
    links.heal();
  },
  async (at) => {
    links.isolate(node(at).id, "outgoing");
    await Bun.sleep(FAULT_MS);
    links.heal();
  },
];

async function kill(at: number, pids: number[]): Promise<void> {
  process.kill(pids[at] as number, "SIGKILL");
  await eventually(
    () => healthOf(node(at)),
    (status) => status === 0,
  );
}

function start(at: number, pids: number[]): void {
  pids[at] = bench.spawn("node", "run", "--dir", node(at).dir, "--no-merge", "--stdin").pid;
}

/** One node is away until what it needs next is trimmed; it comes back by a sync, and half-way another one is cut off. */
async function fallBehind(at: number, pids: number[]): Promise<void> {
  const before = (await statusOf(node(at)))?.paxos.last ?? 0;
  await kill(at, pids);
  const other = (at + 1) % 3;
  await eventually(
    () => statusOf(node(other)),
    (status) => (status?.paxos.first ?? 0) > before + 1,
    TRIM_MS,
  );
  start(at, pids);
  await eventually(
    () => statusOf(node(at)),
    (status) => ![undefined, "probing"].includes(status?.sync?.phase),
    30_000,
  );
  links.isolate(node(other).id);
  await Bun.sleep(FAULT_MS);
  links.heal();
  await allHealthy();
}

async function allHealthy(): Promise<void> {
  for (const each of [0, 1, 2])
    await eventually(
      () => healthOf(node(each)),
      (status) => status === 200,
      30_000,
    );
}

test(
  `${OPERATIONS_MIN} operations and more through ${FAULTS} faults are linearizable, and the stores end equal`,
  async () => {
    const history: Operation[] = [];
    const pids = ready.nodes.map(({ pid }) => pid);
    let isOver = false;
    let paceMs = 0;
    const clients = Array.from({ length: CLIENTS }, async (_, number) => {
      const client = new Client(number, history);
      while (!isOver || history.length < OPERATIONS_MIN) {
        await client.once();
        await Bun.sleep(paceMs);
      }
    });
    for (let round = 0; round < FAULTS; round++) {
      await FAULT_KINDS[round % FAULT_KINDS.length]?.(pick(3), pids);
      await allHealthy();
      await Bun.sleep(500);
    }
    paceMs = PACE_MS;
    await fallBehind(pick(3), pids);
    paceMs = 0;
    isOver = true;
    await Promise.all(clients);
    expect(history.length).toBeGreaterThanOrEqual(OPERATIONS_MIN);
    expect(history.filter((each) => each.op !== "get" && each.return !== null).length).toBeGreaterThan(OPERATIONS_MIN / 10);

    const judge = Bun.spawn([join(bench.folder, "linearizable")], {
      stdin: new Blob([history.map((each) => `${JSON.stringify(each)}\n`).join("")]),
      stdout: "pipe",
      stderr: "pipe",
    });
    const [status, said, why] = await Promise.all([judge.exited, judge.stdout.text(), judge.stderr.text()]);
    expect([status, why]).toEqual([0, ""]);
    expect(JSON.parse(said)).toMatchObject({ operations: history.length, linearizable: true });

    const applied = (): Promise<(number | undefined)[]> => Promise.all(ready.nodes.map(async (each) => (await statusOf(each))?.paxos.applied));
    await eventually(applied, (versions) => new Set(versions).size === 1);
    expect(await bench.differences(ready.nodes)).toEqual([]);
  },
  LIMIT_MS,
);
