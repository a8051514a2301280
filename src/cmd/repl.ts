/**
 * `cairn repl [FIXTURE]`: step a simulated cluster by hand on a terminal, or print a story's transcript from a pipe.
 */
import type { Area } from "../engine/sim/area.ts";
import { type CommandSpec, command } from "./spec.ts";

export const repl = replOn(async () => (await import("../engine/sim/areas.ts")).areas);

export function replOn(load: () => Promise<readonly Area[]>): CommandSpec {
  return command({
    name: "repl",
    summary: "Step a simulated cluster by hand: deliver this message, drop that one, crash here",
    args: [
      { name: "fixture", optional: true, means: "a fixture cluster by name (merge-lone, merge-three, merge-wide) or a file; without it, begin with `world`" },
    ],
    options: [],
    errors: ["PARSE", "NOT_FOUND"],
    examples: ["cairn repl merge-three", "cairn repl < story.txt | diff story.txt -"],
    async run(ctx) {
      const { simulatedSession } = await import("../repl/session.ts");
      const { worldLineOf } = await import("../repl/fixtures.ts");
      const worldLine = ctx.args.fixture === undefined ? null : await worldLineOf(ctx.args.fixture);
      const { session, greeting } = simulatedSession(await load(), worldLine);
      if (process.stdin.isTTY === true && process.stdout.isTTY === true) {
        const { repl: lineLoop } = await import("../repl/repl.ts");
        const { historyFile } = await import("../repl/history.ts");
        const banner = ["`help` lists the verbs, Tab completes, Ctrl-D ends."];
        await lineLoop({ session, input: process.stdin, output: process.stdout, greeting: [...banner, ...greeting], historyFile: historyFile(process.env) });
        return;
      }
      const { answerPipe } = await import("../repl/pipe.ts");
      for await (const { lines, answer, text } of answerPipe(process.stdin, session)) await ctx.answer({ lines: lines.map((line) => line.text), answer }, text);
    },
  });
}
