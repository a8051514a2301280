/**
 * `running.json` of a node's folder: which process is the node's daemon, and on which ports. It names the process by
 * pid and start time, so a file left behind by a killed process, or restored with an old folder, is recognised even
 * where the pid is in use again. Where the system has no /proc nothing is believed, which is always safe.
 */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { processMark } from "./process-mark.ts";
import { replaceFile } from "./replace-file.ts";

const RUNNING_FILE = "running.json";

export type Running = {
  readonly pid: number;
  /** Random name of this run of the daemon. */
  readonly boot: string;
  readonly ports: { readonly peer: number; readonly admin: number; readonly log: number };
};

export async function writeRunning(dir: string, running: Running): Promise<void> {
  const line = JSON.stringify({ format: 1, ...running, started: processMark(running.pid) });
  await replaceFile(join(dir, RUNNING_FILE), `${line}\n`, 0o644);
}

export const removeRunning = (dir: string): Promise<void> => rm(join(dir, RUNNING_FILE), { force: true });

/** What runs in this folder, or null where nothing does or it cannot be known. */
export async function readRunning(dir: string): Promise<Running | null> {
  const text = await readFile(join(dir, RUNNING_FILE), "utf8").catch(() => null);
  const found = text === null ? null : parseRunning(text);
  return found !== null && found.started !== null && processMark(found.pid) === found.started ? found : null;
}

function parseRunning(text: string): (Running & { started: string | null }) | null {
  try {
    const { format, pid, boot, ports, started } = JSON.parse(text) as Record<string, unknown>;
    if (format !== 1 || typeof pid !== "number" || typeof boot !== "string" || typeof started !== "string") return null;
    const { peer, admin, log } = (ports ?? {}) as Record<string, unknown>;
    if (typeof peer !== "number" || typeof admin !== "number" || typeof log !== "number") return null;
    return { pid, boot, ports: { peer, admin, log }, started };
  } catch {
    return null; // torn or foreign: nothing is known
  }
}
