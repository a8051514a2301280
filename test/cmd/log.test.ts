/**
 * `cairn log …` (merge.md section 4) as processes beside one real cluster of three nodes with its merge running. What is
 * printed is judged by RFC 6962 as test/log/naive.ts writes it down.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fromBase64, fromHex, toHex, utf8 } from "../../src/engine/base/bytes.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { certificatesOf } from "../../src/engine/log/pem.ts";
import { tilePath, tilesOf } from "../../src/engine/log/tile.ts";
import { createCluster } from "../../src/engine/node/cluster-folder.ts";
import { loadNode } from "../../src/engine/node/config.ts";
import { openDisk } from "../../src/engine/node/disk.ts";
import { logKeys } from "../../src/engine/store/keys.ts";
import { naiveLeaf, naiveProof, naiveRoot } from "../log/naive.ts";
import { eventually, type Ready, UpBench } from "../node/up-bench.ts";
import { foreignProof, foreignVkey, witnessVkey } from "./crafted-log.ts";
import { commandWords, environmentOf, failureOf, type Run, type Runner, rowsOf, runnerOf } from "./words-runner.ts";

setDefaultTimeout(30_000);

const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIByDCCAW2gAwIBAgIUSvEeyPEo11j+FK6CE1j5RdZ723swCgYIKoZIzj0EAwIw
OTELMAkGA1UEBhMCU0UxFDASBgNVBAoMC0V4YW1wbGUgT3JnMRQwEgYDVQQDDAtl
eGFtcGxlLm9yZzAeFw0yNjExMjExNDQyMDdaFw0zNjExMTgxNDQyMDdaMDkxCzAJ
BgNVBAYTAlNFMRQwEgYDVQQKDAtFeGFtcGxlIE9yZzEUMBIGA1UEAwwLZXhhbXBs
ZS5vcmcwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATfE+r8TOIiR/vvOICibcdj
0BpTYYCTYUB4uIBUWC6GaNzffzkMmp4Y7Z6csCSCIg0MaybCSODBFNY4jd68AHtP
o1MwUTAdBgNVHQ4EFgQUjjvALdXl6GhRFTkfffQjm4wAEPkwHwYDVR0jBBgwFoAU
jjvALdXl6GhRFTkfffQjm4wAEPkwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD
AgNJADBGAiEAvOJ8ncmtob4HALhRhP2dbIdWVCXnf5Xnj4hrQA4ChHQCIQDZ+IYC
lIEafhFs+TPswE9yBmHiizz+QFYEbHfe1q0iOQ==
-----END CERTIFICATE-----
`;
/** One full tile and more, some entries twice as long as others. */
const LINES = Array.from({ length: 300 }, (_, i) => `line ${i} ${"x".repeat(i % 40)}`);

let bench: UpBench;
let ready: Ready;
let cairn: Runner;
const path = (name: string): string => join(bench.folder, name);
const write = (name: string, bytes: string | Uint8Array): string => {
  writeFileSync(path(name), bytes);
  return name;
};
const node = (at: number): string => ready.nodes[at]?.dir ?? "";
const logs = (): string[] => ready.nodes.map(({ log }) => log);
const ok = (run: Run): Run => {
  expect([run.stderr, run.status]).toEqual([run.stderr, 0]);
  return run;
};
type Entry = { index: number; leafHash: string; bytes: number; entry: string };
const allEntries = async (): Promise<Entry[]> => rowsOf<Entry>(ok(await cairn(["log", "tail", "--from", "0", "--json"])).stdout);

beforeAll(async () => {
  bench = await UpBench.open();
  ({ ready } = await bench.up());
  cairn = runnerOf(bench);
  ok(await cairn(["log", "add", "--lines", "-", "--wait", "signed"], { stdin: `${LINES.join("\n")}\n` }));
  // Every frontend has it: what follows may ask any of them.
  for (const log of logs())
    await eventually(
      async () => (await (await fetch(`${log}/checkpoint`)).text()).split("\n")[1],
      (size) => size === "300",
    );
});
afterAll(() => bench[Symbol.asyncDispose]());

