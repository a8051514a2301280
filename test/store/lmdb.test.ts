/** The store on disk: the contract, and what a file, other processes and a dying machine add (sync.md section 2.2). */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { openEnvironment } from "../../src/engine/store/lmdb.ts";
import { checkDataFile } from "../../src/engine/store/lmdb-file.ts";
import { del, delRange, put, storeContract } from "../contract/store.ts";
import { lines, runChild, startChild } from "./children.ts";

const folders: string[] = [];
const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), "cairn-lmdb-"));
  folders.push(path);
  return path;
};
afterAll(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

storeContract("lmdb", async () => {
  const dir = folder();
  return { open: async () => (await openEnvironment(dir, ["a", "b"], { create: true })).stores.a, async [Symbol.asyncDispose]() {} };
});

test("databases of one environment are apart, and one snapshot shows both as of one commit", async () => {
  const env = await openEnvironment(folder(), ["a", "b"], { create: true });
  await env.stores.a.commit([put("k", "a1")]);
  await env.stores.b.commit([put("k", "b1")]);
  await env.commit({ a: [put("both", "1")], b: [put("both", "2"), delRange("x", "y")] });
  using both = env.snapshot();
  await Promise.all([env.stores.a.commit([put("k", "a2")]), env.stores.b.commit([put("k", "b2")])]);
  expect([both.stores.a.get(utf8("k")), both.stores.b.get(utf8("k"))]).toEqual([utf8("a1"), utf8("b1")]);
  expect([both.stores.a.get(utf8("both")), both.stores.b.get(utf8("both"))]).toEqual([utf8("1"), utf8("2")]);
  using later = env.snapshot();
  expect([later.stores.a.get(utf8("k")), later.stores.b.get(utf8("k"))]).toEqual([utf8("a2"), utf8("b2")]);
  expect(env.stat().openSnapshotCount).toBe(2);
  await env.close();
  expect(() => later.stores.a.get(utf8("k"))).toThrow("while it is open");
});

test("the map grows where a commit needs more, with snapshots open", async () => {
  const env = await openEnvironment(folder(), ["a"], { create: true, mapBytes: 256 * 1_024 });
  await env.stores.a.commit([put("first", "1")]);
  using before = env.stores.a.snapshot();
  for (let n = 0; n < 20; n++) await env.stores.a.commit([put(`big/${n}`, new Uint8Array(300_000).fill(n))], n);
  using after = env.stores.a.snapshot();
  expect([...before.iterate()].length).toBe(1);
  expect([...after.iterate(utf8("big/"), utf8("big0"))].map(([, value]) => value[299_999])).toHaveLength(20);
  expect(env.stat().fileBytes).toBeGreaterThan(6_000_000);
  await env.close();
});

test("a missing store is NOT_FOUND, an empty or foreign file is refused before it is opened", async () => {
  const dir = folder();
  await expect(openEnvironment(join(dir, "none"), ["a"])).rejects.toMatchObject({ code: "NOT_FOUND" });
  writeFileSync(join(dir, "data.mdb"), "");
  await expect(openEnvironment(dir, ["a"], { create: true })).rejects.toMatchObject({ code: "STORE_TRUNCATED" });
  writeFileSync(join(dir, "data.mdb"), new Uint8Array(100_000));
  await expect(openEnvironment(dir, ["a"], { create: true })).rejects.toMatchObject({ code: "STORE_CORRUPT" });
});

test("a file cut anywhere before its last page in use is STORE_TRUNCATED, not SIGBUS", async () => {
  const dir = folder();
  const env = await openEnvironment(dir, ["a"], { create: true });
  for (let n = 0; n < 30; n++) await env.stores.a.commit(Array.from({ length: 40 }, (_, i) => put(`${n}/${i}`, new Uint8Array(i * 200))));
  await env.close();
  const path = join(dir, "data.mdb");
  const whole = readFileSync(path);
  checkDataFile(path);
  for (let share = 1; share < 20; share++) {
    truncateSync(path, Math.floor((whole.length * share) / 20));
    await expect(openEnvironment(dir, ["a"])).rejects.toMatchObject({ code: "STORE_TRUNCATED" });
    writeFileSync(path, whole);
  }
});

test("a file that another process writes to is never taken for a cut one", async () => {
  const dir = folder();
  const path = join(dir, "data.mdb");
  const child = startChild("write", dir);
  const written = lines<{ n: number }>(child)[Symbol.asyncIterator]();
  for (let n = 0; n < 300; n++) {
    await written.next();
    for (let check = 0; check < 100; check++) checkDataFile(path);
  }
  child.kill("SIGKILL");
  await child.exited;
});

test("a file that is short of pages nothing refers to opens", async () => {
  const dir = folder();
  const path = join(dir, "data.mdb");
  const env = await openEnvironment(dir, ["a"], { create: true });
  for (let n = 0; n < 6; n++) await env.stores.a.commit([put("kept", "1")]); // so that small pages need not come from the end
  await env.stores.a.commit([put("big", new Uint8Array(50_000)), put("gone", new Uint8Array(1_000_000)), del("gone")]);
  const { freeBytes, liveBytes } = env.stat();
  await env.close();
  expect(statSync(path).size).toBeLessThan(freeBytes + liveBytes); // the case is what its name says
  const again = await openEnvironment(dir, ["a"]);
  {
    using snap = again.stores.a.snapshot();
    expect([...snap.iterate()].map(([key, value]) => [new TextDecoder().decode(key), value.length])).toEqual([
      ["big", 50_000],
      ["kept", 1],
    ]);
  }
  await again.close();
});

test("a flipped bit in a value or its header is STORE_CORRUPT, never an answer", async () => {
  const dir = folder();
  const path = join(dir, "data.mdb");
  const env = await openEnvironment(dir, ["a"], { create: true });
  const value = utf8("the quick brown fox jumps");
  await env.stores.a.commit([put("key-one", value), put("key-two", "other")], 5);
  await env.close();
  const whole = readFileSync(path);
  const at = whole.indexOf(value);
  expect(at).toBeGreaterThan(0);
  for (let byte = at - 17; byte < at + value.length; byte += 3) {
    const damaged = Buffer.from(whole);
    for (let copy = byte; copy < damaged.length; copy = nextCopy(whole, value, copy, byte - at)) damaged[copy] = (damaged[copy] as number) ^ 4;
    writeFileSync(path, damaged);
    const again = await openEnvironment(dir, ["a"]);
    {
      using snap = again.stores.a.snapshot();
      expect(() => snap.get(utf8("key-one"))).toThrow(`${dir}:a: key key-one: `);
      expect(() => snap.wroteAt(utf8("key-one"))).toThrow("key-one");
      expect(() => [...snap.iterate()]).toThrow("key-one");
      expect(snap.get(utf8("key-two"))).toEqual(utf8("other"));
    }
    await again.close();
  }
});

/** The same place in the next copy of the value that the file holds (LMDB writes pages anew). */
function nextCopy(whole: Buffer, value: Uint8Array, from: number, offset: number): number {
  const found = whole.indexOf(value, from - offset + 1);
  return found === -1 ? whole.length : found + offset;
}

test("deleting a long range gives its pages back, and the file stops growing", async () => {
  const env = await openEnvironment(folder(), ["a"], { create: true });
  const fill = (n: number): Promise<void> => env.stores.a.commit(Array.from({ length: 25_000 }, (_, i) => put(`k/${n}/${i}`, "value")));
  await fill(0);
  await env.stores.a.commit([delRange("k/", "k0"), put("left", "1")]);
  expect(env.stores.a.stat().keyCount).toBe(1);
  await fill(1);
  const { fileBytes } = env.stat();
  for (let n = 2; n < 5; n++) {
    await env.stores.a.commit([delRange("k/", "k0")]);
    await fill(n);
  }
  expect(env.stat().fileBytes).toBeLessThanOrEqual(2 * fileBytes);
  await env.close();
});

test("kill -9 of a writer loses nothing acknowledged and leaves no half batch", async () => {
  const dir = folder();
  let acknowledged = -1;
  for (let round = 0; round < 4; round++) {
    const child = startChild("write", dir);
    const want = acknowledged + 10 + round * 17;
    for await (const { n } of lines<{ n: number }>(child)) {
      acknowledged = n;
      if (n >= want) break;
    }
    child.kill("SIGKILL");
    await child.exited;
    const env = await openEnvironment(dir, ["a"]);
    {
      using snap = env.stores.a.snapshot();
      const [xs, ys] = ["x/", "y/"].map((prefix) => [...snap.iterate(utf8(prefix), utf8(`${prefix[0]}0`))].length) as [number, number];
      expect(xs).toBe(ys);
      expect(xs).toBeGreaterThan(acknowledged);
      for (let n = 0; n < xs; n++) expect(snap.get(utf8(`x/${n}`))).toEqual(new Uint8Array(1 + (n % 5_000)).fill(n));
    }
    await env.close();
  }
});

test("processes share an environment: a snapshot sees every commit that ended before it", async () => {
  const dir = folder();
  const env = await openEnvironment(dir, ["a"], { create: true });
  const child = startChild("share", dir);
  const answers = lines<{ seen: string[] }>(child)[Symbol.asyncIterator]();
  for (let n = 0; n < 30; n++) {
    await env.stores.a.commit([put(`p${n}`, "parent")]);
    child.stdin.write(`c${n}\n`);
    child.stdin.flush();
    const { value } = await answers.next();
    expect(value.seen).toHaveLength(2 * n + 2);
    using snap = env.stores.a.snapshot(); // in the same turn as the answer: nothing but the store can have told it
    expect(snap.get(utf8(`c${n}`))).toEqual(utf8("child"));
  }
  child.stdin.write("end\n");
  child.stdin.end();
  expect(await child.exited).toBe(0);
  await env.close();
});

test("a second snapshot in one turn of the event loop is as new as the disk, and the first stays as it was", async () => {
  const dir = folder();
  const env = await openEnvironment(dir, ["a"], { create: true });
  {
    using first = env.stores.a.snapshot();
    expect(first.get(utf8("k5"))).toBeUndefined();
    env.stores.a.snapshot()[Symbol.dispose]();
    expect(runChild("commits", dir)).toBe(0);
    using second = env.stores.a.snapshot();
    expect(second.get(utf8("k5"))).toEqual(utf8("value"));
    expect(first.get(utf8("k5"))).toBeUndefined();
  }
  await env.close();
});

test("a full disk is STORE_FULL, leaves nothing, lets reads go on and passes", async () => {
  const dir = folder();
  const child = startChild("fill", dir, { fileKiBMax: 4_096 });
  const said: unknown[] = [];
  for await (const line of lines(child)) said.push(line);
  const [full, reads, ...again] = said as [{ code: string; stored: number }, { rows: number; half: boolean }, ...unknown[]];
  expect(full.code).toBe("STORE_FULL");
  expect(full.stored).toBeGreaterThan(3);
  expect(reads).toEqual({ rows: full.stored * 100, half: false });
  expect(again).toEqual([{ again: 0 }, { again: 1 }, { again: 2 }]);
  expect(await child.exited).toBe(0);
});
