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

/** Our environment, less what would change how the child's runtime itself behaves. */
export function selfEnvironment(): Record<string, string | undefined> {
  const { BUN_OPTIONS: _options, BUN_BE_BUN: _bun, ...rest } = process.env;
  return rest;
}
