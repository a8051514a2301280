/** `cairn up` as somebody sees it who starts it, breaks it and starts it again (architecture.md section 7). */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { connect as connectTo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { createCluster } from "../../src/engine/node/cluster-folder.ts";
import { lockFile } from "../../src/engine/node/lock.ts";
import { eventually, healthOf, isAlive, UpBench } from "./up-bench.ts";

setDefaultTimeout(60_000);

test("up: the ready line, a second up, a killed node, a node by hand, the end of all, and again with the same names and ports", async () => {
  await using bench = await UpBench.open();
  const first = await bench.up("--nodes", "3", "--no-merge");
  const { ready } = first;
  expect(Object.keys(ready)).toEqual(["event", "nodes", "s3", "log"]);
  expect(ready.event).toBe("ready");
  expect(ready.s3).toBeNull();
  expect(Object.keys(ready.log)).toEqual(["origin", "vkey"]);
  expect(ready.log.vkey).toStartWith(`${ready.log.origin}+`);
  for (const [at, node] of ready.nodes.entries()) {
    expect(Object.keys(node)).toEqual(["id", "pid", "dir", "admin", "peer", "s3", "nbd", "log"]);
    expect(node).toMatchObject({ id: ["a", "b", "c"][at] as string, dir: join(bench.data, ["a", "b", "c"][at] as string), s3: null, nbd: null });
    expect(node.admin).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect(node.log).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/log$/);
    expect(await healthOf(node)).toBe(200);
    expect(await (await fetch(`${node.log}/checkpoint`)).text()).toStartWith(`${ready.log.origin}\n0\n`);
  }

  const second = await bench.run("up", "--data", bench.data, "--json");
  expect(second.status).toBe(5);
  expect(JSON.parse(second.stdout)).toMatchObject({ error: { code: "NODE_RUNNING" } });
  expect((await bench.run("node", "run", "--dir", join(bench.data, "b"), "--json")).stdout).toContain("NODE_RUNNING");

  const [a, , c] = ready.nodes;
  if (a === undefined || c === undefined) throw new Error("no nodes");
  process.kill(c.pid, "SIGKILL");
  await eventually(
    () => healthOf(c),
    (status) => status === 0,
  );
  const status = await bench.run("node", "status", "--json"); // finds the cluster by itself
  const rows = status.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { id: string; ready: boolean; error?: { code: string } });
  expect(rows.map(({ id, ready: isReady, error }) => [id, isReady, error?.code])).toEqual([
    ["a", true, undefined],
    ["b", true, undefined],
    ["c", false, "UNAVAILABLE"],
  ]);
  expect(status.status).toBe(0);

  const byHand = bench.spawn("node", "run", "--dir", c.dir);
  expect(
    await eventually(
      () => healthOf(c),
      (code) => code === 200,
    ),
  ).toBe(200);
  first.child.kill("SIGTERM");
  expect(await first.child.exited).toBe(143);
  await byHand.exited;
  expect(ready.nodes.map(({ pid }) => isAlive(pid))).toEqual([false, false, false]);
  expect(await readdir(a.dir)).not.toContain("running.json");

  const again = await bench.up("--no-merge");
  const lasting = ({ id, dir, admin, peer, log }: (typeof ready.nodes)[number]): unknown => ({ id, dir, admin, peer, log });
  expect(again.ready.nodes.map(lasting)).toEqual(ready.nodes.map(lasting));
  expect(again.ready.log).toEqual(ready.log);
  again.child.kill("SIGINT");
  expect(await again.child.exited).toBe(130);
});

test("up: when it is killed itself, its nodes end too", async () => {
  await using bench = await UpBench.open();
  const { child, ready } = await bench.up("--nodes", "1", "--no-merge");
  child.kill("SIGKILL");
  await child.exited;
  await eventually(
    () => ready.nodes.some(({ pid }) => isAlive(pid)),
    (alive) => !alive,
  );
});

/** The processes with the word in their command lines. */
const processesOf = (word: string): string[] =>
  readdirSync("/proc").filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(word);
    } catch {
      return false; // no process, or one that just ended
    }
  });

const moments: readonly (readonly [name: string, reached: (data: string) => boolean])[] = [
  ["a node is being started", (data) => processesOf(join(data, "b")).length > 0],
  ["a node is ready", (data) => existsSync(join(data, "b", "running.json"))],
  ["the first head is being made", (data) => existsSync(join(data, "a", "merge", "lock.dist"))],
];
for (const [name, reached] of moments)
  test.skipIf(process.platform !== "linux")(`up: a signal while ${name} leaves no process`, async () => {
    await using bench = await UpBench.open();
    await createCluster(bench.data, { nodeCount: 3, knobs: {} });
    const child = bench.spawn("up", "--data", bench.data, "--no-merge");
    await eventually(() => reached(bench.data), Boolean, 30_000);
    child.kill("SIGINT");
    expect(await child.exited).toBe(130);
    expect(processesOf(bench.data)).toEqual([]);
  });

