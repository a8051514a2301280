/** config.toml of a node's folder: what is refused, with file, line and key; what is taken, and from where. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EngineError } from "../../src/engine/base/errors.ts";
import { createCluster, readCluster } from "../../src/engine/node/cluster-folder.ts";
import { loadNode } from "../../src/engine/node/config.ts";
import { parseEndpoint } from "../../src/engine/node/endpoint.ts";
import { readRunning, writeRunning } from "../../src/engine/node/running.ts";
import { choiceForm, countForm, listForm, TomlFile } from "../../src/engine/node/toml-section.ts";

let data: string;
let original: string;
const path = (): string => join(data, "a", "config.toml");

beforeAll(async () => {
  data = await mkdtemp(join(tmpdir(), "cairn-config-"));
  await createCluster(data, { nodeCount: 3, knobs: {} });
  original = await readFile(path(), "utf8");
});
afterAll(() => rm(data, { recursive: true }));

/** Loads node a with its config changed; gives the error it ends with. */
async function refusal(change: (text: string) => string): Promise<EngineError> {
  await writeFile(path(), change(original));
  try {
    await loadNode(join(data, "a"));
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  } finally {
    await writeFile(path(), original);
  }
  throw new Error("it was taken");
}
const lineOf = (text: string, needle: string): number => text.split("\n").findIndex((line) => line.includes(needle)) + 1;
const add =
  (section: string, line: string) =>
  (text: string): string =>
    text.replace(`[${section}]\n`, `[${section}]\n${line}\n`);

describe("what is taken", () => {
  test("the roles and knobs of a new cluster of three are those of merge.md section 2", async () => {
    const { merge, self, members, settings } = await loadNode(join(data, "a"));
    expect(self.roles).toEqual(["primary", "storage", "frontend"]);
    expect(members.map(({ name }) => String(name))).toEqual(["a", "b", "c"]);
    expect(merge).toMatchObject({
      backupquorum: 1,
      storagequorum: 2,
      promiseMs: 60_000,
      intervalMs: 50,
      cosign: "prefer",
      cosignWaitMs: 200,
      storageKeepMs: 3_600_000,
    });
    expect([merge.secondaries, merge.storages, merge.frontends].map(String)).toEqual(["b,c", "a,b,c", "a,b,c"]);
    expect(merge.boot).toBeNull();
    expect(merge.logSeed).not.toBeNull();
    expect((await loadNode(join(data, "b"))).merge.logSeed).toBeNull();
    const name = settings.find(({ key }) => key === "node.name");
    expect(name).toEqual({ key: "node.name", value: '"a"', origin: `config.toml:${lineOf(original, 'name = "a"')}` });
    expect(settings.find(({ key }) => key === "merge.promiseMs")?.origin).toBe("default");
  });

  test("a cluster of one needs no secondary and one storage node", async () => {
    const lone = await mkdtemp(join(tmpdir(), "cairn-config-"));
    await createCluster(lone, { nodeCount: 1, knobs: {} });
    expect((await loadNode(join(lone, "a"))).merge).toMatchObject({ backupquorum: 0, storagequorum: 1, secondaries: [] });
    await rm(lone, { recursive: true });
  });

  test("keys and config are for their owner only", async () => {
    for (const file of ["identity", "log.key", "config.toml"]) expect(((await stat(join(data, "a", file))).mode & 0o777).toString(8)).toBe("600");
  });
});

