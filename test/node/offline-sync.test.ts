/** `cairn sync offline` (sync.md, table B row 8): folders of a real cluster, copied while one runs, cut off, refused. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { openJournal } from "../../src/engine/node/journal.ts";
import { openEnvironment } from "../../src/engine/store/lmdb.ts";
import { liveCluster } from "./live-cluster.ts";
import { eventually } from "./up-bench.ts";

setDefaultTimeout(60_000);
const live = liveCluster();

const dir = (at: number): string => live.ready.nodes[at]?.dir ?? "";
const put = (key: string, body: Uint8Array<ArrayBuffer> | string): Promise<Response> =>
  fetch(`${live.ready.nodes[0]?.admin}/kv/${encodeURIComponent(key)}`, { method: "PUT", body });
/** What is the node's own, less what a sync writes: rows of `local`, and what its vote rests on. */
async function ownRows(at: number): Promise<string[]> {
  const environment = await openEnvironment(join(dir(at), "store"), ["replicated", "local"]);
  const snapshot = environment.snapshot();
  const journal = openJournal(join(dir(at), "accepts"));
  using accepts = journal.snapshot();
  try {
    return [...snapshot.stores["local"].iterate(), ...accepts.iterate()]
      .map(([key, value]) => `${new TextDecoder().decode(key)} ${value.toHex()}`)
      .filter((row) => !row.startsWith("sync/"));
  } finally {
    snapshot[Symbol.dispose]();
    await environment.close();
  }
}

test("a running node's store is not replaced, nor one by itself", async () => {
  const running = await live.bench.run("sync", "offline", "a", "c", "--yes");
  expect([running.status, running.stderr]).toEqual([5, expect.stringContaining("NODE_RUNNING")]);
  const self = await live.bench.run("sync", "offline", "a", "a", "--yes");
  expect(self.status).toBe(2);
});

test("a stopped node gets the store of a running one, keeps what is its own, and goes on in the cluster", async () => {
  for (let at = 0; at < 30; at++) expect((await put(`early/${at}`, `value ${at}`)).status).toBe(200);
  await live.kill(2);
  for (let at = 0; at < 12; at++) expect((await put(`late/${at}`, new Uint8Array(300_000).fill(at))).status).toBe(200);
  const own = await ownRows(2);
  const dry = await live.bench.run("sync", "offline", "a", "c", "--dry-run", "--json");
  expect([dry.status, JSON.parse(dry.stdout)]).toMatchObject([0, { dryRun: true, from: { id: "a" }, to: { id: "c", isHalf: false }, resumes: false }]);
  expect((await live.bench.run("sync", "offline", "a", "c")).status).toBe(2); // it wants to be asked
  expect((await live.bench.run("store", "diff", "a", "c")).status).toBe(8); // nothing was done so far
  const back = await live.bench.run("sync", "offline", "c", "b", "--dry-run");
  expect([back.status, back.stderr]).toEqual([5, expect.stringContaining("NODE_RUNNING")]);

  // killed on the way: the store says that it is half a copy, and the next run finishes it
  const cut = live.bench.spawn("sync", "offline", "a", "c", "--yes");
  for await (const chunk of cut.stderr) if (new TextDecoder().decode(chunk).includes("every key cleared")) break;
  cut.kill("SIGKILL");
  await cut.exited;
  const half = JSON.parse((await live.bench.run("sync", "offline", "a", "c", "--dry-run", "--json")).stdout) as { to: { isHalf: boolean; last: number } };
  expect(half.to.isHalf || half.to.last === JSON.parse(dry.stdout).from.last).toBeTrue(); // or it was quicker than the signal

  const copied = await live.bench.run("sync", "offline", "a", "c", "--yes", "--json");
  expect([copied.status, copied.stderr]).toEqual([0, expect.stringContaining("root equal")]);
  expect(JSON.parse(copied.stdout)).toMatchObject({ chunks: expect.any(Number), version: JSON.parse(dry.stdout).from.last });
  expect((await live.bench.run("store", "diff", "a", "c")).stdout).toContain("equal");
  const kept = new Set(own.filter((row) => !row.startsWith("paxos/accepted/"))); // those of versions that were copied are decided
  expect(kept.size).toBeGreaterThan(2);
  expect([...kept].filter((row) => !row.startsWith("paxos/peer/"))).toEqual((await ownRows(2)).filter((row) => !/^paxos\/(accepted|peer)\//.test(row)));

  expect((await put("after", "the copy")).status).toBe(200);
  live.start(2);
  const read = (): Promise<string> =>
    fetch(`${live.ready.nodes[2]?.admin}/kv/after`).then(
      (answer) => answer.text(),
      () => "",
    );
  await eventually(read, (text) => text === "the copy", 30_000);
});

test("of two stores that hardly differ only the difference is copied", async () => {
  await live.kill(2);
  expect((await put("early/3", "changed")).status).toBe(200);
  const copied = await live.bench.run("sync", "offline", "a", "c", "--mode", "delta", "--yes", "--json");
  expect([copied.status, copied.stderr]).toEqual([0, expect.not.stringContaining("every key cleared")]);
  const { bytes } = JSON.parse(copied.stdout) as { bytes: number };
  expect(bytes).toBeGreaterThan(0);
  expect(bytes).toBeLessThan(10_000); // of four million
  expect((await live.bench.run("store", "diff", "a", "c")).stdout).toContain("equal");
  live.start(2);
  await live.serves(2);
});

test("a store that has come further than the source is not taken back", async () => {
  await live.kill(1);
  expect((await put("newer", "than b")).status).toBe(200); // a and c are a majority
  await eventually(
    async () => (await live.bench.run("store", "get", "replicated", "kv/key/newer", "--node", "c")).status,
    (status) => status === 0,
    30_000,
  );
  await live.kill(2);
  const refused = await live.bench.run("sync", "offline", "b", "c", "--yes");
  expect([refused.status, refused.stderr]).toEqual([5, expect.stringContaining("SYNC_BEHIND")]);
});
