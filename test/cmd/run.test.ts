/**
 * The wrapper around every command: what goes to which stream, which status it ends with, what signals do.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { formatEnd } from "../cli/transcript.ts";

const TOY = [process.execPath, join(import.meta.dir, "toy-cairn.ts")];

function start(line: string, env: Record<string, string> = {}) {
  return Bun.spawn([...TOY, ...line.split(" ")], { env: { PATH: process.env["PATH"] ?? "", ...env }, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
}

async function run(line: string, env: Record<string, string> = {}): Promise<string[]> {
  const child = start(line, env);
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return formatEnd({ stdout, stderr, status });
}

test("a list is one object a line, or the text", async () => {
  expect(await run("rows --json")).toEqual(['{"a":1}', '{"a":2}']);
  expect(await run("rows")).toEqual(["a 1", "a 2"]);
});

test("notes go to stderr, and a command may end with a status of its own", async () => {
  expect(await run("check")).toEqual(["differs", "! looking", "= 8"]);
  expect(await run("check --json")).toEqual(['{"equal":false}', "! looking", "= 8"]);
});

test("an error names code, detail and hint, and takes its status from the table", async () => {
  const [error, hint] = ["! error[STORE_FULL]: store/ has 1 MiB free, wants 5 MiB", "! hint: free space; what was accepted is kept, reads go on"];
  expect(await run("refuse")).toEqual(["half", error, hint, "= 6"]);
  const json =
    '{"error":{"code":"STORE_FULL","message":"store/ has 1 MiB free, wants 5 MiB","hint":"free space; what was accepted is kept, reads go on","exit":6,"retryable":true}}';
  expect(await run("refuse --json")).toEqual(['{"half":true}', json, error, hint, "= 6"]);
});

test("what nobody expected is one line, with a stack only when asked for", async () => {
  const quiet = await run("break");
  expect(quiet).toEqual([
    "! error[FAILED]: TypeError: one line; and another",
    "! hint: read the message; with CAIRN_TRACE=1 in the environment the stack follows it",
    "= 1",
  ]);
  expect((await run("break", { CAIRN_TRACE: "1" })).join("\n")).toContain("toy-cairn.ts");
});

test("nobody to ask: the plan is shown, and the error names the flag", async () => {
  expect(await run("destroy")).toEqual([
    "! removes everything",
    "! error[NEEDS_ANSWER]: nobody can be asked here: look at the plan above, then pass --yes",
    "! hint: give the flag that the message names",
    "= 2",
  ]);
  expect(await run("destroy --yes --json")).toEqual(['{"gone":true}', "! removes everything"]);
});

test("the common options reach every command, the cluster also from the environment", async () => {
  expect(await run("context --json")).toEqual(['{"json":true,"timeoutMs":10000,"yes":false}']);
  expect(await run("context --json --timeout 1.5s --yes", { CAIRN_CLUSTER: "a" })).toEqual(['{"json":true,"cluster":"a","timeoutMs":1500,"yes":true}']);
  expect(await run("context --json --cluster b", { CAIRN_CLUSTER: "a" })).toEqual(['{"json":true,"cluster":"b","timeoutMs":10000,"yes":false}']);
});

for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  test(`${signal} lets a command that watches it finish`, async () => {
    const child = start("serve");
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader.read()).value).toBe("ready\n");
    child.kill(signal);
    expect((await reader.read()).value).toBe("stopped\n");
    expect(await child.exited).toBe(status);
  });

  test(`${signal} ends a command that does not`, async () => {
    const child = start("hang");
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader.read()).value).toBe("ready\n");
    child.kill(signal);
    expect(await child.exited).toBe(status);
  });
}