test("up: killed before the first head is made, it makes it the next time, although its nodes are still ending", async () => {
  await using bench = await UpBench.open();
  await createCluster(bench.data, { nodeCount: 3, knobs: {} });
  const child = bench.spawn("up", "--data", bench.data, "--no-merge");
  await eventually(() => existsSync(join(bench.data, "c", "running.json")), Boolean, 30_000);
  child.kill("SIGKILL");
  await child.exited;
  const ending = await lockFile(join(bench.data, "c", "lock.node"), { wait: true, busy: "NODE_RUNNING" }); // as the last of them
  const starting = bench.up("--no-merge");
  await Promise.race([starting, eventually(() => processesOf(join(bench.data, "a")).length > 0, Boolean, 30_000)]);
  await Promise.race([starting, Bun.sleep(500)]);
  await ending.release();
  const { ready } = await starting;
  expect(await (await fetch(`${ready.nodes[0]?.log}/checkpoint`)).text()).toStartWith(`${ready.log.origin}\n0\n`);
});

test("up: a node that the primary reaches late costs time, not the start", async () => {
  await using bench = await UpBench.open();
  const { nodes } = await createCluster(bench.data, { nodeCount: 2, knobs: {} });
  const [a, b] = nodes;
  if (a === undefined || b === undefined) throw new Error("no nodes");
  const detour = await forwarder(b.peer.port);
  const { port } = detour.address() as { port: number };
  detour.close(); // for now nobody listens where a looks for b
  const file = join(a.dir, "config.toml");
  await writeFile(file, (await readFile(file, "utf8")).replaceAll(`:${b.peer.port}"`, `:${port}"`));
  const starting = bench.up("--no-merge");
  await eventually(() => processesOf(a.dir).length > 0, Boolean, 30_000);
  await Promise.race([starting, Bun.sleep(3_000)]); // two that cannot hear each other elect nobody: up waits
  await using _detour = await forwarder(b.peer.port, port);
  expect((await starting).ready.event).toBe("ready");
});

/** Passes connections on to a port of this machine. */
async function forwarder(to: number, port = 0): Promise<Server & AsyncDisposable> {
  const server = createServer((from) => {
    const onwards = connectTo(to, "127.0.0.1");
    from.pipe(onwards).pipe(from);
    from.on("error", () => onwards.destroy());
    onwards.on("error", () => from.destroy());
  });
  await new Promise<void>((ready) => server.listen(port, "127.0.0.1", ready));
  return Object.assign(server, { [Symbol.asyncDispose]: async () => void server.close() });
}

test("up --run: the command has stdout for itself, the cluster in its environment, and the last word on the status", async () => {
  await using bench = await UpBench.open();
  const run = (command: string): Promise<{ stdout: string; stderr: string; status: number }> =>
    bench.run("up", "--data", bench.data, "--nodes", "1", "--no-merge", "--run", command);
  const shown = await run('printf "%s\\n" "$LOG_URL" "$LOG_VKEY" "$CAIRN_READY"; exit 7');
  expect(shown.status).toBe(7);
  const [url, vkey, line, rest] = shown.stdout.split("\n");
  const ready = JSON.parse(line ?? "") as { nodes: { log: string }[]; log: { vkey: string } };
  expect([url, vkey, rest]).toEqual([ready.nodes[0]?.log, ready.log.vkey, ""]);
  expect((await run("kill -TERM $$")).status).toBe(143);
});

test("up --restart: a node that dies is started again, on its ports", async () => {
  await using bench = await UpBench.open();
  const { ready } = await bench.up("--nodes", "1", "--no-merge", "--restart");
  const [a] = ready.nodes;
  if (a === undefined) throw new Error("no node");
  process.kill(a.pid, "SIGKILL");
  const pidOf = async (): Promise<number> => {
    const answer = await fetch(`${a.admin}/status`).catch(() => null);
    return answer === null ? 0 : ((await answer.json()) as { pid: number }).pid;
  };
  await eventually(pidOf, (pid) => pid !== 0 && pid !== a.pid);
});

test("up: what the command line gets wrong is said before anything runs", async () => {
  await using bench = await UpBench.open();
  for (const [words, code, status] of [
    [["--nodes", "27"], "BAD_OPTION", 2],
    [["--nodes", "0"], "BAD_OPTION", 2],
    [["--nodes", "2", "--backupquorum", "2"], "MERGE_QUORUM_IMPOSSIBLE", 2],
    [["--data", "/dev/null/x"], "BAD_OPTION", 2],
  ] as const) {
    const said = await bench.run("up", "--data", bench.data, ...words, "--json");
    expect([JSON.parse(said.stdout).error.code, said.status]).toEqual([code, status]);
  }
  expect(await bench.run("node", "status")).toMatchObject({ status: 3 });
});
