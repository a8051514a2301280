/**
 * Replaces a small file whole: write a temp file, fsync, rename, fsync the folder. A reader sees the old bytes or the
 * new ones, also after a power cut.
 */
import { open, rename } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

export async function replaceFile(path: string, bytes: string | Uint8Array, mode: number): Promise<void> {
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
