/**
 * Three nodes of which some hang: stopped processes whose connections stand. With a majority left every command finds it,
 * whichever node hangs; without one each command and endpoint says within its own timeout who does not answer
 * (architecture.md section 5, guarantee 7).
 */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { liveCluster } from "./live-cluster.ts";
import { eventually, healthOf, statusOf } from "./up-bench.ts";

setDefaultTimeout(60_000);
const live = liveCluster();

const TIMEOUT_MS = 2_000;
/** Of a process's start on a busy machine. */
const START_MS = 3_000;
const signal = (at: number, name: "SIGSTOP" | "SIGCONT"): boolean => process.kill(live.node(at).pid, name);
const admin = (at: number): string => live.node(at).admin;

afterEach(async () => {
  for (const at of [0, 1, 2]) signal(at, "SIGCONT");
  for (const at of [0, 1, 2]) await live.serves(at);
});

test("a node that hangs is passed over, though it led and is asked first: no write is left with it whose outcome nobody knows", async () => {
  expect((await live.bench.run("kv", "put", "known", "before")).status).toBe(0);
  const leader = live.ready.nodes.findIndex(({ id }) => id === "a");
  signal(leader, "SIGSTOP");
  // what another node hands to its leader in its last moment may have been decided: until then nobody can know
  await eventually(
    async () => (await statusOf(live.node(1)))?.paxos.leader,
    (led) => led === "b" || led === "c",
  );
  const put = await live.bench.run("kv", "put", "known", "after", "--timeout", "20s");
  expect([put.stderr, put.status]).toEqual(["", 0]);
  const read = await live.bench.run("kv", "get", "known", "--timeout", "20s");
  expect([read.stdout, read.status]).toEqual(["after", 0]);
});

test("without a majority every command and every endpoint names who is silent, within its timeout", async () => {
  for (const at of [1, 2]) signal(at, "SIGSTOP");
  await eventually(
    () => healthOf(live.node(0)),
    (status) => status === 503,
  );
  // a lease and what is taken for silence have to pass
  await eventually(
    async () => ((await statusOf(live.node(0)))?.paxos as { silent?: string[] } | undefined)?.silent,
    (silent) => silent?.join() === "b,c",
  );
  const commands = ["kv get k", "kv put k v", "kv delete k", "kv cas k v --expect-absent", "kv cas k v --expect w", "kv scan", "kv watch", "paxos trim"];
  const asked = commands.map(async (words) => {
    const fromMs = performance.now();
    const { stderr, status } = await live.bench.run(...words.split(" "), "--timeout", `${TIMEOUT_MS}ms`);
    return { words, status, error: stderr.split("\n")[0], isLate: performance.now() - fromMs > TIMEOUT_MS + START_MS };
  });
  for (const { words, status, error, isLate } of await Promise.all(asked)) {
    expect([words, status, isLate]).toEqual([words, 6, false]);
    expect(error).toMatch(/^error\[PAXOS_NO_QUORUM\]: a.*: no answer from b, c$/);
  }

  const patience = { "x-cairn-timeout-ms": "700" };
  for (const method of ["PUT", "GET", "DELETE"]) {
    const answer = await fetch(`${admin(0)}/kv/k`, {
      method,
      headers: patience,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(method === "PUT" ? { body: "v" } : {}),
    });
    expect([method, answer.status, await answer.json()]).toMatchObject([
      method,
      503,
      { error: { code: "PAXOS_NO_QUORUM", message: "a: no answer from b, c", retryable: true } },
    ]);
  }
  const health = await fetch(`${admin(0)}/health`);
  expect([health.status, await health.json()]).toMatchObject([
    503,
    { ready: false, missing: [{ step: "quorum", detail: expect.stringContaining("no answer from b, c") }] },
  ]);
  for (const words of ["paxos status", "sync status", "node status"]) {
    const { stdout, status } = await live.bench.run(...words.split(" "), "--timeout", "500ms");
    expect([words, status, stdout.match(/TIMEOUT/g)?.length]).toEqual([words, 0, 2]);
  }
  const forced = await live.bench.run("sync", "force", "a", "--yes", "--timeout", "1500ms");
  for (const peer of ["b", "c"]) expect(forced.stderr).toContain(`not ${peer}: it says nothing`);
  expect([forced.status, forced.stderr]).toEqual([6, expect.stringContaining("a is not done after 1500 ms and goes on: it waits for members")]);
});

test("a patience that is no number is refused", async () => {
  for (const wrong of ["0", "-1", "1e3", "", "9999999999"]) {
    const answer = await fetch(`${admin(0)}/kv/k`, { headers: { "x-cairn-timeout-ms": wrong } });
    expect([wrong, answer.status]).toEqual([wrong, 400]);
  }
});
