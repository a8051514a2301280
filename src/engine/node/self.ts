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
 * The runtime decides by the size of the machine's memory how much garbage it lets lie; each of a node's processes is told
 * that there is this much. A hint, not a limit: with it memory hardly follows the length of a run.
 */
const HEAP_HINT_BYTES = 160 * 1_024 * 1_024;

/** Our environment, less what would change how the child's runtime itself behaves, but for that hint. */
export function selfEnvironment(): Record<string, string | undefined> {
  const { BUN_OPTIONS: _options, BUN_BE_BUN: _bun, ...rest } = process.env;
  return { BUN_JSC_forceRAMSize: String(HEAP_HINT_BYTES), ...rest };
}
