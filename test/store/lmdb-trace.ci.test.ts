/**
 * The store under strace: what is durable before it is acknowledged, and what the n-th failing system call leaves
 * (sync.md section 2.2, rules 4 and 6).
 */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { openEnvironment } from "../../src/engine/store/lmdb.ts";
import { lines, startChild } from "./children.ts";

type Said = { readonly open?: boolean; readonly n?: number; readonly code?: string };
const FAULTS_MS_MAX = 120_000;

async function traced(strace: readonly string[]): Promise<{ said: Said[]; trace: string[]; there: number[] }> {
  const dir = mkdtempSync(join(tmpdir(), "cairn-trace-"));
  try {
    const child = startChild("commits", join(dir, "store"), { before: ["strace", "-f", "-o", join(dir, "trace"), ...strace] });
    const said = await Array.fromAsync(lines<Said>(child));
    await child.exited;
    const trace = readFileSync(join(dir, "trace"), "utf8").split("\n");
    return { said, trace, there: said.length === 0 ? [] : await present(join(dir, "store")) };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function present(dir: string): Promise<number[]> {
  const env = await openEnvironment(dir, ["a"]);
  try {
    using snap = env.stores.a.snapshot();
    return [0, 1, 2, 3, 4, 5].filter((n) => snap.get(utf8(`k${n}`)) !== undefined);
  } finally {
    await env.close();
  }
}

test("a commit is said to be done after fdatasync of its pages and a durable meta page", async () => {
  const { said, trace } = await traced(["-e", "trace=openat,fdatasync,pwrite64,write"]);
  expect(said.length).toBe(7);
  const metaFd = /data\.mdb", [^)]*O_DSYNC[^)]*\) = (\d+)/.exec(trace.join("\n"))?.[1];
  expect(metaFd).toBeDefined();
  let step = "pages";
  let commits = 0;
  for (const line of trace) {
    if (/fdatasync\(\d+\) += 0|fdatasync resumed.* = 0/.test(line)) step = "synced";
    if (line.includes(`pwrite64(${metaFd}, `) && step === "synced") step = "durable";
    if (!line.includes('write(1, "{\\"n\\"')) continue;
    expect(step).toBe("durable");
    step = "pages";
    commits++;
  }
  expect(commits).toBe(6);
});

/** strace counts calls by thread. For each n until nothing fails: every commit is answered, what was acknowledged is there, and SYNC_FAILED is final. */
async function failEach(call: string, error: string, atLeast: number): Promise<Set<string>> {
  const codes = new Set<string>();
  for (let failing = 1; ; failing++) {
    const { said, there } = await traced(["-e", `trace=${call}`, "-e", `inject=${call}:error=${error}:when=${failing}`]);
    if (said.length === 0) continue; // it failed while the environment was made
    expect(said).toHaveLength(7);
    const answers = said.slice(1);
    const firstFinal = answers.findIndex(({ code }) => code === "STORE_SYNC_FAILED");
    if (firstFinal !== -1) for (const { code } of answers.slice(firstFinal)) expect(code).toBe("STORE_SYNC_FAILED");
    for (const { n, code } of answers) if (code === undefined) expect(there).toContain(n as number);
    for (const { code } of answers) if (code !== undefined) codes.add(code);
    if (answers.every(({ code }) => code === undefined)) {
      expect(failing).toBeGreaterThan(atLeast);
      return codes;
    }
  }
}

test(
  "the n-th fdatasync fails: that commit and all after it are STORE_SYNC_FAILED",
  async () => expect(await failEach("fdatasync", "EIO", 2)).toEqual(new Set(["STORE_SYNC_FAILED"])),
  FAULTS_MS_MAX,
);

test(
  "the n-th page write finds no space: STORE_FULL where LMDB lives on, else final",
  async () => {
    const codes = await failEach("pwrite64", "ENOSPC", 2);
    expect(codes).toContain("STORE_FULL");
    for (const code of codes) expect(["STORE_FULL", "STORE_SYNC_FAILED"]).toContain(code);
  },
  FAULTS_MS_MAX,
);
