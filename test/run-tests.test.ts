/**
 * The test command tells the truth about its own count: passes, failures, skips, a file that does not load, a test that
 * ends the process. Run in a folder with tests of its own.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { emptyFolder } from "./cli/run-cairn.ts";

const RUNNER = join(import.meta.dir, "../scripts/run-tests.ts");
const HEAD = 'import { expect, test } from "bun:test";\n';
const files: Readonly<Record<string, string>> = {
  "scripts/build-binary/build.ts": "",
  "test/good.test.ts": `${HEAD}test("a", () => {}); test("b", () => {});`,
  "test/bad.test.ts": `${HEAD}test("c", () => expect(1).toBe(2)); test("d", () => {});`,
  "test/left.test.ts": `${HEAD}test.skip("e", () => {}); test.todo("f"); test("g", () => {});`,
  "test/unloadable.test.ts": 'import "./nothing.ts";',
  "test/fatal.test.ts": `${HEAD}test("h", () => process.exit(0));`,
  "test/liar.test.ts": `${HEAD}test("i", () => { console.error(" 900 pass\\n 7 skip\\n"); expect(1).toBe(2); });`,
  "test/deep/slow.ci.test.ts": `${HEAD}test("j", () => expect(process.env["CAIRN_TIER"]).toBe("ci"));`,
};

async function run(...words: string[]): Promise<string> {
  await using folder = await emptyFolder();
  for (const [name, text] of Object.entries(files)) await Bun.write(join(folder.path, name), text);
  const child = Bun.spawn([process.execPath, RUNNER, ...words], { cwd: folder.path, stdin: "ignore", stdout: "pipe", stderr: "ignore" });
  const lines = (await child.stdout.text()).trimEnd().split("\n");
  return `${lines.at(-1)} = ${await child.exited}`;
}

// The build is the first of those that passed.
const cases: readonly (readonly [readonly string[], string])[] = [
  [["good"], "3 passed, 0 failed = 0"],
  [["bad"], "2 passed, 1 failed = 1"],
  [["good", "left"], "4 passed, 0 failed, 2 skipped = 0"],
  [["left", "--forbid-skips"], "2 passed, 0 failed, 2 skipped = 1"],
  [["good", "unloadable"], "3 passed, 1 failed = 1"],
  [["fatal"], "1 passed, 1 failed = 1"],
  [["liar"], "1 passed, 1 failed = 1"],
  [["slow"], "1 passed, 1 failed = 1"],
  [["slow", "--tier", "ci"], "2 passed, 0 failed = 0"],
  [["nothing"], "1 passed, 1 failed = 1"],
];
for (const [words, expected] of cases) test(words.join(" "), async () => expect(await run(...words)).toBe(expected));
