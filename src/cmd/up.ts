/**
 * `cairn up`: a whole cluster of real node processes on this machine (architecture.md section 7). The data folder keeps
 * identities, ports and data; running `up` on it again goes on where it ended. With --run a command takes the place of
 * the wait: stdout is then the command's alone.
 */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { EngineError } from "../engine/base/errors.ts";
import type { Cluster } from "../engine/node/cluster-folder.ts";
import type { ReadyLine } from "../engine/node/daemon.ts";
import { command } from "./spec.ts";

const NODES = 3;
/** A command that does not end on SIGTERM is killed after this. */
const COMMAND_STOP_MS = 5_000;

export const up = command({
  name: "up",
  summary: "Run a cluster of real nodes on this machine",
  args: [],
  options: [
    { name: "nodes", form: "count", value: "N", means: "how many nodes to make (3); a cluster that is there keeps its number" },
    {
      name: "data",
      form: "string",
      value: "DIR",
      means: "the cluster's folder; made where it is missing, resumed where it is not (a fresh one below the state folder)",
    },
    { name: "run", form: "string", value: "CMD", means: "run a shell command beside the cluster, stop when it ends, exit with its status" },
    { name: "no-merge", form: "flag", means: "start without the merge loop, to run its steps by hand" },
    { name: "paranoid", form: "flag", means: "each node keeps its replicated store in memory too, and compares" },
    { name: "restart", form: "flag", means: "start a node again when it dies" },
    { name: "backupquorum", form: "count", value: "K", means: "so many secondaries have verified what is signed (1, or 0 without secondaries)" },
    { name: "storagequorum", form: "count", value: "N", means: "so many storage nodes have an entry on disk before its receipt (2, or 1 with one node)" },
  ],
  errors: ["NODE_RUNNING", "MERGE_QUORUM_IMPOSSIBLE", "BAD_OPTION", "UNAVAILABLE"],
  examples: ["cairn up", "cairn up --data ./cluster --nodes 5", "cairn up --run 'cairn log add README.md'"],
  async run(ctx) {
    const { lockFile } = await import("../engine/node/lock.ts");
    const { ClusterProcesses } = await import("../engine/node/cluster-processes.ts");
    const { registerCluster } = await import("../engine/node/running-clusters.ts");
    const { signal } = ctx;
    const dir = await dataFolder(ctx.options.data);
    await using closers = new AsyncDisposableStack();
    const lock = await lockFile(join(dir, "lock.up"), { busy: "NODE_RUNNING" });
    closers.defer(() => lock.release());
    const cluster = await openCluster(dir, ctx.options);
    const processes = new ClusterProcesses(cluster, {
      merge: !ctx.options["no-merge"],
      paranoid: ctx.options.paranoid,
      restart: ctx.options.restart,
      note: ctx.note,
    });
    closers.defer(() => processes.stop());
    const nodes = await Promise.race([processes.start(), aborted(signal)]);
    if (nodes === undefined) return; // told to stop before it was ready
    closers.defer(await registerCluster(dir));
    const ready = readyLine(cluster, nodes);
    if (ctx.options.run !== undefined) return ctx.exitWith(await runCommand(ctx.options.run, ready, signal));
    await ctx.answer(ready, JSON.stringify(ready));
    await aborted(signal);
  },
});

type ClusterReady = {
  readonly event: "ready";
  readonly nodes: readonly object[];
  /** Null until the cluster has an S3 gateway. */
  readonly s3: null;
  readonly log: { readonly origin: string; readonly vkey: string };
};

function readyLine({ origin, vkey }: Cluster, nodes: readonly ReadyLine[]): ClusterReady & { nodes: readonly { log: string }[] } {
  const rows = nodes.map(({ id, pid, dir, admin, peer, log }) => ({ id, pid, dir, admin, peer, s3: null, nbd: null, log }));
  return { event: "ready", nodes: rows, s3: null, log: { origin, vkey } };
}

