/**
 * Which clusters `cairn up` runs on this machine for this user: one small file each in the state folder, so that a
 * client command without `--cluster` finds the newest. A file of a process that is gone is not believed, and removed.
 */
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { processMark } from "./process-mark.ts";
import { replaceFile } from "./replace-file.ts";

/** `$XDG_STATE_HOME/cairn`, else `~/.local/state/cairn`. A relative value is to be ignored, says the XDG specification. */
export function stateFolder(): string {
  const configured = process.env["XDG_STATE_HOME"];
  return join(configured !== undefined && isAbsolute(configured) ? configured : join(homedir(), ".local/state"), "cairn");
}

const runningFolder = (): string => join(stateFolder(), "running");

/** Says that this process runs the cluster of a data folder; the returned function takes it back. */
export async function registerCluster(dir: string): Promise<() => Promise<void>> {
  await mkdir(runningFolder(), { recursive: true, mode: 0o700 });
  const path = join(runningFolder(), `${process.pid}.json`);
  const line = { format: 1, pid: process.pid, started: processMark(process.pid), dir, timeMs: Date.now() };
  await replaceFile(path, `${JSON.stringify(line)}\n`, 0o600);
  return () => rm(path, { force: true });
}

/** Data folder of the newest running `up`, or null. */
export async function newestCluster(): Promise<string | null> {
  const names = await readdir(runningFolder()).catch(() => []);
  let newest: { dir: string; timeMs: number } | null = null;
  for (const name of names) {
    if (!/^[0-9]+\.json$/.test(name)) continue;
    const path = join(runningFolder(), name);
    const found = await readEntry(path);
    if (found === null) await rm(path, { force: true });
    else if (newest === null || found.timeMs > newest.timeMs) newest = found;
  }
  return newest?.dir ?? null;
}

async function readEntry(path: string): Promise<{ dir: string; timeMs: number } | null> {
  try {
    const { format, pid, started, dir, timeMs } = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
    if (format !== 1 || typeof pid !== "number" || typeof dir !== "string" || typeof timeMs !== "number") return null;
    return isAlive(pid, started) ? { dir, timeMs } : null;
  } catch {
    return null; // torn, or gone since it was listed
  }
}

function isAlive(pid: number, started: unknown): boolean {
  if (typeof started === "string") return processMark(pid) === started;
  try {
    process.kill(pid, 0); // no /proc here: the pid is all there is to go by
    return true;
  } catch {
    return false;
  }
}
