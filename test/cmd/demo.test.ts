/** `cairn demo` as a process of the source tree: a whole run off a terminal, and one that is stopped half-way. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { demoEntries } from "../../src/cmd/demo-entries.ts";
import { selfEnvironment } from "../../src/engine/node/self.ts";
import { eventually } from "../node/up-bench.ts";

/** Where the leader changes on a busy machine, the demo waits for a minute until versions are trimmed. */
const WHOLE_MS = 150_000;

setDefaultTimeout(WHOLE_MS + 30_000);

const MAIN = join(import.meta.dir, "../../src/cmd/main.ts");
const CERTIFICATES = join(import.meta.dir, "../../fixtures/certificates.pem");

class DemoBench implements AsyncDisposable {
  readonly folder: string;
  private readonly children: Bun.Subprocess[] = [];

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async open(): Promise<DemoBench> {
    const folder = await mkdtemp(join(tmpdir(), "cairn-test-"));
    await mkdir(join(folder, "tmp"));
    return new DemoBench(folder);
  }

  private get env(): Record<string, string | undefined> {
    return { ...selfEnvironment(), XDG_STATE_HOME: join(this.folder, "state"), TMPDIR: join(this.folder, "tmp") };
  }

  demo(...words: string[]): Bun.Subprocess<"ignore", "pipe", "pipe"> {
    const child = Bun.spawn([process.execPath, MAIN, "demo", ...words], { stdin: "ignore", stdout: "pipe", stderr: "pipe", env: this.env });
    this.children.push(child);
    return child;
  }

  /** The demo on a terminal of its own; `show` gets what it writes there. */
  terminal(show: (text: string) => void, pem: string): Bun.Subprocess {
    const decoder = new TextDecoder();
    const data = (_: unknown, bytes: Uint8Array): void => show(decoder.decode(bytes, { stream: true }));
    const child = Bun.spawn([process.execPath, MAIN, "demo", "--pem", pem], {
      env: { ...this.env, TERM: "xterm", NO_COLOR: undefined },
      terminal: { cols: 100, rows: 40, data },
    });
    this.children.push(child);
    return child;
  }

  /** What a demo left in the temporary folder. */
  async leftovers(): Promise<string[]> {
    return (await readdir(join(this.folder, "tmp"))).filter((name) => name.startsWith("cairn-demo-"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.children) {
      child.kill("SIGTERM");
      await child.exited;
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

test("demo: all acts in order on stderr, without an escape; the report on stdout; nothing left behind", async () => {
  await using bench = await DemoBench.open();
  const child = bench.demo("--pem", CERTIFICATES, "--json");
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect([status, stderr.includes("\u001b")]).toEqual([0, false]);
  const report = JSON.parse(stdout);
  expect(report).toMatchObject({
    event: "demo",
    source: CERTIFICATES,
    entries: 8,
    killed: { node: "c", signedWithout: 8, heldBy: ["b"] },
    revived: { node: "c", verifiedMore: 8 - report.killed.position },
    synchronized: { node: "c" },
    verified: { frontends: 3, size: 8, inclusionProofs: 8, consistentSince: [0, 4] },
  });
  expect(report.killed.position).toBeLessThan(8);
  expect([report.synchronized.missed > 0, report.synchronized.keys > 500]).toEqual([true, true]);
  expect(report.receipts).toBeGreaterThan(8); // repeats were added, and are no entries
  expect(report.verified.cosigned.length).toBeGreaterThan(0);
  const acts = [...stderr.matchAll(/^([1-6]) {2}/gm)].map(([, act]) => act);
  expect(acts).toEqual(["1", "2", "3", "4", "5", "6"]);
  expect(stderr).toContain(`= 8   verified by b\n`);
  expect(await bench.leftovers()).toEqual([]);
});

test("demo: SIGINT ends every process, removes the folder, and the status is the signal's", async () => {
  await using bench = await DemoBench.open();
  const child = bench.demo("--pem", CERTIFICATES);
  const decoder = new TextDecoder();
  let said = "";
  for await (const part of child.stderr) {
    said += decoder.decode(part, { stream: true });
    if (said.includes("kill -9")) child.kill("SIGINT"); // in the middle of it: a node may just be dead
  }
  expect([await child.exited, await child.stdout.text()]).toEqual([130, ""]);
  expect(said).not.toMatch(/^error\[/m);
  expect(await bench.leftovers()).toEqual([]);
});

test("demo: on a terminal the picture is drawn in place, and the REPL opens at the end", async () => {
  await using bench = await DemoBench.open();
  let raw = "";
  const child = bench.terminal((text) => {
    raw += text;
  }, CERTIFICATES);
  await eventually(
    () => raw,
    (text) => Bun.stripANSI(text).includes("cairn> "),
    WHOLE_MS,
  );
  expect(await bench.leftovers()).toEqual([]); // the cluster is gone before the REPL begins
  child.terminal?.write("status\r");
  await eventually(
    () => raw,
    (text) => /cairn> status\n.*signed 0/s.test(Bun.stripANSI(text).replaceAll("\r", "")),
  );
  child.terminal?.write("\u0004");
  expect(await child.exited).toBe(0);
  const text = Bun.stripANSI(raw).replaceAll("\r", "");
  expect(raw).toContain("A\r\u001b[J"); // taken back to be drawn again
  expect(text).toMatch(/a current {2}█+│ 8 {2}serves 8\n/);
  expect(text).toContain("verified  3 frontends, all 8 entries");
});

test("demo: a file without certificates is refused before anything runs", async () => {
  await using bench = await DemoBench.open();
  const child = bench.demo("--pem", import.meta.path, "--json");
  expect([await child.exited, JSON.parse(await child.stdout.text()).error.code]).toEqual([2, "BAD_OPTION"]);
});

test("demo: its entries are the machine's certificates or the fixtures, each once", async () => {
  const { entries } = await demoEntries(undefined);
  expect(entries.length).toBeGreaterThanOrEqual(4);
  expect(new Set(entries.map((entry) => entry.toHex())).size).toBe(entries.length);
  expect((await demoEntries(CERTIFICATES)).entries).toHaveLength(8);
});