async function dataFolder(given: string | undefined): Promise<string> {
  const { stateFolder } = await import("../engine/node/running-clusters.ts");
  const fresh = `${new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}-${process.pid}`;
  const dir = given === undefined ? join(stateFolder(), "clusters", fresh) : resolve(given);
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new EngineError("BAD_OPTION", `--data ${dir}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  return dir;
}

type Quorums = Readonly<Record<"backupquorum" | "storagequorum", number | undefined>>;

async function openCluster(dir: string, options: Quorums & { readonly nodes: number | undefined }): Promise<Cluster> {
  const { CLUSTER_NODES_MAX, createCluster, readCluster } = await import("../engine/node/cluster-folder.ts");
  const { nodes, backupquorum, storagequorum } = options;
  const found = await readCluster(dir);
  if (found !== null) {
    if (nodes !== undefined && nodes !== found.nodes.length)
      throw new EngineError("BAD_OPTION", `--nodes ${nodes}: the cluster in ${dir} has ${found.nodes.length}`);
    await checkQuorums(found, { backupquorum, storagequorum });
    return found;
  }
  const nodeCount = nodes ?? NODES;
  if (nodeCount < 1 || nodeCount > CLUSTER_NODES_MAX) throw new EngineError("BAD_OPTION", `--nodes ${nodeCount}: want 1 to ${CLUSTER_NODES_MAX}`);
  if (backupquorum !== undefined && backupquorum > nodeCount - 1)
    throw new EngineError("MERGE_QUORUM_IMPOSSIBLE", `--backupquorum ${backupquorum}: ${nodeCount} nodes have ${nodeCount - 1} secondaries`);
  if (storagequorum !== undefined && (storagequorum < 1 || storagequorum > nodeCount))
    throw new EngineError("BAD_OPTION", `--storagequorum ${storagequorum}: want 1 to ${nodeCount}, the number of storage nodes`);
  const knobs = { ...(backupquorum === undefined ? {} : { backupquorum }), ...(storagequorum === undefined ? {} : { storagequorum }) };
  return createCluster(dir, { nodeCount, knobs });
}

/** Quorums of a running log are changed in config.toml, where both can be seen; a command line that disagrees is a mistake. */
async function checkQuorums(cluster: Cluster, asked: Quorums): Promise<void> {
  const { loadNode } = await import("../engine/node/config.ts");
  for (const { id, dir } of cluster.nodes) {
    const { merge } = await loadNode(dir);
    for (const knob of ["backupquorum", "storagequorum"] as const)
      if (asked[knob] !== undefined && asked[knob] !== merge[knob])
        throw new EngineError("BAD_OPTION", `--${knob} ${asked[knob]}: node ${id} has ${merge[knob]}; change [merge] ${knob} in ${dir}/config.toml`);
  }
}

/** Runs the command with our stdin and stdout; resolves with its exit status. */
async function runCommand(text: string, ready: ReturnType<typeof readyLine>, signal: AbortSignal): Promise<number> {
  const [first] = ready.nodes;
  const env = { ...process.env, CAIRN_READY: JSON.stringify(ready), LOG_URL: first?.log ?? "", LOG_VKEY: ready.log.vkey };
  const child = Bun.spawn(["/bin/sh", "-c", text], { stdin: "inherit", stdout: "inherit", stderr: "inherit", env });
  const stop = (): void => {
    child.kill("SIGTERM");
    setTimeout(() => child.kill("SIGKILL"), COMMAND_STOP_MS).unref();
  };
  signal.addEventListener("abort", stop, { once: true });
  await child.exited;
  signal.removeEventListener("abort", stop);
  if (signal.aborted) return 0; // the signal decides the status
  return child.exitCode ?? 128 + (SIGNAL_NUMBERS[child.signalCode ?? ""] ?? 0);
}

/** What a shell reports for a command that a signal ended. */
const SIGNAL_NUMBERS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGPIPE: 13, SIGTERM: 15 };

const aborted = (signal: AbortSignal): Promise<undefined> =>
  new Promise((end) => {
    if (signal.aborted) end(undefined);
    signal.addEventListener("abort", () => end(undefined), { once: true });
  });
