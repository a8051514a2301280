/**
 * Replaces a small file whole: write a temp file, fsync, rename, fsync the folder. A reader sees the old bytes or the
 * new ones, also after a power cut.
 */
import { open, rename } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { EngineError } from "../base/errors.ts";
import { isNoSpace } from "../store/lmdb-file.ts";

/** Throws STORE_FULL or STORE_SYNC_FAILED, naming the file; what else may be wrong, such as a folder that is lost, as it comes. */
export async function replaceFile(path: string, bytes: string | Uint8Array, mode: number): Promise<void> {
  try {
    await replaced(path, bytes, mode);
  } catch (cause) {
    if (isNoSpace(cause)) throw new EngineError("STORE_FULL", `${path}: no room for ${bytes.length} bytes`, { cause });
    if (cause instanceof Error && "code" in cause && cause.code === "EIO") throw new EngineError("STORE_SYNC_FAILED", `${path}: ${cause.message}`, { cause });
    throw cause;
  }
}

async function replaced(path: string, bytes: string | Uint8Array, mode: number): Promise<void> {
  const temp = join(dirname(path), `.${basename(path)}.tmp`);
  const file = await open(temp, "w", mode);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temp, path);
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
