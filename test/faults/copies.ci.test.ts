/**
 * Secondaries and folders that are not what they should be, on real processes (merge.md sections 1 and 5): slow, wiped,
 * rolled back, lying, damaged; and a primary whose folder is an old copy. For each the signed size is what
 * `desc([currentsize, …positions])[k]` says it is, and what holds it back is named.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toHex } from "../../src/engine/base/bytes.ts";
import type { Hash } from "../../src/engine/base/ids.ts";
import { EMPTY_ROOT } from "../../src/engine/log/merkle.ts";
import { loadNode } from "../../src/engine/node/config.ts";
import { identityOf } from "../../src/engine/node/hosting.ts";
import { listenLinks } from "../../src/engine/node/link.ts";
import { type Answer, type Request, refused } from "../../src/engine/wire/messages.ts";
import { eventually } from "../node/up-bench.ts";
import { HandCluster, type Said } from "./hand-cluster.ts";

setDefaultTimeout(180_000);

const names = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, at) => `${prefix} ${at}`);
const ended = ({ code, status }: Said): [string, number] => [code, status];
type Explained = {
  signedSize: number;
  standings: { secondary: string; size: number }[];
  all: { missingCount: number; behind: { secondary: string; toGo: number }[] } | null;
};

/** What `merge explain` says: signed size, positions, and who must verify more before everything can be signed. */
async function explained(cluster: HandCluster): Promise<{ signed: number; positions: Record<string, number>; waitsFor: string[] }> {
  const { stdout } = await cluster.cairn("merge", "explain", "--timeout", "1s");
  const { signedSize, standings, all } = JSON.parse(stdout) as Explained;
  return {
    signed: signedSize,
    positions: Object.fromEntries(standings.map(({ secondary, size }) => [secondary, size])),
    waitsFor: all === null ? [] : all.behind.map(({ secondary, toGo }) => `${secondary} ${toGo}`),
  };
}

for (const k of [0, 1, 2])
  test(`backupquorum ${k} with a slow, a wiped and a rolled-back secondary: the size that is signed, and whom it waits for`, async () => {
    await using cluster = await HandCluster.open("--nodes", "3", "--backupquorum", String(k));
    await cluster.add("a", ...names("first", 10));
    await cluster.round();
    expect(await explained(cluster)).toEqual({ signed: 10, positions: { b: 10, c: 10 }, waitsFor: [] });
    cpSync(cluster.path("c"), join(cluster.bench.folder, "old-c"), { recursive: true });

    // Slow: c stands still while 4 more come.
    const pid = await cluster.pidOf("c");
    process.kill(pid, "SIGSTOP");
    await cluster.add("a", ...names("second", 4));
    for (const storage of ["a", "b"]) expect((await cluster.merge("fetch", "--storage", storage)).status).toBe(0);
    expect((await cluster.merge("queue")).status).toBe(0);
    expect((await cluster.merge("backup", "--secondary", "b")).status).toBe(0);
    const dist = await cluster.merge("dist");
    const waits = k === 2 ? ["c 4"] : [];
    expect(await explained(cluster)).toEqual({ signed: k === 2 ? 10 : 14, positions: { b: 14, c: 10 }, waitsFor: waits });
    if (k === 2) expect(dist.steps[0]?.notes).toContain("desc([14, 14, 10])[2] = 10, nothing to sign, waits for c (4 to go)");
    process.kill(pid, "SIGCONT");
    await cluster.round();
    expect(await explained(cluster)).toEqual({ signed: 14, positions: { b: 14, c: 14 }, waitsFor: [] });

    // Wiped: c has an empty store in place of its own. Its old position is not believed once it was asked.
    await cluster.whileNodeIsDown("c", () => emptyStore(cluster, "c"));
    await cluster.add("a", ...names("third", 3));
    expect((await cluster.merge("fetch")).status).toBe(0);
    expect((await cluster.merge("backup", "--secondary", "b")).status).toBe(0);
    await cluster.merge("dist");
    expect(await explained(cluster)).toEqual({ signed: k === 2 ? 14 : 17, positions: { b: 17, c: 14 }, waitsFor: k === 2 ? ["c 3"] : [] });
    await cluster.round();
    expect(await explained(cluster)).toEqual({ signed: 17, positions: { b: 17, c: 17 }, waitsFor: [] });

    // Rolled back: c has the folder of ten entries again.
    await cluster.whileNodeIsDown("c", () => {
      rmSync(cluster.path("c"), { recursive: true });
      cpSync(join(cluster.bench.folder, "old-c"), cluster.path("c"), { recursive: true });
    });
    const caughtUp = await cluster.merge("backup", "--secondary", "c");
    expect([caughtUp.status, caughtUp.steps[0]?.counts]).toMatchObject([0, { size: 17, position: 17 }]);
    await cluster.add("a", "last");
    await cluster.round();
    expect(await explained(cluster)).toEqual({ signed: 18, positions: { b: 18, c: 18 }, waitsFor: [] });
    for (const name of ["a", "b", "c"]) expect(await cluster.served(name)).toBe(18);
    expect((await cluster.cairn("log", "verify")).status).toBe(0);
  });

