/** A majority of the disks is lost (sync.md 3.7), on real nodes: one survivor goes on with all it had, and the others begin anew. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { renameSync, rmSync } from "node:fs";
import { eventually, healthOf, isAlive, type Ready, type ReadyNode, statusOf, UpBench } from "./up-bench.ts";

setDefaultTimeout(90_000);
let bench: UpBench;
let ready: Ready;
beforeAll(async () => {
  bench = await UpBench.open();
  ({ ready } = await bench.up("--no-merge"));
});
afterAll(() => bench[Symbol.asyncDispose]());

const node = (at: number): ReadyNode => ready.nodes[at] as ReadyNode;
const put = (at: number, key: string, body: string): Promise<Response> => fetch(`${node(at).admin}/kv/${encodeURIComponent(key)}`, { method: "PUT", body });
async function kill(at: number): Promise<void> {
  const pid = (await statusOf(node(at)))?.pid ?? node(at).pid;
  process.kill(pid, "SIGKILL");
  await eventually(
    () => isAlive(pid),
    (lives) => !lives,
  );
}
async function start(at: number): Promise<void> {
  bench.spawn("node", "run", "--dir", node(at).dir, "--no-merge", "--stdin");
  await eventually(
    () => healthOf(node(at)),
    (status) => status === 200,
    60_000,
  );
}

test("a survivor goes on alone with everything it had, the others begin anew, and one of them may fail again", async () => {
  for (let at = 0; at < 20; at++) expect((await put(0, `kept/${at}`, `value ${at}`)).status).toBe(200);
  await kill(2);
  const early = await bench.run("node", "recover", "c", "--yes"); // the others are there
  expect([early.status, early.stderr]).toEqual([5, expect.stringContaining("PAXOS_QUORUM")]);
  const last = (await statusOf(node(0)))?.paxos.last ?? 0;
  for (const at of [1, 2]) expect((await put(0, "newest", `with b ${at}`)).status).toBe(200);
  await kill(0);
  await kill(1);
  const behind = await bench.run("node", "recover", "c", "--yes"); // a and b have one version more
  expect([behind.status, behind.stderr]).toEqual([5, expect.stringContaining("SYNC_BEHIND")]);

  rmSync(node(2).dir, { recursive: true });
  renameSync(node(1).dir, `${node(1).dir}-lost`);
  const plan = await bench.run("node", "recover", "a");
  expect([plan.status, plan.stderr]).toEqual([2, expect.stringContaining("NEEDS_ANSWER")]);
  const recovered = await bench.run("node", "recover", "a", "--yes", "--json");
  expect(recovered.status).toBe(0);
  const said = JSON.parse(recovered.stdout) as { version: number; leaving: string[]; last: number; accepted: number[] };
  expect(said.leaving).toEqual(["b", "c"]);
  expect((said.accepted.at(-1) ?? said.last) > last).toBeTrue();

  await start(0);
  for (let at = 0; at < 20; at++) expect(await (await fetch(`${node(0).admin}/kv/kept%2F${at}`)).text()).toBe(`value ${at}`);
  expect(await (await fetch(`${node(0).admin}/kv/newest`)).text()).toBe("with b 2");
  expect((await put(0, "alone", "it decides")).status).toBe(200);

  for (const [at, id] of [
    [1, "b"],
    [2, "c"],
  ] as const) {
    const replaced = await bench.run("node", "replace", id, "--yes");
    expect([id, replaced.stderr, replaced.status]).toEqual([id, expect.stringContaining("becomes one again"), 0]);
    await start(at);
  }
  const { members } = (await (await fetch(`${node(1).admin}/members`)).json()) as { members: { id: string; number: number }[] };
  expect(members.map(({ id, number }) => [id, number])).toEqual([
    ["a", 1],
    ["b", 4],
    ["c", 5],
  ]);
  const now = (await statusOf(node(0)))?.paxos.last ?? 0;
  for (const other of ["b", "c"]) {
    const diff = await bench.run("store", "diff", "a", other, "--at", String(now), "--timeout", "30s");
    expect([diff.status, diff.stdout]).toEqual([0, expect.stringContaining("equal at version")]);
  }
  await kill(0);
  await eventually(
    () =>
      put(1, "without", "a").then(
        ({ ok }) => ok,
        () => false,
      ),
    (isDone) => isDone,
    30_000,
  );
});
