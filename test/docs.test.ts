/**
 * What the documents claim is true today: the table of commands is made from the CommandSpecs, the README's transcripts
 * are what the binary answers, every file that is named is there, and every command's examples parse.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { withCommandTable } from "../scripts/command-table.ts";
import { parseWords } from "../src/cmd/parse.ts";
import { registry } from "../src/cmd/registry.ts";
import { isErrorCode } from "../src/engine/base/errors.ts";
import { emptyFolder } from "./cli/run-cairn.ts";
import { playTranscript } from "./cli/transcript.ts";

const root = join(import.meta.dir, "..");
const read = (name: string): string => readFileSync(join(root, name), "utf8");

test("the README's table of commands is current (`npm run docs` writes it)", () => {
  const readme = read("README.md");
  expect(readme).toContain("<!-- commands -->");
  expect(withCommandTable(readme, registry)).toBe(readme);
});

describe("the README's transcripts are what the binary answers", () => {
  const blocks = [...read("README.md").matchAll(/^```console\n([\s\S]*?)^```$/gm)].map(([, block]) => block ?? "");
  test("there is one", () => expect(blocks.length).toBeGreaterThan(0));
  for (const block of blocks)
    test(block.split("\n", 1)[0] ?? "", async () => {
      await using folder = await emptyFolder();
      expect(await playTranscript(block, folder.path)).toBe(block);
    });
});

for (const name of ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
  test(`${name} names files that are there`, () => {
    const named = [...read(name).matchAll(/`((?:src|test|scripts|fixtures|\.ci)\/[\w./-]+)`|\]\((?!http)([\w./-]+)\)/g)].map(
      ([, code, link]) => code ?? link ?? "",
    );
    expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

describe("every command", () => {
  for (const spec of registry)
    test(`cairn ${spec.name}: examples parse, errors are in the table, names are unique`, () => {
      for (const example of spec.examples) {
        const line = /(?:^|<\(|\| )cairn ([^)|]*)/.exec(example)?.[1];
        expect(parseWords(wordsOf(line ?? ""), registry)).toMatchObject({ kind: "run", spec: { name: spec.name } });
      }
      expect(spec.examples.length).toBeGreaterThan(0);
      expect(spec.errors.filter((code) => !isErrorCode(code))).toEqual([]);
      expect(spec.summary).not.toEndWith(".");
      expect(registry.filter(({ name }) => name === spec.name).length).toBe(1);
      expect(new Set(spec.options.map(({ name }) => name)).size).toBe(spec.options.length);
    });
});

/** Words of a line as a shell would split them; quotes hold blanks. */
function wordsOf(line: string): string[] {
  const withoutRedirections = line.replace(/\s[<>].*$/, "");
  return [...withoutRedirections.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(([, single, double, bare]) => single ?? double ?? bare ?? "");
}
