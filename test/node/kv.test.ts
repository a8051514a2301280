/** The KV endpoints on three real nodes (sync.md 3.8): what each request answers, on any node, and without a majority. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Ready, UpBench } from "./up-bench.ts";

/** A new leader takes a second or two; a busy machine longer. */
const LEADER_MS = 20_000;

let bench: UpBench;
let ready: Ready;
let nodes: string[];

beforeAll(async () => {
  bench = await UpBench.open();
  ({ ready } = await bench.up("--no-merge"));
  nodes = ready.nodes.map(({ admin }) => admin);
});
afterAll(() => bench[Symbol.asyncDispose]());

type Ask = { readonly method?: string; readonly headers?: Record<string, string>; readonly body?: string | Uint8Array<ArrayBuffer> };
const ask = (at: number, path: string, init: Ask = {}): Promise<Response> => fetch(`${nodes[at]}/kv/${path}`, init);
const put = (at: number, path: string, body: string, headers: Record<string, string> = {}): Promise<Response> =>
  ask(at, path, { method: "PUT", body, headers });
const versionOf = (answer: Response): number => Number(answer.headers.get("x-cairn-version"));
const codeOf = async (answer: Response): Promise<string> => ((await answer.json()) as { error: { code: string } }).error.code;

describe("with all nodes", () => {
  test("what one node wrote every node reads, with the version that wrote it", async () => {
    for (const [at] of nodes.entries()) {
      const written = await put(at, "colour", `blue ${at}`);
      expect(written.status).toBe(200);
      const version = versionOf(written);
      expect(await written.json()).toEqual({ version });
      for (const [from] of nodes.entries()) {
        const read = await ask(from, "colour");
        expect([read.status, versionOf(read), read.headers.get("etag"), await read.text()]).toEqual([200, version, `"${version}"`, `blue ${at}`]);
        expect(Number(read.headers.get("x-cairn-read-version"))).toBeGreaterThanOrEqual(version);
      }
      // a client reads its own write where it wrote it, without asking anybody
      expect(await (await ask(at, "colour?consistency=local")).text()).toBe(`blue ${at}`);
    }
  });

  test("a value is its bytes, a key is the bytes behind the percent signs", async () => {
    const value = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    expect((await ask(0, "a%2Fb%00%ff%25", { method: "PUT", body: value })).status).toBe(200);
    expect(new Uint8Array(await (await ask(1, "%61%2fb%00%FF%25")).arrayBuffer())).toEqual(value);
    expect((await ask(1, "a/b")).status).toBe(404);
  });

  test("conditions are exact: a version, any version, none", async () => {
    const first = versionOf(await put(0, "guarded", "1", { "if-none-match": "*" }));
    const again = await put(1, "guarded", "2", { "if-none-match": "*" });
    expect([again.status, versionOf(again), await codeOf(again)]).toEqual([412, first, "KV_CONDITION"]);
    const second = versionOf(await put(2, "guarded", "2", { "if-match": `"${first}"` }));
    expect(second).toBeGreaterThan(first);
    const late = await put(0, "guarded", "3", { "if-match": `"${first}"` });
    expect([late.status, versionOf(late)]).toEqual([412, second]);
    expect((await put(0, "guarded", "4", { "if-match": "*" })).status).toBe(200);
    const absent = await put(0, "never", "1", { "if-match": "*" });
    expect([absent.status, versionOf(absent)]).toEqual([412, 0]);
    expect(await (await ask(1, "guarded")).text()).toBe("4");
  });

  test("of writers that all saw one version, exactly one writes", async () => {
    const version = versionOf(await put(0, "race", "start"));
    const answers = await Promise.all(Array.from({ length: 30 }, (_, at) => put(at % 3, "race", String(at), { "if-match": `"${version}"` })));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array.from({ length: 29 }, () => 412)]);
  });

  test("a removed key is gone, and removing it again is no error", async () => {
    await put(0, "gone", "soon");
    expect((await ask(1, "gone", { method: "DELETE" })).status).toBe(204);
    expect((await ask(1, "gone", { method: "DELETE" })).status).toBe(204);
    const read = await ask(2, "gone");
    expect([read.status, await codeOf(read)]).toEqual([404, "NOT_FOUND"]);
    expect(versionOf(read)).toBe(Number(read.headers.get("x-cairn-read-version")));
    expect((await ask(0, "gone", { method: "DELETE", headers: { "if-match": "*" } })).status).toBe(412);
  });

  test("a list is in key order, page by page, from one state", async () => {
    await Promise.all(Array.from({ length: 25 }, (_, at) => put(at % 3, `list%2F${String(at).padStart(2, "0")}`, `value ${at}`)));
    const seen: string[] = [];
    for (let after = ""; ; after = seen.at(-1) ?? "") {
      const page = await ask(1, `?prefix=list/&limit=10${after === "" ? "" : `&after=${encodeURIComponent(after)}`}`);
      const rows = (await page.text()).trimEnd().split("\n").filter(Boolean);
      seen.push(...rows.map((row) => (JSON.parse(row) as { key: string }).key));
      if (page.headers.get("x-cairn-more") === "false") break;
    }
    expect(seen).toEqual(Array.from({ length: 25 }, (_, at) => `list/${String(at).padStart(2, "0")}`));
  });

  test("what is asked wrongly is refused with its code, and nothing is written", async () => {
    const before = versionOf(await ask(0, "untouched"));
    const cases: [Promise<Response>, number, string][] = [
      [ask(0, "x", { method: "PUT", body: new Uint8Array(1_048_577) }), 413, "HTTP_BODY_TOO_LARGE"],
      [put(0, "k".repeat(1_001), "x"), 400, "USAGE"],
      [put(0, "%zz", "x"), 400, "USAGE"],
      [put(0, "untouched", "x", { "if-match": "12" }), 400, "USAGE"],
      [put(0, "untouched", "x", { "if-match": `"1"`, "if-none-match": "*" }), 400, "USAGE"],
      [put(0, "untouched", "x", { "if-none-match": `"1"` }), 400, "USAGE"],
      [ask(0, "x?consistency=perhaps"), 400, "USAGE"],
      [ask(0, "?limit=-1"), 400, "USAGE"],
      [ask(0, "x", { method: "POST", body: "x" }), 405, "HTTP_METHOD"],
      [put(0, "", "x"), 405, "HTTP_METHOD"],
      [ask(0, "x", { headers: { host: "evil.example" } }), 403, "NOT_ALLOWED"],
    ];
    for (const [asked, status, code] of cases) {
      const answer = await asked;
      expect([answer.status, await codeOf(answer)]).toEqual([status, code]);
    }
    expect(versionOf(await ask(0, "untouched"))).toBe(before);
  });
});