describe("add", () => {
  test("a receipt a line; the same entry gets the same receipt; --wait gives index and proof", async () => {
    write("hello", "hello");
    const [first, again] = [ok(await cairn(["log", "add", "hello"])), ok(await cairn(["log", "add", "hello", "--json"]))];
    expect(again.stdout).toBe(first.stdout);
    expect(rowsOf(first.stdout)).toMatchObject([{ receipt: 1, log: ready.log.origin, leafHash: toHex(naiveLeaf(utf8("hello"))), bytes: 5 }]);
    const [waited] = rowsOf<{ index: number; receipt: object }>(ok(await cairn(["log", "add", "hello", "--wait", "sequenced"])).stdout);
    expect(waited?.receipt).toEqual(rowsOf(first.stdout)[0] as object);
    expect(waited?.index).toBeGreaterThanOrEqual(LINES.length);
  });

  test("files, lines, PEM and bundles: exactly their bytes become entries, also none and 65,535 of them", async () => {
    write("a.bin", Uint8Array.of(0, 255, 10, 13));
    write("none", "");
    write("most", new Uint8Array(65_535).fill(7));
    write("lines", "one\r\n\ntwo");
    write("ca.pem", `# a comment\n${CERTIFICATE}tail\n`);
    write("bundle", bundleOf([utf8("in a bundle"), utf8("and another")]));
    const runs = await Promise.all([
      cairn(["log", "add", "a.bin", "none", "most", "--wait", "signed"]),
      cairn(["log", "add", "--lines", "lines", "--wait", "signed"]),
      cairn(["log", "add", "--pem", "ca.pem", "--wait", "signed"]),
      cairn(["log", "add", "--bundle", "-", "--wait", "signed"], { stdin: readFileSync(path("bundle")) }),
    ]);
    expect(runs.map((run) => rowsOf(ok(run).stdout).length)).toEqual([3, 3, 1, 2]);
    const [der] = certificatesOf(CERTIFICATE);
    const wanted = [
      Uint8Array.of(0, 255, 10, 13),
      utf8(""),
      new Uint8Array(65_535).fill(7),
      utf8("one\r"),
      utf8("two"),
      der ?? utf8("?"),
      utf8("in a bundle"),
      utf8("and another"),
    ];
    const found = new Set((await allEntries()).map(({ entry }) => entry));
    expect(wanted.filter((each) => !found.has(each.toBase64()))).toEqual([]);
  });

  test("what is no entry is refused, naming file and place; what was kept before it is said and shown", async () => {
    write("big", new Uint8Array(65_536));
    write("long", `short\n${"y".repeat(65_536)}\nafter\n`);
    write("cut", Uint8Array.of(0, 2, 65, 66, 0, 9, 67));
    write("bad.pem", `${CERTIFICATE}-----BEGIN CERTIFICATE-----\nAA*A\n-----END CERTIFICATE-----\n`);
    write("no.pem", "nothing here\n");
    const cases: [string[], string, string][] = [
      [["big"], "LOG_ENTRY_TOO_LARGE 2", "big: more than 65535 bytes"],
      [["--lines", "long"], "LOG_ENTRY_TOO_LARGE 2", "long line 2"],
      [["--bundle", "cut"], "LOG_ENCODING 7", "cut: the entry at byte 4 is cut short"],
      [["--pem", "bad.pem"], "LOG_ENCODING 7", "bad.pem line 14"],
      [["--pem", "no.pem"], "LOG_ENCODING 7", "no.pem: no CERTIFICATE block"],
      [["missing"], "NOT_FOUND 3", "missing: "],
      [["."], "USAGE 2", ".: "],
      [["-"], "USAGE 2", "stdin is closed or empty"],
      [["-", "-"], "USAGE 2", "stdin (-) can be read once"],
      [["--lines", "--pem", "long"], "BAD_OPTION 2", "want one of them"],
      [["--wait", "later", "hello"], "BAD_OPTION 2", "one of sequenced, signed"],
    ];
    const runs = await Promise.all(cases.map(([words]) => cairn(["log", "add", ...words])));
    for (const [at, [words, failure, says]] of cases.entries()) {
      const run = runs[at] as Run;
      expect([words, failureOf(run), run.stdout]).toEqual([words, failure, ""]);
      expect(run.stderr).toContain(says);
    }
    const many = await cairn(["log", "add", "--lines", "-"], {
      stdin: `${Array.from({ length: 4_200 }, (_, i) => `many ${i}`).join("\n")}\n${"z".repeat(70_000)}`,
    });
    expect(failureOf(many)).toBe("LOG_ENTRY_TOO_LARGE 2");
    expect(many.stderr).toContain("stdin line 4201");
    expect(many.stderr).toContain("4096 entries kept: the receipts are on stdout");
    expect(rowsOf(many.stdout)).toHaveLength(4_096);
  });

  test("a reader that goes away does not end the adding", async () => {
    const words = commandWords(["log", "add", "--lines", "-"]).map((word) => `'${word}'`);
    const child = Bun.spawn(["bash", "-c", `seq -f 'piped %.0f' 4500 | ${words.join(" ")} | head -n 1 > /dev/null; echo "\${PIPESTATUS[1]}"`], {
      stdout: "pipe",
      env: environmentOf(bench),
    });
    expect((await child.stdout.text()).trim()).toBe("0");
    expect(rowsOf(ok(await cairn(["log", "add", "--lines", "-", "--wait", "signed"], { stdin: "piped 4500\n" })).stdout)).toHaveLength(1);
    expect((await allEntries()).filter(({ entry }) => atob(entry).startsWith("piped ")).length).toBe(4_500);
  });

  test("--proof-dir: each file verifies with the log's key and nothing else", async () => {
    ok(await cairn(["log", "add", "--lines", "-", "--proof-dir", "proofs"], { stdin: "p1\np2\n" }));
    const names = readdirSync(path("proofs"));
    expect(names.sort()).toEqual(["p1", "p2"].map((text) => `${toHex(naiveLeaf(utf8(text)))}.tlog-proof`).sort());
    for (const name of names) {
      const words = ["log", "verify", `proofs/${name}`, "--hash", name.slice(0, 64), "--vkey", ready.log.vkey, "--json"];
      expect(rowsOf(ok(await cairn(words, { cluster: null })).stdout)).toMatchObject([{ ok: true, origin: ready.log.origin, leafHash: name.slice(0, 64) }]);
    }
  });
});

