/**
 * `cairn log …` beside nodes that lie, are busy, full, silent or of another version: a made-up cluster over HTTP, known by a
 * ready line. What is believed is what was checked, and the exit status is the truth.
 */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { toHex, utf8 } from "../../src/engine/base/bytes.ts";
import { bundleOffsets, entryAt } from "../../src/engine/log/entry.ts";
import { naiveLeaf } from "../log/naive.ts";
import { eventually, UpBench } from "../node/up-bench.ts";
import { foreignFiles, foreignProof, foreignVkey } from "./crafted-log.ts";
import { commandWords, environmentOf, failureOf, type Run, type Runner, rowsOf, runnerOf } from "./words-runner.ts";

setDefaultTimeout(20_000);

type Behaviour = (request: Request) => Response | Promise<Response>;
let bench: UpBench;
let cairn: Runner;
let servers: ReturnType<typeof Bun.serve>[];
beforeEach(async () => {
  bench = await UpBench.open();
  cairn = runnerOf(bench);
  servers = [];
});
afterEach(async () => {
  await Promise.all(servers.map((server) => server.stop(true)));
  await bench[Symbol.asyncDispose]();
});

/** A cluster of nodes that behave so, as the file that names it. */
function cluster(...behaviours: Behaviour[]): string {
  servers = behaviours.map((behave) => Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch: (request) => behave(request) }));
  const nodes = servers.map((server, at) => ({ id: `n${at}`, admin: `http://127.0.0.1:${server.port}`, log: `http://127.0.0.1:${server.port}/log` }));
  const file = join(bench.folder, "ready.json");
  writeFileSync(file, JSON.stringify({ event: "ready", nodes, log: { vkey: foreignVkey } }));
  return file;
}
const add = (file: string, stdin: string, ...words: string[]): Promise<Run> => cairn(["log", "add", "--lines", "-", ...words], { stdin, cluster: file });

const refusal = (code: string, status: number): Response => Response.json({ error: { code, message: "the made-up node" } }, { status });
const receipts = async (request: Request, change: (hash: string) => string = (hash) => hash): Promise<Response> => {
  const bundle = await request.bytes();
  const offsets = bundleOffsets(bundle);
  const lines = Array.from({ length: offsets.length - 1 }, (_, i) =>
    JSON.stringify({ receipt: 1, leafHash: change(toHex(naiveLeaf(entryAt(bundle, offsets, i)))) }),
  );
  return new Response(`${lines.join("\n")}\n`, { status: 202 });
};

describe("add", () => {
  test("a receipt for another entry, too few of them, or none at all is not believed", async () => {
    const cases: [Behaviour, string][] = [
      [(request) => receipts(request, (hash) => hash.replace(/^./, (digit) => (digit === "0" ? "1" : "0"))), "LOG_ENTRY_MISMATCH 7"],
      [async (request) => new Response(`${(await (await receipts(request)).text()).split("\n")[0]}\n`, { status: 202 }), "FRAME_CORRUPT 7"],
      [() => new Response("<html>", { status: 200 }), "FRAME_CORRUPT 7"],
      [() => new Response("null\nnull\n", { status: 202 }), "FRAME_CORRUPT 7"],
      [() => new Response('{"receipt":1}\n{"receipt":1}\n', { status: 202 }), "LOG_ENTRY_MISMATCH 7"],
    ];
    for (const [behaviour, failure] of cases) {
      const run = await add(cluster(behaviour), "one\ntwo\n");
      expect([failureOf(run), run.stdout]).toEqual([failure, ""]);
      expect(run.stderr).toContain("no entry is known to be kept");
    }
  });

  test("a proof of another log's, of another entry, or in a head that nobody signed is not believed", async () => {
    const signed =
      (proof: string): Behaviour =>
      async (request) => {
        const [receipt] = (await (await receipts(request)).text()).split("\n");
        return new Response(`{"index":2,"proof":${JSON.stringify(proof)},"receipt":${receipt}}\n`, { status: 200 });
      };
    const good = foreignProof("entry", []);
    const believed = await add(cluster(signed(good)), "entry\n", "--wait", "signed");
    expect([believed.status, rowsOf(believed.stdout).length]).toEqual([0, 1]);
    for (const proof of [foreignProof("other", []), good.replace(/\n7\n/, "\n8\n"), good.replace("index 2", "index 3"), "proof", ""]) {
      const run = await add(cluster(signed(proof)), "entry\n", "--wait", "signed");
      expect([run.status, run.stdout]).toEqual([7, ""]);
    }
  });

  test("busy, full and silent nodes are asked again and the next ones too, until the time is over", async () => {
    let asked = 0;
    const busyTwice: Behaviour = (request) => (++asked <= 2 ? refusal("LOG_BUSY", 503) : receipts(request));
    expect((await add(cluster(busyTwice), "one\n")).status).toBe(0);
    expect(asked).toBe(3);
    const silent: Behaviour = () => new Promise(() => {});
    const noStorage: Behaviour = () => refusal("NOT_FOUND", 404);
    expect((await add(cluster(noStorage, silent, receipts), "one\n", "--timeout", "3s")).status).toBe(0);
    const cases: [Behaviour[], string][] = [
      [[() => refusal("STORE_FULL", 507), silent], "STORE_FULL 6"],
      [[silent], "TIMEOUT 6"],
      [[() => refusal("LOG_STORAGE_QUORUM", 503)], "LOG_STORAGE_QUORUM 6"],
      [[() => new Response("bad gateway", { status: 502 })], "UNAVAILABLE 6"],
      [[noStorage, noStorage], "NOT_FOUND 3"],
      [[() => refusal("USAGE", 400), receipts], "USAGE 2"],
    ];
    for (const [behaviours, failure] of cases)
      expect([failure, failureOf(await add(cluster(...behaviours), "one\n", "--timeout", "600ms"))]).toEqual([failure, failure]);
  });

  test("what is kept behind a failure is shown all the same, in order", async () => {
    let asked = 0;
    const second: Behaviour = async (request) => (++asked === 2 ? refusal("LOG_ENCODING", 422) : receipts(request));
    const lines = Array.from({ length: 4_096 * 3 }, (_, i) => `${i}`);
    const run = await add(cluster(second), lines.join("\n"));
    expect(failureOf(run)).toBe("LOG_ENCODING 7");
    const shown = rowsOf<{ leafHash: string }>(run.stdout).map(({ leafHash }) => leafHash);
    expect(shown.length % 4_096).toBe(0);
    expect(run.stderr).toContain(`${shown.length} entries kept`);
    expect(shown.slice(0, 3)).toEqual(["0", "1", "2"].map((text) => toHex(naiveLeaf(utf8(text)))));
  });
});

