/** The real disk behind the effects: one batch, then files in order, each durable (base/effects.ts duties 3, 4, 5, 9). */
import { afterAll, expect, test } from "bun:test";
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { utf8 } from "../../src/engine/base/bytes.ts";
import type { FileChange } from "../../src/engine/base/effects.ts";
import { openDisk } from "../../src/engine/node/disk.ts";
import { type FileCalls, fileCalls } from "../../src/engine/node/file-changes.ts";
import { put } from "../contract/store.ts";

const folders: string[] = [];
const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), "cairn-disk-"));
  folders.push(path);
  return path;
};
afterAll(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

const append = (file: string, at: number, text: string): FileChange => ({ change: "append", file, at, bytes: utf8(text) });
const replace = (file: string, text: string): FileChange => ({ change: "replace", file, bytes: utf8(text) });
const rename = (file: string, to: string): FileChange => ({ change: "rename", file, to });
const text = (dir: string, file: string): string | null => (existsSync(join(dir, file)) ? readFileSync(join(dir, file), "utf8") : null);

/** The real calls, each told to `see` before it is made; what `see` throws is what the system answers. */
function watched(see: (call: string) => void): FileCalls {
  const names = new Map<number, string>();
  const of = (file: { fd: number }): string => names.get(file.fd) ?? "?";
  return {
    async open(path, flags, mode) {
      see(`open ${flags} ${basename(path)}`);
      const file = await fileCalls.open(path, flags, mode);
      names.set(file.fd, basename(path));
      return file;
    },
    async write(file, bytes, at) {
      see(`write ${of(file)} ${bytes.length} at ${at}`);
      await fileCalls.write(file, bytes, at);
    },
    async truncate(file, length) {
      see(`truncate ${of(file)} ${length}`);
      await fileCalls.truncate(file, length);
    },
    async datasync(file) {
      see(`datasync ${of(file)}`);
      await fileCalls.datasync(file);
    },
    async sync(file) {
      see(`sync ${of(file)}`);
      await fileCalls.sync(file);
    },
    async rename(from, to) {
      see(`rename ${basename(from)} ${basename(to)}`);
      await fileCalls.rename(from, to);
    },
  };
}

const systemError = (code: string): Error => Object.assign(new Error(`${code}: injected`), { code });

test("a write is seen whole by the next snapshot, and by the next process", async () => {
  const dir = folder();
  const disk = await openDisk(dir);
  await disk.write({ db: "local", batch: [put("k", "v")], wroteAt: 4, files: [append("merge/queue.a", 0, "one\n"), replace("merge/currentsize", "5\n")] });
  const check = (other: typeof disk): void => {
    using snap = other.snapshot();
    expect(snap.get("local", utf8("k"))).toEqual(utf8("v"));
    expect(snap.get("replicated", utf8("k"))).toBeUndefined();
    expect([...snap.range("local", utf8("a"), utf8("z"))]).toEqual([[utf8("k"), utf8("v")]]);
    expect(snap.fileList("merge")).toEqual(["currentsize", "queue.a"]);
    expect([snap.fileSize("merge/queue.a"), snap.fileSize("merge/none"), snap.fileSize("none/none")]).toEqual([4, null, null]);
    expect(snap.fileRead("merge/queue.a", 1, 3)).toEqual(utf8("ne"));
    expect(snap.fileRead("merge/queue.a", 2, 99)).toEqual(utf8("e\n"));
    expect(snap.fileRead("merge/queue.a", 9, 99)).toEqual(new Uint8Array());
    expect(snap.fileRead("merge/none", 0, 9)).toBeNull();
    expect(snap.fileList("nowhere")).toEqual([]);
  };
  check(disk);
  await disk.close();
  const again = await openDisk(dir, { create: false });
  check(again);
  await again.close();
});

test("the batch comes before the files, and the files come in the order listed", async () => {
  const dir = folder();
  const calls: string[] = [];
  const disk = await openDisk(dir, {
    calls: watched((call) => {
      using snap = disk.snapshot();
      if (calls.length === 0) expect(snap.get("log", utf8("k"))).toEqual(utf8("v"));
      calls.push(call);
    }),
  });
  const files = [append("merge/q", 0, "line\n"), replace("merge/size", "1"), append("merge/q", 5, "x"), rename("merge/size", "old")];
  await disk.write({ db: "log", batch: [put("k", "v")], files });
  const node = basename(dir);
  expect(calls).toEqual([
    ...[
      "open r+ q",
      "open r merge",
      "sync merge",
      `open r ${node}`,
      `sync ${node}`,
      "open wx+ q",
      "write q 5 at 0",
      "datasync q",
      "open r merge",
      "sync merge",
    ],
    ...["open w .size.tmp", "write .size.tmp 1 at 0", "sync .size.tmp", "rename .size.tmp size", "open r merge", "sync merge"],
    ...["open r+ q", "write q 1 at 5", "datasync q"],
    ...["rename size old", "open r merge", "sync merge", `open r ${node}`, `sync ${node}`],
  ]);
  expect([text(dir, "merge/q"), text(dir, "merge/size"), text(dir, "old")]).toEqual(["line\nx", null, "1"]);
  await disk.close();
});

test("an append cuts a torn tail, and refuses a file that lost bytes", async () => {
  const dir = folder();
  const disk = await openDisk(dir);
  await disk.write({ db: "log", batch: [], files: [append("q", 0, "whole\n")] });
  appendFileSync(join(dir, "q"), "torn and very lo");
  await disk.write({ db: "log", batch: [], files: [append("q", 6, "next\n")] });
  expect(text(dir, "q")).toBe("whole\nnext\n");
  await expect(disk.write({ db: "log", batch: [], files: [append("q", 12, "gap")] })).rejects.toMatchObject({ code: "STORE_SYNC_FAILED" });
  await disk.close();
});

test("paths that leave the folder or enter a store are refused before anything is written", async () => {
  const dir = folder();
  const disk = await openDisk(dir);
  using snap = disk.snapshot();
  for (const file of ["../x", "/etc/x", "merge/../../x", "", "merge//x", "./x", "store/data.mdb", "identity", "a\0b"]) {
    await expect(disk.write({ db: "log", batch: [put("k", "v")], files: [replace("ok", "1"), replace(file, "x")] })).rejects.toThrow("stays inside");
    expect(() => snap.fileRead(file, 0, 1)).toThrow("stays inside");
  }
  await expect(disk.write({ db: "log", batch: [], files: [replace("ok", "1"), rename("ok", "../x")] })).rejects.toThrow("stays inside");
  expect(snap.get("log", utf8("k"))).toBeUndefined();
  expect(text(dir, "ok")).toBeNull();
  await disk.close();
});

test("`small` is opened when first used, and read as empty before", async () => {
  const dir = folder();
  const disk = await openDisk(dir);
  {
    using snap = disk.snapshot();
    expect(snap.get("small", utf8("k"))).toBeUndefined();
    expect([...snap.range("small", utf8("a"), utf8("z"))]).toEqual([]);
  }
  expect(existsSync(join(dir, "small"))).toBe(false);
  await disk.write({ db: "small", batch: [put("k", "v")] });
  using snap = disk.snapshot();
  expect(snap.get("small", utf8("k"))).toEqual(utf8("v"));
  expect(Object.keys(disk.environmentStat()).sort()).toEqual(["log", "small", "store"]);
  expect(disk.freeBytes()).toBeGreaterThan(0);
  await disk.close();
});

test("a folder without a store is NOT_FOUND when none is to be made", async () => {
  await expect(openDisk(folder(), { create: false })).rejects.toMatchObject({ code: "NOT_FOUND" });
});

/** One write with all three changes, on a folder that holds their first versions. */
async function faultRun(failing: number, code: string, batch: boolean) {
  const dir = folder();
  let armed = false;
  let count = 0;
  const disk = await openDisk(dir, {
    calls: watched(() => {
      if (armed && ++count === failing) throw systemError(code);
    }),
  });
  await disk.write({ db: "local", batch: [], files: [append("m/q", 0, "one\n"), replace("m/r", "old"), replace("m/s", "side")] });
  armed = true;
  const files = [append("m/q", 4, "two\n"), replace("m/r", "new"), rename("m/s", "m/t")];
  const outcome = await disk.write({ db: "local", batch: batch ? [put("k", "v")] : [], files }).then(
    () => null,
    (error: unknown) => error,
  );
  armed = false;
  return { dir, disk, outcome };
}

test("the n-th system call fails with EIO: the disk is dead, and each file is old or new", async () => {
  let failing = 1;
  for (; ; failing++) {
    const { dir, disk, outcome } = await faultRun(failing, "EIO", true);
    const seen = [text(dir, "m/r"), text(dir, "m/s") ?? text(dir, "m/t"), text(dir, "m/q")?.slice(0, 4)];
    expect(["old", "new"]).toContain(seen[0] as string);
    expect(seen.slice(1)).toEqual(["side", "one\n"]);
    if (outcome === null) break;
    expect(outcome).toMatchObject({ code: "STORE_SYNC_FAILED" });
    await expect(disk.write({ db: "local", batch: [put("later", "v")] })).rejects.toMatchObject({ code: "STORE_SYNC_FAILED" });
    await expect(disk.write({ db: "log", batch: [], files: [replace("m/r", "later")] })).rejects.toMatchObject({ code: "STORE_SYNC_FAILED" });
    using snap = disk.snapshot();
    expect(snap.get("local", utf8("k"))).toEqual(utf8("v")); // the batch was stored before
    expect(snap.get("local", utf8("later"))).toBeUndefined();
    await disk.close();
  }
  expect(failing).toBeGreaterThan(8);
});

test("the n-th system call fails for want of space: files alone are STORE_FULL and may be tried again", async () => {
  let failing = 1;
  for (; ; failing++) {
    const { dir, disk, outcome } = await faultRun(failing, "ENOSPC", false);
    if (outcome === null) break;
    expect(outcome).toMatchObject({ code: "STORE_FULL" });
    expect(readdirSync(join(dir, "m")).filter((name) => name.endsWith(".tmp") && failing < 6)).toEqual([]);
    await disk.write({ db: "local", batch: [], files: [append("m/q", 4, "two\n"), replace("m/r", "new")] });
    expect([text(dir, "m/q"), text(dir, "m/r")]).toEqual(["one\ntwo\n", "new"]);
    await disk.close();
  }
  expect(failing).toBeGreaterThan(8);
});

test("a stored batch whose file finds no space is final: `full` would say that nothing is there", async () => {
  const { disk, outcome } = await faultRun(2, "ENOSPC", true);
  expect(outcome).toMatchObject({ code: "STORE_SYNC_FAILED" });
  await disk.close();
});