describe("proof", () => {
  test("by index, by hash and by file: one proof", async () => {
    write("line-7", LINES[7] as string);
    const found = (await allEntries()).find(({ entry }) => atob(entry) === LINES[7]);
    const ways = [String(found?.index), found?.leafHash ?? "", "line-7"].map((word) => cairn(["log", "proof", word, "--size", "300"]));
    const [byIndex, byHash, byFile] = (await Promise.all(ways)).map((run) => ok(run).stdout);
    expect(byHash).toBe(byIndex as string);
    expect(byFile).toBe(byIndex as string);
    expect(byIndex?.split("\n").slice(0, 2)).toEqual(["c2sp.org/tlog-proof@v1", `index ${found?.index}`]);
    ok(await cairn(["log", "proof", "line-7", "-o", "line-7.tlog-proof"]));
    ok(await cairn(["log", "verify", "line-7.tlog-proof", "--entry", "line-7"]));
  });

  test("--against: the consistency proof of RFC 6962, in the form a witness is asked in", async () => {
    const leaves = (await allEntries()).slice(0, 300).map(({ leafHash }) => fromHex(leafHash) as Uint8Array);
    const sizes = [1, 2, 3, 128, 255, 256, 257, 299, 300];
    const runs = await Promise.all(sizes.map((size) => cairn(["log", "proof", "--against", String(size), "--size", "300", "--json"])));
    for (const [at, size] of sizes.entries()) {
      const [row] = rowsOf<{ oldRoot: string; proof: string }>(ok(runs[at] as Run).stdout);
      expect(row?.oldRoot).toBe(toHex(naiveRoot(leaves.slice(0, size))));
      const [head, ...hashes] =
        (row?.proof ?? "")
          .split("\n\n")[0]
          ?.split("\n")
          .filter((line) => line !== "") ?? [];
      expect(head).toBe(`old ${size}`);
      expect(hashes.map((each) => toHex(fromBase64(each) as Uint8Array))).toEqual(size === 300 ? [] : naiveProof(size, leaves).map(toHex));
    }
  });

  test("what is not in the log, or never was a head, is not found", async () => {
    const cases: [string[], string][] = [
      [["99999999"], "LOG_RANGE 3"],
      [["0".repeat(64)], "NOT_FOUND 3"],
      [["no-such-file"], "NOT_FOUND 3"],
      [["1", "--size", "2"], "LOG_RANGE 3"],
      [["--against", "99999999"], "LOG_RANGE 3"],
      [["--against", "0", "1"], "USAGE 2"],
      [[], "USAGE 2"],
      [["1", "--log", "objects"], "NOT_FOUND 3"],
    ];
    const runs = await Promise.all(cases.map(([words]) => cairn(["log", "proof", ...words])));
    expect(runs.map(failureOf)).toEqual(cases.map(([, failure]) => failure));
  });
});

