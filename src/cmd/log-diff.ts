/**
 * `cairn log diff`: what the log gained between two sizes (merge.md section 9, time travel), any two that lie below the signed
 * head. Both roots are computed from proven tiles, the consistency of the two is checked, and so is each entry shown.
 */
import { toHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { BUNDLE_COUNT } from "../engine/log/entry.ts";
import { checkConsistency } from "../engine/log/proof.ts";
import { clusterSource, logOption, openLogAccess } from "./log-client.ts";
import { countedEntries } from "./log-entries.ts";
import { readHead } from "./log-head.ts";
import { entryLine, entryRow } from "./log-tail.ts";
import { ProvenTiles } from "./proven-tiles.ts";
import { command } from "./spec.ts";
import { parseCount } from "./units.ts";

export const logDiff = command({
  name: "log diff",
  summary: "Print the entries between two sizes of the log, and prove that the one extends the other",
  args: [
    { name: "from", means: "the smaller size" },
    { name: "to", optional: true, means: "the larger size; else that of the signed head" },
  ],
  options: [{ name: "text", form: "flag", means: "show certificates, JSON and other text readable" }, logOption],
  errors: ["UNAVAILABLE", "LOG_RANGE", "LOG_SIGNATURE", "LOG_ROOT_MISMATCH", "LOG_ENTRY_MISMATCH", "LOG_ENCODING"],
  examples: ["cairn log diff 0 2 --text", "cairn log diff 100 --json"],
  async run(ctx) {
    const from = sizeOf(ctx.args.from);
    const access = await openLogAccess(ctx);
    const source = clusterSource(access);
    const { checkpoint } = await readHead(source, access.vkey);
    const to = ctx.args.to === undefined ? checkpoint.size : sizeOf(ctx.args.to);
    if (to > checkpoint.size || from > to)
      throw new EngineError("LOG_RANGE", `sizes ${from} and ${to}: want the smaller one first, and none above ${checkpoint.size}`);
    const tiles = await ProvenTiles.open(source, checkpoint);
    const [oldRoot, newRoot, path] = await tiles.compute((reader) => [reader.rootAt(from), reader.rootAt(to), reader.consistency(from, to)] as const);
    checkConsistency({ oldSize: from, oldRoot, newSize: to, newRoot, path });
    for (let at = from; at < to; ) {
      const end = Math.min(to, (Math.floor(at / BUNDLE_COUNT) + 1) * BUNDLE_COUNT);
      const entries = await tiles.entries(at, end);
      await ctx.answer(
        entries.map((each) => entryRow(each, ctx.options.text)),
        entries.map((each) => entryLine(each, ctx.options.text)).join("\n"),
      );
      at = end;
    }
    ctx.note(`${countedEntries(to - from)}: size ${from} root ${toHex(oldRoot)}, size ${to} root ${toHex(newRoot)}`);
  },
});

function sizeOf(text: string): number {
  const size = parseCount(text);
  if (size === null) throw new EngineError("USAGE", `${JSON.stringify(text)} is no size: want a whole number`);
  return size;
}
