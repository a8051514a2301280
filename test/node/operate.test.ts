/** What an operator asks of running nodes (sync.md 3.6, 4.7): over the admin port and by the commands, on three real nodes. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { liveCluster } from "./live-cluster.ts";
import { eventually } from "./up-bench.ts";

setDefaultTimeout(60_000);
const live = liveCluster();

const admin = (at: number): string => live.ready.nodes[at]?.admin ?? "";
const post = (at: number, path: string, body: object = {}, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${admin(at)}${path}`, { method: "POST", body: JSON.stringify(body), headers });
const codeOf = async (answer: Response): Promise<string> => ((await answer.json()) as { error: { code: string } }).error.code;

test("a trim is asked of the leader, by POST, and says what keeps it", async () => {
  expect((await live.bench.run("kv", "put", "x", "1")).status).toBe(0); // there is a leader
  const told = await post(0, "/paxos/trim");
  expect([told.status, await told.json()]).toEqual([200, { first: 1, next: 1, version: 0, by: "keep", waitMs: 0 }]);
  const elsewhere = await post(1, "/paxos/trim");
  expect([elsewhere.status, await codeOf(elsewhere)]).toEqual([503, "PAXOS_NO_QUORUM"]);
  const read = await fetch(`${admin(0)}/paxos/trim`);
  expect([read.status, await codeOf(read)]).toEqual([405, "HTTP_METHOD"]);
  const foreign = await post(0, "/paxos/trim", {}, { host: "evil.example" });
  expect([foreign.status, await codeOf(foreign)]).toEqual([403, "NOT_ALLOWED"]);
  const { stdout, status } = await live.bench.run("paxos", "trim", "--json");
  expect([status, JSON.parse(stdout)]).toMatchObject([0, { first: 1, next: 1, versions: [], by: "keep" }]);
  const rows = (await live.bench.run("paxos", "status", "--json")).stdout.trimEnd().split("\n");
  expect(rows.map((row) => (JSON.parse(row) as { trim: object | null }).trim)).toEqual([{ first: 1, next: 1, by: "keep", waitMs: 0 }, null, null]);
});

test("what keeps versions is explained, of the cluster or of a node, not of both", async () => {
  const told = await live.bench.run("sync", "explain", "--trim");
  expect([told.status, told.stdout]).toEqual([0, expect.stringMatching(/^nothing may go of 1 to \d+: the newest versions stay\n$/)]);
  expect((await live.bench.run("sync", "explain", "c", "--trim")).status).toBe(2);
  expect((await live.bench.run("sync", "explain")).status).toBe(2);
});

test("what nothing needs is trimmed at once, and a watch behind it is told so", async () => {
  // one at a time: each is a version of its own
  for (let at = 0; at < 520; at++) expect((await fetch(`${admin(0)}/kv/filler`, { method: "PUT", body: String(at) })).status).toBe(200);
  const { last } = ((await (await fetch(`${admin(0)}/status`)).json()) as { paxos: { last: number } }).paxos;
  const asked = await live.bench.run("paxos", "trim", "--json");
  const told = JSON.parse(asked.stdout) as { first: number; next: number; versions: number[]; by: string };
  expect([asked.status, told]).toMatchObject([0, { first: 1, next: last + 1 - 500, versions: [last + 1], by: "keep" }]);
  for (const node of live.ready.nodes)
    await eventually(
      async () => ((await (await fetch(`${node.admin}/status`)).json()) as { paxos: { first: number; applied: number } }).paxos,
      ({ first, applied }) => first === told.next && applied > last, // until it is applied, a watch still finds what is to go
    );
  const gone = await fetch(`${admin(1)}/kv/?watch=${told.next - 2}`);
  expect([gone.status, await codeOf(gone)]).toEqual([409, "SYNC_TRIMMED"]);
  const watch = await live.bench.run("kv", "watch", "--from", "0");
  expect([watch.status, watch.stderr]).toEqual([5, expect.stringContaining(`the first version kept is ${told.next}`)]);
  expect((await live.bench.run("kv", "watch", "--from", String(told.next - 1), "--limit", "1")).stdout).toStartWith(`put\tfiller\t${told.next}\t`);
});

const appliedOf = async (at: number): Promise<number> => ((await (await fetch(`${admin(at)}/status`)).json()) as { paxos: { applied: number } }).paxos.applied;

test("a node is forced to copy another one's store, is followed meanwhile, and has the same in the end", async () => {
  for (let at = 0; at < 20; at++) expect((await fetch(`${admin(0)}/kv/forced%2F${at}`, { method: "PUT", body: `value ${at}` })).status).toBe(200);
  const follower = live.bench.spawn("sync", "trace", "c", "--json", "--timeout", "20s");
  const lines: Record<string, unknown>[] = [];
  const reading = (async () => {
    let rest = "";
    for await (const chunk of follower.stdout) {
      const parts = (rest + new TextDecoder().decode(chunk)).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts.map((line) => JSON.parse(line) as Record<string, unknown>));
    }
  })();
  const { value: note } = await follower.stderr.getReader().read();
  expect(new TextDecoder().decode(note)).toContain("follows c");
  const plan = await live.bench.run("sync", "force", "c");
  expect([plan.status, plan.stderr]).toEqual([2, expect.stringContaining("NEEDS_ANSWER")]);
  const forced = await live.bench.run("sync", "force", "c", "--yes", "--json", "--timeout", "30s");
  expect([forced.status, forced.stderr]).toEqual([0, expect.stringContaining("every key cleared")]);
  const last = await appliedOf(0);
  expect(JSON.parse(forced.stdout)).toMatchObject({ id: "c", floor: last });
  await eventually(
    () => appliedOf(2),
    (applied) => applied >= last,
  );
  await eventually(
    () => lines.some(({ what, to }) => what === "state" && to === "joined"),
    (isThere) => isThere,
  );
  follower.kill("SIGINT");
  await reading;
  expect(await follower.exited).toBe(130);
  const states = lines.filter(({ what, part }) => what === "state" && part === "sync").map(({ to }) => to);
  expect(states).toEqual(["probing", "requested", "clearing", "copying", "verifying", "probing", "joined"]);
  expect(lines.filter(({ kind }) => kind === "sync.chunk").length).toBeGreaterThan(0);
  expect(lines.every(({ kind }) => typeof kind !== "string" || !/^(kv|paxos\.(lease|begin))/.test(kind))).toBeTrue();
  const diff = await live.bench.run("store", "diff", "a", "c");
  expect([diff.status, diff.stdout]).toEqual([0, expect.stringContaining("equal")]);
});

test("a node is forced while clients write: that the others are a moment behind it is no refusal", async () => {
  let isOver = false;
  const writers = Array.from({ length: 6 }, async (_, at) => {
    while (!isOver) await fetch(`${admin(0)}/kv/busy%2F${at}`, { method: "PUT", body: "x" });
  });
  for (let round = 0; round < 3; round++) {
    const forced = await live.bench.run("sync", "force", "c", "--yes", "--timeout", "30s");
    expect([forced.stderr, forced.status]).toEqual([expect.not.stringContaining("too few others"), 0]);
  }
  isOver = true;
  await Promise.all(writers);
});

test("a trace is filtered, and refuses what it does not know", async () => {
  const leases = await live.bench.run("sync", "trace", "b", "--what", "message", "--kind", "paxos.lease", "--peer", "a", "--limit", "3", "--json");
  const seen = leases.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(leases.status).toBe(0);
  expect(seen.map(({ what, peer }) => [what, peer])).toEqual([
    ["message", "a"],
    ["message", "a"],
    ["message", "a"],
  ]);
  expect(seen.every(({ kind }) => String(kind).startsWith("paxos.lease"))).toBeTrue();
  expect((await fetch(`${admin(0)}/sync/trace?what=nothing`)).status).toBe(400);
  expect((await live.bench.run("sync", "trace", "z")).status).toBe(3);
});

test("a store that may be needed is not replaced: without a majority of others that have all of it", async () => {
  process.kill(live.ready.nodes[1]?.pid ?? 0, "SIGKILL");
  const refused = await live.bench.run("sync", "force", "c", "--yes", "--timeout", "30s");
  expect([refused.status, refused.stderr]).toEqual([5, expect.stringContaining("error[SYNC_REFUSED]")]);
  const read = await fetch(`${admin(2)}/kv/forced%2F7`);
  expect(await read.text()).toBe("value 7");
});