describe("verify a proof", () => {
  const verify = (file: string, ...words: string[]): Promise<Run> => cairn(["log", "verify", file, ...words], { cluster: null });

  test("every line of it counts", async () => {
    write("entry", "entry");
    const proof = foreignProof("entry", []);
    ok(await verify(write("good.tlog-proof", proof), "--entry", "entry", "--vkey", foreignVkey));
    const damaged = proof.split("\n").flatMap((line, at, lines) => {
      if (line === "") return [];
      const middle = Math.floor(line.length / 2);
      const other = line[middle] === "3" ? "4" : "3";
      const changed = lines.with(at, `${line.slice(0, middle)}${other}${line.slice(middle + 1)}`);
      return [(at % 2 === 0 ? changed : lines.toSpliced(at, 1)).join("\n")];
    });
    const runs = await Promise.all(damaged.map((text, at) => verify(write(`damaged-${at}`, text), "--entry", "entry", "--vkey", foreignVkey)));
    expect(runs.length).toBeGreaterThan(8);
    expect(runs.map(({ status }) => status)).toEqual(runs.map(() => 7));
  });

  test("another entry, another key, another log, no key, and what is asked wrongly", async () => {
    write("entry", "entry");
    write("other", "other");
    write("good.tlog-proof", foreignProof("entry", []));
    const cases: [string[], string][] = [
      [["--entry", "other", "--vkey", foreignVkey], "LOG_PROOF 7"],
      [["--hash", "0".repeat(64), "--vkey", foreignVkey], "LOG_PROOF 7"],
      [["--entry", "entry", "--vkey", ready.log.vkey], "LOG_SIGNATURE 7"],
      [["--entry", "entry"], "USAGE 2"],
      [["--entry", "entry", "--vkey", "x+1+2"], "BAD_OPTION 2"],
      [["--entry", "entry", "--vkey", witnessVkey(1)], "BAD_OPTION 2"],
      [["--entry", "entry", "--vkey", foreignVkey, "--cosigner", foreignVkey], "BAD_OPTION 2"],
      [["--vkey", foreignVkey], "USAGE 2"],
      [["--hash", "00", "--vkey", foreignVkey], "BAD_OPTION 2"],
      [["--entry", "missing", "--vkey", foreignVkey], "NOT_FOUND 3"],
    ];
    const runs = await Promise.all(cases.map(([words]) => verify("good.tlog-proof", ...words)));
    expect(runs.map(failureOf)).toEqual(cases.map(([, failure]) => failure));
    // The cluster's own key is at hand, and is not the one that signed.
    expect(failureOf(await cairn(["log", "verify", "good.tlog-proof", "--entry", "entry"]))).toBe("LOG_SIGNATURE 7");
  });

  test("a policy's quorum, and cosigners by name", async () => {
    write("entry", "entry");
    const witnesses = [1, 2, 3].map((i) => `witness w${i} ${witnessVkey(i)}\n`).join("");
    write("policy", `log ${foreignVkey}\n${witnesses}group g 2 w1 w2 w3\nquorum g\n`);
    write("none.proof", foreignProof("entry", []));
    write("one.proof", foreignProof("entry", [1]));
    write("two.proof", foreignProof("entry", [1, 3]));
    const names = (run: Run): string[] => (rowsOf<{ cosigned: { name: string }[] }>(run.stdout)[0]?.cosigned ?? []).map(({ name }) => name);
    const [none, one, two, required, missing] = await Promise.all([
      verify("none.proof", "--entry", "entry", "--policy", "policy", "--json"),
      verify("one.proof", "--entry", "entry", "--policy", "policy"),
      verify("two.proof", "--entry", "entry", "--policy", "policy", "--json"),
      verify("one.proof", "--entry", "entry", "--vkey", foreignVkey, "--cosigner", witnessVkey(1), "--json"),
      verify("one.proof", "--entry", "entry", "--vkey", foreignVkey, "--cosigner", witnessVkey(2)),
    ]);
    expect(rowsOf<{ error: { code: string } }>(none.stdout)[0]?.error.code).toBe("LOG_SIGNATURE");
    expect(failureOf(one)).toBe("LOG_SIGNATURE 7");
    expect(names(ok(two))).toEqual(["witness-1.example", "witness-3.example"]);
    expect(names(ok(required))).toEqual(["witness-1.example"]);
    expect(failureOf(missing)).toBe("LOG_SIGNATURE 7");
  });
});