describe("what is refused", () => {
  test.each([
    ["an unknown key", add("merge", "backupqorum = 1"), "merge.backupqorum is unknown", "backupqorum"],
    ["an unknown section", (text: string) => `${text}\n[s3]\nport = 1\n`, "s3 is unknown", null],
    ["a word for a number", add("merge", 'promiseMs = "60s"'), 'merge.promiseMs is "60s": want a whole number', "promiseMs"],
    ["a fraction", add("merge", "promiseMs = 1.5"), "merge.promiseMs is 1.5", "promiseMs"],
    ["a negative number", add("merge", "backupquorum = -1"), "merge.backupquorum is -1", "backupquorum"],
    ["a number that a double cannot hold", add("merge", "storageKeepMs = 9007199254740993"), "not TOML", "storageKeepMs"],
    ["another word", add("merge", 'cosign = "maybe"'), 'merge.cosign is "maybe": want one of prefer, require', "cosign"],
    ["another way to copy", (text: string) => `${text}\n[sync]\nmode = "quick"\n`, 'sync.mode is "quick": want one of full, delta', 'mode = "quick"'],
    ["a quorum of more storage nodes than there are", add("merge", "storagequorum = 4"), "merge.storagequorum is 4, and there are 3", "storagequorum"],
    ["a promise shorter than four rounds", add("merge", "promiseMs = 900"), "want at least 4 × (intervalMs + cosignWaitMs) = 1000", "promiseMs"],
    [
      "entries kept for less than their promise",
      add("merge", "storageKeepMs = 59999"),
      "merge.storageKeepMs is 59999, less than promiseMs, 60000",
      "storageKeepMs",
    ],
    ["a port too large", (text: string) => text.replace(/^admin = .*$/m, 'admin = "127.0.0.1:70000"'), "listen.admin is", "70000"],
    ["an admin port for all without a token", (text: string) => text.replace(/^admin = .*$/m, 'admin = "0.0.0.0:7000"'), "set listen.adminToken", "0.0.0.0"],
    ["a token that can be guessed", add("listen", 'adminToken = "short"'), "listen.adminToken is", "adminToken"],
    ["a node that is no member", (text: string) => text.replace('name = "a"', 'name = "z"'), "node.name is z, which is none of the members", 'name = "z"'],
    ["another node's name", (text: string) => text.replace('name = "a"', 'name = "b"'), "node.name is b, whose key is", 'name = "b"'],
    ["a reserved name", (text: string) => text.replace('name = "b"', 'name = "register"'), "node name", null],
    ["two primaries", (text: string) => text.replace('["secondary"', '["primary"'), "one member is the primary, not a and b", null],
    ["no primary", (text: string) => text.replace('["primary"', '["frontend"'), "no member has the role primary", null],
    [
      "a primary that is its own secondary",
      (text: string) => text.replace('["primary"', '["primary", "secondary"'),
      "member[0].roles has primary and secondary",
      "primary",
    ],
    ["an unknown role", (text: string) => text.replace('["primary"', '["boss", "primary"'), "member[0].roles is", "boss"],
    ["a missing key", (text: string) => text.replace(/^logKey = .*\n/m, ""), "cluster.logKey is missing", "[cluster]"],
    ["an origin with a plus sign", (text: string) => text.replace(/^origin = .*$/m, 'origin = "a+b"'), "cluster.origin is", "a+b"],
  ] as const)("%s", async (_name, change, says, where) => {
    const error = await refusal(change);
    expect(["BAD_CONFIG", "BAD_NODE_NAME"]).toContain(error.code);
    expect(error.message).toContain(says);
    if (where !== null) expect(error.message).toStartWith(`${path()}:${lineOf(change(original), where)}: `);
  });

  test("a key twice, and text that is no TOML, name the line", async () => {
    expect((await refusal(add("merge", "promiseMs = 1\npromiseMs = 2"))).message).toContain("not TOML");
    const error = await refusal(add("merge", "promiseMs = = 2"));
    expect(error.message).toStartWith(`${path()}:${lineOf(add("merge", "promiseMs = = 2")(original), "= =")}: not TOML`);
  });

  test("more copies than there are secondaries is impossible, with a code of its own", async () => {
    expect((await refusal(add("merge", "backupquorum = 3"))).code).toBe("MERGE_QUORUM_IMPOSSIBLE");
  });

  test("a folder without a node, and keys that others may read", async () => {
    expect(loadNode(join(data, "nowhere"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    await chmod(join(data, "b", "identity"), 0o640);
    await expect(loadNode(join(data, "b"))).rejects.toMatchObject({ code: "IDENTITY_MODE" });
    await chmod(join(data, "b", "identity"), 0o600);
  });

  test("another log's key on the primary", async () => {
    const key = await readFile(join(data, "a", "log.key"), "utf8");
    await writeFile(join(data, "a", "log.key"), await readFile(join(data, "b", "identity"), "utf8"));
    await expect(loadNode(join(data, "a"))).rejects.toMatchObject({ code: "BAD_CONFIG" });
    await writeFile(join(data, "a", "log.key"), key);
  });
});

describe("cluster.json", () => {
  test("what was made is read back, and a folder broken off while it was made is finished with the keys it has", async () => {
    const made = await mkdtemp(join(tmpdir(), "cairn-config-"));
    const first = await createCluster(made, { nodeCount: 2, knobs: { backupquorum: 0 } });
    expect(await readCluster(made)).toEqual(first);
    const identity = await readFile(join(made, "b", "identity"), "utf8");
    await rm(join(made, "cluster.json"));
    const second = await createCluster(made, { nodeCount: 2, knobs: {} });
    expect(await readFile(join(made, "b", "identity"), "utf8")).toBe(identity);
    expect((await loadNode(join(made, "b"))).clusterId).toEqual(second.id);
    await writeFile(join(made, "cluster.json"), '{"format":2}');
    await expect(readCluster(made)).rejects.toMatchObject({ code: "BAD_CONFIG" });
    await rm(made, { recursive: true });
  });
});

describe("running.json", () => {
  const running = { pid: process.pid, boot: "b", ports: { peer: 1, admin: 2, log: 3 } };

  test("is believed for the very process that wrote it, and for no other that has its pid", async () => {
    await writeRunning(data, running);
    expect(await readRunning(data)).toMatchObject(running);
    const file = join(data, "running.json");
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replace(/"started":"[^"]*"/, '"started":"another-boot:1"'));
    expect(await readRunning(data)).toBeNull();
    await writeFile(file, text.slice(0, 20));
    expect(await readRunning(data)).toBeNull();
  });
});

describe("forms", () => {
  test("endpoints", () => {
    expect(parseEndpoint("127.0.0.1:80")).toEqual({ host: "127.0.0.1", port: 80 });
    expect(parseEndpoint("[::1]:0")).toEqual({ host: "::1", port: 0 });
    for (const text of ["", "127.0.0.1", ":80", "a:080", "a:65536", "a b:1", "::1:80", "a:1/x", "http://a:1"]) expect(parseEndpoint(text)).toBeNull();
  });

  test("a value of another section is not taken for this one's line", () => {
    const file = new TomlFile("t.toml", "[one]\nx = 1\n[two]\ny = 2\nx = 300\n");
    file.root.table("one").take("x", countForm(0, 10));
    expect(() => file.root.table("two").take("x", countForm(0, 10))).toThrow("t.toml:5: two.x is 300");
    expect(() => new TomlFile("t.toml", "x = [1]").root.take("x", listForm(choiceForm("a")))).toThrow("t.toml:1: x is [1]: want a list of: one of a");
  });
});
