/**
 * The demo's cluster: real node processes on loopback, as `cairn up` runs them, in a temporary folder. A node can be killed
 * and brought back by the very command a person would type. All processes hang on pipes of this one, so none outlives
 * it, and the folder is removed at the end.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EngineError } from "../engine/base/errors.ts";
import type { NodeId } from "../engine/base/ids.ts";
import { cosignerName } from "../engine/log/cosignature.ts";
import type { Vkey } from "../engine/log/note.ts";
import type { MergeConfig } from "../engine/merge/config.ts";
import type { ReadyLine } from "../engine/node/daemon.ts";
import type { ClientCluster } from "./cluster.ts";

const NODES = 3;
/** A start takes a second; this is for machines that are ten times too busy. */
const START_MS = 60_000;

type Child = Bun.Subprocess<"pipe", "ignore", "inherit" | "ignore">;

export type DemoCluster = {
  readonly dir: string;
  readonly nodes: readonly ReadyLine[];
  /** As client commands address it. */
  readonly client: ClientCluster;
  /** Keys and knobs that a verifier outside is told once. */
  readonly keys: Pick<MergeConfig, "origin" | "primary" | "secondaries" | "backupquorum" | "receiptKeys">;
  readonly vkey: Vkey;
  readonly cosigners: readonly Vkey[];
  kill(id: NodeId): void;
  /** Starts a killed node again; it is not ready yet when this returns. */
  revive(id: NodeId): Promise<string>;
};

/** Everything that is opened goes to `closers`; null where the signal came first. */
export async function startDemoCluster(closers: AsyncDisposableStack, note: (text: string) => void, signal: AbortSignal): Promise<DemoCluster | null> {
  const { createCluster } = await import("../engine/node/cluster-folder.ts");
  const { ClusterProcesses } = await import("../engine/node/cluster-processes.ts");
  const { loadNode } = await import("../engine/node/config.ts");
  const dir = await mkdtemp(join(tmpdir(), "cairn-demo-"));
  closers.defer(() => rm(dir, { recursive: true, force: true }));
  const cluster = await createCluster(dir, { nodeCount: NODES, knobs: {} });
  const start = (): Promise<readonly ReadyLine[]> => {
    const processes = new ClusterProcesses(cluster, { merge: true, restart: false, note });
    const starting = processes.start();
    closers.defer(() => stopAll(processes, starting));
    return starting;
  };
  const nodes = await Promise.race([patiently(start, signal), aborted(signal)]);
  if (nodes === null) return null;
  const { merge } = await loadNode(nodeOf(nodes, cluster.nodes[0]?.id ?? "").dir);
  const revived: Child[] = [];
  const pids = new Map(nodes.map(({ id, pid }) => [id, pid]));
  closers.defer(() => endAll(revived));
  return {
    dir,
    nodes,
    client: { name: dir, vkey: cluster.vkey, nodes: nodes.map(({ id, admin, log, dir }) => ({ id, admin, log, dir, token: null })) },
    keys: merge,
    vkey: { name: merge.origin, type: 1, publicKey: merge.logPublicKey },
    cosigners: merge.secondaries.map((id) => ({ name: cosignerName(merge.origin, id), type: 4, publicKey: keyOf(merge.cosignerKeys, id) })),
    kill: (id) => {
      process.kill(pids.get(id) ?? nodeOf(nodes, id).pid, "SIGKILL");
    },
    revive: async (id) => {
      const { nodeEnvironment, selfCommand } = await import("../engine/node/self.ts");
      const words = ["node", "run", "--dir", nodeOf(nodes, id).dir];
      const child: Child = Bun.spawn(selfCommand(...words, "--stdin"), { stdin: "pipe", stdout: "ignore", stderr: "ignore", env: nodeEnvironment() });
      revived.push(child);
      pids.set(id, child.pid);
      return ["cairn", ...words].join(" ");
    },
  };
}

export function nodeOf(nodes: readonly ReadyLine[], id: string): ReadyLine {
  const node = nodes.find((each) => each.id === id);
  if (node === undefined) throw new EngineError("UNKNOWN_NODE", `${id} is none of ${nodes.map((each) => each.id).join(", ")}`);
  return node;
}

export function keyOf(keys: Readonly<Record<string, Uint8Array>>, id: string): Uint8Array {
  const key = keys[id];
  if (key === undefined) throw new EngineError("UNKNOWN_NODE", `no key of ${id} is known`);
  return key;
}

/** On a machine with too much to do nodes may be slow to answer each other; a start that failed has ended what it began. */
async function patiently<T>(start: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const deadline = performance.now() + START_MS;
  for (;;) {
    try {
      return await start();
    } catch (error) {
      if (signal.aborted || performance.now() > deadline || !(error instanceof EngineError) || !error.row.retryable) throw error;
    }
  }
}

/** A start that was not waited for still brings nodes up: they are ended too, before their folder goes. */
async function stopAll(processes: { stop(): Promise<void> }, starting: Promise<unknown>): Promise<void> {
  await processes.stop();
  await starting.catch(() => {});
  await processes.stop();
}

/** The end of its stdin ends a node. */
async function endAll(children: readonly Child[]): Promise<void> {
  for (const child of children) await child.stdin.end();
  await Promise.all(children.map(({ exited }) => exited));
}

const aborted = (signal: AbortSignal): Promise<null> =>
  new Promise((end) => {
    if (signal.aborted) end(null);
    signal.addEventListener("abort", () => end(null), { once: true });
  });