describe("verify a log", () => {
  type Report = { ok: boolean; target: string; size: number; root: string; entries: number };

  test("over every frontend, one address, every folder and one folder: the same root", async () => {
    const node = ready.nodes[1]?.dir ?? "";
    const runs = await Promise.all([[], [logs()[0] ?? ""], [bench.data], [node]].map((words) => cairn(["log", "verify", ...words, "--size", "300", "--json"])));
    const reports = runs.map((run) => rowsOf<Report>(ok(run).stdout));
    expect(reports.map((each) => each.length)).toEqual([3, 1, 3, 1]);
    const leaves = (await allEntries()).slice(0, 300).map(({ leafHash }) => fromHex(leafHash) as Uint8Array);
    for (const report of reports.flat()) expect(report).toMatchObject({ ok: true, size: 300, entries: 300, root: toHex(naiveRoot(leaves)) });
  });

  test("an older head must be extended, and never another log's or a larger one", async () => {
    const older = ok(await cairn(["log", "checkpoint", "--size", "300"])).stdout;
    write("older", older);
    write("foreign", foreignProof("x", []).split("\n\n").slice(1).join("\n\n"));
    const forged = older.split("\n").with(1, "299").join("\n");
    write("forged", forged);
    const verify = (...words: string[]): Promise<Run> => cairn(["log", "verify", ready.nodes[0]?.dir ?? "", ...words]);
    ok(await cairn(["log", "add", "--lines", "-", "--wait", "signed"], { stdin: "one more\n" }));
    write("newer", ok(await cairn(["log", "checkpoint"])).stdout);
    const [good, rollback, foreign, fake, wrongKey] = await Promise.all([
      verify("--old", "older"),
      verify("--old", "newer", "--size", "300"),
      verify("--old", "foreign"),
      verify("--old", "forged"),
      verify("--vkey", foreignVkey),
    ]);
    ok(good);
    expect([rollback, foreign, fake, wrongKey].map(failureOf)).toEqual(["LOG_HEAD_ROLLBACK 7", "LOG_SIGNATURE 7", "LOG_SIGNATURE 7", "LOG_SIGNATURE 7"]);
  });

  test("a C2SP folder needs a key; then each damaged file is found and named", async () => {
    await exportFolder("static");
    expect(failureOf(await cairn(["log", "verify", "static"]))).toBe("USAGE 2");
    ok(await cairn(["log", "verify", "static", "--vkey", ready.log.vkey]));
    const upper = existsSync(path("static/tile/1/000")) ? "000" : `000.p/${readdirSync(path("static/tile/1/000.p"))[0]}`;
    for (const file of ["tile/0/000", "tile/entries/000", `tile/1/${upper}`]) {
      const bytes = new Uint8Array(readFileSync(path(`static/${file}`)));
      bytes[20] = (bytes[20] ?? 0) ^ 1;
      writeFileSync(path(`static/${file}`), bytes);
      const run = await cairn(["log", "verify", "static", "--vkey", ready.log.vkey]);
      expect([file, run.status]).toEqual([file, 7]);
      expect(run.stderr).toMatch(/tile\/|entry \d+/);
      bytes[20] = (bytes[20] ?? 0) ^ 1;
      writeFileSync(path(`static/${file}`), bytes);
    }
    ok(await cairn(["log", "verify", "static", "--vkey", ready.log.vkey]));
  });

  test("a damaged tile row of a frontend is found and named, with a right checksum and with a wrong one", async () => {
    cpSync(ready.nodes[2]?.dir ?? "", path("copy"), { recursive: true });
    ok(await cairn(["log", "verify", "copy"]));
    const { merge } = await loadNode(path("copy"));
    const key = logKeys.tile(merge.log, 1, 0);
    const disk = await openDisk(path("copy"));
    const tile = (() => {
      using snap = disk.snapshot();
      return snap.get("log", key) ?? utf8("");
    })();
    await disk.write({ db: "log", batch: [{ op: "put", key, value: tile.with(5, (tile[5] ?? 0) ^ 1) }] });
    await disk.close();
    const lying = await cairn(["log", "verify", "copy"]);
    expect([failureOf(lying), lying.stderr]).toEqual(["LOG_ROOT_MISMATCH 7", expect.stringContaining("tile/1/000")]);
    flipAfter(path("copy/log/data.mdb"), tile.with(5, (tile[5] ?? 0) ^ 1), 40);
    const flipped = await cairn(["log", "verify", "copy"]);
    expect([failureOf(flipped), flipped.stderr]).toEqual(["STORE_CORRUPT 7", expect.stringContaining("tile/1/000")]);
    // One damaged copy does not hide what the others are.
    cpSync(join(bench.data, "cluster.json"), path("three/cluster.json"));
    for (const [id, from] of [
      ["a", node(0)],
      ["b", path("copy")],
      ["c", node(1)],
    ] as const)
      cpSync(from, path(`three/${id}`), { recursive: true });
    const three = await cairn(["log", "verify", "three", "--json"]);
    expect(three.status).toBe(7);
    expect(rowsOf(three.stdout)).toMatchObject([
      { ok: true },
      { ok: false, error: { code: "STORE_CORRUPT" } },
      { ok: true },
      { error: { code: "STORE_CORRUPT" } },
    ]);
    expect(three.stderr).toContain("1 of 3 copies failed");
  });
});

