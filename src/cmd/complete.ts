/**
 * What could stand in place of the last word, from the same CommandSpecs as help. The protocol is that of the common
 * completion libraries: `cairn complete -- WORD…` prints `candidate TAB meaning` lines, then `:4` (nothing else) or `:0` (files too).
 * Words are only compared, never expanded: the shell code that calls this (completion.ts) evaluates nothing either.
 */
import { type CommandSpec, command, commonOptions, type OptionSpec } from "./spec.ts";

export type Candidate = { readonly value: string; readonly means: string };
export type Completion = { readonly candidates: readonly Candidate[] /** File names would do as well. */; readonly files: boolean };

export function complete(words: readonly string[], specs: readonly CommandSpec[]): Completion {
  const shown = specs.filter((spec) => spec.hidden !== true);
  const { before, current } = splitAtCursor(words);
  const spec = shown.filter(({ name }) => startsWithWords(before, name.split(" "))).sort((a, b) => b.name.length - a.name.length)[0];
  const declared = [...(spec?.options ?? []), ...commonOptions];
  const { candidates, files } = candidatesFor({ before, current, spec, declared, shown });
  return { candidates: candidates.filter(({ value }) => value.startsWith(current)), files };
}

/** bash makes three words of `--wait=se`: option, `=`, value. */
function splitAtCursor(words: readonly string[]): { before: readonly string[]; current: string } {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? "";
  if (current === "=" && before.at(-1)?.startsWith("--")) return { before, current: "" };
  return { before: before.at(-1) === "=" && before.at(-2)?.startsWith("--") ? before.slice(0, -1) : before, current };
}

type Place = {
  readonly before: readonly string[];
  readonly current: string;
  readonly spec: CommandSpec | undefined;
  readonly declared: readonly OptionSpec[];
  readonly shown: readonly CommandSpec[];
};

function candidatesFor({ before, current, spec, declared, shown }: Place): Completion {
  if (before.includes("--")) return { candidates: [], files: true };
  const open = declared.find(({ name, short, form }) => form !== "flag" && (before.at(-1) === `--${name}` || before.at(-1) === `-${short}`));
  if (open !== undefined) return valuesOf(open, "");
  const inline = declared.find(({ name, form }) => form !== "flag" && current.startsWith(`--${name}=`));
  if (inline !== undefined) return valuesOf(inline, `--${inline.name}=`);
  if (current.startsWith("-")) return { candidates: declared.map(({ name, means }) => ({ value: `--${name}`, means })), files: false };
  const help = before[0] === "help";
  const next = nextWords(help ? before.slice(1) : before, shown);
  if (before.length === 0) return { candidates: [...next, { value: "help", means: "Show help on a command" }], files: false };
  return { candidates: next, files: !help && spec !== undefined && spec.args.length > 0 };
}

function valuesOf({ form, means }: OptionSpec, prefix: string): Completion {
  if (typeof form === "string") return { candidates: [], files: form === "string" };
  return { candidates: form.map((word) => ({ value: prefix + word, means })), files: false };
}

/** The words that continue a command's name, each once, with the summary where the name ends there. */
function nextWords(before: readonly string[], shown: readonly CommandSpec[]): Candidate[] {
  const found = new Map<string, string>();
  for (const { name, summary } of shown) {
    const words = name.split(" ");
    const word = words[before.length];
    if (word === undefined || !startsWithWords(words, before)) continue;
    if (words.length === before.length + 1) found.set(word, summary);
    else if (!found.has(word)) found.set(word, `${word} commands`);
  }
  return [...found].map(([value, means]) => ({ value, means }));
}

const startsWithWords = (words: readonly string[], start: readonly string[]): boolean => start.every((word, index) => words[index] === word);

/** The command that the shells call. The registry is passed in: this command is part of it. */
export const completeCommand = (specs: () => readonly CommandSpec[]): CommandSpec =>
  command({
    name: "complete",
    summary: "Print what could complete the last word",
    hidden: true,
    args: [{ name: "words", optional: true, many: true, means: "the words typed so far, after --; the last one is to be completed" }],
    options: [],
    errors: [],
    examples: ["cairn complete -- merge f"],
    async run(ctx) {
      const { candidates, files } = complete(ctx.args.words, specs());
      const lines = candidates.map(({ value, means }) => `${value}\t${means}\n`).join("");
      await ctx.answer({ candidates, files }, `${lines}:${files ? 0 : 4}\n`);
    },
  });
