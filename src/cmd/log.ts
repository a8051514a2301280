/**
 * `cairn log …` (merge.md section 4): the log as its users see it. What feeds it is in log-add.ts, what reads it in
 * log-proof.ts, log-tail.ts and log-head.ts, what checks it in log-verify.ts. Here: making its first head.
 */
import { EngineError } from "../engine/base/errors.ts";
import { primaryDir } from "./cluster.ts";
import { logAdd } from "./log-add.ts";
import { logOption, mustBeMain } from "./log-client.ts";
import { logDiff } from "./log-diff.ts";
import { logCheckpoint } from "./log-head.ts";
import { logProof } from "./log-proof.ts";
import { logTail } from "./log-tail.ts";
import { logVerify } from "./log-verify.ts";
import { failureOf, resultText } from "./merge.ts";
import { type CommandSpec, command } from "./spec.ts";

const logInit = command({
  name: "log init",
  summary: "Sign the log's first head, of size 0",
  args: [],
  options: [
    { name: "dir", form: "string", value: "DIR", means: "the primary's folder; else that of the cluster" },
    { name: "wait", form: "flag", means: "wait for a running dist step instead of exit 5" },
    logOption,
  ],
  errors: ["LOG_EXISTS", "MERGE_STEP_BUSY", "MERGE_GATE", "NOT_ALLOWED", "NOT_FOUND"],
  examples: ["cairn log init", "cairn log init --dir ./cluster/a"],
  async run(ctx) {
    const { loadNode } = await import("../engine/node/config.ts");
    const { runStep } = await import("../engine/node/steps.ts");
    const dir = ctx.options.dir ?? (await primaryDir(ctx.cluster));
    const node = await loadNode(dir);
    mustBeMain(ctx.options.log, dir);
    const { self, primary } = node.merge;
    if (self !== primary) throw new EngineError("NOT_ALLOWED", `${self} in ${dir} is not the primary, ${primary} is: only its key signs`);
    const result = await runStep(node, { step: "init" }, { wait: ctx.options.wait, totalMs: ctx.timeoutMs });
    const failure = failureOf(result);
    if (failure !== null) throw failure;
    return ctx.answer(result, resultText(result));
  },
});

export const logCommands: readonly CommandSpec[] = [logInit, logAdd, logProof, logVerify, logTail, logDiff, logCheckpoint];
