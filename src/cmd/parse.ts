/**
 * Words to a call: which command, and the values of its options and arguments. cac keeps the table of commands, matches
 * and checks arity; it never sees a value, because it makes numbers of them (platform.md, "Command line"): the raw words
 * are read by node:util's parseArgs and checked here against the declared forms.
 */
import { parseArgs } from "node:util";
import { cac } from "cac";
import { EngineError } from "../engine/base/errors.ts";
import { nearest } from "./nearest.ts";
import { type ArgSpec, type ArgValues, type CommandSpec, commonOptions, type OptionSpec, type OptionValues } from "./spec.ts";
import { parseCount, parseDuration, parseSize } from "./units.ts";

export type Call =
  | { readonly kind: "run"; readonly spec: CommandSpec; readonly options: OptionValues; readonly args: ArgValues }
  | { readonly kind: "help"; readonly topic: string }
  | { readonly kind: "version" };

export function parseWords(words: readonly string[], specs: readonly CommandSpec[]): Call {
  const lead = leadingOptions(words);
  const rest = words.slice(lead.length);
  if (lead.includes("--version") || rest[0] === "--version") return { kind: "version" };
  if (lead.includes("--help") || lead.includes("-h")) return { kind: "help", topic: rest.join(" ") };
  if (rest[0] === "help") return { kind: "help", topic: rest.slice(1).join(" ") };
  const spec = findCommand(rest, specs);
  const declared = [...spec.options, ...commonOptions];
  const { options, positionals } = readOptions([...lead, ...rest.slice(spec.name.split(" ").length)], declared, spec);
  if (options["help"] === true) return { kind: "help", topic: spec.name };
  return { kind: "run", spec, options, args: bindArgs(spec, positionals) };
}

/** Common options may stand before the command: `cairn --json merge status`. */
function leadingOptions(words: readonly string[]): readonly string[] {
  let count = 0;
  for (let word = words[0]; word?.startsWith("-") && word !== "--"; word = words[count]) {
    const option = commonOptions.find((each) => word === `--${each.name}` || word === `-${each.short}` || word.startsWith(`--${each.name}=`));
    if (option === undefined) break;
    count += option.form === "flag" || word.includes("=") ? 1 : 2;
  }
  return words.slice(0, count);
}