describe("reading", () => {
  test("tail --follow: a head that does not extend the one shown before, though signed, ends it; a smaller one is only late", async () => {
    const abc = ["a", "b", "c"];
    for (const [next, failure] of [
      [["a", "B", "c", "d"], "LOG_HEAD_FORK 7"],
      [["a", "b", "C"], "LOG_HEAD_FORK 7"],
      [[], ""],
    ] as const) {
      let files = foreignFiles(abc);
      let polls = 0;
      const serve: Behaviour = (request) => {
        const path = new URL(request.url).pathname.slice("/log/".length);
        if (path === "checkpoint" && ++polls === 3) files = foreignFiles(next.length > 0 ? next : ["a", "b"]);
        if (path === "checkpoint" && polls === 6 && next.length === 0) files = foreignFiles([...abc, "d"]);
        return new Response(files.get(path), { status: files.has(path) ? 200 : 404 });
      };
      const tail = Bun.spawn(commandWords(["log", "tail", "--follow", "--text"]), {
        stdout: "pipe",
        stderr: "pipe",
        env: environmentOf(bench, cluster(serve)),
      });
      let shown = "";
      const reading = (async () => {
        for await (const part of tail.stdout) shown += new TextDecoder().decode(part);
      })();
      if (failure === "") {
        await eventually(
          () => shown,
          (text) => text.includes("3  d\n"),
        );
        tail.kill("SIGTERM");
      }
      const [stderr, status] = await Promise.all([tail.stderr.text(), tail.exited, reading]);
      expect(shown.slice(0, 15)).toBe("0  a\n1  b\n2  c\n");
      if (failure !== "") expect([failureOf({ stdout: shown, stderr, status }), shown.length]).toEqual([failure, 15]);
    }
  });

  test("a head that its log did not sign, and a node that answers without end", async () => {
    const forged = foreignProof("x", []).split("\n\n").slice(1).join("\n\n").replace("\n7\n", "\n8\n");
    expect(failureOf(await cairn(["log", "tail"], { cluster: cluster(() => new Response(forged)) }))).toBe("LOG_SIGNATURE 7");
    const endless: Behaviour = () =>
      new Response(
        new ReadableStream({
          pull: (controller) => controller.enqueue(new Uint8Array(1_048_576)),
        }),
      );
    expect((await cairn(["log", "checkpoint"], { cluster: cluster(endless) })).status).toBe(7);
    expect(
      failureOf(await cairn(["log", "verify"], { cluster: cluster(() => new Response("", { status: 302, headers: { location: "http://127.0.0.1:1/" } })) })),
    ).toBe("UNAVAILABLE 6");
  });
});
