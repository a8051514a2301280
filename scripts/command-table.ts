/**
 * The README's table of commands, made from the CommandSpecs: `npm run docs` writes it, test/docs.test.ts compares it.
 */
import { argUsage } from "../src/cmd/parse.ts";
import type { CommandSpec } from "../src/cmd/spec.ts";

const SECTION = /(<!-- commands -->\n)[\s\S]*(<!-- \/commands -->)/;

/** The text with the section between the two marks written anew. */
export function withCommandTable(readme: string, specs: readonly CommandSpec[]): string {
  return readme.replace(SECTION, (_, open: string, close: string) => `${open}${commandTable(specs)}\n${close}`);
}

function commandTable(specs: readonly CommandSpec[]): string {
  const rows = specs
    .filter((spec) => spec.hidden !== true)
    .map((spec) => `| ${code([spec.name, ...spec.args.map(argUsage)].join(" "))} | ${cell(spec.summary)} | ${spec.examples.slice(0, 1).map(code).join("")} |`);
  return ["| command | does | for example |", "|---|---|---|", ...rows].join("\n");
}

const cell = (text: string): string => text.replaceAll("|", "\\|");
const code = (text: string): string => `\`${cell(text)}\``;
