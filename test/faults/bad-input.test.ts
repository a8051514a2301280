/**
 * Wrong input on real processes of the compiled binary: each is refused with its code and exit status, and changes
 * nothing. What is held elsewhere: entries over 65,535 bytes and a closed stdin of `log add` (cmd/log.test.ts), of `up`
 * (node/commands.test.ts); the HTTP side of both (node/log-http.test.ts); damaged tiles and rows on disk (cmd/log.test.ts,
 * cmd/store.test.ts); a failed fsync of a node (node/up.ci.test.ts); the words of every option (cmd/parse.test.ts).
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fromHex, toHex } from "../../src/engine/base/bytes.ts";
import { loadNode } from "../../src/engine/node/config.ts";
import { openDisk } from "../../src/engine/node/disk.ts";
import { logKeys } from "../../src/engine/store/keys.ts";
import { eventually } from "../node/up-bench.ts";
import { HandCluster, type Said } from "./hand-cluster.ts";

setDefaultTimeout(60_000);

let cluster: HandCluster;
const ended = ({ code, status }: Said): [string, number] => [code, status];
const handOver = (name: string): string => readFileSync(cluster.path("a", "merge", name), "utf8");
const sizeOf = (): number => (JSON.parse(handOver("currentsize")) as { size: number }).size;

beforeAll(async () => {
  cluster = await HandCluster.open("--nodes", "3");
  await cluster.add("b", "one", "two", "three");
  await cluster.round();
});
afterAll(() => cluster[Symbol.asyncDispose]());

test("a node that is not there, a node of another role, a log that is not there", async () => {
  const cases: [Promise<Said>, string, number, string][] = [
    [cluster.merge("fetch", "--storage", "x"), "UNKNOWN_NODE", 3, "x is no storage node: there are a, b, c"],
    [cluster.merge("backup", "--secondary", "a"), "UNKNOWN_NODE", 3, "a is no secondary: there are b, c"],
    [cluster.step("b", "fetch"), "NOT_ALLOWED", 4, "not the primary"],
    [cluster.merge("queue", "--log", "nope"), "NOT_FOUND", 3, "log nope"],
  ];
  for (const [run, code, status, says] of cases) {
    const said = await run;
    expect([...ended(said), said.message]).toEqual([code, status, expect.stringContaining(says)]);
  }
});

test("hostile values of options are refused as what they are, before anything is done", async () => {
  const before = readdirSync(cluster.path("a", "merge")).sort();
  const cases: [string[], string, number][] = [
    [["fetch", "--storage", "../../etc/passwd"], "BAD_NODE_NAME", 2],
    [["fetch", "--storage", ""], "BAD_NODE_NAME", 2],
    [["backup", "--secondary", "b\n"], "BAD_NODE_NAME", 2],
    [["backup", "--secondary", "objects"], "BAD_NODE_NAME", 2],
    [["run", "--sequential", "--rounds", "1e3"], "BAD_OPTION", 2],
    [["run", "--sequential", "--rounds", "-1"], "BAD_OPTION", 2],
    [["run", "--rounds", "1"], "BAD_OPTION", 2],
    [["queue", "--log", "../x"], "NOT_FOUND", 3],
    [["queue", "--timeout", "5parsecs"], "BAD_OPTION", 2],
    [["queue", "--wait=yes"], "BAD_OPTION", 2],
    [["queue", "--unknown"], "USAGE", 2],
  ];
  const runs = await Promise.all(cases.map(([words]) => cluster.merge(...words)));
  expect(runs.map((run, at) => [cases[at]?.[0], ...ended(run)])).toEqual(cases);
  expect(readdirSync(cluster.path("a", "merge")).sort()).toEqual(before);
  expect(ended(await cluster.shell('"$CAIRN" merge queue --dir /dev/null --json'))).toEqual(["NOT_FOUND", 3]);
});

describe("hand-over files", () => {
  test("currentsize of another cluster, and one that says more than the order: refused, not overwritten", async () => {
    const { origin } = cluster.ready.log;
    for (const change of [
      (text: string) => text.replace(origin, "cairn/01234567"),
      (text: string) => text.replace(/"hash":"[0-9a-f]{64}"/, `"hash":"${"0".repeat(64)}"`),
    ]) {
      const file = await cluster.withFile("a", "merge/currentsize", change, async () => {
        expect(ended(await cluster.merge("queue"))).toEqual(["MERGE_FILE_FOREIGN", 7]);
        return handOver("currentsize");
      });
      expect(file).toBe(change(handOver("currentsize")));
    }
    expect((await cluster.merge("queue")).status).toBe(0);
  });

  test("currentsize torn: others have nothing to do, queue writes it again from the order", async () => {
    const whole = JSON.parse(handOver("currentsize")) as object;
    writeFileSync(cluster.path("a", "merge/currentsize"), handOver("currentsize").slice(0, 40));
    const [backup, dist] = [await cluster.merge("backup"), await cluster.merge("dist")];
    for (const { status, steps } of [backup, dist])
      expect([status, steps.flatMap(({ notes }) => notes).join()]).toEqual([0, expect.stringContaining("currentsize")]);
    expect((await cluster.merge("queue")).status).toBe(0);
    expect(JSON.parse(handOver("currentsize"))).toEqual({ ...whole, timeMs: expect.any(Number) });
  });

  test("queue file with a torn tail: it is cut, and what was half there is listed again, once", async () => {
    const before = sizeOf();
    await cluster.add("b", "torn tail");
    writeFileSync(cluster.path("a", "merge/queue.b"), `${handOver("queue.b")}{"seq":3,"storage":"b","ha`);
    await cluster.round();
    expect(sizeOf()).toBe(before + 1);
    expect(handOver("queue.b")).toEndWith("}\n");
    expect(handOver("queue.b")).not.toContain('"ha{');
  });

  test("queue file with a bad line: kept aside, listed again, nothing twice", async () => {
    const before = sizeOf();
    await cluster.add("b", "bad line");
    expect((await cluster.merge("fetch", "--storage", "b")).status).toBe(0);
    const bad = handOver("queue.b").replace(/"crc":"[0-9a-f]{8}"\}\n$/, '"crc":"00000000"}\n');
    writeFileSync(cluster.path("a", "merge/queue.b"), bad);
    const queue = await cluster.merge("queue");
    expect([queue.status, queue.steps[0]?.notes.join()]).toEqual([0, expect.stringContaining("queue.b")]);
    await cluster.round();
    await cluster.round();
    expect(sizeOf()).toBe(before + 1);
    const aside = readdirSync(cluster.path("a", "merge")).filter((name) => name.startsWith("queue.b.bad-"));
    expect(aside.map((name) => handOver(name))).toEqual([bad]);
  });

  test("positions that are of another log, above currentsize, of another root, torn: each counts for nothing and is named", async () => {
    const size = sizeOf();
    const changes: [(text: string) => string, string][] = [
      [(text) => text.replace(cluster.ready.log.origin, "cairn/01234567"), "position.b is of log"],
      [(text) => text.replace(`"size":${size}`, `"size":${size + 5}`), `position ${size + 5} is above currentsize ${size}`],
      [(text) => text.replace(/"root":"[0-9a-f]{64}"/, `"root":"${"0".repeat(64)}"`), `position ${size} names root 0000`],
      [(text) => text.slice(0, 30), "position.b is not one whole line"],
    ];
    for (const [change, says] of changes) {
      const path = cluster.path("a", "merge/position.b");
      writeFileSync(path, change(readFileSync(path, "utf8")));
      const explained = await cluster.cairn("merge", "explain");
      expect([explained.status, explained.stdout]).toEqual([0, expect.stringContaining(says)]);
      const { standings } = JSON.parse(explained.stdout) as { standings: { secondary: string; size: number }[] };
      expect(standings.map((each) => [each.secondary, each.size])).toEqual([
        ["b", 0],
        ["c", size],
      ]);
      expect((await cluster.merge("backup", "--secondary", "b")).status).toBe(0);
      expect(JSON.parse(handOver("position.b"))).toMatchObject({ size, log: cluster.ready.log.origin });
    }
  });
});

test("an entry that its listers lost is held and named, blocks no other, and comes in when it is added again", async () => {
  const before = sizeOf();
  const answer = await fetch(`${cluster.node("b").log}/add`, { method: "POST", body: "lost entry" });
  const { leafHash } = (await answer.json()) as { leafHash: string };
  for (const storage of ["a", "b", "c"]) expect((await cluster.merge("fetch", "--storage", storage)).status).toBe(0);
  const stranger: string[] = [];
  for (const storage of ["a", "b", "c"]) if (!(await losePending(storage, "lost entry"))) stranger.push(storage);
  expect(stranger).toHaveLength(1); // storagequorum 2: two of three had it
  await cluster.add("c", "not lost");
  const held = await cluster.merge("fetch");
  expect(held.status).toBe(0);
  const queue = held.steps.find(({ step }) => step === "queue");
  expect([queue?.counts["held"], queue?.notes.join()]).toEqual([expect.any(Number), expect.stringContaining(leafHash.slice(0, 8))]);
  expect(queue?.counts["held"]).toBeGreaterThan(0);
  expect(sizeOf()).toBe(before + 1);
  await cluster.add(stranger[0] ?? "", "lost entry");
  await cluster.round();
  expect(sizeOf()).toBe(before + 2);
});

/** Takes away the row in which a storage node keeps this entry; false where it has none. */
async function losePending(storage: string, entry: string): Promise<boolean> {
  const { dir } = cluster.node(storage);
  const { merge } = await loadNode(dir);
  const disk = await openDisk(dir, { create: false });
  try {
    using snap = disk.snapshot();
    const rows = [...snap.range("log", logKeys.pending(merge.log, 0), logKeys.pending(merge.log, Number.MAX_SAFE_INTEGER))];
    const keys = rows.filter(([, value]) => Buffer.from(value).includes(entry)).map(([key]) => key);
    if (keys.length > 0) await disk.write({ db: "log", batch: keys.map((key) => ({ op: "del", key })) });
    return keys.length > 0;
  } finally {
    await disk.close();
  }
}

