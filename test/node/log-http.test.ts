/**
 * The log and admin ports of a real node (merge.md section 4, C2SP tlog-tiles): entries in over HTTP, the merge's steps run
 * by hand, everything out again and verified by what an outsider would use.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect } from "node:net";
import { concatBytes, toHex, utf8 } from "../../src/engine/base/bytes.ts";
import { openCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { leafHashes, rootOf } from "../../src/engine/log/merkle.ts";
import { parseVkey } from "../../src/engine/log/note.ts";
import { openProof, parseProof } from "../../src/engine/log/proof-file.ts";
import { loadNode } from "../../src/engine/node/config.ts";
import type { ReadyLine } from "../../src/engine/node/daemon.ts";
import { openSteps } from "../../src/engine/node/steps.ts";
import { type Ready, UpBench } from "./up-bench.ts";

setDefaultTimeout(30_000);

const COUNT = 300; // one full tile, and 44 more
const entries = Array.from({ length: COUNT }, (_, at) => utf8(`entry ${at}`));
let bench: UpBench;
let ready: Ready;
let log: string;
let admin: string;

beforeAll(async () => {
  bench = await UpBench.open();
  ({ ready } = await bench.up("--nodes", "1", "--no-merge"));
  const [node] = ready.nodes;
  if (node === undefined) throw new Error("no node");
  ({ log, admin } = node);
});
afterAll(() => bench[Symbol.asyncDispose]());

const post = (path: string, body: Uint8Array): Promise<Response> => fetch(`${log}/${path}`, { method: "POST", body });
const codeOf = async (answer: Response): Promise<string> => ((await answer.json()) as { error: { code: string } }).error.code;
const bytesOf = async (answer: Response): Promise<Uint8Array> => new Uint8Array(await answer.arrayBuffer());

/** One round of the merge, in this process: the node's own runs none. */
async function round(): Promise<void> {
  const node = await loadNode(ready.nodes[0]?.dir ?? "");
  const steps = await openSteps(node);
  for (const storage of node.merge.storages) expect((await steps.run({ step: "fetch", storage })).error).toBeUndefined();
  for (const step of ["queue", "dist"] as const) expect((await steps.run({ step })).error).toBeUndefined();
  await steps.close();
}

/** A request exactly as written; `fetch` would tidy it. */
function raw(target: string, header = ""): Promise<string> {
  const url = new URL(log);
  return new Promise((resolve) => {
    const socket = connect(Number(url.port), url.hostname, () =>
      socket.write(`GET ${target} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n${header}\r\n`),
    );
    let text = "";
    socket.on("data", (chunk: Uint8Array) => {
      text += Buffer.from(chunk).toString("latin1");
    });
    socket.on("close", () => resolve(text)).on("error", () => {});
  });
}

describe("add", () => {
  test("a receipt is one line of 202, and the same bytes for the same entry ever after", async () => {
    const first = await post("add", entries[0] as Uint8Array);
    expect(first.status).toBe(202);
    const text = await first.text();
    expect(text).toEndWith("}\n");
    expect(JSON.parse(text)).toMatchObject({
      receipt: 1,
      log: ready.log.origin,
      storage: "a",
      leafHash: toHex(leafHashes(bundleOf([entries[0] as Uint8Array]))),
      bytes: 7,
    });
    expect(await (await post("add", entries[0] as Uint8Array)).text()).toBe(text);
  });

  test("what is too long, malformed or asked for wrongly is refused with its code", async () => {
    const cases: [Promise<Response>, number, string][] = [
      [post("add", new Uint8Array(65_536)), 413, "LOG_ENTRY_TOO_LARGE"],
      [post("add-many", new Uint8Array(8 * 1_024 * 1_024 + 1)), 413, "HTTP_BODY_TOO_LARGE"],
      [post("add-many", Uint8Array.of(0, 5, 1, 2)), 422, "LOG_ENCODING"],
      [post("add-many", new Uint8Array(0)), 422, "LOG_ENCODING"],
      [post("add?wait=for-ever", utf8("x")), 400, "USAGE"],
      [post("add?wait=signed&timeoutMs=30001", utf8("x")), 400, "USAGE"],
      [fetch(`${log}/add`), 405, "HTTP_METHOD"],
      [fetch(`${log}/add`, { method: "POST", body: "x", headers: { "sec-fetch-site": "cross-site" } }), 403, "NOT_ALLOWED"],
    ];
    for (const [asked, status, code] of cases) {
      const answer = await asked;
      expect([answer.status, await codeOf(answer)]).toEqual([status, code]);
    }
  });

  test("an entry of 65,535 bytes and one of none are entries", async () => {
    expect((await post("add", new Uint8Array(65_535))).status).toBe(202);
    expect((await post("add", new Uint8Array(0))).status).toBe(202);
  });

  test("wait: not there in time is 202 again with the receipt, never an error; then 200 with index and proof", async () => {
    const waiting = await post("add?wait=sequenced&timeoutMs=60", entries[0] as Uint8Array);
    expect([waiting.status, waiting.headers.get("retry-after")]).toEqual([202, "1"]);
    expect(await waiting.text()).toBe(await (await post("add", entries[0] as Uint8Array)).text());
    const all = await post("add-many", bundleOf(entries));
    expect(all.status).toBe(202);
    expect((await all.text()).trimEnd().split("\n")).toHaveLength(COUNT);
    const held = post("add-many?wait=signed&timeoutMs=20000", bundleOf(entries.slice(0, 5)));
    await round();
    const answer = await held;
    expect(answer.status).toBe(200);
    const lines = (await answer.text()).trimEnd().split("\n");
    expect(lines).toHaveLength(5);
    const vkey = parseVkey(ready.log.vkey);
    for (const [at, line] of lines.entries()) {
      const { index, proof, receipt } = JSON.parse(line) as { index: number; proof: string; receipt: { leafHash: string } };
      const leaf = leafHashes(bundleOf([entries[at] as Uint8Array]));
      expect(receipt.leafHash).toBe(toHex(leaf));
      expect(parseProof(proof).index).toBe(index);
      expect(openProof(parseProof(proof), { vkey, leaf }).size).toBe(COUNT + 2);
    }
  });
});

