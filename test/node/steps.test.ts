/** Steps of the merge in a process (merge.md sections 1 and 3): their locks, their bound in time, and runs side by side on shared links. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { nodeId } from "../../src/engine/base/ids.ts";
import { loadNode, type NodeConfig } from "../../src/engine/node/config.ts";
import { lockFile } from "../../src/engine/node/lock.ts";
import { openSteps, runStep, type StepHost } from "../../src/engine/node/steps.ts";
import { type Ready, UpBench } from "./up-bench.ts";

setDefaultTimeout(30_000);

let bench: UpBench;
let ready: Ready;
let node: NodeConfig;
let steps: StepHost;
beforeAll(async () => {
  bench = await UpBench.open();
  ({ ready } = await bench.up("--nodes", "2", "--no-merge"));
  node = await loadNode(join(bench.data, "a"));
  steps = await openSteps(node);
});
afterAll(async () => {
  await steps.close();
  await bench[Symbol.asyncDispose]();
});

const [a, b] = [nodeId("a"), nodeId("b")];
const add = async (at: number, text: string): Promise<void> => {
  expect((await fetch(`${ready.nodes[at]?.log}/add`, { method: "POST", body: utf8(text) })).status).toBe(202);
};

test("a step whose lock is taken is busy and changes nothing; with wait it runs when the other is done", async () => {
  const lock = await lockFile(join(node.dir, "merge", "lock.queue"), { busy: "MERGE_STEP_BUSY" });
  expect((await steps.run({ step: "queue" })).error).toMatchObject({ code: "MERGE_STEP_BUSY" });
  const waiting = steps.run({ step: "queue" }, { wait: true });
  await Bun.sleep(50);
  await lock.release();
  expect((await waiting).error).toBeUndefined();
});

test("a log is initialised once, under the lock of dist", async () => {
  expect((await steps.run({ step: "init" })).error).toMatchObject({ code: "LOG_EXISTS" });
  await using _lock = await lockFile(join(node.dir, "merge", "lock.dist"), { busy: "MERGE_STEP_BUSY" });
  expect((await steps.run({ step: "init" })).error).toMatchObject({ code: "MERGE_STEP_BUSY" });
});

test("runs side by side share links and never hear each other's answers; a round brings every entry to every frontend", async () => {
  for (let at = 0; at < 20; at++) await add(at % 2, `entry ${at}`);
  const fetched = await Promise.all([steps.run({ step: "fetch", storage: a }), steps.run({ step: "fetch", storage: b })]);
  expect(fetched.map(({ error, target }) => [error, target])).toEqual([
    [undefined, "a"],
    [undefined, "b"],
  ]);
  expect((await steps.run({ step: "queue" })).changed).toBe(true);
  expect((await steps.run({ step: "backup", secondary: b })).error).toBeUndefined();
  expect((await steps.run({ step: "dist" })).counts).toMatchObject({ signed: 20 });
  for (const { log } of ready.nodes) expect((await (await fetch(`${log}/checkpoint`)).text()).split("\n")[1]).toBe("20");
});

test("a peer that answers nothing costs a step no more than its time", async () => {
  // The same cluster as seen by a config in which b listens where nobody does.
  const deaf = { ...node, members: node.members.map((each) => (each.name === b ? { ...each, peer: { host: "127.0.0.1", port: 1 } } : each)) };
  const started = performance.now();
  const result = await runStep(deaf, { step: "fetch", storage: b }, { totalMs: 400 });
  expect(result.changed).toBe(false);
  expect(result.error !== undefined || result.notes.length > 0).toBe(true);
  expect(performance.now() - started).toBeLessThan(3_000);
});

test("a peer with another key is no peer", async () => {
  const fooled = { ...node, members: node.members.map((each) => (each.name === b ? { ...each, key: node.self.key } : each)) };
  const result = await runStep(fooled, { step: "fetch", storage: b }, { totalMs: 400 });
  expect(result.error !== undefined || result.notes.length > 0).toBe(true);
  expect(result.changed).toBe(false);
});
