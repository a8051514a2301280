/**
 * `cairn merge …`: the steps of the merge, each running once; the loop around them; and what they show (merge.md
 * sections 1 and 9). A step prints one line of result. It works in the primary's folder: `--dir`, or the cluster's.
 */
import { createInterface } from "node:readline";
import { EngineError, isErrorCode } from "../engine/base/errors.ts";
import { type NodeId, nodeId } from "../engine/base/ids.ts";
import type { MergeConfig, StepResult } from "../engine/merge/config.ts";
import type { StepName } from "../engine/node/assemble.ts";
import type { NodeConfig } from "../engine/node/config.ts";
import { primaryDir } from "./cluster.ts";
import { type CommandSpec, type Context, command, type OptionSpec } from "./spec.ts";

const dirOption = { name: "dir", form: "string", value: "DIR", means: "the primary's folder; else that of the cluster" } as const satisfies OptionSpec;
const logOption = { name: "log", form: "string", value: "NAME", default: "main", means: "which log" } as const satisfies OptionSpec;
const waitOption = { name: "wait", form: "flag", means: "wait for another instance of the step instead of exit 5" } as const satisfies OptionSpec;
const warmOption = { name: "warm", form: "flag", means: "stay, and run once for each line `go` on stdin" } as const satisfies OptionSpec;
const stepOptions = [dirOption, logOption, waitOption, warmOption] as const;

type StepContext = Pick<Context<typeof stepOptions>, "options" | "json" | "cluster" | "timeoutMs" | "signal" | "answer" | "note" | "exitWith">;

async function openPrimary(
  ctx: Pick<StepContext, "cluster"> & { readonly options: { readonly dir: string | undefined; readonly log: string } },
): Promise<NodeConfig> {
  const { loadNode } = await import("../engine/node/config.ts");
  const dir = ctx.options.dir ?? (await primaryDir(ctx.cluster));
  const node = await loadNode(dir);
  const { merge } = node;
  if (ctx.options.log !== merge.logName) throw new EngineError("NOT_FOUND", `log ${ctx.options.log}: ${merge.self} has ${merge.logName}`);
  if (merge.self !== merge.primary)
    throw new EngineError("NOT_ALLOWED", `${merge.self} in ${dir} is not the primary, ${merge.primary} is: the steps run there`);
  return node;
}

/** `fetched 60` …: the counts that are not 0, then what it waits for. */
export function resultText(result: StepResult): string {
  const name = result.target === undefined ? result.step : `${result.step} ${result.target}`;
  const counts = Object.entries(result.counts).map(([what, count]) => `${what} ${count}`);
  return [`${name}: ${counts.join(", ") || "nothing to do"}`, ...result.notes.map((note) => `  ${note}`)].join("\n");
}

/** The error that a step's result ends its command with, or null. */
export function failureOf(result: StepResult): EngineError | null {
  if (result.error === undefined) return null;
  const { code, detail } = result.error;
  return new EngineError(isErrorCode(code) ? code : "FAILED", isErrorCode(code) ? detail : `${code}: ${detail}`);
}

/** One step, or one for each target side by side, then what follows them. */
async function runSteps(ctx: StepContext, plan: (config: MergeConfig) => readonly (readonly StepName[])[]): Promise<void> {
  const node = await openPrimary(ctx);
  const { openSteps } = await import("../engine/node/steps.ts");
  const { signal } = ctx;
  const host = await openSteps(node);
  try {
    const once = async (): Promise<EngineError | null> => {
      let failure: EngineError | null = null;
      for (const group of plan(node.merge)) {
        for (const result of await Promise.all(group.map((step) => host.run(step, { wait: ctx.options.wait, signal })))) {
          await ctx.answer(result, resultText(result));
          failure ??= failureOf(result);
        }
      }
      return failure;
    };
    if (!ctx.options.warm) {
      const failure = await once();
      if (failure !== null && !signal.aborted) throw failure;
      return;
    }
    const lines = createInterface({ input: process.stdin });
    signal.addEventListener("abort", () => lines.close(), { once: true });
    for await (const line of lines) {
      if (signal.aborted) break; // a run that was cut short is the last one
      if (line.trim() !== "go") throw new EngineError("USAGE", `stdin says ${JSON.stringify(line.slice(0, 80))}, a warm step knows only \`go\``);
      await once(); // a failed run is a result; the loop decides what becomes of it
    }
  } finally {
    await host.close();
  }
}