describe("read", () => {
  const size = COUNT + 2;

  test("checkpoint, tiles and entries lead to one root", async () => {
    const checkpoint = await fetch(`${log}/checkpoint`);
    expect([checkpoint.status, checkpoint.headers.get("content-type"), checkpoint.headers.get("cache-control")]).toEqual([
      200,
      "text/plain; charset=utf-8",
      "max-age=2",
    ]);
    const vkey = parseVkey(ready.log.vkey);
    const head = openCheckpoint(await bytesOf(checkpoint), { origin: vkey.name, publicKey: vkey.publicKey });
    expect(head.size).toBe(size);
    const tiles = await Promise.all(["tile/0/000", `tile/0/001.p/${size - 256}`].map((path) => fetch(`${log}/${path}`)));
    for (const tile of tiles) {
      expect(tile.headers.get("content-type")).toBe("application/octet-stream");
      expect(tile.headers.get("cache-control")).toContain("immutable");
    }
    const hashes = concatBytes(...(await Promise.all(tiles.map(bytesOf))));
    expect(toHex(rootOf(hashes))).toBe(toHex(head.root));
    const bundles = await Promise.all(["tile/entries/000", `tile/entries/001.p/${size - 256}`].map(async (path) => bytesOf(await fetch(`${log}/${path}`))));
    expect(toHex(concatBytes(...bundles.map(leafHashes)))).toBe(toHex(hashes));
    const upper = await bytesOf(await fetch(`${log}/tile/1/000.p/1`));
    expect(toHex(upper)).toBe(toHex(rootOf(hashes.subarray(0, 256 * 32))));
  });

  test("a smaller width of a partial tile is a prefix of the larger", async () => {
    const whole = await bytesOf(await fetch(`${log}/tile/0/001.p/40`));
    for (const width of [1, 7, 39]) expect(await bytesOf(await fetch(`${log}/tile/0/001.p/${width}`))).toEqual(whole.slice(0, width * 32));
  });

  test("beyond the published size, and every other spelling of a path, is 404 that nobody may cache", async () => {
    for (const path of [
      "/log/tile/0/001",
      `/log/tile/0/001.p/${size - 255}`,
      "/log/tile/0/002.p/1",
      "/log/tile/1/000",
      "/log/tile/1/000.p/2",
      "/log/tile/2/000.p/1",
      "/log/tile/64/000",
      "/log/tile/0/0",
      "/log/tile/00/000",
      "/log/tile/0/000.p/256",
      "/log/tile/0/000.p/0",
      "/log/tile/0/x000/000",
      "/log/tile/0/%30%30%30",
      "/log/tile/0/000/",
      "/log//tile/0/000",
      "/log/./tile/0/000",
      "/log/x/../tile/0/000",
      "/log/%63heckpoint",
      "/log/checkpoint/",
      "/logcheckpoint",
      "/../../etc/passwd",
      "/",
    ]) {
      const text = await raw(path);
      expect([path, text.split(" ")[1]]).toEqual([path, "404"]);
      expect(text).toContain("cache-control: no-store");
    }
  });

  test("proofs by index, by hash and for an older head; what cannot be proved says why", async () => {
    const vkey = parseVkey(ready.log.vkey);
    const leaf = leafHashes(bundleOf([entries[200] as Uint8Array]));
    const byHash = await fetch(`${log}/proof?hash=${toHex(leaf)}`);
    expect([byHash.headers.get("content-type"), byHash.headers.get("cache-control")]).toEqual(["text/plain; charset=utf-8", "no-store"]);
    const proof = parseProof(await byHash.text());
    expect(openProof(proof, { vkey, leaf }).size).toBe(size);
    expect(await (await fetch(`${log}/proof?index=${proof.index}`)).text()).toBe(await (await fetch(`${log}/proof?hash=${toHex(leaf)}`)).text());
    await post("add", utf8("one more"));
    await round();
    expect(openProof(parseProof(await (await fetch(`${log}/proof?index=${proof.index}&size=${size}`)).text()), { vkey, leaf }).size).toBe(size);
    expect(openProof(parseProof(await (await fetch(`${log}/proof?index=${proof.index}`)).text()), { vkey, leaf }).size).toBe(size + 1);
    for (const [query, status, code] of [
      ["", 400, "USAGE"],
      [`index=1&hash=${toHex(leaf)}`, 400, "USAGE"],
      ["index=01", 400, "USAGE"],
      ["index=-1", 400, "USAGE"],
      ["index=9007199254740993", 400, "USAGE"],
      ["hash=AB", 400, "USAGE"],
      [`hash=${"0".repeat(64)}`, 404, "NOT_FOUND"],
      [`index=${size + 1}`, 404, "LOG_RANGE"],
      ["index=1&size=17", 404, "LOG_RANGE"],
      [`index=1&size=${size + 99}`, 404, "LOG_RANGE"],
    ] as const) {
      const answer = await fetch(`${log}/proof?${query}`);
      expect([query, answer.status, await codeOf(answer)]).toEqual([query, status, code]);
    }
  });

  test("what the log is; HEAD; and methods that it does not have", async () => {
    for (const address of [log, `${log}/`])
      expect(await (await fetch(address)).json()).toMatchObject({ origin: ready.log.origin, vkey: ready.log.vkey, publishedSize: size + 1, cosigners: [] });
    const head = await fetch(`${log}/checkpoint`, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    const refused = await fetch(`${log}/checkpoint`, { method: "DELETE" });
    expect([refused.status, refused.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  });
});

describe("admin", () => {
  test("health, status and metrics of a node that is ready", async () => {
    expect(await (await fetch(`${admin}/health`)).json()).toEqual({ ready: true, missing: [] });
    const status = (await (await fetch(`${admin}/status`)).json()) as ReadyLine & { log: object };
    expect(status).toMatchObject({ id: "a", ready: true, roles: ["primary", "storage", "frontend"] });
    expect(status.log).toMatchObject({ publishedSize: COUNT + 3, merge: { currentSize: COUNT + 3, signedSize: COUNT + 3, latch: null } });
    const metrics = await (await fetch(`${admin}/metrics`)).text();
    expect(metrics).toContain(`cairn_log_size_entries{state="published"} ${COUNT + 3}\n`);
    for (const line of metrics.trimEnd().split("\n")) expect(line).toMatch(/^(# (HELP|TYPE) cairn_\w+ .+|cairn_\w+(\{\w+="[^"]*"\})? -?[0-9.e+-]+)$/);
  });

  test("a Host header of another name is refused: a page cannot make itself local by DNS", async () => {
    for (const [host, status] of [
      ["evil.example", 403],
      [`evil.example:${new URL(admin).port}`, 403],
      ["127.0.0.1.evil.example", 403],
      ["localhost", 200],
      [`127.0.0.1:${new URL(admin).port}`, 200],
    ] as const)
      expect([host, (await fetch(`${admin}/health`, { headers: { host } })).status]).toEqual([host, status]);
  });

  test("unknown paths and methods", async () => {
    expect((await fetch(`${admin}/nope`)).status).toBe(404);
    expect((await fetch(`${admin}/health?x=1`)).status).toBe(200);
    expect((await fetch(`${admin}/health`, { method: "POST" })).status).toBe(405);
  });
});
