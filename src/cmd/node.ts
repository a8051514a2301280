/**
 * `cairn node`: one node of a cluster. `init` makes an identity, `run` runs the node of a folder in the foreground,
 * `status` asks running nodes how they are.
 */
import { resolve } from "node:path";
import { askNodes, mustHaveAnswered, resolveCluster } from "./cluster.ts";
import { fieldsOf } from "./http-answer.ts";
import { nodeRecover } from "./node-recover.ts";
import { nodeReplace } from "./node-replace.ts";
import { command } from "./spec.ts";
import { formatTable } from "./table.ts";
import { versionLine } from "./version.ts";

const nodeInit = command({
  name: "node init",
  summary: "Make a node's folder with a new identity, and print its public keys",
  args: [],
  options: [{ name: "dir", form: "string", value: "DIR", default: ".", means: "the node's folder" }],
  errors: ["NODE_EXISTS"],
  examples: ["cairn node init --dir ./node-a"],
  async run(ctx) {
    const { initNode } = await import("../engine/node/init-node.ts");
    const keys = await initNode(resolve(ctx.options.dir));
    await ctx.answer(
      keys,
      Object.entries(keys)
        .map(([name, value]) => `${name} = ${JSON.stringify(value)}`)
        .join("\n"),
    );
  },
});

const nodeRun = command({
  name: "node run",
  summary: "Run the node of a folder until it is told to stop",
  args: [],
  options: [
    { name: "dir", form: "string", value: "DIR", default: ".", means: "the node's folder" },
    { name: "no-merge", form: "flag", means: "on the primary: do not run the merge loop" },
    { name: "paranoid", form: "flag", means: "keep the replicated store in memory too, compare every read of it, and stop at the first difference" },
    { name: "stdin", form: "flag", means: "stop when stdin ends: for a parent process" },
  ],
  errors: ["NOT_FOUND", "NODE_RUNNING", "BAD_CONFIG", "IDENTITY_MODE", "STORE_CORRUPT", "STORE_TRUNCATED", "STORE_SYNC_FAILED", "UNAVAILABLE"],
  examples: ["cairn node run --dir ./cluster/a"],
  async run(ctx) {
    const { loadNode } = await import("../engine/node/config.ts");
    const { startDaemon } = await import("../engine/node/daemon.ts");
    const { signal } = ctx;
    const stdinEnd = ctx.options.stdin ? inputEnd() : new Promise<void>(() => {});
    try {
      const node = await loadNode(resolve(ctx.options.dir));
      const daemon = await startDaemon(node, { merge: !ctx.options["no-merge"], paranoid: ctx.options.paranoid, version: versionLine, note: ctx.note });
      try {
        await ctx.answer(daemon.ready, JSON.stringify(daemon.ready));
        await Promise.race([daemon.ended, stdinEnd, aborted(signal)]);
      } finally {
        await daemon.close();
      }
      await daemon.ended;
    } finally {
      process.stdin.pause(); // one that is read keeps the process, also of a node that did not start
    }
  },
});

/** Resolves when whoever started us is gone or wants us to stop. */
const inputEnd = (): Promise<void> =>
  new Promise((end) => {
    process.stdin.once("end", end).once("close", end).once("error", end).resume();
  });

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((end) => {
    if (signal.aborted) end();
    signal.addEventListener("abort", () => end(), { once: true });
  });

const nodeStatus = command({
  name: "node status",
  summary: "Say of each node whether it is ready, and what it has of the log",
  args: [],
  options: [],
  errors: ["UNAVAILABLE", "NOT_FOUND"],
  examples: ["cairn node status", "cairn node status --json"],
  async run(ctx) {
    const cluster = await resolveCluster(ctx.cluster);
    const answers = await askNodes(cluster, "/status", ctx.timeoutMs);
    const rows = answers.map(({ node, value, error }) =>
      error === null ? value : { id: node.id, ready: false, error: { code: error.code, message: error.message } },
    );
    const text = formatTable([["NODE", "READY", "ROLES", "ORDER", "VERIFIED", "PUBLISHED", "ADMIN"], ...answers.map(statusRow)]);
    await ctx.answer(rows, text);
    mustHaveAnswered(answers);
  },
});

type Row = Awaited<ReturnType<typeof askNodes>>[number];

function statusRow({ node, value, error }: Row): (string | number)[] {
  if (error !== null) return [node.id, error.code, "", "", "", "", node.admin];
  const log = fieldsOf(value["log"]);
  const cell = (name: string): string => String(log[name] ?? "-");
  const roles = Array.isArray(value["roles"]) ? value["roles"].join(",") : "";
  return [String(value["id"]), value["ready"] === true ? "yes" : "no", roles, cell("orderSize"), cell("verifiedSize"), cell("publishedSize"), node.admin];
}

export const nodeCommands = [nodeInit, nodeRun, nodeStatus, nodeReplace, nodeRecover];
