/**
 * Words to a call: every string option of every command keeps hostile values as they were typed, forms are checked,
 * and what cannot be understood says what was meant.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseWords } from "../../src/cmd/parse.ts";
import { registry } from "../../src/cmd/registry.ts";
import { type CommandSpec, command, commonOptions } from "../../src/cmd/spec.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { hostileWords } from "./hostile-words.ts";

const none = async (): Promise<void> => {};
const sample = command({
  name: "merge fetch",
  summary: "Fetch",
  args: [
    { name: "first", means: "one" },
    { name: "rest", optional: true, many: true, means: "more" },
  ],
  options: [
    { name: "storage", short: "s", form: "string", means: "which" },
    { name: "count", form: "count", default: "3", means: "how many" },
    { name: "size", form: "size", default: "64K", means: "how large" },
    { name: "old", form: "string", many: true, means: "several" },
    { name: "wait", form: ["sequenced", "signed"], means: "until" },
    { name: "no-merge", form: "flag", means: "without" },
  ],
  errors: [],
  examples: [],
  run: none,
});
const merge = command({ name: "merge", summary: "Merge", args: [], options: [], errors: [], examples: [], run: none });
const up = command({ name: "up", summary: "Up", args: [], options: [], errors: [], examples: [], run: none });
const specs: readonly CommandSpec[] = [merge, sample, up];

function parsed(...words: string[]): { options: Record<string, unknown>; args: Record<string, unknown>; name: string } {
  const call = parseWords(words, specs);
  if (call.kind !== "run") throw new Error(`a ${call.kind} call`);
  return { options: call.options, args: call.args, name: call.spec.name };
}

/** The code and text of what is thrown. */
function refusal(...words: string[]): string {
  try {
    parseWords(words, specs);
  } catch (error) {
    if (error instanceof EngineError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

describe("every string option of every command keeps hostile values", () => {
  for (const spec of [...registry, sample])
    for (const option of [...spec.options, ...commonOptions].filter(({ form }) => form === "string"))
      test(`cairn ${spec.name} --${option.name}`, () => {
        const required = spec.args.filter((arg) => arg.optional !== true).map(() => "word");
        for (const value of hostileWords) {
          const ways = [[`--${option.name}=${value}`], ...(/^-./.test(value) ? [] : [[`--${option.name}`, value]])];
          for (const way of ways) {
            const call = parseWords([...spec.name.split(" "), ...way, ...required], spec === sample ? specs : registry);
            expect(call).toMatchObject({ kind: "run", options: { [option.name]: option.many === true ? [value] : value } });
          }
        }
      });
});

test("any text survives as a value and as an argument", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (value, word) => {
      const { options, args } = parsed("merge", "fetch", `--storage=${value}`, "--", word);
      expect([options["storage"], args["first"]]).toEqual([value, word]);
    }),
  );
});

test("the longest command name wins, and common options may stand before it", () => {
  expect(parsed("merge").name).toBe("merge");
  expect(parsed("merge", "fetch", "a").name).toBe("merge fetch");
  expect(parsed("--json", "--timeout", "2s", "merge", "fetch", "a").options).toMatchObject({ json: true, timeout: 2_000 });
});

test("values arrive in their form, defaults too", () => {
  expect(parsed("merge", "fetch", "a").options).toEqual({
    storage: undefined,
    count: 3,
    size: 65_536,
    old: [],
    wait: undefined,
    "no-merge": false,
    json: false,
    cluster: undefined,
    timeout: 10_000,
    yes: false,
    help: false,
  });
  expect(parsed("merge", "fetch", "-s", "a", "--old", "1", "--old=2", "--no-merge", "--wait", "signed", "x", "y", "z")).toMatchObject({
    options: { storage: "a", old: ["1", "2"], "no-merge": true, wait: "signed" },
    args: { first: "x", rest: ["y", "z"] },
  });
});

test("help and version are found wherever they are asked for", () => {
  expect(parseWords(["--version"], specs)).toEqual({ kind: "version" });
  expect(parseWords(["help", "merge", "fetch"], specs)).toEqual({ kind: "help", topic: "merge fetch" });
  expect(parseWords(["merge", "fetch", "--help"], specs)).toEqual({ kind: "help", topic: "merge fetch" });
  expect(parseWords(["-h"], specs)).toEqual({ kind: "help", topic: "" });
});

const refusals: readonly (readonly [readonly string[], string])[] = [
  [[], "USAGE: no command given"],
  [["merg"], 'USAGE: there is no command "merg"; did you mean `cairn merge`?'],
  [["merge", "fetsh"], 'USAGE: there is no command "merge fetsh"; did you mean `cairn merge fetch`?'],
  [["frobnicate"], 'USAGE: there is no command "frobnicate"'],
  [["--storage=a", "merge"], 'USAGE: `cairn` has no option "--storage"'],
  [["merge", "fetch", "a", "--storge=a"], 'USAGE: `cairn merge fetch` has no option "--storge"; did you mean --storage?'],
  [["merge", "fetch", "a", "-q"], 'USAGE: `cairn merge fetch` has no option "-q"'],
  [["merge", "fetch", "a", "--storage"], "BAD_OPTION: --storage needs a value: --storage a text"],
  [["merge", "fetch", "a", "--storage", "--json"], 'BAD_OPTION: --storage needs a value and "--json" follows; if that is the value, write --storage=--json'],
  [["merge", "fetch", "a", "--storage=a", "--storage=b"], 'BAD_OPTION: --storage is given twice: "a" and "b"'],
  [["merge", "fetch", "a", "--no-merge=yes"], 'BAD_OPTION: --no-merge takes no value, "yes" was given'],
  [["merge", "fetch", "a", "--count", "0012"], 'BAD_OPTION: --count is "0012", want a whole number'],
  [["merge", "fetch", "a", "--timeout=5x"], 'BAD_OPTION: --timeout is "5x", want a time such as 500ms, 10s or 5m'],
  [["merge", "fetch", "a", "--wait=never"], 'BAD_OPTION: --wait is "never", want one of sequenced, signed'],
  [["merge", "fetch"], "USAGE: 0 arguments given, want `cairn merge fetch <first> [...rest]`"],
  [["up", "x"], "USAGE: 1 argument given, want `cairn up`"],
];
for (const [words, expected] of refusals) test(`refused: cairn ${words.join(" ")}`, () => expect(refusal(...words)).toBe(expected));
