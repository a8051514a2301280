/** A store is made with its node and never again: one that is lost is an error that names it, not an empty store. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCluster } from "../../src/engine/node/cluster-folder.ts";
import { loadNode, type NodeConfig } from "../../src/engine/node/config.ts";
import { startDaemon } from "../../src/engine/node/daemon.ts";
import { initNode } from "../../src/engine/node/init-node.ts";
import { runStep } from "../../src/engine/node/steps.ts";
import { eventually } from "./up-bench.ts";

let folder: string;
let node: NodeConfig;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cairn-lost-"));
  const { nodes } = await createCluster(folder, { nodeCount: 1, knobs: {} });
  node = await loadNode(nodes[0]?.dir ?? "");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const run = async (): Promise<void> => {
  const daemon = await startDaemon(node, { merge: false, version: "test", note: () => {} });
  await daemon.close();
};

test("a new node runs, and so does its first step", async () => {
  const daemon = await startDaemon(node, { merge: false, version: "test", note: () => {} });
  try {
    const health = async (): Promise<number> => (await fetch(`${daemon.ready.admin}/health`)).status;
    await eventually(health, (status) => status === 200, 30_000);
    expect((await runStep(node, { step: "init" })).error).toBeUndefined();
  } finally {
    await daemon.close();
  }
  await run();
});

for (const part of ["store", "log"])
  test(`a node that has lost ${part}/ does not start, no step of it does, and nothing is made`, async () => {
    const lost = join(node.dir, part);
    await rm(lost, { recursive: true });
    const missing = { code: "NOT_FOUND", message: `${lost}: there is no store` };
    await expect(run()).rejects.toMatchObject(missing);
    await expect(runStep(node, { step: "init" })).rejects.toMatchObject(missing);
    expect(existsSync(lost)).toBe(false);
  });

test("node init makes the store, and not a second time beside an identity", async () => {
  const dir = join(folder, "new");
  await initNode(dir);
  expect(existsSync(join(dir, "store", "data.mdb"))).toBe(true);
  await rm(join(dir, "store"), { recursive: true });
  await expect(initNode(dir)).rejects.toMatchObject({ code: "NODE_EXISTS" });
  expect(existsSync(join(dir, "store"))).toBe(false);
});
