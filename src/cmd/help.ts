/**
 * Help, made from the same CommandSpecs as completion and the README: for the whole program, for a group such as
 * `merge`, and for one command. Never reads a terminal's width: the same bytes everywhere.
 */
import { EngineError, errorTable, isErrorCode } from "../engine/base/errors.ts";
import { nearest } from "./nearest.ts";
import { argUsage } from "./parse.ts";
import { type CommandSpec, commonOptions, type OptionSpec } from "./spec.ts";
import { formatTable } from "./table.ts";

const EXIT_STATUS = [
  [0, "done"],
  [1, "failed"],
  [2, "the command line is wrong, or the command would have to ask"],
  [3, "not found"],
  [4, "not allowed"],
  [5, "conflict, or a condition that does not hold"],
  [6, "unavailable: no quorum, gate shut, timeout"],
  [7, "corrupt, or does not verify"],
  [8, "the check found differences or problems"],
  ["130, 143", "ended by SIGINT, SIGTERM"],
] as const;

/** `topic` is empty, a group, or a command. */
export function helpText(topic: string, specs: readonly CommandSpec[]): string {
  const shown = specs.filter((spec) => spec.hidden !== true);
  if (topic === "") return programHelp(shown);
  const spec = specs.find(({ name }) => name === topic);
  const group = shown.filter(({ name }) => name.startsWith(`${topic} `));
  if (spec !== undefined) return commandHelp(spec) + (group.length > 0 ? `\n\nCommands below it:\n${commandList(group)}` : "");
  if (group.length > 0) return `Usage: cairn ${topic} COMMAND [options]\n\nCommands:\n${commandList(group)}\n\nMore: cairn help ${topic} COMMAND`;
  const guess = nearest(topic, [...shown.map(({ name }) => name), ...shown.map(({ name }) => name.split(" ")[0] ?? name)]);
  throw new EngineError("USAGE", `no help on ${JSON.stringify(topic)}${guess === null ? "" : `; did you mean \`cairn help ${guess}\`?`}`);
}

function programHelp(specs: readonly CommandSpec[]): string {
  return [
    "cairn: a small, verifiable storage cluster in one binary",
    "Usage: cairn COMMAND [options]",
    `Commands:\n${commandList(specs)}`,
    `Options of every command:\n${optionList(commonOptions)}`,
    `Exit status:\n${formatTable(EXIT_STATUS, { indent: "  " })}`,
    "More: cairn help COMMAND, cairn explain CODE",
  ].join("\n\n");
}

function commandHelp(spec: CommandSpec): string {
  const usage = ["Usage: cairn", spec.name, ...spec.args.map(argUsage), "[options]"].join(" ");
  const args = spec.args.map((arg) => [argUsage(arg), arg.means]);
  const codes = spec.errors.filter(isErrorCode).map((code) => [code, `exit ${errorTable[code].exit}`, errorTable[code].means]);
  const parts = [
    `${spec.summary}.`,
    usage,
    args.length === 0 ? null : `Arguments:\n${formatTable(args, { indent: "  " })}`,
    spec.options.length === 0 ? null : `Options:\n${optionList(spec.options)}`,
    `Options of every command:\n${optionList(commonOptions)}`,
    codes.length === 0 ? null : `Errors:\n${formatTable(codes, { indent: "  " })}`,
    spec.examples.length === 0 ? null : `Examples:\n${spec.examples.map((line) => `  ${line}`).join("\n")}`,
  ];
  return parts.filter((part) => part !== null).join("\n\n");
}

const commandList = (specs: readonly CommandSpec[]): string =>
  formatTable(
    specs.map((spec) => [spec.name, spec.summary]),
    { indent: "  " },
  );

const optionList = (options: readonly OptionSpec[]): string =>
  formatTable(
    options.map((option) => [optionUsage(option), `${option.means}${option.default === undefined ? "" : ` (default ${option.default})`}`]),
    { indent: "  " },
  );

/** `--data DIR`, `-o, --out FILE`, `--wait sequenced|signed`, `--old CHECKPOINT …`. */
function optionUsage({ name, short, form, value, many }: OptionSpec): string {
  const names = short === undefined ? `--${name}` : `-${short}, --${name}`;
  if (form === "flag") return names;
  const shape = value ?? (typeof form === "string" ? { string: "TEXT", count: "N", duration: "TIME", size: "SIZE" }[form] : form.join("|"));
  return `${names} ${shape}${many === true ? " …" : ""}`;
}