test("the leader dies: writes are back; a majority dies: the error names the silent, and old state is still told as such", async () => {
  const version = versionOf(await put(0, "kept", "safe"));
  process.kill(ready.nodes[0]?.pid ?? 0, "SIGKILL");
  let after = await put(1, "kept", "safer"); // what was on its way to the dead leader may have an unknown outcome
  for (const untilMs = performance.now() + LEADER_MS; !after.ok && performance.now() < untilMs; after = await put(1, "kept", "safer")) await Bun.sleep(50);
  expect(after.status).toBe(200);
  expect(versionOf(after)).toBeGreaterThan(version);
  process.kill(ready.nodes[2]?.pid ?? 0, "SIGKILL");
  const refused = await put(1, "kept", "never");
  expect(refused.status).toBe(503);
  const { error } = (await refused.json()) as { error: { code: string; message: string } };
  expect(["PAXOS_NO_QUORUM", "PAXOS_OUTCOME_UNKNOWN"]).toContain(error.code);
  expect(error.message).toMatch(/\b[ac]\b/);
  expect((await ask(1, "kept")).status).toBe(503);
  const old = await ask(1, "kept?consistency=local");
  expect([old.status, versionOf(old), await old.text()]).toEqual([200, versionOf(after), "safer"]);
  const health = await fetch(`${nodes[1]}/health`);
  expect(health.status).toBe(503);
  expect(await health.json()).toMatchObject({ ready: false, missing: [{ task: "cluster", step: "quorum" }] });
});
