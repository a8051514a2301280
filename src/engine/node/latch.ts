/**
 * The latch after a failed fsync (merge.md section 5): on the primary the first failed write stops more than the process
 * that met it. It goes straight to the folder, since the process's own disk writes nothing any more; where even that
 * fails, the process still halts and says so.
 */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { latchFile } from "../merge/files.ts";
import type { NodeConfig } from "./config.ts";
import { replaceFile } from "./replace-file.ts";

/** Best effort: true where `queue` and `dist` are stopped until a person looked. */
export async function latchAfterSyncFailure(node: NodeConfig, detail: string): Promise<boolean> {
  if (node.merge.self !== node.merge.primary) return false;
  const latch = latchFile(node.merge, { code: "STORE_SYNC_FAILED", detail, timeMs: Date.now() });
  if (latch.change !== "replace") return false;
  const path = join(node.dir, latch.file);
  try {
    await mkdir(dirname(path), { recursive: true });
    await replaceFile(path, latch.bytes, 0o644);
    return true;
  } catch {
    return false; // the disk that failed fails again: the halt itself is all that is left to do
  }
}