describe("diff", () => {
  test("exactly the entries between two sizes, and both roots", async () => {
    const all = (await allEntries()).slice(0, 300);
    const [middle, none, refused] = await Promise.all([
      cairn(["log", "diff", "250", "260", "--json"]),
      cairn(["log", "diff", "7", "7"]),
      cairn(["log", "diff", "9", "7"]),
    ]);
    expect(rowsOf<Entry>(middle.stdout)).toEqual(all.slice(250, 260));
    const roots = [250, 260].map((size) => `size ${size} root ${toHex(naiveRoot(all.slice(0, size).map(({ leafHash }) => fromHex(leafHash) as Uint8Array)))}`);
    expect(middle.stderr).toBe(`10 entries: ${roots.join(", ")}\n`);
    expect([none.stdout, none.status, failureOf(refused)]).toEqual(["", 0, "LOG_RANGE 3"]);
  });
});

describe("tail", () => {
  test("certificates, JSON and text are readable; control characters of strangers are not", async () => {
    const size = (await allEntries()).length;
    write("cert.pem", CERTIFICATE);
    write("escape", "\u001b[31mred");
    ok(await cairn(["log", "add", "--pem", "cert.pem", "--wait", "signed"]));
    ok(await cairn(["log", "add", "--lines", "-", "escape", "--wait", "signed"], { stdin: '{"b": 1,  "a":[2]}\nplain text\n' }));
    const { stdout } = ok(await cairn(["log", "tail", "--from", "0", "--text"]));
    for (const text of [
      "certificate C=SE, O=Example Org, CN=example.org",
      "valid 2026-11-21T14:42:07.000Z to 2036-11-18",
      '{"b": 1,  "a":[2]}',
      "plain text",
      "8 bytes  1b5b33316d726564",
    ])
      expect(stdout).toContain(text);
    expect(stdout).not.toContain("\u001b");
    expect(failureOf(await cairn(["log", "tail", "--from", String(size + 1_000)]))).toBe("LOG_RANGE 3");
  });

  test("--follow shows what is signed from now on, and ends with a signal", async () => {
    const child = Bun.spawn(commandWords(["log", "tail", "--follow", "--json"]), { stdout: "pipe", stderr: "pipe", env: environmentOf(bench) });
    let seen = "";
    const reading = (async () => {
      for await (const part of child.stdout) seen += new TextDecoder().decode(part);
    })();
    await eventually(
      () => rowsOf(seen).length,
      (count) => count === 10,
    );
    ok(await cairn(["log", "add", "--lines", "-"], { stdin: "followed 1\nfollowed 2\n" }));
    await eventually(
      () => rowsOf<Entry>(seen).filter(({ entry }) => atob(entry).startsWith("followed")).length,
      (count) => count === 2,
    );
    child.kill("SIGTERM");
    expect(await child.exited).toBe(143);
    await reading;
    const indexes = rowsOf<Entry>(seen).map(({ index }) => index);
    expect(indexes).toEqual(indexes.map((_, at) => (indexes[0] ?? 0) + at));
  });
});

