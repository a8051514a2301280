/**
 * `cairn sync offline`: a stopped node's store is replaced by a copy of another folder's (sync.md, table B row 8), chunk by
 * chunk and verified, without a network: for a first copy over a slow line, or a node that nobody can provide for.
 */
import { command } from "./spec.ts";
import { nodeFolder } from "./store-open.ts";

export const syncOffline = command({
  name: "sync offline",
  summary: "Replace the store of a stopped node by a copy of another folder's, verified",
  args: [
    { name: "from", means: "the folder or node to copy from; its node may run" },
    { name: "to", means: "the folder or node whose store is replaced; its node must be stopped" },
  ],
  options: [
    {
      name: "mode",
      form: ["resume", "full", "delta"],
      value: "MODE",
      default: "resume",
      means: "full clears and copies all, delta only what differs; resume goes on where a copy was cut off",
    },
    { name: "dry-run", form: "flag", means: "say what would be done, and do nothing" },
  ],
  errors: [
    "NODE_RUNNING",
    "SYNC_BEHIND",
    "SYNC_REFUSED",
    "NEEDS_ANSWER",
    "NOT_ALLOWED",
    "NOT_FOUND",
    "UNKNOWN_NODE",
    "NOT_READY",
    "STORE_CORRUPT",
    "STORE_FULL",
  ],
  examples: ["cairn sync offline a c --yes", "cairn sync offline /mnt/copy-of-a ./cluster/c --dry-run"],
  async run(ctx) {
    const { loadNode } = await import("../engine/node/config.ts");
    const { openOfflineSync } = await import("../engine/node/offline-sync.ts");
    const [fromDir, toDir] = await Promise.all([nodeFolder(ctx.args.from, ctx.cluster), nodeFolder(ctx.args.to, ctx.cluster)]);
    const [from, to] = await Promise.all([loadNode(fromDir), loadNode(toDir)]);
    const { signal } = ctx;
    await using sync = await openOfflineSync(from, to, ctx.options.mode);
    const { plan } = sync;
    const had = plan.to.isHalf ? "half a copy" : plan.to.last === 0 ? "nothing" : `versions ${plan.to.first} to ${plan.to.last}`;
    const isDelta = ctx.options.mode === "delta" && !plan.to.isHalf && plan.to.last > 0;
    const how = isDelta
      ? `gets what it lacks and loses what is not there any more: it has ${had}`
      : plan.resumes
        ? "goes on with the copy that was cut off"
        : `is cleared: it has ${had}`;
    const text = `the store of ${plan.to.id} in ${toDir} ${how}; in the end it is that of ${plan.from.id} in ${fromDir}, versions ${plan.from.first} to ${plan.from.last}. Its identity, promises and log stay.`;
    if (ctx.options["dry-run"]) return ctx.answer({ dryRun: true, ...plan }, text);
    if (!(await ctx.confirm(text))) return;
    const done = await sync.run(ctx.note, signal);
    if (done === null) return ctx.note("told to stop: what was copied stays, and the next run goes on from there");
    await ctx.answer(
      { ...plan, ...done },
      `${plan.to.id} is equal to ${plan.from.id} at ${done.version}: ${done.chunks} chunks, ${done.bytes} bytes, digest ${done.digest}`,
    );
  },
});
