/** Disks that fail below real nodes and steps: full and free again, and an fsync that fails once (architecture.md section 5, rule 6). */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { COMPILED, eventually, healthOf } from "../node/up-bench.ts";
import { HandCluster } from "./hand-cluster.ts";
import { straceInject } from "./strace.ts";

setDefaultTimeout(120_000);

/** Admission stops below 1 GiB free: a file system of a little more is full soon. */
const TMPFS_MIB = 1_104;
const FILL_MIB = 100;
const canMount = Bun.spawnSync(["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", "/mnt"]).exitCode === 0;

test.skipIf(!canMount)(
  "a storage node whose disk fills up: new entries are refused with 507, reads and the merge go on, and so does it when there is space again",
  async () => {
    await using cluster = await HandCluster.open("--nodes", "3");
    await cluster.add("c", "before");
    await cluster.round();
    await cluster.killNode("c");
    const { dir, admin, log } = cluster.node("c");
    const script = `cp -a "$0" "$0.copy" && mount -t tmpfs -o size=${TMPFS_MIB}m none "$0" && cp -a "$0.copy/." "$0" && exec "$1" node run --dir "$0" --no-merge --stdin --json`;
    const node = Bun.spawn(["unshare", "--mount", "--map-root-user", "sh", "-c", script, dir, COMPILED[0] as string], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "ignore",
    });
    try {
      await eventually(
        () => healthOf({ admin }),
        (status) => status === 200,
        30_000,
      );
      const add = async (entry: string): Promise<[number, string]> => {
        const answer = await fetch(`${log}/add`, { method: "POST", body: entry });
        return [answer.status, await answer.text()];
      };
      expect((await add("accepted"))[0]).toBe(202);
      const fill = join(`/proc/${await cluster.pidOf("c")}/root`, dir, "fill");
      expect(Bun.spawnSync(["fallocate", "-l", `${FILL_MIB}M`, fill]).exitCode).toBe(0);
      const refused = await eventually(
        () => add(`while full ${Math.random()}`),
        ([status]) => status === 507,
        30_000,
      );
      expect(refused[1]).toContain("STORE_FULL");
      expect((await fetch(`${log}/checkpoint`)).status).toBe(200);
      await cluster.add("a", "to another node");
      await cluster.round();
      const size = await cluster.served("c");
      expect(size).toBeGreaterThanOrEqual(3);
      expect(size).toBe(await cluster.served("a"));
      rmSync(fill);
      await eventually(
        () => add("after"),
        ([status]) => status === 202,
        30_000,
      );
      await cluster.round();
      expect(await cluster.served("c")).toBe(size + 1);
      const tail = await cluster.cairn("log", "tail", "--from", "0");
      const entries = tail.stdout.split("\n").flatMap((line) => (line === "" ? [] : [atob((JSON.parse(line) as { entry: string }).entry)]));
      for (const entry of ["before", "accepted", "to another node", "after"]) expect(entries).toContain(entry);
    } finally {
      await node.stdin.end();
      await node.exited;
    }
  },
);

test("an fsync that fails once under a step: it ends with STORE_SYNC_FAILED, nothing is signed from it, and the next run finishes", async () => {
  await using cluster = await HandCluster.open("--nodes", "3");
  await cluster.add("b", "one", "two");
  const trace = 'strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:error=EIO:when=1 "$CAIRN" merge';
  const heals: [step: string, then: string[][]][] = [
    [
      "fetch --storage b",
      [
        ["fetch", "--storage", "a"],
        ["fetch", "--storage", "b"],
      ],
    ],
    ["queue", [["queue"], ["backup"]]],
    ["dist", []],
  ];
  for (const [step, then] of heals) {
    const failed = await cluster.shell(`${trace} ${step} --dir "$DIR" --json`);
    expect([step, failed.code, failed.status]).toEqual([step, "STORE_SYNC_FAILED", 1]);
    if (existsSync(cluster.path("a", "merge/latch"))) expect((await cluster.merge("unlatch", "--yes")).status).toBe(0);
    for (const words of then) expect((await cluster.merge(...words)).status).toBe(0);
  }
  expect([await cluster.served("a"), await cluster.served("b")]).toEqual([0, 0]);
  await cluster.round();
  expect([await cluster.served("a"), await cluster.served("b"), await cluster.served("c")]).toEqual([2, 2, 2]);
  expect((await cluster.cairn("log", "verify")).status).toBe(0);
});

test("an fsync that fails once under a secondary: the node ends with STORE_SYNC_FAILED although the next one would do, and comes back whole", async () => {
  await using cluster = await HandCluster.open("--nodes", "3", "--backupquorum", "2");
  await cluster.add("a", "before");
  await cluster.round();
  await cluster.killNode("c");
  const trace = straceInject("fdatasync", "error=EIO:when=2");
  const words = [...trace, COMPILED[0] as string, "node", "run", "--dir", cluster.node("c").dir, "--no-merge", "--stdin", "--json"];
  const node = Bun.spawn(words, { stdin: "pipe", stdout: "pipe", stderr: "ignore" });
  const said = new Response(node.stdout).text();
  let added = 1;
  for (; node.exitCode === null && added < 40; added++) {
    await cluster.add("a", `entry ${added}`);
    for (const step of [["fetch"], ["backup"]]) await cluster.merge(...step);
  }
  expect(await node.exited).toBe(1);
  expect(await said).toContain("STORE_SYNC_FAILED");
  await cluster.merge("dist");
  const signed = await cluster.served("a");
  expect(signed).toBeLessThanOrEqual(added);
  await cluster.startNode("c");
  await cluster.round();
  for (const name of ["a", "b", "c"]) expect(await cluster.served(name)).toBe(added);
  expect((await cluster.cairn("log", "verify")).status).toBe(0);
});
