/**
 * How this program starts itself again: the compiled binary runs `process.execPath`; in a source tree that is the
 * runtime, which is told to run `src/cmd/main.ts`.
 */
import { join } from "node:path";

/** A compiled program's own modules lie in a file system inside it. */
const isCompiled = (): boolean => Bun.main.startsWith("/$bunfs/") || Bun.main.startsWith("B:/~BUN/");

/** Words of the command that runs `cairn` with these arguments. */
export function selfCommand(...args: readonly string[]): string[] {
  if (isCompiled()) return [process.execPath, ...args];
  return [process.execPath, join(import.meta.dir, "../../cmd/main.ts"), ...args];
}

/**
 * The runtime decides by the size of the machine's memory how much garbage it lets lie; each of our processes is told
 * that there is this much. A hint, not a limit: with it memory hardly follows the length of a run.
 */
const HEAP_HINT_BYTES = 160 * 1_024 * 1_024;

/** Our environment, less what would change how the child's runtime itself behaves, but for that hint. */
export function selfEnvironment(): Record<string, string | undefined> {
  const { BUN_OPTIONS: _options, BUN_BE_BUN: _bun, ...rest } = process.env;
  return { BUN_JSC_forceRAMSize: String(HEAP_HINT_BYTES), ...rest };
}

/** How long freed memory waits to be given back to the system: the next megabyte takes its place instead of being faulted in anew. */
const FREED_KEPT_MS = 3_000;
/** A thread of the allocator looks for pages to give back inside what is in use: it spent 4 % of all CPU on doing so all the time. */
const HOLES_EVERY_MS = 1_000;

/**
 * For what a node is made of: up to a dozen processes, each of which compiles its own copy of the same code. The last tier of
 * the compiler would gain them some hundredths, and costs more than that for the first million entries.
 */
export function nodeEnvironment(freedKeptMs = FREED_KEPT_MS): Record<string, string | undefined> {
  const allocator = { MIMALLOC_PURGE_DELAY: String(freedKeptMs), MIMALLOC_PURGE_HOLES_MIN_INTERVAL: String(HOLES_EVERY_MS) };
  return { BUN_JSC_useFTLJIT: "0", ...allocator, ...selfEnvironment() };
}

/** The same for a process that needs little memory, and the same memory in each of its runs: it keeps it. */
export const stepEnvironment = (): Record<string, string | undefined> => nodeEnvironment(-1);