/** As of a node that was just made. */
async function emptyStore(cluster: HandCluster, name: string): Promise<void> {
  const fresh = join(cluster.bench.folder, `fresh-${name}`);
  expect((await cluster.bench.run("node", "init", "--dir", fresh)).status).toBe(0);
  for (const part of ["store", "log"]) {
    rmSync(cluster.path(name, part), { recursive: true });
    renameSync(join(fresh, part), cluster.path(name, part));
  }
}

test("a primary whose folder is an old copy: the gate is shut, nothing is signed, until the newer folder is back", async () => {
  await using cluster = await HandCluster.open("--nodes", "3");
  const [old, newer] = [join(cluster.bench.folder, "old-a"), join(cluster.bench.folder, "newer-a")];
  await cluster.add("b", ...names("kept", 5));
  await cluster.round();
  await cluster.whileDown(() => cpSync(cluster.path("a"), old, { recursive: true }));
  await cluster.add("b", ...names("lost", 5));
  await cluster.round();
  expect(await cluster.served("c")).toBe(10);
  await cluster.whileDown(() => {
    renameSync(cluster.path("a"), newer);
    cpSync(old, cluster.path("a"), { recursive: true });
  });
  await cluster.add("b", "after");
  const sth = readFileSync(cluster.path("a", "merge/sth"), "utf8");
  const [dist, backup] = [await cluster.merge("dist"), await cluster.merge("backup")];
  expect([...ended(dist), dist.message]).toEqual(["MERGE_BEHIND_SECONDARY", 6, expect.stringContaining("has verified 10, this folder's order ends at 5")]);
  expect(ended(backup)).toEqual(["MERGE_BEHIND_SECONDARY", 6]);
  expect(readFileSync(cluster.path("a", "merge/sth"), "utf8")).toBe(sth);
  expect([await cluster.served("a"), await cluster.served("b"), await cluster.served("c")]).toEqual([5, 10, 10]);
  expect(await explained(cluster)).toMatchObject({ signed: 5 });

  await cluster.whileDown(() => {
    rmSync(cluster.path("a"), { recursive: true });
    renameSync(newer, cluster.path("a"));
  });
  await cluster.round();
  expect([await cluster.served("a"), await cluster.served("b"), await cluster.served("c")]).toEqual([11, 11, 11]);
  expect((await cluster.cairn("log", "verify")).status).toBe(0);
});

test("a secondary that swears to another root, with the right key: its position stays, the others sign without it", async () => {
  await using cluster = await HandCluster.open("--nodes", "3");
  await cluster.killNode("b");
  const node = await loadNode(cluster.node("b").dir);
  const asked: string[] = [];
  const liar = await listenLinks({
    ...node.listen.peer,
    identity: identityOf(node),
    allow: () => new Map(node.members.map(({ key, name }) => [toHex(key), name])),
    onRequest: async (_, body) => {
      asked.push(body.kind);
      return lie(body, 4);
    },
  });
  await cluster.add("c", ...names("true", 4));
  for (const storage of ["a", "c"]) expect((await cluster.merge("fetch", "--storage", storage)).status).toBe(0);
  expect((await cluster.merge("queue")).status).toBe(0);
  const backup = await cluster.merge("backup", "--secondary", "b");
  expect([...ended(backup), backup.message]).toEqual(["LOG_ROOT_MISMATCH", 7, expect.stringContaining("b answers root 0707")]);
  expect(asked).toContain("backup.verify");
  expect((await cluster.merge("backup", "--secondary", "c")).status).toBe(0);
  await liar.close();
  await cluster.startNode("b");
  expect(await explained(cluster)).toMatchObject({ positions: { b: 0, c: 4 } });
  await cluster.round();
  expect(await explained(cluster)).toEqual({ signed: 4, positions: { b: 4, c: 4 }, waitsFor: [] });
});

