/** A majority of the disks is lost (sync.md 3.7), on real nodes: one survivor goes on with all it had, and the others begin anew. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { renameSync, rmSync } from "node:fs";
import { liveCluster } from "./live-cluster.ts";
import { eventually, type ReadyNode, statusOf } from "./up-bench.ts";

setDefaultTimeout(90_000);
const live = liveCluster();

const node = (at: number): ReadyNode => live.node(at);
const put = (at: number, key: string, body: string): Promise<Response> => fetch(`${node(at).admin}/kv/${encodeURIComponent(key)}`, { method: "PUT", body });
test("a survivor goes on alone with everything it had, the others begin anew, and one of them may fail again", async () => {
  for (let at = 0; at < 20; at++) expect((await put(0, `kept/${at}`, `value ${at}`)).status).toBe(200);
  await live.kill(2);
  const early = await live.bench.run("node", "recover", "c", "--yes"); // the others are there
  expect([early.status, early.stderr]).toEqual([5, expect.stringContaining("PAXOS_QUORUM")]);
  const last = (await statusOf(node(0)))?.paxos.last ?? 0;
  for (const at of [1, 2]) expect((await put(0, "newest", `with b ${at}`)).status).toBe(200);
  await live.kill(0);
  await live.kill(1);
  const behind = await live.bench.run("node", "recover", "c", "--yes"); // a and b have one version more
  expect([behind.status, behind.stderr]).toEqual([5, expect.stringContaining("SYNC_BEHIND")]);

  rmSync(node(2).dir, { recursive: true });
  renameSync(node(1).dir, `${node(1).dir}-lost`);
  const plan = await live.bench.run("node", "recover", "a");
  expect([plan.status, plan.stderr]).toEqual([2, expect.stringContaining("NEEDS_ANSWER")]);
  const recovered = await live.bench.run("node", "recover", "a", "--yes", "--json");
  expect(recovered.status).toBe(0);
  const said = JSON.parse(recovered.stdout) as { version: number; leaving: string[]; last: number; accepted: number[] };
  expect(said.leaving).toEqual(["b", "c"]);
  expect((said.accepted.at(-1) ?? said.last) > last).toBeTrue();

  live.start(0);

  await live.serves(0);
  for (let at = 0; at < 20; at++) expect(await (await fetch(`${node(0).admin}/kv/kept%2F${at}`)).text()).toBe(`value ${at}`);
  expect(await (await fetch(`${node(0).admin}/kv/newest`)).text()).toBe("with b 2");
  expect((await put(0, "alone", "it decides")).status).toBe(200);

  for (const [at, id] of [
    [1, "b"],
    [2, "c"],
  ] as const) {
    const replaced = await live.bench.run("node", "replace", id, "--yes");
    expect([id, replaced.stderr, replaced.status]).toEqual([id, expect.stringContaining("becomes one again"), 0]);
    live.start(at);
    await live.serves(at);
  }
  const { members } = (await (await fetch(`${node(1).admin}/members`)).json()) as { members: { id: string; number: number }[] };
  expect(members.map(({ id, number }) => [id, number])).toEqual([
    ["a", 1],
    ["b", 4],
    ["c", 5],
  ]);
  const now = (await statusOf(node(0)))?.paxos.last ?? 0;
  for (const other of ["b", "c"]) {
    const diff = await live.bench.run("store", "diff", "a", other, "--at", String(now), "--timeout", "30s");
    expect([diff.status, diff.stdout]).toEqual([0, expect.stringContaining("equal at version")]);
  }
  await live.kill(0);
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
