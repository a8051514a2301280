/**
 * Lines typed in earlier sessions: one a line, newest last, in the state folder of the user. A history that cannot be
 * read or written is none: it must never keep a REPL from starting or ending.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** Older lines are forgotten. */
export const HISTORY_COUNT_MAX = 1_000;

/** `$XDG_STATE_HOME/cairn/repl-history`, by default below `~/.local/state`. */
export function historyFile(env: Readonly<Record<string, string | undefined>>): string {
  return join(env["XDG_STATE_HOME"] || join(homedir(), ".local", "state"), "cairn", "repl-history");
}

/** Newest first, as readline wants it. */
export async function readHistory(file: string): Promise<string[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.slice(-HISTORY_COUNT_MAX).reverse();
}

export async function writeHistory(file: string, newestFirst: readonly string[]): Promise<void> {
  const text = newestFirst
    .slice(0, HISTORY_COUNT_MAX)
    .reverse()
    .map((line) => `${line}\n`)
    .join("");
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    .then(() => writeFile(file, text, { mode: 0o600 }))
    .catch(() => {});
}