/** The longest name that the words begin with. */
function findCommand(words: readonly string[], specs: readonly CommandSpec[]): CommandSpec {
  const [first, second] = words;
  if (first === undefined) throw new EngineError("USAGE", "no command given");
  if (first.startsWith("-")) throw unknownOption(first, commonOptions, "cairn");
  const found = specs.filter(({ name }) => words.slice(0, name.split(" ").length).join(" ") === name).sort((a, b) => b.name.length - a.name.length)[0];
  const verbs = specs.filter(({ name }) => name.startsWith(`${first} `)).map(({ name }) => name);
  const strayWord = found?.name === first && found.args.length === 0 && verbs.length > 0 && second !== undefined && !second.startsWith("-");
  if (found !== undefined && !strayWord) return found;
  if (verbs.length > 0 && (second === undefined || second.startsWith("-")))
    throw new EngineError("USAGE", `\`cairn ${first}\` needs one more word: ${verbs.map((name) => name.slice(first.length + 1)).join(", ")}`);
  const wanted = verbs.length > 0 ? `${first} ${second}` : first;
  const groups = specs.filter((spec) => spec.hidden !== true).map(({ name }) => name.replace(/ .*/, ""));
  const guess = nearest(wanted, verbs.length > 0 ? verbs : [...groups, "help"]);
  throw new EngineError("USAGE", `there is no command ${JSON.stringify(wanted)}${guess === null ? "" : `; did you mean \`cairn ${guess}\`?`}`);
}

type Raw = { readonly options: OptionValues; readonly positionals: readonly string[] };

function readOptions(words: readonly string[], declared: readonly OptionSpec[], spec: CommandSpec): Raw {
  const config = Object.fromEntries(
    declared.map(({ name, short, form }) => [
      name,
      { type: form === "flag" ? ("boolean" as const) : ("string" as const), multiple: true, ...(short === undefined ? {} : { short }) },
    ]),
  );
  const { tokens } = parseArgs({ args: [...words], options: config, strict: false, allowPositionals: true, tokens: true });
  const values = new Map<string, (string | number | boolean)[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const option = declared.find(({ name }) => name === token.name);
    if (option === undefined) throw unknownOption(token.rawName, declared, spec.name);
    const given = values.get(option.name) ?? [];
    if (given.length > 0 && option.many !== true && option.form !== "flag")
      throw new EngineError("BAD_OPTION", `${token.rawName} is given twice: ${JSON.stringify(given[0])} and ${JSON.stringify(token.value)}`);
    given.push(readValue(option, token));
    values.set(option.name, given);
  }
  return { options: Object.fromEntries(declared.map((option) => [option.name, settle(option, values.get(option.name))])), positionals };
}

/** One value, or the list, or the default. */
function settle(option: OptionSpec, given: (string | number | boolean)[] | undefined): OptionValues[string] {
  if (option.form === "flag") return given !== undefined;
  if (option.many === true) return (given ?? []).filter((each) => typeof each !== "boolean");
  return given?.[0] ?? (option.default === undefined ? undefined : checkForm(option, `--${option.name}`, option.default));
}

function readValue(option: OptionSpec, token: { rawName: string; value: string | undefined; inlineValue: boolean | undefined }): string | number | boolean {
  const { rawName, value, inlineValue } = token;
  if (option.form === "flag") {
    if (value !== undefined) throw new EngineError("BAD_OPTION", `${rawName} takes no value, ${JSON.stringify(value)} was given`);
    return true;
  }
  if (value === undefined) throw new EngineError("BAD_OPTION", `${rawName} needs a value: ${rawName} ${option.value ?? formOf(option)}`);
  if (inlineValue === false && value.length > 1 && value.startsWith("-"))
    throw new EngineError("BAD_OPTION", `${rawName} needs a value and ${JSON.stringify(value)} follows; if that is the value, write --${option.name}=${value}`);
  return checkForm(option, rawName, value);
}

function checkForm(option: OptionSpec, rawName: string, value: string): string | number {
  const read = readForm(option.form, value);
  if (read === null) throw new EngineError("BAD_OPTION", `${rawName} is ${JSON.stringify(value)}, want ${formOf(option)}`);
  return read;
}

function readForm(form: OptionSpec["form"], value: string): string | number | null {
  switch (form) {
    case "count":
      return parseCount(value);
    case "duration":
      return parseDuration(value);
    case "size":
      return parseSize(value);
    case "string":
    case "flag":
      return value;
    default:
      return form.includes(value) ? value : null;
  }
}

function formOf({ form }: OptionSpec): string {
  switch (form) {
    case "count":
      return "a whole number";
    case "duration":
      return "a time such as 500ms, 10s or 5m";
    case "size":
      return "a size such as 4096, 64M or 1G";
    case "string":
    case "flag":
      return "a text";
    default:
      return `one of ${form.join(", ")}`;
  }
}

function unknownOption(word: string, declared: readonly OptionSpec[], where: string): EngineError {
  const name = word.replace(/=.*/s, "");
  const guess = nearest(
    name,
    declared.map((option) => `--${option.name}`),
  );
  return new EngineError(
    "USAGE",
    `${where === "cairn" ? "`cairn`" : `\`cairn ${where}\``} has no option ${JSON.stringify(name)}${guess === null ? "" : `; did you mean ${guess}?`}`,
  );
}

/** Arity is cac's: it is given the command's shape and the words as they are, and matches them up. */
function bindArgs(spec: CommandSpec, positionals: readonly string[]): ArgValues {
  const cli = cac("cairn");
  const mapped = spec.name.replaceAll(" ", "-"); // cac never matches a name of two words
  let bound: ArgValues = {};
  cli.command(`${mapped} ${spec.args.map(argUsage).join(" ")}`).action((...values: (string | string[] | undefined)[]) => {
    bound = Object.fromEntries(spec.args.map((arg, index) => [arg.name, values[index]]));
  });
  cli.parse(["", "", mapped], { run: false });
  cli.args = positionals;
  cli.options = {};
  try {
    cli.runMatchedCommand();
  } catch (cause) {
    const usage = `cairn ${[spec.name, ...spec.args.map(argUsage)].join(" ")}`;
    throw new EngineError("USAGE", `${positionals.length === 1 ? "1 argument" : `${positionals.length} arguments`} given, want \`${usage}\``, { cause });
  }
  return bound;
}

/** `<file>`, `[file]`, `[...files]`: cac's own notation. */
export function argUsage({ name, optional, many }: ArgSpec): string {
  const inner = many === true ? `...${name}` : name;
  return optional === true ? `[${inner}]` : `<${inner}>`;
}
