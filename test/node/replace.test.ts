/**
 * A member loses its disk (sync.md 3.7), on real nodes: killed, its whole folder deleted, replaced, and synchronised; the old disk
 * never counts again, the new one makes a majority.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { nodeId } from "../../src/engine/base/ids.ts";
import { loadNode } from "../../src/engine/node/config.ts";
import { checkReplaceable, replaceNode } from "../../src/engine/node/replace-node.ts";
import { liveCluster } from "./live-cluster.ts";
import { eventually, healthOf, type ReadyNode, statusOf } from "./up-bench.ts";

setDefaultTimeout(90_000);
const live = liveCluster();

const node = (at: number): ReadyNode => live.node(at);
const put = (at: number, key: string, body: string): Promise<Response> => fetch(`${node(at).admin}/kv/${encodeURIComponent(key)}`, { method: "PUT", body });
async function written(at: number, key: string, body: string): Promise<void> {
  await eventually(
    () =>
      put(at, key, body).then(
        ({ ok }) => ok,
        () => false,
      ),
    (isDone) => isDone,
    30_000,
  );
}
const birthOf = async (id: string): Promise<string | undefined> =>
  ((await (await fetch(`${node(0).admin}/members`)).json()) as { members: { id: string; birth: string }[] }).members.find((member) => member.id === id)?.birth;

test("a running member, one that is there, and one that nobody knows are not replaced", async () => {
  const running = await live.bench.run("node", "replace", "c", "--yes");
  expect([running.status, running.stderr]).toEqual([5, expect.stringContaining("NODE_RUNNING")]);
  const unknown = await live.bench.run("node", "replace", "z", "--dir", join(live.bench.folder, "z"), "--yes");
  expect([unknown.status, unknown.stderr]).toEqual([3, expect.stringContaining("UNKNOWN_NODE")]);
  await live.kill(2);
  const whole = await live.bench.run("node", "replace", "c", "--yes");
  expect([whole.status, whole.stderr]).toEqual([5, expect.stringContaining("NODE_EXISTS")]);
});

test("its folder is deleted: it begins anew, is synchronised, and votes; what is left of the old disk does not", async () => {
  const { dir } = node(2);
  const old = join(live.bench.folder, "old-c");
  cpSync(dir, old, { recursive: true });
  rmSync(dir, { recursive: true });
  // what it would need next is trimmed away: only a copy of a store helps
  for (let at = 0; at < 520; at++) expect((await put(0, "filler", String(at))).status).toBe(200);
  expect((await live.bench.run("paxos", "trim")).stdout).toContain("trimmed [1, ");
  const before = await birthOf("c");

  const plan = await live.bench.run("node", "replace", "c");
  expect([plan.status, plan.stderr]).toEqual([2, expect.stringContaining("NEEDS_ANSWER")]);
  const replaced = await live.bench.run("node", "replace", "c", "--yes", "--json");
  expect([replaced.stderr, replaced.status]).toEqual([expect.not.stringContaining("has not taken the new keys"), 0]);
  const said = JSON.parse(replaced.stdout) as { birth: string; was: string; key: string; isNewIdentity: boolean };
  expect(said).toMatchObject({ was: before, isNewIdentity: true });
  expect(await birthOf("c")).toBe(said.birth);
  expect(said.birth).not.toBe(before);
  for (const at of [0, 1, 2]) expect(readFileSync(join(node(at).dir, "config.toml"), "utf8")).toContain(said.key);

  live.bench.spawn("node", "run", "--dir", dir, "--no-merge", "--stdin");
  await live.serves(2);
  const last = (await statusOf(node(0)))?.paxos.last ?? 0;
  const diff = await live.bench.run("store", "diff", "a", "c", "--at", String(last), "--timeout", "30s");
  expect([diff.status, diff.stdout]).toEqual([0, expect.stringContaining("equal at version")]);
  const sync = (await (await fetch(`${node(2).admin}/metrics`)).text()).match(/mark="sync\.flag-off"} (\d+)/);
  expect(sync?.[1]).toBe("1"); // by a sync, not by catching up

  // a and the new c are a majority now
  await live.kill(1);
  await written(2, "with", "the new disk");

  // the old disk comes back under its old identity: nobody hears it, and without the new one there is no majority
  await live.kill(2);
  renameSync(dir, join(live.bench.folder, "new-c"));
  renameSync(old, dir);
  live.bench.spawn("node", "run", "--dir", dir, "--no-merge", "--stdin");
  await eventually(
    () => healthOf(node(2)),
    (status) => status === 503,
    20_000,
  );
  const refused = await put(0, "with", "the old disk");
  expect(refused.status).toBe(503);
  await live.kill(2);
  renameSync(dir, join(live.bench.folder, "old-again"));
  renameSync(join(live.bench.folder, "new-c"), dir);
  live.bench.spawn("node", "run", "--dir", dir, "--no-merge", "--stdin");
  await live.serves(2);
  await written(0, "again", "with the new disk");
});

test("without a majority nothing is decided, and nothing is made", async () => {
  await live.kill(2);
  rmSync(node(1).dir, { recursive: true });
  const refused = await live.bench.run("node", "replace", "b", "--yes", "--timeout", "2s");
  expect([refused.status, refused.stderr]).toEqual([6, expect.stringMatching(/error\[(PAXOS_NO_QUORUM|TIMEOUT|UNAVAILABLE)\]/)]);
  expect(() => readFileSync(join(node(1).dir, "identity"))).toThrow();
});

test("what was cut off is finished by the next run, with the same disk and identity", async () => {
  const [a, b] = [node(0).dir, node(1).dir];
  const first = await replaceNode(b, nodeId("b"), [a]);
  const again = await replaceNode(b, nodeId("b"), [a]);
  expect([again.birth, again.keys, again.isNewIdentity]).toEqual([first.birth, first.keys, false]);
  await again.done();
  await expect(checkReplaceable(b, nodeId("b"), [a])).rejects.toMatchObject({ code: "NODE_EXISTS" });
  const [own, others] = await Promise.all([loadNode(b), loadNode(a)]);
  expect(own.self).toEqual(others.members.find(({ name }) => name === "b") as typeof own.self);
  expect(own.listen).toEqual({ peer: own.self.peer, admin: own.self.admin, log: own.self.log });
});

test("a signer whose log key is lost is not made anew", async () => {
  const [a, b] = [node(0).dir, node(1).dir];
  await live.kill(0);
  rmSync(a, { recursive: true });
  await expect(checkReplaceable(a, nodeId("a"), [b])).rejects.toMatchObject({ code: "NOT_FOUND", message: expect.stringContaining("log.key") });
});
