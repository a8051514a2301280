/**
 * Outside judges on a real cluster of the compiled binary: golang.org/x/mod's tlog and note, and Tessera's fsck, verify
 * the log that primary, secondaries and frontends serve, at sizes on both sides of every tile boundary; and each of
 * them refuses a damaged copy. Needs Go and the modules of `test/interop`.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { tilePath, tilesOf } from "../../src/engine/log/tile.ts";

const SIZES = [0, 1, 255, 256, 257, 1_000, 65_536, 70_000];
const CAIRN = join(import.meta.dir, "../../dist/cairn");
/** Entries an add: a bundle of some 64 KiB, far below the 8 MiB that add-many takes. */
const ADD_COUNT = 4_096;
const SIGNED_WAIT_MS = 120_000;

type Ready = { readonly nodes: readonly { readonly id: string; readonly log: string }[]; readonly log: { readonly origin: string; readonly vkey: string } };

let folder: string;
let logcheck: string;
let cluster: Bun.Subprocess<"ignore", "pipe", "inherit">;
let ready: Ready;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cairn-interop-"));
  logcheck = join(folder, "logcheck");
  const built = Bun.spawnSync(["go", "build", "-o", logcheck, "./cmd/logcheck"], { cwd: import.meta.dir, stderr: "inherit" });
  expect(built.exitCode).toBe(0);
  cluster = Bun.spawn([CAIRN, "up", "--json", "--data", join(folder, "cluster")], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  ready = JSON.parse(await firstLine(cluster.stdout)) as Ready;
}, 300_000);

afterAll(async () => {
  cluster?.kill("SIGINT");
  await cluster?.exited;
  await rm(folder, { recursive: true, force: true });
});

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const reader = stream.getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the cluster ended before it was ready: ${text}`);
    text += new TextDecoder().decode(value);
  }
  reader.releaseLock();
  return text.slice(0, text.indexOf("\n"));
}

/** Entry i is not entry j, and lengths differ, so that no tile or bundle looks like another. */
const entry = (i: number): Uint8Array => new TextEncoder().encode(`interop entry ${i} ${"x".repeat(i % 7)}`);

async function addUpTo(size: number, from: number): Promise<void> {
  for (let at = from; at < size; at += ADD_COUNT) {
    const bundle = bundleOf(Array.from({ length: Math.min(ADD_COUNT, size - at) }, (_, i) => entry(at + i)));
    const node = ready.nodes[((at / ADD_COUNT) % ready.nodes.length) | 0] as Ready["nodes"][number];
    const answer = await fetch(`${node.log}/add-many`, { method: "POST", body: bundle });
    expect(answer.status).toBe(202);
    await answer.arrayBuffer();
  }
}

const servedSize = async (log: string): Promise<number> => Number((await (await fetch(`${log}/checkpoint`)).text()).split("\n")[1]);

async function untilServed(size: number): Promise<void> {
  const endMs = Date.now() + SIGNED_WAIT_MS;
  for (const { id, log } of ready.nodes) {
    while ((await servedSize(log)) !== size) {
      if (Date.now() > endMs) throw new Error(`${id} serves ${await servedSize(log)}, want ${size}`);
      await Bun.sleep(50);
    }
  }
}

async function judge(place: string, ...flags: string[]): Promise<string> {
  const child = Bun.spawn([logcheck, ...flags, place, ready.log.vkey], { stdout: "pipe", stderr: "pipe" });
  const [said, complained, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return `${status} ${said.trim()}${status === 0 ? "" : complained.trim()}`;
}

test(`Go's tlog and note, and Tessera's fsck, verify every node at sizes ${SIZES.join(", ")}`, async () => {
  const seen: number[] = [];
  for (const size of SIZES) {
    await addUpTo(size, seen.at(-1) ?? 0);
    await untilServed(size);
    seen.push(size);
    const old = seen.filter((each) => each > 0).join(",");
    const flags = ["-served-proofs", "-sample", "200", ...(old === "" ? [] : ["-sizes", old, "-published", old])];
    for (const { log } of ready.nodes) expect(await judge(log, ...flags)).toBe(`0 ok size ${size}`);
  }
}, 900_000);

/** The log as files, as a mirror would keep it. */
async function download(to: string): Promise<string[]> {
  const log = (ready.nodes[1] as Ready["nodes"][number]).log;
  const size = await servedSize(log);
  const paths = ["checkpoint"];
  for (const { level, fullCount, width } of tilesOf(size)) {
    for (const kind of level === 0 ? ([0, "entries"] as const) : [level]) {
      for (let n = 0; n < fullCount; n++) paths.push(tilePath(kind, n));
      if (width > 0) paths.push(tilePath(kind, fullCount, width));
    }
  }
  for (const path of paths) {
    const answer = await fetch(`${log}/${path}`);
    expect(answer.status).toBe(200);
    await mkdir(dirname(join(to, path)), { recursive: true });
    await writeFile(join(to, path), new Uint8Array(await answer.arrayBuffer()));
  }
  return paths;
}

test("a downloaded copy verifies, and no copy with one flipped bit does", async () => {
  const copy = join(folder, "copy");
  const paths = await download(copy);
  expect(await judge(copy)).toBe(`0 ok size ${SIZES.at(-1)}`);
  const damaged = ["checkpoint", "tile/0/000", "tile/1/000", "tile/entries/100", paths.findLast((path) => path.startsWith("tile/0/")) as string];
  for (const path of damaged) {
    const whole = new Uint8Array(await Bun.file(join(copy, path)).arrayBuffer());
    const flipped = whole.slice();
    // of a checkpoint the origin's first letter: its last lines are cosignatures, which a stranger passes over
    const at = path === "checkpoint" ? 0 : whole.length >> 1;
    flipped[at] = (flipped[at] as number) ^ 1;
    await writeFile(join(copy, path), flipped);
    expect(`${path}: ${(await judge(copy)).slice(0, 2)}`).toBe(`${path}: 1 `);
    const ours = Bun.spawnSync([CAIRN, "log", "verify", copy, "--vkey", ready.log.vkey]);
    expect(`${path}: ${ours.exitCode}`).toBe(`${path}: 7`);
    await writeFile(join(copy, path), whole);
  }
  expect(await judge(copy)).toBe(`0 ok size ${SIZES.at(-1)}`);
}, 300_000);