test("a step while another instance of it runs is busy and changes nothing", async () => {
  const pid = await cluster.pidOf("b");
  await cluster.add("c", "for a slow secondary");
  expect((await cluster.merge("fetch")).status).toBe(0);
  process.kill(pid, "SIGSTOP");
  const slow = cluster.bench.spawn("merge", "backup", "--secondary", "b", "--dir", cluster.node("a").dir, "--json");
  try {
    const owner = (): string => readFileSync(cluster.path("a", "merge/lock.backup.b"), "utf8");
    await eventually(owner, (text) => text === `${slow.pid}\n`);
    const second = await cluster.merge("backup", "--secondary", "b");
    expect([...ended(second), second.message]).toEqual(["MERGE_STEP_BUSY", 5, expect.stringContaining(`locked by process ${slow.pid}`)]);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  expect(await slow.exited).toBe(0);
  await cluster.round();
});

test("stdin that is closed or ends: a warm step and the loop end well, a question is refused", async () => {
  expect(await cluster.shell('"$CAIRN" merge queue --warm --dir "$DIR" --json 0<&-')).toMatchObject({ status: 0, stdout: "" });
  expect((await cluster.shell('"$CAIRN" merge run --stdin --dir "$DIR" --json </dev/null')).status).toBe(0);
  expect(ended(await cluster.shell('echo stop | "$CAIRN" merge queue --warm --dir "$DIR" --json'))).toEqual(["USAGE", 2]);
  writeFileSync(cluster.path("a", "merge/latch"), '{"format":1,"code":"LOG_ROOT_MISMATCH","detail":"as told","timeMs":1}\n');
  for (const step of ["queue", "dist"]) expect(ended(await cluster.merge(step))).toEqual(["MERGE_LATCHED", 6]);
  expect(ended(await cluster.shell('"$CAIRN" merge unlatch --dir "$DIR" --json 0<&-'))).toEqual(["NEEDS_ANSWER", 2]);
  expect(existsSync(cluster.path("a", "merge/latch"))).toBe(true);
  expect((await cluster.merge("unlatch", "--yes")).status).toBe(0);
  expect((await cluster.merge("dist")).status).toBe(0);
});

test("a loop that a parent feeds ends on a signal too, though its stdin stays open", async () => {
  const loop = cluster.bench.spawn("merge", "run", "--stdin", "--dir", cluster.node("a").dir, "--json");
  const rows = loop.stdout.getReader();
  await cluster.add("a", "for the loop");
  expect((await rows.read()).done).toBe(false); // it runs
  loop.kill("SIGTERM");
  while (!(await rows.read()).done);
  expect(await loop.exited).toBe(143);
});

test("a peer's key that was replaced in one config: the link is refused by name, on either side", async () => {
  const other = toHex(crypto.getRandomValues(new Uint8Array(32)));
  const key = (text: string, name: string): string => {
    const at = text.indexOf(`name = "${name}"\nroles`);
    return text.slice(0, at) + text.slice(at).replace(/key = "ed25519:[^"]+"/, `key = "ed25519:${Buffer.from(fromHex(other) ?? []).toString("base64")}"`);
  };
  // The primary expects another key of b.
  const expected = await cluster.withFile(
    "a",
    "config.toml",
    (text) => key(text, "b"),
    () => cluster.merge("fetch", "--storage", "b"),
  );
  expect(ended(expected)).toEqual(["HANDSHAKE_FAILED", 4]);
  // b expects another key of the primary.
  const before = readFileSync(cluster.path("b", "config.toml"), "utf8");
  await cluster.whileNodeIsDown("b", () => writeFileSync(cluster.path("b", "config.toml"), key(before, "a")), "answers");
  const refused = await cluster.merge("fetch", "--storage", "b");
  await cluster.whileNodeIsDown("b", () => writeFileSync(cluster.path("b", "config.toml"), before));
  expect(ended(refused)).toEqual(["HANDSHAKE_FAILED", 4]);
  expect((await cluster.merge("fetch", "--storage", "b")).status).toBe(0);
});