/** Has all bytes, knows no head, and answers every question about a root with one that it makes up. */
function lie(body: Request, size: number): Answer {
  const madeUp = new Uint8Array(32).fill(7) as Hash;
  switch (body.kind) {
    case "copy.where":
      return {
        kind: "copy.at",
        orderSize: size,
        storedSize: size,
        verifiedSize: 0,
        verifiedRoot: EMPTY_ROOT,
        headSize: 0,
        headRoot: EMPTY_ROOT,
        publishedSize: 0,
        epoch: 1,
        pairs: [],
      };
    case "copy.missing":
      return { kind: "copy.lacking", ranges: [], scannedTo: body.to };
    case "copy.order":
      return { kind: "copy.ordered", orderSize: size };
    case "backup.verify":
      return { kind: "backup.verified", size: body.size, root: madeUp };
    default:
      return refused("NOT_ALLOWED", `a liar about the log does not answer ${body.kind}`); // the replicated store's, for one
  }
}

test("a flipped bit in a running frontend's store is an error answer that names the place, never wrong bytes", async () => {
  await using cluster = await HandCluster.open("--nodes", "3");
  const marker = "an entry with a marker in it";
  await cluster.add("a", "before", marker, "after");
  await cluster.round();
  const bundle = `${cluster.node("b").log}/tile/entries/000.p/3`;
  expect(await (await fetch(bundle)).text()).toContain(marker);
  await cluster.whileNodeIsDown("b", () => flip(cluster.path("b", "log/data.mdb"), marker));
  const answer = await fetch(bundle);
  expect([answer.status, await answer.text()]).toEqual([500, expect.stringContaining("STORE_CORRUPT")]);
  const verify = await cluster.cairn("log", "verify");
  expect(ended(verify)).toEqual(["STORE_CORRUPT", 7]);
  expect((await cluster.cairn("store", "check", cluster.path("b"))).status).toBe(7);
  for (const name of ["a", "c"]) expect(await (await fetch(`${cluster.node(name).log}/tile/entries/000.p/3`)).text()).toContain(marker);
});

/** Flips a bit in each copy of the text in a file. */
function flip(path: string, text: string): void {
  const bytes = readFileSync(path);
  let flips = 0;
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1), flips++) bytes[at + 3] = (bytes[at + 3] ?? 0) ^ 1;
  expect(flips).toBeGreaterThan(0);
  writeFileSync(path, bytes);
}

test("a storage node whose accepted entry is damaged lists it and cannot serve it: the other one that has it does", async () => {
  await using cluster = await HandCluster.open("--nodes", "3");
  const marker = "an accepted entry with a marker";
  await cluster.add("b", marker);
  const holders = ["a", "b", "c"].filter((name) => readFileSync(cluster.path(name, "log/data.mdb")).includes(marker));
  expect(holders).toHaveLength(2);
  await cluster.whileNodeIsDown("b", () => flip(cluster.path("b", "log/data.mdb"), marker));
  await cluster.round();
  const bundle = await fetch(`${cluster.node("b").log}/tile/entries/000.p/1`);
  expect([bundle.status, await bundle.text()]).toEqual([200, expect.stringContaining(marker)]);
  expect((await cluster.cairn("log", "verify")).status).toBe(0);
});

test("two loops at once: the steps take turns, every entry is in the log once", async () => {
  await using cluster = await HandCluster.open("--nodes", "3");
  const loops = [1, 2].map(() => cluster.bench.spawn("merge", "run", "--stdin", "--dir", cluster.node("a").dir, "--json"));
  await Promise.all(["a", "b", "c"].map((name) => cluster.add(name, ...names("from any", 20))));
  const said = loops.map(({ stdout }) => new Response(stdout).text());
  const served = (): Promise<number[]> => Promise.all(["a", "b", "c"].map((name) => cluster.served(name)));
  await eventually(served, (sizes) => sizes.every((size) => size === 20), 60_000);
  for (const { stdin } of loops) await stdin.end();
  for (const [at, loop] of loops.entries()) expect([await loop.exited, await said[at]]).toEqual([0, expect.not.stringContaining('"error"')]);
  const [one, two] = await Promise.all([1, 2].map(() => cluster.merge("run", "--sequential", "--rounds", "2")));
  expect([one?.status, two?.status]).toEqual([0, 0]);
  const [size] = await served();
  expect(size).toBe(20);
  expect((await cluster.cairn("log", "verify")).status).toBe(0);
});
