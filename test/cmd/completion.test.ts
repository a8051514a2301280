/**
 * Completion: what is offered where, and that TAB in a real bash never runs what was typed.
 */
import { expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { type Completion, complete } from "../../src/cmd/complete.ts";
import { command } from "../../src/cmd/spec.ts";
import { BINARY, cairn, emptyFolder, until } from "../cli/run-cairn.ts";
import { hostileWords } from "./hostile-words.ts";

const none = async (): Promise<void> => {};
const base = { summary: "Does it", errors: [], examples: [], run: none };
const specs = [
  command({ ...base, name: "merge fetch", args: [], options: [{ name: "storage", form: "string", means: "which" }] }),
  command({ ...base, name: "merge status", args: [], options: [] }),
  command({
    ...base,
    name: "log add",
    args: [{ name: "file", many: true, means: "entries" }],
    options: [{ name: "wait", short: "w", form: ["sequenced", "signed"], means: "until" }],
  }),
  command({ ...base, name: "complete", hidden: true, args: [], options: [] }),
];
const values = ({ candidates, files }: Completion): string => [...candidates.map(({ value }) => value), ...(files ? ["<files>"] : [])].join(" ");

const cases: readonly (readonly [readonly string[], string])[] = [
  [[""], "merge log help"],
  [["m"], "merge"],
  [["merge", ""], "fetch status"],
  [["merge", "s"], "status"],
  [["merge", "fetch", "--st"], "--storage"],
  [["merge", "fetch", "--storage", ""], "<files>"],
  [["merge", "fetch", ""], ""],
  [["log", "add", ""], "<files>"],
  [["log", "add", "--wait", "s"], "sequenced signed"],
  [["log", "add", "-w", "si"], "signed"],
  [["log", "add", "--wait=si"], "--wait=signed"],
  [["log", "add", "--wait", "="], "sequenced signed"],
  [["log", "add", "--wait", "=", "si"], "signed"],
  [["log", "add", "--", "--w"], "<files>"],
  [["help", ""], "merge log"],
  [["help", "merge", ""], "fetch status"],
  [["nothing", ""], ""],
];
for (const [words, expected] of cases) test(`after ${JSON.stringify(words)}`, () => expect(values(complete(words, specs))).toBe(expected));

test("hostile words are compared, nothing more", () => {
  for (const word of hostileWords) if (word !== "") expect(complete([word, word, ""], specs).candidates).toEqual([]);
});

test("TAB in bash completes, and never runs a typed word", async () => {
  await using folder = await emptyFolder();
  const { stdout: script } = await cairn(["completion", "bash"]);
  await Bun.write(`${folder.path}/rc`, `PS1='> '\nPATH=${BINARY.replace(/\/cairn$/, "")}:$PATH\nbind 'set bell-style none'\n${script}`);
  const pieces: Uint8Array[] = [];
  const screen = (): string => Buffer.concat(pieces).toString();
  const bash = Bun.spawn(["bash", "--noprofile", "--rcfile", "rc", "-i"], {
    cwd: folder.path,
    env: { PATH: "/usr/bin:/bin", HOME: folder.path, TERM: "dumb", HISTFILE: "/dev/null" },
    terminal: { cols: 200, rows: 24, data: (_, bytes) => void pieces.push(bytes.slice()) },
  });
  const type = (keys: string): void => void bash.terminal?.write(keys);
  let count = 0;
  /** Keys, then a line of which only bash can make the answer: all before it has been dealt with. */
  const typed = async (keys: string): Promise<string> => {
    const from = screen().length;
    type(keys);
    type(`\u0015echo done$((${++count} + 1000))\r`); // Ctrl-U empties the line first
    await until(() =>
      screen()
        .slice(from)
        .includes(`\ndone${count + 1000}`),
    );
    return screen().slice(from);
  };
  await until(() => screen().includes("> "));
  expect(await typed("cairn expl\t")).toContain("cairn explain ");
  for (const word of ["$(touch x)", "`touch x`", "'$(touch x)'", '"$(touch x)', "a;touch x", "--cluster=$(touch x)", "$(touch x)/cairn"]) {
    await typed(`cairn ${word} \t\t`);
    await typed(`cairn explain ${word}\t\t`);
  }
  await typed("$(touch x)/cairn \t\t");
  expect((await readdir(folder.path)).sort()).toEqual(["rc"]);
  bash.terminal?.close();
  await bash.exited;
});
