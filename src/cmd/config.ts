/**
 * `cairn config show`: the settings of a node's folder as they are in force, and where each came from.
 */
import { resolve } from "node:path";
import { command } from "./spec.ts";
import { formatTable } from "./table.ts";

export const configShow = command({
  name: "config show",
  summary: "Print a node's settings as they are in force",
  args: [],
  options: [
    { name: "dir", form: "string", value: "DIR", default: ".", means: "the node's folder" },
    { name: "origin", form: "flag", means: "say of each setting where it came from" },
  ],
  errors: ["BAD_CONFIG", "NOT_FOUND", "IDENTITY_MODE", "MERGE_QUORUM_IMPOSSIBLE"],
  examples: ["cairn config show --dir ./cluster/a --origin"],
  async run(ctx) {
    const { loadNode } = await import("../engine/node/config.ts");
    const { settings } = await loadNode(resolve(ctx.options.dir));
    const isShown = ctx.options.origin;
    const shown = settings.map(({ key, value, origin }) => ({ key, value: key.endsWith("Token") ? '"…"' : value, origin }));
    const rows = shown.map(({ key, value, origin }) => ({ key, value: JSON.parse(value) as unknown, ...(isShown ? { origin } : {}) }));
    const text = formatTable(shown.map(({ key, value, origin }) => [key, value, ...(isShown ? [origin] : [])]));
    await ctx.answer(rows, text);
  },
});
