/**
 * Damaged stores in a live cluster (sync.md 2.1, 2.2 and 3.7), on the binary: whichever file of a member is damaged, it refuses
 * with exit 7 and names file and key, the others go on and answer what it cannot, and each way back that the hint names works.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { liveCluster } from "../node/live-cluster.ts";
import { COMPILED, eventually, isAlive, statusOf } from "../node/up-bench.ts";

setDefaultTimeout(120_000);
const live = liveCluster(COMPILED, 120_000);

const KEYS = 60;
const textOf = (at: number): string => `value-${String(at).padStart(4, "0")}-${"x".repeat(400)}`;
const file = (...parts: string[]): string => join(live.node(2).dir, ...parts);
const cairn = (words: string): ReturnType<typeof live.bench.run> => live.bench.run(...words.split(" "), "--timeout", "30s");

/** The byte behind the `nth` place where the text lies, or behind each: some are in pages that nobody refers to any more. */
function flip(path: string, text: string, nth: number): void {
  const bytes = readFileSync(path);
  const places: number[] = [];
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1)) places.push(at);
  const wanted = nth < 0 ? places : [places[nth] as number];
  for (const at of wanted) bytes[at + text.length] = (bytes[at + text.length] as number) ^ 1;
  writeFileSync(path, bytes);
}

async function written(): Promise<void> {
  for (let at = 0; at < KEYS; at++) expect((await fetch(`${live.node(0).admin}/kv/key-${at}`, { method: "PUT", body: textOf(at) })).status).toBe(200);
  const last = (await statusOf(live.node(0)))?.paxos.last ?? 0;
  await eventually(
    async () => (await statusOf(live.node(2)))?.paxos.applied ?? 0,
    (applied) => applied >= last,
  );
}

/** c is stopped, its folder damaged, and started: it must end, saying why. */
async function refuses(damage: () => void, why: RegExp): Promise<void> {
  damage();
  const child = live.bench.spawn("node", "run", "--dir", live.node(2).dir, "--no-merge", "--stdin");
  const impatient = setTimeout(() => child.kill("SIGKILL"), 20_000);
  const [errors, status] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  clearTimeout(impatient);
  expect([errors, status]).toEqual([expect.stringMatching(why), 7]);
  expect(errors).toContain("cairn node replace");
  const others = await cairn("kv put key-0 others");
  expect([others.stderr, others.status]).toEqual(["", 0]);
  const check = await live.bench.run("store", "check", live.node(2).dir);
  expect([check.status, check.stderr]).toEqual([7, expect.stringMatching(/STORE_(CORRUPT|TRUNCATED)/)]);
}

test("each damaged file is named, the others go on, and the hint's ways back work", async () => {
  await written();
  await live.kill(2);
  const whole = join(live.bench.folder, "whole-c");
  cpSync(live.node(2).dir, whole, { recursive: true });
  const restore = (): void => {
    rmSync(live.node(2).dir, { recursive: true });
    cpSync(whole, live.node(2).dir, { recursive: true });
  };
  const store = file("store", "data.mdb");
  const journal = file("accepts.0");

  const replaceable: [() => void, RegExp][] = [
    [() => truncateSync(store, statSync(store).size / 2), /STORE_TRUNCATED\]: \S+data\.mdb: \d+ bytes, page \d+ is in use/],
    [() => writeFileSync(store, new Uint8Array(statSync(store).size)), /STORE_CORRUPT\]: \S+data\.mdb: no meta page/],
    [() => flip(store, "node/birth", -1), /STORE_CORRUPT\]: \S+store:local: (key node\/birth: |.*birth)/],
    [() => rmSync(journal), /STORE_CORRUPT\]: \S+accepts: neither \S+accepts\.0 nor/],
    [() => flip(journal, "CJRN", 1), /STORE_CORRUPT\]: \S+accepts\.0: record \d+ at \d+ is damaged/],
    [() => truncateSync(journal, 4_096), /STORE_TRUNCATED\]: \S+accepts\.0: 4096 bytes/],
  ];
  for (const [damage, why] of replaceable) {
    await refuses(damage, why);
    restore();
  }

  // a version of Paxos is read at each start, and named as `store get` takes it
  await refuses(() => flip(store, textOf(30).slice(0, 10), -1), /STORE_CORRUPT\]: \S+store:replicated: key paxos\/0x[0-9a-f]{16}: checksum/);
  const copied = await cairn("sync offline a c --yes");
  expect([copied.status, copied.stdout]).toEqual([0, expect.stringContaining("c is equal to a at")]);
  live.start(2);
  await live.serves(2);
  expect(await live.bench.differences(live.ready.nodes)).toEqual([]);

  // a copy of the store gives no votes back
  await live.kill(2);
  flip(journal, "CJRN", 1);
  const useless = await cairn("sync offline a c --yes");
  expect([useless.status, useless.stderr]).toEqual([7, expect.stringContaining("accepts.0: record")]);
  for (const part of ["store", "accepts.0"]) renameSync(file(part), join(live.bench.folder, `bad-${part}`));
  const replaced = await cairn("node replace c --yes");
  expect([replaced.stderr, replaced.status]).toEqual([expect.not.stringContaining("error"), 0]);
  live.start(2);
  await live.serves(2);
  expect(await live.bench.differences(live.ready.nodes)).toEqual([]);
});

test("a running leader that reads a damaged value ends, and the value comes from the next one", async () => {
  await written();
  const leader = live.ready.nodes.findIndex(({ id }) => id === "a");
  const pid = (await statusOf(live.node(leader)))?.pid ?? 0;
  const store = join(live.node(leader).dir, "store", "data.mdb");
  flip(store, textOf(40).slice(0, 10), -1); // what is mapped changes with the file
  const read = await cairn("kv get key-40");
  expect([read.stderr, read.stdout, read.status]).toEqual(["", textOf(40), 0]);
  expect(isAlive(pid)).toBe(false);
  expect((await cairn("kv put key-40 again")).status).toBe(0);
});
