/** Resident memory does not follow the store: what a process has read is let go, and reads again as it was. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDisk } from "../../src/engine/node/disk.ts";
import { mappingsOf, releasePages } from "../../src/engine/node/mapped-pages.ts";
import { openEnvironment } from "../../src/engine/store/lmdb.ts";

const ROWS = 256;
const ROW_BYTES = 64 * 1_024;
const ALL_KIB = (ROWS * ROW_BYTES) / 1_024;

const key = (i: number): Uint8Array => Uint8Array.of(1, i);
const value = (i: number): Uint8Array => new Uint8Array(ROW_BYTES).fill(i);
const onLinux = test.skipIf(process.platform !== "linux");

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "cairn-mapped-"));
  const disk = await openDisk(dir);
  await disk.write({ db: "log", batch: Array.from({ length: ROWS }, (_, i) => ({ op: "put", key: key(i), value: value(i) }) as const) });
  await disk.close();
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** KiB of mapped files that are resident in this process. */
async function residentKib(): Promise<number> {
  const status = await readFile("/proc/self/status", "utf8");
  return Number(/^RssFile:\s+(\d+)/m.exec(status)?.[1]);
}

onLinux("pages that were read are let go, and read again as they were", async () => {
  const environment = await openEnvironment(join(dir, "log"), ["log"]);
  const mappings = mappingsOf(join(dir, "log", "data.mdb"));
  expect(mappings.length).toBe(1);
  const readAll = (): void => {
    using snap = environment.stores.log.snapshot();
    for (let i = 0; i < ROWS; i++) expect(snap.get(key(i))).toEqual(value(i));
  };
  readAll();
  const beforeKib = await residentKib();
  for (const mapping of mappings) releasePages(mapping);
  expect(beforeKib - (await residentKib())).toBeGreaterThan(ALL_KIB / 2);
  readAll();
  await environment.close();
  expect(mappingsOf(join(dir, "log", "data.mdb"))).toEqual([]);
});

onLinux("one long step through a store keeps a part of it resident", async () => {
  const disk = await openDisk(dir);
  const walk = (): void => {
    using snap = disk.snapshot();
    for (let i = 0; i < ROWS; i++) expect(snap.get("log", key(i))?.length).toBe(ROW_BYTES);
  };
  walk();
  for (const mapping of mappingsOf(join(dir, "log", "data.mdb"))) releasePages(mapping);
  const beforeKib = await residentKib();
  walk();
  expect((await residentKib()) - beforeKib).toBeLessThan(ALL_KIB * 0.75);
  await disk.close();
});
