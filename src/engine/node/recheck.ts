/**
 * After a failed write (sync.md 2.2, rule 6): the process that met it halts and leaves a mark in the folder, and the next one
 * reads every row of every database before it serves anybody, since what the disk said of that write proves nothing. Where
 * one is damaged, the node ends with STORE_CORRUPT at each start until its store was mended or replaced.
 */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Db } from "../base/effects.ts";
import { keyBehind } from "../store/keys.ts";
import type { Disk } from "./disk.ts";

const MARK_FILE = "recheck";
const DATABASES: readonly Db[] = ["replicated", "local", "accepts", "log", "small"];
/** In one turn of the event loop: `/health` is asked meanwhile. */
const PAGE_COUNT = 4_096;
/** Behind every key: none is longer than 1,024 bytes. */
const END = new Uint8Array(1_025).fill(0xff);

/** Best effort: the disk that failed may fail again, and the halt is all that is left then. */
export function markForRecheck(dir: string, detail: string): void {
  try {
    writeFileSync(join(dir, MARK_FILE), `${detail}\n`);
  } catch {}
}

/** Rows read; null where no write had failed. Throws STORE_CORRUPT. */
export async function recheck(dir: string, disk: Pick<Disk, "snapshot">): Promise<number | null> {
  if (!existsSync(join(dir, MARK_FILE))) return null;
  let rows = 0;
  for (const db of DATABASES)
    for (let from: Uint8Array | null = Uint8Array.of(0); from !== null; await Bun.sleep(0)) {
      const page = readPage(disk, db, from);
      rows += page.count;
      from = page.next;
    }
  rmSync(join(dir, MARK_FILE), { force: true });
  return rows;
}

function readPage(disk: Pick<Disk, "snapshot">, db: Db, from: Uint8Array): { readonly count: number; readonly next: Uint8Array | null } {
  using snap = disk.snapshot();
  let count = 0;
  let last = from;
  for (const [key] of snap.range(db, from, END, { limit: PAGE_COUNT })) {
    last = key;
    count++;
  }
  return { count, next: count < PAGE_COUNT ? null : keyBehind(last) };
}
