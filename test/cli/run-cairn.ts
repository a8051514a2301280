/**
 * Runs the compiled binary: by its words, or through a shell line in an empty folder. Says so when it was not built.
 */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

export const BINARY = join(import.meta.dir, "..", "..", "dist", "cairn");
if (!existsSync(BINARY)) throw new Error("dist/cairn is not there: `npm test` builds it, and so does `npm run build`");

export type Ended = { readonly stdout: string; readonly stderr: string; readonly status: number };
type Options = { readonly folder?: string; readonly env?: Readonly<Record<string, string>> };

export const cairn = (words: readonly string[], options: Options = {}): Promise<Ended> => run([BINARY, ...words], options);

/** `cairn` is on the path; the line may hold pipes and redirections. */
export const shell = (line: string, options: Options = {}): Promise<Ended> => run(["bash", "-c", line], options);

async function run(command: readonly string[], { folder, env = {} }: Options): Promise<Ended> {
  const child = Bun.spawn([...command], {
    cwd: folder ?? tmpdir(),
    env: { HOME: folder ?? tmpdir(), PATH: `${dirname(BINARY)}:/usr/bin:/bin`, LC_ALL: "C.UTF-8", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, status };
}

/** A folder of its own, gone afterwards. */
export async function emptyFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "cairn-test-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

const UNTIL_MS = 10_000;

/** Waits for what another process is about to do, and fails when it does not. */
export async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + UNTIL_MS;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not within ${UNTIL_MS} ms: ${holds}`);
    await Bun.sleep(5);
  }
}
