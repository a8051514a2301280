/** The compiled program as a cluster: entries are signed, everything is killed, and what was promised is still there; a disk that fails. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { openCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { leafHashes } from "../../src/engine/log/merkle.ts";
import { parseVkey } from "../../src/engine/log/note.ts";
import { openProof, parseProof } from "../../src/engine/log/proof-file.ts";
import { straceInject } from "../faults/strace.ts";
import { COMPILED, eventually, isAlive, type Ready, UpBench } from "./up-bench.ts";

setDefaultTimeout(60_000);

const entry = (at: number): Uint8Array => utf8(`entry ${at}`);
const add = (log: string, at: number, query = ""): Promise<Response> => fetch(`${log}/add${query}`, { method: "POST", body: entry(at) });

/** Adds an entry, waits until it is signed, and verifies its proof; gives its index. */
async function signed(ready: Ready, node: number, at: number): Promise<number> {
  const answer = await add(ready.nodes[node]?.log ?? "", at, "?wait=signed&timeoutMs=30000");
  expect(answer.status).toBe(200);
  const { index, proof } = (await answer.json()) as { index: number; proof: string };
  openProof(parseProof(proof), { vkey: parseVkey(ready.log.vkey), leaf: leafHashes(bundleOf([entry(at)])) });
  return index;
}

test("what was signed or promised before everything is killed is in the same log afterwards", async () => {
  await using bench = await UpBench.open(COMPILED);
  const first = await bench.up();
  const indexes: number[] = [];
  for (let at = 0; at < 6; at++) indexes.push(await signed(first.ready, at % 3, at));
  const promised = await Promise.all(Array.from({ length: 20 }, (_, at) => add(first.ready.nodes[at % 3]?.log ?? "", 100 + at)));
  expect(promised.map(({ status }) => status)).toEqual(Array.from(promised, () => 202));
  for (const { pid } of first.ready.nodes) process.kill(pid, "SIGKILL");
  first.child.kill("SIGKILL");
  await first.child.exited;
  await eventually(
    () => first.ready.nodes.some(({ pid }) => isAlive(pid)),
    (alive) => !alive,
  );

  const again = await bench.up();
  expect(again.ready.log).toEqual(first.ready.log);
  for (let at = 0; at < 6; at++) expect(await signed(again.ready, 0, at)).toBe(indexes[at] as number);
  for (let at = 0; at < 20; at++) await signed(again.ready, at % 3, 100 + at);
  const vkey = parseVkey(again.ready.log.vkey);
  const sizes = again.ready.nodes.map(async ({ log }) => {
    const note = new Uint8Array(await (await fetch(`${log}/checkpoint`)).arrayBuffer());
    return openCheckpoint(note, { origin: vkey.name, publicKey: vkey.publicKey }).size;
  });
  expect(await Promise.all(sizes)).toEqual([26, 26, 26]);
});

test("with one secondary dead the log goes on, and the dead one catches up when it is back", async () => {
  await using bench = await UpBench.open(COMPILED);
  const { ready } = await bench.up();
  await signed(ready, 0, 1);
  const c = ready.nodes[2];
  if (c === undefined) throw new Error("no third node");
  process.kill(c.pid, "SIGKILL");
  for (let at = 2; at < 6; at++) await signed(ready, at % 2, at);
  bench.spawn("node", "run", "--dir", c.dir, "--stdin");
  const published = async (): Promise<string | undefined> => (await (await fetch(`${c.log}/checkpoint`).catch(() => null))?.text())?.split("\n")[1];
  await eventually(published, (size) => size === "5", 30_000);
});

test("a failed fsync stops the node with its code, and nothing more is promised", async () => {
  await using bench = await UpBench.open(COMPILED);
  expect((await bench.run("up", "--data", bench.data, "--nodes", "1", "--no-merge", "--run", "true")).status).toBe(0);
  const trace = straceInject("fdatasync", "error=EIO:when=3+");
  await using traced = await UpBench.open([...trace, ...COMPILED]);
  const child = traced.spawn("node", "run", "--dir", `${bench.data}/a`, "--no-merge", "--json");
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { log } = JSON.parse((await lines.read()).value ?? "") as { log: string };
  const statuses: number[] = [];
  for (let at = 0; at < 50 && statuses.at(-1) !== 0 && statuses.at(-1) !== 503; at++)
    statuses.push(
      await add(log, at).then(
        ({ status }) => status,
        () => 0,
      ),
    );
  expect([0, 503]).toContain(statuses.at(-1) as number);
  expect(await child.exited).toBe(1);
  expect((await lines.read()).value).toContain("STORE_SYNC_FAILED");
  // the primary's signer stays stopped until a person looked, also after a restart
  expect(await Bun.file(`${bench.data}/a/merge/latch`).json()).toMatchObject({ format: 1, code: "STORE_SYNC_FAILED" });
  const refused = await bench.run("merge", "queue", "--dir", `${bench.data}/a`);
  expect([refused.status, refused.stderr]).toEqual([6, expect.stringContaining("MERGE_LATCHED")]);
  expect((await bench.run("merge", "unlatch", "--dir", `${bench.data}/a`, "--yes")).status).toBe(0);
  expect((await bench.run("merge", "queue", "--dir", `${bench.data}/a`)).stderr).not.toContain("MERGE_LATCHED");
});
