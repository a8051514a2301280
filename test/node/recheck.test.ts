/** The start after a failed write reads every row of every database, and only that one does (sync.md 2.2, rule 6). */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { openDisk } from "../../src/engine/node/disk.ts";
import { markForRecheck, recheck } from "../../src/engine/node/recheck.ts";

const ROWS = 10_000; // more than one page
let dir: string;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "cairn-recheck-"));
  await using disk = await opened();
  const batch = Array.from({ length: ROWS }, (_, at) => ({ op: "put" as const, key: utf8(`row/${at}`), value: utf8(`value-${at}-`) }));
  await disk.write({ db: "replicated", batch });
  await disk.write({ db: "accepts", batch: batch.slice(0, 3) });
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function opened(): Promise<Awaited<ReturnType<typeof openDisk>> & AsyncDisposable> {
  const disk = await openDisk(dir);
  return Object.assign(disk, { [Symbol.asyncDispose]: () => disk.close() });
}

test("nothing is read where no write failed, every row where one did, once", async () => {
  await using disk = await opened();
  expect(await recheck(dir, disk)).toBe(null);
  markForRecheck(dir, "planted");
  expect(await recheck(dir, disk)).toBe(ROWS + 3);
  expect(await recheck(dir, disk)).toBe(null);
});

test("a damaged row is found, at each start until it was mended", async () => {
  markForRecheck(dir, "planted");
  const file = join(dir, "store", "data.mdb");
  const bytes = readFileSync(file);
  const at = bytes.lastIndexOf("value-7777-");
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(file, bytes);
  for (const _ of [1, 2]) {
    await using disk = await opened();
    await expect(recheck(dir, disk)).rejects.toMatchObject({ code: "STORE_CORRUPT", message: expect.stringContaining("key row/7777") });
    expect(existsSync(join(dir, "recheck"))).toBe(true);
  }
});