function known(text: string, among: readonly NodeId[], what: string): NodeId {
  const found = among.find((each) => each === nodeId(text));
  if (found === undefined) throw new EngineError("UNKNOWN_NODE", `${text} is no ${what}: there are ${among.join(", ") || "none"}`);
  return found;
}

const stepErrors = ["MERGE_STEP_BUSY", "MERGE_FILE_FOREIGN", "MERGE_LATCHED", "UNAVAILABLE", "STORE_FULL"];

const fetch = command({
  name: "merge fetch",
  summary: "Append what storage nodes list to the queue files, then order and sequence it",
  args: [],
  options: [...stepOptions, { name: "storage", form: "string", value: "NODE", means: "only append to this storage node's queue file" }],
  errors: stepErrors,
  examples: ["cairn merge fetch", "cairn merge fetch --storage a --json"],
  run: (ctx) =>
    runSteps(ctx, (config) => {
      const { storage } = ctx.options;
      if (storage !== undefined) return [[{ step: "fetch", storage: known(storage, config.storages, "storage node") }]];
      return [config.storages.map((each) => ({ step: "fetch", storage: each }) as const), [{ step: "queue" }]];
    }),
});

const queue = command({
  name: "merge queue",
  summary: "Dedup, pull, order and commit what the queue files list; move currentsize",
  args: [],
  options: stepOptions,
  errors: stepErrors,
  examples: ["cairn merge queue --json"],
  run: (ctx) => runSteps(ctx, () => [[{ step: "queue" }]]),
});

const backup = command({
  name: "merge backup",
  summary: "Copy order and entries to the secondaries and have them verify; move their positions",
  args: [],
  options: [...stepOptions, { name: "secondary", form: "string", value: "NODE", means: "only this secondary" }],
  errors: [...stepErrors, "LOG_ROOT_MISMATCH", "LOG_ORDER_FORK", "MERGE_BEHIND_SECONDARY", "MERGE_FENCED"],
  examples: ["cairn merge backup", "cairn merge backup --secondary b --json"],
  run: (ctx) =>
    runSteps(ctx, (config) => {
      const { secondary } = ctx.options;
      const among = secondary === undefined ? config.secondaries : [known(secondary, config.secondaries, "secondary")];
      return [among.map((each) => ({ step: "backup", secondary: each }) as const)];
    }),
});

const dist = command({
  name: "merge dist",
  summary: "Sign the largest size that backupquorum secondaries verified; bring the head to the frontends",
  args: [],
  options: stepOptions,
  errors: [...stepErrors, "MERGE_GATE", "MERGE_QUORUM_IMPOSSIBLE", "MERGE_BEHIND_SECONDARY", "LOG_UNINITIALISED", "REGISTER_CONFLICT"],
  examples: ["cairn merge dist --json"],
  run: (ctx) => runSteps(ctx, () => [[{ step: "dist" }]]),
});

