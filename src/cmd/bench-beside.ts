/**
 * The other program of a bench (`--beside CMD`): a shell runs it, its environment tells it what to do, its last line of
 * output is its answer, and it ends with the bench. What that line must hold is the caller's to say.
 */
import { EngineError } from "../engine/base/errors.ts";

export type Beside<T> = {
  readonly command: string;
  readonly env: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** What the last line must have, for the error. */
  readonly wants: string;
  /** Null where the line's object is not what is wanted. */
  read(value: unknown): T | null;
};

/** Throws BAD_OPTION where it failed or said something else. */
export async function runBeside<T>({ command, env, signal, wants, read }: Beside<T>): Promise<T> {
  const child = Bun.spawn(["/bin/sh", "-c", command], { stdin: "ignore", stdout: "pipe", stderr: "inherit", env: { ...process.env, ...env } });
  const stop = (): void => child.kill("SIGTERM");
  signal.addEventListener("abort", stop, { once: true });
  const [stdout, status] = await Promise.all([child.stdout.text(), child.exited]);
  signal.removeEventListener("abort", stop);
  signal.throwIfAborted();
  const found = status === 0 ? read(parsed(stdout.trimEnd().split("\n").at(-1) ?? "")) : null;
  if (found === null) throw new EngineError("BAD_OPTION", `--beside ${command}: ended with ${status}, and no line with ${wants}`);
  return found;
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null; // the caller says what was wanted
  }
}
