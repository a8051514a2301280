/**
 * `cairn store …` as processes on the folders of one real cluster, while it runs and after it stopped: what is shown is
 * compared with what the engine reads, and each kind of damage to a copy is found and named.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toHex, utf8 } from "../../src/engine/base/bytes.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { loadNode } from "../../src/engine/node/config.ts";
import { openDisk } from "../../src/engine/node/disk.ts";
import { logKeys } from "../../src/engine/store/keys.ts";
import { openEnvironment } from "../../src/engine/store/lmdb.ts";
import { type Ready, UpBench } from "../node/up-bench.ts";
import { failureOf, type Run, type Runner, rowsOf, runnerOf } from "./words-runner.ts";

setDefaultTimeout(30_000);

const ENTRIES = Array.from({ length: 300 }, (_, i) => `the entry ${i} of the test`);
let bench: UpBench;
let ready: Ready;
let cairn: Runner;
let logId: string;
let stop: () => Promise<void>;
const path = (name: string): string => join(bench.folder, name);
const ok = (run: Run): Run => {
  expect([run.stderr, run.status]).toEqual([run.stderr, 0]);
  return run;
};
const node = (at: number): string => ready.nodes[at]?.dir ?? "";

beforeAll(async () => {
  bench = await UpBench.open();
  const up = await bench.up("--nodes", "2");
  ready = up.ready;
  stop = async () => {
    up.child.kill("SIGTERM");
    await up.child.exited;
  };
  cairn = runnerOf(bench);
  ok(await cairn(["log", "add", "--lines", "-", "--wait", "signed"], { stdin: ENTRIES.join("\n") }));
  logId = toHex((await loadNode(node(0))).merge.log);
});
afterAll(() => bench[Symbol.asyncDispose]());

describe("of a running node", () => {
  test("ls names rows, get gives the value of each, dump all of them", async () => {
    const listed = rowsOf<{ key: string; owner: string; what: string; bytes: number }>(
      ok(await cairn(["store", "ls", "log", "--limit", "100000", "--json"])).stdout,
    );
    const keys = listed.map(({ key }) => key);
    for (const name of ["order/0", "tile/1/0", "bundle/0", "tail-entry/299", "edge", "head/0"]) expect(keys).toContain(`${logId}/${name}`);
    expect(listed.filter(({ owner }) => owner === "unknown")).toEqual([]);
    const bundle = toHex(bundleOf(ENTRIES.slice(0, 256).map(utf8)));
    expect(ok(await cairn(["store", "get", "log", `${logId}/bundle/0`])).stdout).toBe(`${bundle}\n`);
    expect(rowsOf(ok(await cairn(["store", "get", "log", `0x${logId}62${"0".repeat(16)}`, "--node", "a", "--json"])).stdout)).toMatchObject([
      { db: "log", key: `${logId}/bundle/0`, owner: "log", what: "bundle", bytes: bundle.length / 2, value: bundle },
    ]);
    const dumped = rowsOf<{ key: string; value: string }>(ok(await cairn(["store", "dump", "log", "--json"])).stdout);
    expect(dumped.find(({ key }) => key === `${logId}/bundle/0`)?.value).toBe(bundle);
    expect(dumped.length).toBeGreaterThanOrEqual(listed.length - 5); // the merge goes on beside us
  });

  test("a prefix is a row's name, a log's id, or part of it; a limit says that there is more", async () => {
    const list = async (...words: string[]): Promise<string[]> =>
      rowsOf<{ key: string }>(ok(await cairn(["store", "ls", "log", "--json", ...words])).stdout).map(({ key }) => key);
    expect(await list("--prefix", `${logId}/tail-entry`)).toEqual(Array.from({ length: 44 }, (_, i) => `${logId}/tail-entry/${256 + i}`));
    expect(await list("--prefix", `${logId}/tile/`)).toEqual([`${logId}/tile/1/0`]);
    expect((await list("--prefix", logId.slice(0, 6))).length).toBeGreaterThan(44);
    const few = ok(await cairn(["store", "ls", "log", "--limit", "3"]));
    expect([few.stdout.trimEnd().split("\n").length, few.stderr]).toEqual([4, "there are more: --limit is 3\n"]);
  });

  test("check and digest of a cluster, of a node by name and of its folder", async () => {
    const all = rowsOf<{ dir: string; db: string; rows: number; ok: boolean }>(ok(await cairn(["store", "check", "--json"])).stdout);
    expect(all.map(({ dir, db, ok: isOk }) => [dir, db, isOk])).toEqual(
      [0, 1].flatMap((at) => ["replicated", "local", "log", "accepts"].map((db) => [node(at), db, true])),
    );
    expect(all.find(({ db }) => db === "log")?.rows).toBeGreaterThan(50);
    const [byName, byFolder] = await Promise.all([cairn(["store", "digest", "b", "--db", "local"]), cairn(["store", "digest", node(1), "--db", "local"])]);
    expect(ok(byName).stdout).toBe(ok(byFolder).stdout);
  });

  test("what is not there", async () => {
    const cases: [string[], string][] = [
      [["get", "log", `${logId}/order/99`], "NOT_FOUND 3"],
      [["get", "log", "no-key"], "USAGE 2"],
      [["get", "logs", "x"], "USAGE 2"],
      [["ls", "small"], "NOT_FOUND 3"],
      [["ls", "log", "--node", "z"], "UNKNOWN_NODE 3"],
      [["check", "./nowhere"], "NOT_FOUND 3"],
      [["check", "."], "NOT_FOUND 3"],
      [["diff", "a", "z"], "UNKNOWN_NODE 3"],
    ];
    const runs = await Promise.all(cases.map(([words]) => cairn(["store", ...words])));
    expect(runs.map(failureOf)).toEqual(cases.map(([, failure]) => failure));
    expect(failureOf(await cairn(["store", "check"], { cluster: null }))).toBe("NOT_FOUND 3");
  });
});

/** Below, nothing runs any more. */
describe("of a stopped node", () => {
  beforeAll(() => stop());

  test("diff: a copy is equal; then each differing key, with its owner and both sides, exit 8", async () => {
    cpSync(node(1), path("b2"), { recursive: true });
    const words = ["store", "diff", node(1), path("b2"), "--db", "log"];
    expect(ok(await cairn(words)).stdout).toEndWith(": equal\n");
    const disk = await openDisk(path("b2"));
    const { merge } = await loadNode(path("b2"));
    const [changed, removed, added] = [logKeys.edge(merge.log), logKeys.order(merge.log, 0), logKeys.order(merge.log, 77)];
    await disk.write({
      db: "log",
      batch: [
        { op: "put", key: changed, value: utf8("other") },
        { op: "del", key: removed },
        { op: "put", key: added, value: utf8("new") },
      ],
      wroteAt: 5,
    });
    await disk.close();
    const found = await cairn([...words, "--values", "--json"]);
    expect(found.status).toBe(8);
    expect(rowsOf(found.stdout)).toMatchObject([
      { kind: "changed", key: `${logId}/edge`, owner: "log", what: "edge", a: { wroteAt: 0 }, b: { valueBytes: 5, wroteAt: 5, value: toHex(utf8("other")) } },
      { kind: "only-in-a", key: `${logId}/order/0`, b: null },
      { kind: "only-in-b", key: `${logId}/order/77`, a: null, b: { value: toHex(utf8("new")) } },
      { error: { code: "DIFFERENCES", exit: 8 } },
    ]);
    const limited = await cairn([...words, "--limit", "1"]);
    expect([limited.status, limited.stdout.split("\n")[0]]).toEqual([8, `changed ${logId}/edge (log)`]);
    expect(limited.stderr).toContain("differ in 3 keys of log");
    expect(ok(await cairn([...words, "--prefix", `${logId}/bundle`])).stdout).toContain("equal");
    expect(ok(await cairn(["store", "diff", node(0), node(1)])).stdout).toContain("replicated of");
    const digests = await Promise.all([node(1), path("b2")].map((dir) => cairn(["store", "digest", dir, "--db", "log"])));
    expect(digests[0]?.stdout.slice(0, 64)).not.toBe(digests[1]?.stdout.slice(0, 64));
  });

  test("one flipped bit of a value: corrupt, with key and file, in check, get, diff and log verify", async () => {
    const dir = freshCopy("flipped");
    flip(join(dir, "log/data.mdb"), ENTRIES[7] as string);
    const [check, get, diff, dump, digest, verify] = await Promise.all([
      cairn(["store", "check", dir]),
      cairn(["store", "get", "log", `${logId}/bundle/0`, "--node", dir]),
      cairn(["store", "diff", node(1), dir, "--db", "log"]),
      cairn(["store", "dump", "log", "--node", dir]),
      cairn(["store", "digest", dir]),
      cairn(["log", "verify", dir]),
    ]);
    for (const run of [check, get, diff, dump, digest, verify]) expect(failureOf(run)).toBe("STORE_CORRUPT 7");
    expect(get.stderr).toContain(`${dir}/log:log: key 0x${logId}62`);
    expect(verify.stderr).toContain("tile/entries/000");
  });

  test("a file that is cut off, or none at all", async () => {
    const cut = freshCopy("cut");
    truncateSync(join(cut, "log/data.mdb"), 8_192);
    expect(failureOf(await cairn(["store", "check", cut]))).toBe("STORE_TRUNCATED 7");
    const other = freshCopy("other");
    writeFileSync(join(other, "log/data.mdb"), "this is no store, and never was one, but long enough for two pages".repeat(400));
    expect(failureOf(await cairn(["store", "check", other]))).toBe("STORE_CORRUPT 7");
  });

  test("rows that a damaged page hides are missed by their number", async () => {
    const dir = path("hidden");
    mkdirSync(dir);
    const environment = await openEnvironment(join(dir, "log"), ["log"], { create: true });
    const key = (i: number): Uint8Array => utf8(`key ${String(i).padStart(4, "0")}`);
    await environment.stores.log.commit(Array.from({ length: 400 }, (_, i) => ({ op: "put" as const, key: key(i), value: new Uint8Array(100) })));
    await environment.close();
    ok(await cairn(["store", "check", dir]));
    hideLastLeaf(join(dir, "log/data.mdb"), key(399));
    const run = await cairn(["store", "check", dir]);
    expect([failureOf(run), run.stderr]).toEqual(["STORE_CORRUPT 7", expect.stringContaining("400 are there")]);
  });
});

function freshCopy(name: string): string {
  cpSync(node(1), path(name), { recursive: true });
  rmSync(join(path(name), "log/lock.mdb"), { force: true });
  return path(name);
}

/** Flips one bit inside each copy of the text, old pages included. */
function flip(file: string, text: string): void {
  const bytes = readFileSync(file);
  let count = 0;
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + text.length), count++) bytes[at + 3] = (bytes[at + 3] ?? 0) ^ 1;
  expect(count).toBeGreaterThan(0);
  writeFileSync(file, bytes);
}

/** Makes the leaf page with this key end before it: LMDB's `lower` bound (u16 at 20) says how many rows a page has. */
function hideLastLeaf(file: string, key: Uint8Array): void {
  const PAGE_BYTES = 4_096;
  const bytes = readFileSync(file);
  for (let at = bytes.indexOf(key); at >= 0; at = bytes.indexOf(key, at + 1)) {
    const page = Math.floor(at / PAGE_BYTES) * PAGE_BYTES;
    if ((bytes.readUInt16LE(page + 18) & 2) !== 0) bytes.writeUInt16LE(bytes.readUInt16LE(page + 20) - 2, page + 20);
  }
  writeFileSync(file, bytes);
}