const run = command({
  name: "merge run",
  summary: "The loop: run the steps side by side, each when a file it reads changed",
  args: [],
  options: [
    dirOption,
    logOption,
    { name: "sequential", form: "flag", means: "one step after the other, each a process that runs once" },
    { name: "rounds", form: "count", value: "N", means: "end after N rounds (sequential only); else until a signal or the end of stdin" },
    { name: "stdin", form: "flag", means: "end when stdin ends; a line `ready NODE` there says that a storage node has something new: for a parent process" },
  ],
  errors: stepErrors,
  examples: ["cairn merge run --sequential --rounds 1 --json", "cairn merge run"],
  async run(ctx) {
    const node = await openPrimary(ctx);
    const { runParallel, runSequential } = await import("../engine/node/merge-loop.ts");
    const { sequential, rounds } = ctx.options;
    if (rounds !== undefined && !sequential) throw new EngineError("BAD_OPTION", "--rounds counts rounds of --sequential; side by side the steps have none");
    const { LoopTrouble } = await import("../engine/node/loop-trouble.ts");
    const troubles = new LoopTrouble();
    const say = (text: string | null): void => {
      if (text !== null) ctx.note(text);
    };
    const parent = ctx.options.stdin ? hintsOfStdin() : null;
    const signal = parent === null ? ctx.signal : AbortSignal.any([ctx.signal, parent.ended]);
    let failure: EngineError | null = null;
    let printed = Promise.resolve();
    const options = {
      dir: node.dir,
      config: node.merge,
      signal,
      ...(parent === null ? {} : { onHint: parent.onHint }),
      onResult: (step: { readonly key: string }, result: StepResult) => {
        failure ??= failureOf(result);
        if (!sequential) say(troubles.ended(step.key, result, performance.now()));
        if (sequential || ctx.json || result.changed || result.error !== undefined) printed = printed.then(() => ctx.answer(result, resultText(result)));
      },
      onTrouble: (step: { readonly key: string }, text: string) => ctx.note(`merge ${step.key}: ${text}`),
      onLong: (step: { readonly key: string }) => say(troubles.lasts(step.key, performance.now())),
    };
    try {
      if (!sequential) await runParallel(options);
      for (let round = 0; sequential && !signal.aborted && round < (rounds ?? Number.POSITIVE_INFINITY); round++) await runSequential(options);
      await printed;
    } finally {
      parent?.close();
    }
    if (sequential && rounds !== undefined && failure !== null) throw failure;
  },
});

/** Lines `ready NODE` until the end of stdin, which ends the loop; other lines say nothing to us. An open stdin keeps the process: `close` lets it go. */
function hintsOfStdin(): { readonly ended: AbortSignal; onHint(ready: (storage: string) => void): void; close(): void } {
  const end = new AbortController();
  const lines = createInterface({ input: process.stdin }).on("close", () => end.abort());
  const onHint = (ready: (storage: string) => void): void => {
    lines.on("line", (line) => line.startsWith("ready ") && ready(line.slice("ready ".length)));
  };
  const close = (): void => {
    lines.close();
    process.stdin.pause();
  };
  return { ended: end.signal, onHint, close };
}

const unlatch = command({
  name: "merge unlatch",
  summary: "Let queue and dist run again after a person looked at why they stopped",
  args: [],
  options: [dirOption, logOption],
  errors: ["NOT_FOUND", "NEEDS_ANSWER"],
  examples: ["cairn merge unlatch --yes"],
  async run(ctx) {
    const node = await openPrimary(ctx);
    const { openDisk } = await import("../engine/node/disk.ts");
    const { readLatch } = await import("../engine/merge/files.ts");
    const disk = await openDisk(node.dir, { create: false });
    try {
      using snap = disk.snapshot();
      const latch = readLatch(snap, node.merge);
      if (latch.kind === "missing") throw new EngineError("NOT_FOUND", `${node.merge.folder}/latch: nothing is latched`);
      const why = latch.kind === "ok" ? `${latch.value.code}: ${latch.value.detail}` : latch.why;
      if (!(await ctx.confirm(`The signer stopped at: ${why}\nLet it go on? Run \`cairn log verify\` first.`))) return;
      const old = `${node.merge.folder}/latch`;
      await disk.write({ db: "log", batch: [], files: [{ change: "rename", file: old, to: `${node.merge.folder}/latch.cleared` }] });
      await ctx.answer({ cleared: why }, `cleared: ${why}`);
    } finally {
      await disk.close();
    }
  },
});

export const mergeCommands: readonly CommandSpec[] = [fetch, queue, backup, dist, run, unlatch];
