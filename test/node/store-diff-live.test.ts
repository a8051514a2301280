/** `cairn store diff` of running nodes (sync.md, table B row 5): while clients write, of a folder and a node, and of one that was changed. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { replicatedKeys } from "../../src/engine/store/keys.ts";
import { openEnvironment } from "../../src/engine/store/lmdb.ts";
import { liveCluster } from "./live-cluster.ts";
import { eventually } from "./up-bench.ts";

setDefaultTimeout(60_000);
const live = liveCluster();

const admin = (at: number): string => live.ready.nodes[at]?.admin ?? "";
const put = async (key: string, body: string): Promise<number> => {
  const answer = await fetch(`${admin(0)}/kv/${encodeURIComponent(key)}`, { method: "PUT", body });
  expect(answer.status).toBe(200);
  return Number(answer.headers.get("x-cairn-version"));
};

test("nodes that are written to all the while are equal at a version that both have", async () => {
  let version = 0;
  let isOver = false;
  const writing = (async () => {
    for (let at = 0; !isOver; at++) {
      version = await put(`busy/${at % 50}`, `value ${at}`);
      if (at % 3 === 0) await fetch(`${admin(1)}/kv/busy%2F${(at + 7) % 50}`, { method: "DELETE" });
    }
  })();
  await eventually(
    () => version,
    (reached) => reached > 100,
    30_000,
  );
  for (let round = 0; round < 4; round++) {
    const wanted = version + 20; // not there yet
    const diff = await live.bench.run("store", "diff", "a", "c", "--at", String(wanted), "--json");
    expect([diff.status, JSON.parse(diff.stdout)]).toMatchObject([0, { equal: true, a: "a", b: "c" }]);
    expect((JSON.parse(diff.stdout) as { version: number }).version).toBeGreaterThanOrEqual(wanted);
  }
  isOver = true;
  await writing;
});

test("a folder and a node, and nodes by address, are compared", async () => {
  const last = await put("quiet", "now");
  const mixed = await live.bench.run("store", "diff", live.ready.nodes[1]?.dir ?? "", admin(2), "--at", String(last - 1));
  expect([mixed.status, mixed.stdout]).toEqual([0, expect.stringContaining("equal at version")]);
  const asked = await live.bench.run("store", "diff", admin(0), "c", "--live", "--prefix", "kv/key/quiet", "--values");
  expect([asked.status, asked.stdout]).toEqual([0, expect.stringContaining("equal")]);
});

test("what a node can not tell is refused", async () => {
  const ahead = await live.bench.run("store", "diff", "a", "b", "--at", "1000000", "--timeout", "200ms");
  expect([ahead.status, ahead.stderr]).toEqual([6, expect.stringContaining("NOT_READY")]);
  expect((await live.bench.run("store", "diff", "a", "b", "--db", "local", "--live")).status).toBe(2);
  expect((await live.bench.run("store", "diff", "a", "b", "--db", "local", "--at", "1")).status).toBe(2);
  expect((await fetch(`${admin(0)}/store/rows?from=xyz`)).status).toBe(400);
  const refused = await (await fetch(`${admin(0)}/store/touched?after=0&upTo=99999`)).json();
  expect(refused).toMatchObject({ error: { code: "USAGE" } });
});

test("rows that were changed, removed or added behind a node's back are found, with the versions that wrote them", async () => {
  const [changed, removed] = [await put("twisted", "right"), await put("removed", "here")];
  await eventually(
    async () => ((await (await fetch(`${admin(2)}/status`)).json()) as { paxos: { applied: number } }).paxos.applied,
    (applied) => applied >= removed,
  );
  await live.kill(2);
  const dir = live.ready.nodes[2]?.dir ?? "";
  // written without it: what the further side changed since is left out
  const added = await put("behind its back", "x");
  await put("busy/1", "later");
  const behind = await live.bench.run("store", "diff", "a", dir, "--at", String(removed), "--json");
  expect([behind.status, JSON.parse(behind.stdout)]).toMatchObject([0, { equal: true, version: expect.any(Number), left: expect.any(Number) }]);
  expect(JSON.parse(behind.stdout).version).toBeLessThan(added);
  expect(JSON.parse(behind.stdout).left).toBeGreaterThan(4);
  const environment = await openEnvironment(join(dir, "store"), ["replicated", "local"]);
  const store = environment.stores["replicated"];
  await store.commit([{ op: "put", key: replicatedKeys.kv(utf8("twisted")), value: utf8("wrong") }], changed);
  await store.commit([{ op: "del", key: replicatedKeys.kv(utf8("removed")) }]);
  await store.commit([{ op: "put", key: replicatedKeys.kv(utf8("added")), value: utf8("!") }], 3);
  await environment.close();
  live.bench.spawn("node", "run", "--dir", dir, "--no-merge", "--stdin");
  await eventually(
    () =>
      fetch(`${admin(2)}/health`).then(
        ({ status }) => status,
        () => 0,
      ),
    (status) => status === 200,
    30_000,
  );
  const last = await put("later", "written by all");
  const diff = await live.bench.run("store", "diff", "a", "c", "--at", String(last), "--json");
  expect(diff.status).toBe(8);
  const rows = diff.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(rows.slice(0, 3)).toMatchObject([
    { kind: "only-in-b", key: expect.stringContaining("added"), owner: "kv", a: null, b: { wroteAt: 3, valueBytes: 1 } },
    { kind: "only-in-a", key: expect.stringContaining("removed"), a: { wroteAt: removed }, b: null },
    { kind: "changed", key: expect.stringContaining("twisted"), a: { wroteAt: changed, valueBytes: 5 }, b: { wroteAt: changed, valueBytes: 5 } },
  ]);
  expect(rows.at(3)).toMatchObject({ error: { code: "DIFFERENCES" } });
});
