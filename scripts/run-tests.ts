/**
 * `npm test`: build, lint, types, dead code, then the tests, all of them even when an early one fails. Output passes
 * through; the last line is always `N passed, N failed` (and `, N skipped`), counted from bun's own summary, with each of
 * the four checks as one. Exit status 0 only when nothing failed.
 *
 * Tiers: a file `*.ci.test.ts` needs Debian tools, Go or minutes, and runs only with `--tier ci`. `--forbid-skips` makes
 * a skipped test a failure: on the build machine every tool is there. Words after that name test files (substrings);
 * lint, types and dead code are then left out.
 */
import { parseArgs } from "node:util";

const TEST_TIMEOUT_MS = 60_000; // one test; a hang is a failure with a name, not a stuck job
const END_LINE = /^Ran \d+ tests? across/;
const COUNT_LINE = /^\s*(\d+) (pass|fail|skip|todo|errors?)$/;

const { values, positionals } = parseArgs({
  options: { tier: { type: "string", default: "quick" }, "forbid-skips": { type: "boolean", default: false } },
  allowPositionals: true,
});
if (values.tier !== "quick" && values.tier !== "ci") {
  process.stderr.write(`--tier is ${JSON.stringify(values.tier)}, want quick or ci\n`);
  process.exit(2);
}

const total = { passed: 0, failed: 0, skipped: 0 };
const bin = (name: string): string => `node_modules/.bin/${name}`;

/** Each counts as one test. The build comes first: the tests run what it made. */
const checks: readonly (readonly [name: string, command: string[]])[] = [
  ["build", [process.execPath, "scripts/build-binary/build.ts"]],
  ["lint", [bin("biome"), "check", "--error-on-warnings"]],
  ["types", [bin("tsc"), "-p", "."]],
  ["dead code", [bin("knip"), "--no-progress"]],
];
for (const [name, command] of positionals.length === 0 ? checks : checks.slice(0, 1)) {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "inherit", stderr: "inherit" });
  const passed = (await child.exited) === 0;
  total[passed ? "passed" : "failed"] += 1;
  process.stderr.write(`${passed ? "(pass)" : "(fail)"} ${name}\n`);
}

const files = [...new Bun.Glob("test/**/*.test.ts").scanSync()]
  .filter((file) => (values.tier === "ci" || !file.endsWith(".ci.test.ts")) && (positionals.length === 0 || positionals.some((part) => file.includes(part))))
  .sort();
if (files.length > 0) await runTests(files);
else if (positionals.length > 0) {
  total.failed += 1;
  process.stderr.write(`no test file matches ${positionals.join(" ")}\n`);
}

const skips = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
if (total.skipped > 0) process.stderr.write(`\n${total.skipped} tests were SKIPPED: the lines marked (skip) say which, and what is missing\n`);
process.exitCode = total.failed > 0 || (values["forbid-skips"] && total.skipped > 0) ? 1 : 0;
process.stdout.write(`${total.passed} passed, ${total.failed} failed${skips}\n`);

/** Bun's summary goes to stderr, which is read on its way through. */
async function runTests(paths: readonly string[]): Promise<void> {
  const child = Bun.spawn([process.execPath, "test", `--timeout=${TEST_TIMEOUT_MS}`, ...paths.map((path) => `./${path}`)], {
    env: { ...process.env, CAIRN_TIER: values.tier },
    stdin: "ignore",
    stdout: "inherit",
    stderr: "pipe",
  });
  const counted = new Map<string, number>();
  let rest = "";
  let ended = false;
  for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
    process.stderr.write(chunk);
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [, count, what] = COUNT_LINE.exec(Bun.stripANSI(line)) ?? [];
      if (count !== undefined && what !== undefined) counted.set(what === "errors" ? "error" : what, Number(count));
      else if (END_LINE.test(line)) ended = true;
      else if (!ended && !line.endsWith("expect() calls")) counted.clear(); // not yet the summary: a test printed it
    }
  }
  // A crash, or a test that ends the process, leaves no summary and is one failure. Bun counts a file that does not load.
  const failed = (await child.exited) === 0 && ended ? 0 : 1;
  total.passed += counted.get("pass") ?? 0;
  total.failed += Math.max(failed, counted.get("fail") ?? 0, counted.get("error") ?? 0);
  total.skipped += (counted.get("skip") ?? 0) + (counted.get("todo") ?? 0);
}
