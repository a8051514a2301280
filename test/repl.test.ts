/**
 * The REPL as people and programs meet it: in a pipe it prints the transcript and nothing else, on a terminal it is
 * driven by keystrokes. The same program compares and rewrites stories.
 */
import { describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./repl/until.ts";

const PROGRAM = join(import.meta.dir, "repl", "toy-repl.ts");

async function run(words: readonly string[], input = ""): Promise<{ stdout: string; stderr: string; status: number }> {
  const child = Bun.spawn([process.execPath, PROGRAM, ...words], { stdin: new Blob([input]), stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, status };
}

const STORY = `# Two nodes talk, and one goes down.
world toy nodes=a,b
----
a up: b=1
b up: a=1

crash b
run 15ms show=none; status
----
b: crashed
a up: b=1
b down: a=1

fly
----
error[PARSE]: fly is no verb: \`help\` lists them
`;

describe("in a pipe", () => {
  test("the transcript of a story is the story", async () => {
    expect(await run(["repl"], STORY)).toEqual({ stdout: STORY, stderr: "", status: 0 });
  });

  test("expected text is skipped, verbs need no mark, line ends may be CRLF", async () => {
    const typed = "# Two nodes talk, and one goes down.\r\nworld toy nodes=a,b\r\n----\r\nwrong\r\n\r\n\ncrash b\nrun 15ms show=none; status\n\nfly";
    expect((await run(["repl"], typed)).stdout).toBe(STORY);
  });

  test("a line that cannot be read ends it with 2, after everything before it", async () => {
    const { stdout, stderr, status } = await run(["repl"], 'world toy\n\nask "a\n\nask b\n');
    expect([stdout, status]).toEqual(["world toy\n----\na up: b=1\nb up: a=1\n", 2]);
    expect(stderr).toStartWith("error[PARSE]: line 3: a quote that begins at column 5 does not end\n");
  });

  test("a fixture makes the world before the first verb; --json gives an object a stanza", async () => {
    const folder = await mkdtemp(join(tmpdir(), "cairn-test-"));
    try {
      await writeFile(join(folder, "pair.toml"), 'area = "toy"\nnodes = "a,b"\nseed = 3\n');
      const { stdout } = await run(["repl", join(folder, "pair.toml"), "--json"], "ask a\n");
      expect(JSON.parse(stdout)).toEqual({ lines: ["ask a"], answer: ["b=1"] });
      expect((await run(["repl", "no-such-fixture"])).status).toBe(3);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe("on a terminal", () => {
  /** What the terminal showed, without escape sequences. */
  async function session(
    act: (type: (keys: string) => void, shown: (text: string) => Promise<void>) => Promise<void>,
    state: string,
  ): Promise<{ text: string; status: number }> {
    let raw = "";
    const text = () => Bun.stripANSI(raw).replaceAll("\r", "");
    const child = Bun.spawn([process.execPath, PROGRAM, "repl"], {
      env: { ...process.env, TERM: "xterm", XDG_STATE_HOME: state },
      terminal: {
        cols: 120,
        rows: 30,
        data: (_terminal, bytes) => {
          raw += Buffer.from(bytes).toString();
        },
      },
    });
    const shown = (wanted: string): Promise<void> =>
      until(
        () => text().includes(wanted),
        () => `${JSON.stringify(wanted)} in ${JSON.stringify(text())}`,
      );
    await shown("cairn> ");
    await act((keys) => child.terminal?.write(keys), shown);
    const status = await child.exited;
    child.terminal?.close();
    return { text: text(), status };
  }

  test("answers, completion, lines that go on, Ctrl-C, a pasted story, Ctrl-D, and history in the next session", async () => {
    const state = await mkdtemp(join(tmpdir(), "cairn-test-"));
    try {
      const first = await session(async (type, shown) => {
        type("wor\t");
        await shown("cairn> world");
        type("toy nodes=a,b\r");
        await shown("b up: a=1");
        type("garbage that must go\x03");
        await shown("^C");
        type("ask a;\r");
        type("ask b\r");
        await shown("b=1\na=1\n");
        type("status\r----\rstatus is no verb here\r\rask b\r");
        await shown("ask b\na=1");
        type("\x04");
      }, state);
      expect(first.status).toBe(0);
      expect(first.text).not.toContain("error[");
      expect(await readFile(join(state, "cairn", "repl-history"), "utf8")).toStartWith("world toy nodes=a,b\n");
      const second = await session(async (type, shown) => {
        type("\x1b[A\x1b[A"); // up: the last lines of the session before
        await shown("cairn> status is no verb here");
        type("\x15world toy\r");
        await shown("b up: a=1");
        type("\x04");
      }, state);
      expect(second.status).toBe(0);
    } finally {
      await rm(state, { recursive: true });
    }
  }, 30_000);
});

describe("sim run", () => {
  test("compares with 8, rewrites with 0", async () => {
    const folder = await mkdtemp(join(tmpdir(), "cairn-test-"));
    const file = join(folder, "story.txt");
    try {
      await writeFile(file, STORY);
      expect(await run(["sim", "run", file])).toMatchObject({ status: 0, stdout: `${file}: same\n` });
      await writeFile(file, STORY.replace("b down", "b up"));
      const different = await run(["sim", "run", file, "--json"]);
      expect(different.status).toBe(8);
      expect(JSON.parse(different.stdout)).toEqual({
        event: "story",
        file,
        outcome: "different",
        differences: [`${file}:7: crash b; run 15ms show=none; status`, "  - b up: a=1", "  + b down: a=1"],
      });
      expect((await run(["sim", "run", file, "--rewrite"])).status).toBe(0);
      expect(await readFile(file, "utf8")).toBe(STORY);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("seeds: one JSON line, the same twice; a broken invariant is 8, with the command that shows it again", async () => {
    const words = ["sim", "run", "--area", "toy", "--seeds", "3..7", "--events", "500", "--json"];
    const [first, second] = [await run(words), await run(words)];
    const line = JSON.parse(first.stdout);
    expect(line).toMatchObject({ event: "sim", area: "toy", seeds: 5, violations: [] });
    expect(JSON.parse(second.stdout).traceHash).toBe(line.traceHash);
    expect(first.status).toBe(0);
    const broken = await run(["sim", "run", "--area", "toy", "--seed", "13", "--json"]);
    expect(broken.status).toBe(8);
    expect(JSON.parse(broken.stdout).violations).toEqual([
      { seed: 13, invariant: "13 is no seed", at: 1_000, reproduce: "cairn sim run --area toy --seed 13" },
    ]);
  });

  test.each([
    [["sim", "run"], 2],
    [["sim", "run", "--area", "toy", "--seeds", "9..3"], 2],
    [["sim", "run", "--seed", "1", "--area", "moon"], 3],
    [["sim", "run", "no-such.txt"], 3],
  ])("%j ends with %d", async (words, status) => {
    expect((await run(words as string[])).status).toBe(status as number);
  });
});