test("init: a log has one first head; before it there is nothing to read, and entries wait", async () => {
  expect(failureOf(await cairn(["log", "init"]))).toBe("LOG_EXISTS 5");
  const cluster = await createCluster(path("young"), { nodeCount: 1, knobs: {} });
  const dir = cluster.nodes[0]?.dir ?? "";
  const node = bench.spawn("node", "run", "--dir", dir);
  const here = { cluster: path("young") };
  await eventually(
    () => cairn(["node", "status"], here),
    ({ status }) => status === 0,
  );
  for (const words of ["tail", "checkpoint", "proof 0", "verify"])
    expect(failureOf(await cairn(["log", ...words.split(" ")], here))).toBe("LOG_UNINITIALISED 6");
  expect(rowsOf(ok(await cairn(["log", "add", "--lines", "-"], { ...here, stdin: "early\n" })).stdout)).toHaveLength(1);
  expect(rowsOf(ok(await cairn(["log", "init", "--dir", dir, "--wait", "--json"])).stdout)).toMatchObject([{ step: "init", changed: true }]);
  ok(await cairn(["log", "add", "--lines", "-", "--wait", "signed"], { ...here, stdin: "early\n" }));
  expect(ok(await cairn(["log", "tail", "--text"], here)).stdout).toBe("0  early\n");
  node.kill("SIGTERM");
  await node.exited;
});

