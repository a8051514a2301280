/** `config show`, `node init`, `node status`, and the forms in which a cluster is addressed (architecture.md section 7). */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Ready, UpBench } from "./up-bench.ts";

setDefaultTimeout(30_000);

let bench: UpBench;
let ready: Ready;
beforeAll(async () => {
  bench = await UpBench.open();
  const { ready: found, line } = await bench.up("--nodes", "2", "--no-merge");
  ready = found;
  await writeFile(join(bench.folder, "ready.json"), line);
});
afterAll(() => bench[Symbol.asyncDispose]());

const rowsOf = (stdout: string): Record<string, unknown>[] =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test("a cluster is found by folder, node's folder, file, ready line, URLs, and by itself", async () => {
  const admins = ready.nodes.map(({ admin }) => admin).join(",");
  for (const given of [bench.data, join(bench.data, "b"), join(bench.data, "cluster.json"), join(bench.folder, "ready.json"), admins, ""]) {
    const { stdout, status } = await bench.run("node", "status", "--json", ...(given === "" ? [] : ["--cluster", given]));
    expect([given, status, rowsOf(stdout).map(({ id, pid }) => [id, pid])]).toEqual([given, 0, ready.nodes.map(({ id, pid }) => [id, pid])]);
  }
});

test("what names no cluster is refused with its code", async () => {
  await writeFile(join(bench.folder, "other.json"), "{}");
  for (const [given, code, status] of [
    [join(bench.folder, "nowhere"), "NOT_FOUND", 3],
    [bench.folder, "NOT_FOUND", 3],
    [join(bench.folder, "other.json"), "BAD_OPTION", 2],
    ["http://127.0.0.1:1/path", "BAD_OPTION", 2],
    ["http://", "BAD_OPTION", 2],
    ["http://127.0.0.1:1", "UNAVAILABLE", 6],
  ] as const) {
    const said = await bench.run("node", "status", "--json", "--cluster", given);
    expect([given, rowsOf(said.stdout).at(-1)?.["error"], said.status]).toMatchObject([given, { code }, status]);
  }
});

test("a port that answers with something else, too much, or never, is an unavailable node", async () => {
  const server = Bun.serve({
    port: 0,
    fetch: ({ url }) => {
      if (url.includes("/status") && server.port !== undefined && mode === "large") return new Response(`"${"x".repeat(2_000_000)}"`);
      if (mode === "never") return new Promise<Response>(() => {});
      return new Response(mode === "list" ? "[1]" : "not json");
    },
  });
  let mode = "";
  for (const [each, code] of [
    ["text", "UNAVAILABLE"],
    ["list", "UNAVAILABLE"],
    ["large", "UNAVAILABLE"],
    ["never", "TIMEOUT"],
  ] as const) {
    mode = each;
    const said = await bench.run("node", "status", "--json", "--timeout", "500ms", "--cluster", `http://127.0.0.1:${server.port}`);
    expect([each, rowsOf(said.stdout)[0]?.["error"]]).toMatchObject([each, { code }]);
  }
  await server.stop(true);
});

test("config show names each setting's origin and never a token", async () => {
  const dir = ready.nodes[0]?.dir ?? "";
  const text = await Bun.file(join(dir, "config.toml")).text();
  await writeFile(join(dir, "config.toml"), text.replace("[listen]\n", '[listen]\nadminToken = "a-secret-of-the-node"\n'));
  const { stdout } = await bench.run("config", "show", "--dir", dir, "--origin", "--json");
  await writeFile(join(dir, "config.toml"), text);
  expect(stdout).not.toContain("a-secret");
  const rows = rowsOf(stdout);
  expect(rows.find(({ key }) => key === "merge.backupquorum")).toEqual({ key: "merge.backupquorum", value: 1, origin: "default" });
  expect(rows.find(({ key }) => key === "listen.adminToken")).toEqual({
    key: "listen.adminToken",
    value: "…",
    origin: `config.toml:${text.split("\n").indexOf("[listen]") + 2}`,
  });
  expect((await bench.run("config", "show", "--dir", bench.folder)).status).toBe(3);
});

test("node init makes an identity once", async () => {
  const dir = join(bench.folder, "new");
  const made = await bench.run("node", "init", "--dir", dir, "--json");
  expect(rowsOf(made.stdout)[0]).toEqual({
    key: expect.stringMatching(/^ed25519:/),
    cosignerKey: expect.stringMatching(/^ed25519:/),
    receiptKey: expect.stringMatching(/^ed25519:/),
    birth: expect.stringMatching(/^[0-9a-f]{16}$/),
  });
  expect((await bench.run("node", "init", "--dir", dir)).status).toBe(5);
});

test("a node with a token answers its bearer only, and its folder carries the token to the client", async () => {
  await using other = await UpBench.open();
  expect((await other.run("up", "--data", other.data, "--nodes", "1", "--no-merge", "--run", "true")).status).toBe(0);
  const file = join(other.data, "a", "config.toml");
  await writeFile(file, (await Bun.file(file).text()).replace("[listen]\n", '[listen]\nadminToken = "a-secret-of-the-node"\n'));
  const { ready: there } = await other.up("--no-merge");
  const admin = there.nodes[0]?.admin ?? "";
  const status = async (authorization?: string): Promise<number> =>
    (await fetch(`${admin}/health`, authorization === undefined ? {} : { headers: { authorization } })).status;
  expect([await status(), await status("Bearer a-secret-of-the-nodf"), await status("Bearer a-secret-of-the-node")]).toEqual([403, 403, 200]);
  expect((await other.run("node", "status", "--cluster", join(other.data, "a"))).status).toBe(0);
  expect(rowsOf((await other.run("node", "status", "--json", "--cluster", admin)).stdout)[0]?.["error"]).toMatchObject({ code: "NOT_ALLOWED" });
});

test("up with its stdin closed, and with its stdout closed, runs all the same", async () => {
  await using other = await UpBench.open();
  for (const closed of ["0<&-", "1>&-", "0<&- 1>&- 2>&-"]) {
    const words = ["up", "--nodes", "1", "--no-merge", "--data", other.data, "--run", "exit 9"].map((word) => `'${word}'`).join(" ");
    const shell = Bun.spawn(["/bin/sh", "-c", `${other.program.join(" ")} ${words} ${closed}`], {
      env: { ...process.env, XDG_STATE_HOME: join(other.folder, "state") },
    });
    expect([closed, await shell.exited]).toEqual([closed, 9]);
  }
});
