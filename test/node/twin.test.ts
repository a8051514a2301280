/**
 * One identity in two folders (sync.md 3.7), on real nodes: a copy does not start beside the original, and an old copy in its
 * place is told from it by what the others remember, votes no more, says so, and is replaced.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { liveCluster } from "./live-cluster.ts";
import { eventually, healthOf } from "./up-bench.ts";

setDefaultTimeout(60_000);
const live = liveCluster();

const admin = (at: number): string => live.node(at).admin;

test("a copy is refused beside the original, with its ports and with others", async () => {
  const copy = join(live.bench.folder, "copy");
  cpSync(live.node(2).dir, copy, { recursive: true });
  const refused = [5, expect.stringMatching(/error\[NODE_RUNNING\]: c answers at \S+ already, under the identity in \S+copy: /)];
  const start = (): ReturnType<typeof live.bench.run> => live.bench.run("node", "run", "--dir", copy, "--no-merge", "--stdin");
  const same = await start();
  expect([same.status, same.stderr]).toEqual(refused);
  const config = join(copy, "config.toml");
  const text = readFileSync(config, "utf8");
  const listen = /\[listen\][^[]*/.exec(text)?.[0] ?? "";
  writeFileSync(config, text.replace(listen, listen.replaceAll(/127\.0\.0\.1:\d+/g, "127.0.0.1:0")));
  const other = await start();
  expect([other.status, other.stderr]).toEqual(refused);
  expect(await healthOf(live.node(2))).toBe(200);
});

test("an old copy in the place of the original has no vote, says so, and is replaced", async () => {
  await live.kill(2);
  const { dir } = live.node(2);
  const old = join(live.bench.folder, "old");
  cpSync(dir, old, { recursive: true });
  live.start(2);
  await live.serves(2);
  // b can only lead by a promise of c, which the old copy has not made
  await live.kill(0);
  expect((await live.bench.run("kv", "put", "twin", "without a", "--timeout", "30s")).status).toBe(0);
  live.start(0);
  await live.serves(0);
  await live.kill(2);
  renameSync(dir, join(live.bench.folder, "newer"));
  renameSync(old, dir);
  live.start(2);
  await eventually(
    () =>
      fetch(`${admin(2)}/metrics`).then(
        (answer) => answer.text(),
        () => "", // it is starting
      ),
    (text) => text.includes("cairn_paxos_voteless 1"),
    20_000,
  );
  expect((await live.bench.run("kv", "put", "twin", "without c")).status).toBe(0);
  const status = await live.bench.run("paxos", "status", "--json");
  const lines = status.stdout.trimEnd().split("\n");
  const rows = lines.map((line) => JSON.parse(line) as { id: string; voteless: string | null });
  expect(rows.map(({ id, voteless }) => [id, voteless === null])).toEqual([
    ["a", true],
    ["b", true],
    ["c", false],
  ]);

  await live.kill(2);
  const there = await live.bench.run("node", "replace", "c", "--yes");
  expect([there.status, there.stderr]).toEqual([5, expect.stringContaining("move it away")]);
  renameSync(dir, join(live.bench.folder, "regressed"));
  const replaced = await live.bench.run("node", "replace", "c", "--yes");
  expect([replaced.stderr, replaced.status]).toEqual([expect.not.stringContaining("error"), 0]);
  live.start(2);
  await live.serves(2);
});