test("a cluster known by its admin addresses only tells where its log is", async () => {
  const cluster = ready.nodes.map(({ admin }) => admin).join(",");
  expect(rowsOf(ok(await cairn(["log", "checkpoint", "--json"], { cluster })).stdout)).toMatchObject([{ origin: ready.log.origin }]);
});

test("no cluster: not found", async () => {
  const runs = await Promise.all(
    ["add hello", "proof 0", "tail", "checkpoint", "verify", "init"].map((words) => cairn(["log", ...words.split(" ")], { cluster: null })),
  );
  expect(runs.map(failureOf)).toEqual(runs.map(() => "NOT_FOUND 3"));
});

/** Last: it takes the nodes away one by one. */
describe("nodes that are gone", () => {
  test("the next storage node takes the entries; without a primary they are kept and not signed, and both is said", async () => {
    process.kill(ready.nodes[0]?.pid ?? 0, "SIGKILL");
    const kept = ok(await cairn(["log", "add", "--lines", "-"], { stdin: "after a\n" }));
    expect(rowsOf(kept.stdout)).toMatchObject([{ storage: "b", bytes: 7 }]);
    const waited = await cairn(["log", "add", "--lines", "-", "--wait", "signed", "--timeout", "1s"], { stdin: "after a\n" });
    expect(failureOf(waited)).toBe("TIMEOUT 6");
    expect(waited.stdout).toBe(kept.stdout);
    expect(waited.stderr).toContain("1 entry kept");
    ok(await cairn(["log", "proof", "0"]));
    ok(await cairn(["log", "tail"]));
  });

  test("too few storage nodes, and then none: unavailable, and nothing is said to be kept", async () => {
    process.kill(ready.nodes[1]?.pid ?? 0, "SIGKILL");
    const few = await cairn(["log", "add", "--lines", "-", "--timeout", "1s"], { stdin: "after b\n" });
    expect([few.status, few.stdout]).toEqual([6, ""]);
    process.kill(ready.nodes[2]?.pid ?? 0, "SIGKILL");
    const none = await Promise.all(
      ["add hello --timeout 300ms", "proof 0", "tail", "checkpoint", "verify"].map((words) => cairn(["log", ...words.split(" ")])),
    );
    expect(none.map(failureOf)).toEqual(none.map(() => "UNAVAILABLE 6"));
    expect(none[0]?.stderr).toContain("no entry is known to be kept");
    ok(await cairn(["log", "verify", bench.data])); // the folders are still there
  });
});

/** The log as plain files, as any frontend serves them. */
async function exportFolder(name: string): Promise<void> {
  const [log] = logs();
  const save = async (file: string): Promise<void> => {
    const answer = await fetch(`${log}/${file}`);
    expect([file, answer.status]).toEqual([file, 200]);
    mkdirSync(dirname(path(`${name}/${file}`)), { recursive: true });
    writeFileSync(path(`${name}/${file}`), await answer.bytes());
  };
  await save("checkpoint");
  const size = Number(readFileSync(path(`${name}/checkpoint`), "utf8").split("\n")[1]);
  for (const { level, fullCount, width } of tilesOf(size))
    for (const kind of level === 0 ? [level, "entries" as const] : [level]) {
      for (let n = 0; n < fullCount; n++) await save(tilePath(kind, n));
      if (width > 0) await save(tilePath(kind, fullCount, width));
    }
  expect(existsSync(path(`${name}/tile/0/000`))).toBeTrue();
}

/** Flips one bit of a file, so many bytes into the place where these bytes stand. */
function flipAfter(file: string, needle: Uint8Array, offset: number): void {
  const bytes = readFileSync(file);
  const at = bytes.lastIndexOf(Buffer.from(needle));
  expect(at).toBeGreaterThan(0);
  for (let from = bytes.indexOf(Buffer.from(needle)); from >= 0; from = bytes.indexOf(Buffer.from(needle), from + 1))
    bytes[from + (offset % needle.length)] = (bytes[from + (offset % needle.length)] ?? 0) ^ 4;
  writeFileSync(file, bytes);
}
