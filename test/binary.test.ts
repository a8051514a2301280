/**
 * The compiled binary (platform.md, "Building one binary" and "Command line"): transcripts, hostile values, pipes that
 * close, folders with files it must not read. Runs dist/cairn as `npm test` built it.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { registry } from "../src/cmd/registry.ts";
import { BINARY, cairn, emptyFolder, shell, until } from "./cli/run-cairn.ts";
import { formatEnd, playTranscript } from "./cli/transcript.ts";
import { hostileWords } from "./cmd/hostile-words.ts";

const root = join(import.meta.dir, "..");
const stories = join(root, "fixtures/scenarios/cli");

describe("transcripts", () => {
  for (const name of [...new Bun.Glob("*.txt").scanSync(stories)].sort()) {
    const text = readFileSync(join(stories, name), "utf8");
    test(`${name}: ${text.split("\n", 1)[0]?.replace(/^# /, "")}`, async () => {
      await using folder = await emptyFolder();
      const played = await playTranscript(text, folder.path);
      if (process.env["REWRITE"] === "1") writeFileSync(join(stories, name), played);
      else expect(played).toBe(text);
    });
  }
});

test("a transcript that differs is seen", async () => {
  await using folder = await emptyFolder();
  expect(await playTranscript("$ echo a; echo; echo b >&2; exit 3\nb\n", folder.path)).toBe("$ echo a; echo; echo b >&2; exit 3\na\n.\n! b\n= 3\n");
  expect(await playTranscript("$ echo a1b\na…b\n", folder.path)).toBe("$ echo a1b\na…b\n");
});

describe("hostile values reach the command as they were typed", () => {
  for (const value of hostileWords)
    test(JSON.stringify(value), async () => {
      const option = await cairn(["explain", `--timeout=${value}`, "--json"]);
      expect(JSON.parse(option.stdout).error.message).toBe(`--timeout is ${JSON.stringify(value)}, want a time such as 500ms, 10s or 5m`);
      const argument = await cairn(["explain", "--json", "--", value]);
      expect(JSON.parse(argument.stdout).error.message).toStartWith(`${JSON.stringify(value)} is no error code`);
      expect([option.status, argument.status]).toEqual([2, 3]);
    });
});

describe("stdout", () => {
  test("is the same bytes on a terminal and in a pipe", async () => {
    const piped = await cairn(["explain", "--json"]);
    const pieces: Uint8Array[] = [];
    const shown = (): string => Buffer.concat(pieces).toString();
    const child = Bun.spawn([BINARY, "explain", "--json"], { terminal: { cols: 80, rows: 24, data: (_, bytes) => void pieces.push(bytes.slice()) } });
    await child.exited;
    await until(() => shown().length >= piped.stdout.length + piped.stdout.split("\n").length - 1);
    child.terminal?.close();
    expect(shown().replaceAll("\r\n", "\n")).toBe(piped.stdout);
  });

  test("loses nothing in a slow pipe", async () => {
    const whole = await cairn(["explain", "--json"]);
    const slow = await shell("cairn explain --json | { sleep 0.3; cat; }");
    expect(slow.stdout).toBe(whole.stdout);
    expect(whole.stdout.endsWith("}\n")).toBeTrue();
  });

  test("closed by its reader is a quiet end", async () => {
    for (let i = 0; i < 5; i++) expect(formatEnd(await shell("cairn explain --json | head -n 0; echo $PIPESTATUS"))).toEqual(["0"]);
  });

  test("that was never open is no crash", async () => expect(formatEnd(await shell("cairn --version >&-; echo $?"))).toEqual(["0"]));

  test("on a full disk is an error", async () => {
    const { stderr, status } = await shell("cairn explain --json > /dev/full");
    expect(status).toBe(1);
    expect(stderr).toContain("ENOSPC");
  });
});

describe("the folder it stands in", () => {
  test("may be empty, and stays so", async () => {
    await using folder = await emptyFolder();
    for (const words of [["--version"], ["help"], ["explain"]]) expect((await cairn(words, { folder: folder.path })).status).toBe(0);
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("is not asked for .env or bunfig.toml", async () => {
    await using folder = await emptyFolder();
    writeFileSync(join(folder.path, ".env"), "CAIRN_TRACE=1\n");
    writeFileSync(join(folder.path, "bunfig.toml"), 'preload = ["./preload.ts"]\n');
    writeFileSync(join(folder.path, "preload.ts"), 'require("node:fs").writeFileSync("touched", "");\n');
    const { stderr } = await cairn(["explain", "NOPE"], { folder: folder.path });
    expect(stderr.split("\n").length).toBe(3); // error, hint, LF: no stack
    expect((await readdir(folder.path)).sort()).toEqual([".env", "bunfig.toml", "preload.ts"]);
    expect((await cairn(["explain", "NOPE"], { env: { CAIRN_TRACE: "1" } })).stderr.split("\n").length).toBeGreaterThan(3); // the variable does matter
  });
});

test("what needs no store needs no temporary folder", async () => {
  const env = { TMPDIR: "/nonexistent", BUN_TMPDIR: "/nonexistent" };
  for (const words of [["--version"], ["help"], ["explain", "STORE_FULL"], ...registry.map(({ name }) => [...name.split(" "), "--help"])])
    expect({ words, ...(await cairn(words, { env, folder: "/" })) }).toMatchObject({ words, status: 0, stderr: "" });
});

describe("what opens the store says what is wrong with the temporary folder", () => {
  const refusal = async (temporary: string): Promise<string> => {
    await using folder = await emptyFolder();
    const node = join(folder.path, "node");
    expect((await cairn(["node", "init", "--dir", node])).status).toBe(0);
    const { stdout, status } = await cairn(["node", "run", "--dir", node, "--json"], { env: { TMPDIR: temporary, BUN_TMPDIR: temporary } });
    expect(status).toBe(1);
    const { code, message } = JSON.parse(stdout).error;
    return `${code}: ${message}`;
  };

  test("a folder that is missing", async () =>
    expect(await refusal("/nonexistent")).toStartWith("TEMP_DIR_UNUSABLE: the store's native code cannot be unpacked into /nonexistent: "));

  test("a folder that is a file", async () =>
    expect(await refusal(BINARY)).toStartWith(`TEMP_DIR_UNUSABLE: the store's native code cannot be unpacked into ${BINARY}: `));
});

test("planted mistakes are not in it", async () => {
  const names = new Set<string>();
  for (const file of new Bun.Glob("src/engine/**/*.ts").scanSync(root))
    for (const [, name] of readFileSync(join(root, file), "utf8").matchAll(/\bmutant\("([^"]+)"\)/g)) names.add(name ?? "");
  expect(names.size).toBeGreaterThan(5);
  const binary = readFileSync(BINARY);
  expect([...names].filter((name) => binary.includes(name))).toEqual([]);
});
