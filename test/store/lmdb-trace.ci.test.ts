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
import { COMMITS, lines, startChild } from "./children.ts";

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
    return Array.from({ length: COMMITS }, (_, n) => n).filter((n) => snap.get(utf8(`k${n}`)) !== undefined);
  } finally {
    await env.close();
  }
}

test("a commit is said to be done after fdatasync of its pages and a durable meta page", async () => {
  const { said, trace } = await traced(["-e", "trace=openat,fdatasync,pwrite64,write"]);
  expect(said.length).toBe(1 + COMMITS);
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
  expect(commits).toBe(COMMITS);
});

/**
 * strace counts calls by thread. For each n until nothing fails: every commit is answered or the process died, what was
 * acknowledged is there, and SYNC_FAILED is final. Returns the codes seen, `died` among them.
 */
async function failEach(call: string, error: string, atLeast: number): Promise<Set<string>> {
  const codes = new Set<string>();
  for (let failing = 1; ; failing++) {
    const { said, there } = await traced(["-e", `trace=${call}`, "-e", `inject=${call}:error=${error}:when=${failing}`]);
    if (said.length === 0) continue; // it failed while the environment was made
    const answers = said.slice(1);
    if (answers.length < COMMITS) codes.add("died");
    const firstFinal = answers.findIndex(({ code }) => code === "STORE_SYNC_FAILED");
    if (firstFinal !== -1) for (const { code } of answers.slice(firstFinal)) expect(code).toBe("STORE_SYNC_FAILED");
    for (const { n, code } of answers) if (code === undefined) expect(there).toContain(n as number);
    for (const { code } of answers) if (code !== undefined) codes.add(code);
    if (answers.length === COMMITS && answers.every(({ code }) => code === undefined)) {
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

/** `died`: LMDB 3.5.6 writes its message for such a failure beyond a buffer, which malloc may notice. Hence the check of room. */
test(
  "the n-th page write finds no space: STORE_FULL where LMDB lives on, else final; nothing acknowledged is lost",
  async () => {
    const codes = await failEach("pwrite64", "ENOSPC", 2);
    expect(codes.size).toBeGreaterThan(0);
    for (const code of codes) expect(["STORE_FULL", "STORE_SYNC_FAILED", "died"]).toContain(code);
  },
  FAULTS_MS_MAX,
);

test("a full file system is met before LMDB meets it, and deleting makes room again", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cairn-full-"));
  try {
    const child = startChild("fill", dir, { tmpfsKiB: 24 * 1_024 });
    const [full, reads, ...again] = (await Array.fromAsync(lines(child))) as [{ code: string; stored: number }, unknown, ...unknown[]];
    expect(full.code).toBe("STORE_FULL");
    expect(full.stored).toBeGreaterThan(20);
    expect(reads).toEqual({ rows: full.stored * 100, half: false });
    expect(again).toEqual([{ again: 0 }, { again: 1 }, { again: 2 }]);
    expect(await child.exited).toBe(0);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
