/**
 * A program of a few toy commands behind the real wrapper, to be run as a process: for statuses, signals and streams.
 */
import { runWords } from "../../src/cmd/run.ts";
import { command } from "../../src/cmd/spec.ts";
import { EngineError } from "../../src/engine/base/errors.ts";

const base = { summary: "A toy", args: [], options: [], errors: [], examples: [] };

await runWords(process.argv.slice(2), [
  command({ ...base, name: "rows", run: (ctx) => ctx.answer([{ a: 1 }, { a: 2 }], "a 1\na 2") }),
  command({
    ...base,
    name: "check",
    async run(ctx) {
      ctx.note("looking");
      await ctx.answer({ equal: false }, "differs");
      ctx.exitWith(8);
    },
  }),
  command({
    ...base,
    name: "refuse",
    async run(ctx) {
      await ctx.answer({ half: true }, "half");
      throw new EngineError("STORE_FULL", "store/ has 1 MiB free, wants 5 MiB");
    },
  }),
  command({
    ...base,
    name: "break",
    async run() {
      throw new TypeError("one line\nand another");
    },
  }),
  command({ ...base, name: "destroy", run: async (ctx) => ctx.answer({ gone: await ctx.confirm("removes everything") }, "done") }),
  command({ ...base, name: "context", run: async ({ json, cluster, timeoutMs, yes, answer }) => answer({ json, cluster, timeoutMs, yes }, "") }),
  command({
    ...base,
    name: "serve",
    async run({ signal, answer }) {
      await answer({}, "ready");
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      await answer({}, "stopped");
    },
  }),
  command({
    ...base,
    name: "hang",
    async run({ answer }) {
      await answer({}, "ready");
      await new Promise((resolve) => setTimeout(resolve, 60_000));
    },
  }),
]);
