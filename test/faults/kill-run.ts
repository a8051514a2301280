/**
 * Kill -9 on a real cluster while clients add (merge.md section 3, architecture.md section 5): after each kill everything
 * is started again and must hold what it said. Every acknowledged entry is in the log in the end, every node's log
 * verifies, no frontend ever serves a smaller head, no two heads of one size differ, and each head that was ever seen is
 * the root of the log's own entries at that size, folded here by the plain definition of RFC 6962.
 */
import { fromHex, toHex, utf8 } from "../../src/engine/base/bytes.ts";
import { nextBelow, type Prng, prng } from "../../src/engine/base/prng.ts";
import { openCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { parseVkey } from "../../src/engine/log/note.ts";
import { naiveNode } from "../log/naive.ts";
import { type Call, CrashingCluster, NODES, type NodeName } from "./crashing-cluster.ts";

type CallName = "fdatasync" | "fsync" | "rename" | "pwrite64";
/** Words of a step, as `cairn merge` takes them, and the calls it makes in a run: only queue and dist do all of them. */
const STEPS: readonly { readonly words: readonly string[]; readonly calls: readonly CallName[] }[] = [
  { words: ["fetch", "--storage", "a"], calls: ["fdatasync", "pwrite64"] },
  { words: ["fetch", "--storage", "b"], calls: ["fdatasync", "pwrite64"] },
  { words: ["queue"], calls: ["fdatasync", "fsync", "rename", "pwrite64"] },
  { words: ["backup", "--secondary", "b"], calls: ["fsync", "rename", "pwrite64"] },
  { words: ["backup", "--secondary", "c"], calls: ["fsync", "rename", "pwrite64"] },
  { words: ["dist"], calls: ["fdatasync", "fsync", "rename", "pwrite64"] },
];
/** A daemon renames once, when it starts; pages are written more often than synced. */
const DAEMON_CALLS: readonly CallName[] = ["fdatasync", "fdatasync", "pwrite64"];
/** A process that has not come to its call by then is killed where it is. */
const REACH_MS = 20_000;
const RANDOM_MS_MAX = 1_500;
const SETTLE_MS = 120_000;
const CLIENT_EVERY_MS = 120;
const WATCH_EVERY_MS = 100;
const ENTRIES_A_POST_MAX = 12;

export type KillPoint = {
  readonly victim:
    | { readonly kind: "node"; readonly name: NodeName }
    | { readonly kind: "step"; readonly words: readonly string[] }
    | { readonly kind: "loop" };
  /** Null: at a time. */
  readonly call: Call | null;
  readonly scope: "process" | "cluster";
};

export type KillRow = {
  readonly event: "kill";
  readonly point: string;
  readonly scope: "process" | "cluster";
  /** Whether it died at the call, or at a time because it never came there. */
  readonly died: "call" | "time";
  readonly acknowledged: number;
  readonly size: number;
  readonly settledMs: number;
};

export const pointText = ({ victim, call }: KillPoint): string =>
  `${victim.kind === "node" ? victim.name : victim.kind === "step" ? victim.words.filter((word) => !word.startsWith("-")).join(".") : "loop"} ${call === null ? "any time" : `${call.name} ${call.nth}`}`;

/** Each step and each node at its calls, a third of them with the whole cluster, one in eight at a time instead; drawn from the seed. */
export function planKills(count: number, seed: number): KillPoint[] {
  const dice = prng(seed);
  const victims: readonly { readonly victim: KillPoint["victim"]; readonly calls: readonly CallName[] }[] = [
    ...STEPS.map(({ words, calls }) => ({ victim: { kind: "step", words }, calls }) as const),
    ...NODES.map((name) => ({ victim: { kind: "node", name }, calls: DAEMON_CALLS }) as const),
    { victim: { kind: "loop" }, calls: [] },
  ];
  return Array.from({ length: count }, (_, at) => {
    const { victim, calls } = victims[at % victims.length] as (typeof victims)[number];
    const name = calls[Math.floor(at / victims.length) % Math.max(1, calls.length)];
    const isTimed = nextBelow(dice, 8) === 0;
    const nth = 1 + nextBelow(dice, name === "pwrite64" ? 16 : 6);
    return { victim, scope: nextBelow(dice, 3) === 0 ? "cluster" : "process", call: name === undefined || isTimed ? null : { name, nth } };
  });
}

type Seen = { readonly root: string; readonly node: NodeName };

export class KillRun implements AsyncDisposable {
  readonly cluster: CrashingCluster;
  private readonly dice: Prng;
  private readonly acknowledged = new Set<string>();
  /** Leaf hashes of the log, as far as it was read. */
  private readonly leaves: string[] = [];
  private readonly inLog = new Set<string>();
  /** Every head that was served, by size. */
  private readonly heads = new Map<number, Seen>();
  private readonly served = new Map<NodeName, number>();
  private readonly wrong: string[] = [];
  private readonly workers: Promise<void>[] = [];
  private stopping = false;
  private next = 0;

  private constructor(cluster: CrashingCluster, seed: number) {
    this.cluster = cluster;
    this.dice = prng(seed ^ 0xadd);
  }

  static async open(binary: string, seed: number): Promise<KillRun> {
    const run = new KillRun(await CrashingCluster.open(binary), seed);
    await run.cluster.startAll();
    for (const name of NODES) run.workers.push(run.client(name), run.watcher(name));
    return run;
  }

  /** Kills, starts again, and waits until all that was acknowledged by then is in a log that verifies. Throws what is wrong. */
  async kill(point: KillPoint): Promise<KillRow> {
    const died = await this.die(point);
    if (point.scope === "cluster") await this.cluster.killAll();
    await Bun.sleep(nextBelow(this.dice, 300));
    const startedMs = performance.now();
    await this.cluster.startAll();
    const owed = new Set(this.acknowledged);
    await this.settle(owed);
    await this.verify();
    if (this.wrong.length > 0) throw new Error(this.wrong.join("\n"));
    const [acknowledged, size, settledMs] = [owed.size, this.leaves.length, Math.round(performance.now() - startedMs)];
    return { event: "kill", point: pointText(point), scope: point.scope, died, acknowledged, size, settledMs };
  }

  /** Clients stop, everything is read once more from the disks of nodes that do not run, every head that was seen is folded anew. */
  async finish(): Promise<{ readonly entries: number; readonly acknowledged: number; readonly heads: number }> {
    this.stopping = true;
    await Promise.all(this.workers);
    await this.settle(this.acknowledged);
    await this.verify();
    await this.cluster.stop();
    for (const name of NODES) {
      const { dir } = this.cluster.node(name);
      for (const words of [
        ["log", "verify", dir],
        ["store", "check", dir],
      ]) {
        const { status, stdout, stderr } = await this.cluster.run(...words);
        if (status !== 0) this.wrong.push(`${words.join(" ")}: ${status} ${stdout}${stderr}`);
      }
    }
    for (const [size, root] of rootsAt(this.leaves, new Set(this.heads.keys()))) {
      const seen = this.heads.get(size);
      if (seen?.root !== root) this.wrong.push(`${seen?.node} served root ${seen?.root} for size ${size}; its entries have ${root}`);
    }
    if (this.inLog.size !== this.leaves.length) this.wrong.push(`${this.leaves.length - this.inLog.size} entries are in the log twice`);
    if (this.wrong.length > 0) throw new Error(this.wrong.join("\n"));
    return { entries: this.leaves.length, acknowledged: this.acknowledged.size, heads: this.heads.size };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopping = true;
    await this.cluster[Symbol.asyncDispose]();
    await Promise.all(this.workers);
  }

  private async die({ victim, call }: KillPoint): Promise<"call" | "time"> {
    const { cluster } = this;
    if (victim.kind === "step") return (await cluster.stepDies(victim.words, call ?? NEVER, call === null ? this.randomMs() : REACH_MS)) ? "call" : "time";
    if (call !== null && victim.kind === "node") {
      await cluster.kill(victim.name);
      await cluster.startNode(victim.name, call);
      if (await cluster.dies(victim.name, REACH_MS)) return "call";
    } else await Bun.sleep(this.randomMs());
    await (victim.kind === "node" ? cluster.kill(victim.name) : cluster.killLoop());
    return "time";
  }

  private randomMs(): number {
    return nextBelow(this.dice, RANDOM_MS_MAX);
  }

  /** Adds until the end; what was answered with receipts is owed. */
  private async client(name: NodeName): Promise<void> {
    const { log } = this.cluster.node(name);
    while (!this.stopping) {
      const count = 1 + nextBelow(this.dice, ENTRIES_A_POST_MAX);
      const entries = Array.from({ length: count }, () => utf8(`entry ${this.next++} ${"x".repeat(nextBelow(this.dice, 200))}`));
      const answer = await post(`${log}/add-many`, bundleOf(entries));
      if (answer?.status === 202) {
        const receipts = answer.body.trimEnd().split("\n");
        if (receipts.length !== count) this.wrong.push(`${name} gave ${receipts.length} receipts for ${count} entries`);
        for (const line of receipts) this.acknowledged.add((JSON.parse(line) as { leafHash: string }).leafHash);
      }
      await Bun.sleep(CLIENT_EVERY_MS);
    }
  }

  private async watcher(name: NodeName): Promise<void> {
    const { name: origin, publicKey } = parseVkey(this.cluster.ready.log.vkey);
    while (!this.stopping) {
      await Bun.sleep(WATCH_EVERY_MS);
      const answer = await fetch(`${this.cluster.node(name).log}/checkpoint`).catch(() => null);
      const note = answer?.ok === true ? await answer.arrayBuffer().catch(() => null) : null;
      if (note === null) continue;
      const { size, root } = openCheckpoint(new Uint8Array(note), { origin, publicKey });
      const [before, seen] = [this.served.get(name) ?? 0, this.heads.get(size)];
      if (size < before) this.wrong.push(`${name} served ${size} after ${before}`);
      if (seen !== undefined && seen.root !== toHex(root)) this.wrong.push(`size ${size}: ${name} served ${toHex(root)}, ${seen.node} ${seen.root}`);
      this.served.set(name, size);
      this.heads.set(size, { root: toHex(root), node: name });
    }
  }

  /** Waits until every frontend serves a head that holds all that is owed. */
  private async settle(owed: ReadonlySet<string>): Promise<void> {
    const deadline = performance.now() + SETTLE_MS;
    const marks = NODES.map((name) => [name, utf8(`settled ${this.next++} ${name}`)] as const);
    for (const [name, entry] of marks)
      while ((await post(`${this.cluster.node(name).log}/add?wait=signed&timeoutMs=20000`, entry))?.status !== 200)
        if (performance.now() > deadline) throw new Error(`nothing new is signed for ${name} within ${SETTLE_MS} ms; ${await this.standing()}`);
    for (;;) {
      await this.readLog();
      const missing = [...owed].filter((hash) => !this.inLog.has(hash));
      if (missing.length === 0) return;
      if (performance.now() > deadline)
        throw new Error(`${missing.length} acknowledged entries are not in the log, ${missing[0]} among them; ${await this.standing()}`);
      await Bun.sleep(WATCH_EVERY_MS);
    }
  }

  private async standing(): Promise<string> {
    const { stdout, stderr } = await this.cluster.run("merge", "explain");
    return `${stdout}${stderr}`;
  }

  private async readLog(): Promise<void> {
    const { stdout, status, stderr } = await this.cluster.run("log", "tail", "--from", String(this.leaves.length), "--json");
    if (status !== 0 && !stderr.includes("LOG_RANGE") && !stdout.includes("LOG_RANGE")) throw new Error(`log tail: ${status} ${stdout.slice(-500)}${stderr}`);
    for (const line of stdout.split("\n")) {
      const row = line === "" ? {} : (JSON.parse(line) as { index?: number; leafHash?: string });
      if (row.leafHash === undefined) continue;
      if (row.index !== this.leaves.length) throw new Error(`log tail: index ${row.index} after ${this.leaves.length}`);
      this.leaves.push(row.leafHash);
      this.inLog.add(row.leafHash);
    }
  }

  private async verify(): Promise<void> {
    const { status, stdout, stderr } = await this.cluster.run("log", "verify", "--json");
    if (status !== 0) throw new Error(`log verify: ${status}\n${stdout}${stderr}`);
  }
}

/** More calls than any process makes. */
const NEVER: Call = { name: "fdatasync", nth: 60_000 };

async function post(url: string, body: Uint8Array): Promise<{ readonly status: number; readonly body: string } | null> {
  try {
    const answer = await fetch(url, { method: "POST", body, signal: AbortSignal.timeout(30_000) });
    return { status: answer.status, body: await answer.text() };
  } catch {
    return null; // the node died: nothing was acknowledged
  }
}

/** Roots of the prefixes of these sizes, by folding equal subtrees from the left. */
function rootsAt(leaves: readonly string[], sizes: ReadonlySet<number>): Map<number, string> {
  const roots = new Map<number, string>();
  const stack: { width: number; hash: Uint8Array }[] = [];
  for (const [at, leaf] of leaves.entries()) {
    let top = { width: 1, hash: fromHex(leaf) as Uint8Array };
    for (let left = stack.at(-1); left?.width === top.width; left = stack.at(-1)) {
      stack.pop();
      top = { width: 2 * top.width, hash: naiveNode(left.hash, top.hash) };
    }
    stack.push(top);
    if (sizes.has(at + 1)) roots.set(at + 1, toHex(stack.map(({ hash }) => hash).reduceRight((right, left) => naiveNode(left, right))));
  }
  return roots;
}
