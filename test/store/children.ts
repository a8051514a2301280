/** Starting `child.ts` and reading what it says. */
import { join } from "node:path";

type Child = Bun.Subprocess<"pipe", "pipe", "pipe" | "ignore">;

/** Made by the role `commits`: enough that each thread of the pool makes several. */
export const COMMITS = 24;

const SCRIPT = join(import.meta.dir, "child.ts");

/** `tmpfsKiB` puts the folder on a file system of that size, which goes with the child. `fileKiBMax` stands for a full disk: writes beyond it fail, as on a device without space. */
export function startChild(role: string, dir: string, limits: { fileKiBMax?: number; tmpfsKiB?: number; before?: readonly string[] } = {}): Child {
  const command = [...(limits.before ?? []), process.execPath, SCRIPT, role, dir];
  return Bun.spawn(limits.tmpfsKiB === undefined ? limitFile(command, limits.fileKiBMax) : onTmpfs(command, dir, limits.tmpfsKiB), {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "ignore",
  });
}

const limitFile = (command: string[], kiB: number | undefined): string[] =>
  kiB === undefined ? command : ["sh", "-c", `ulimit -f ${kiB * 2}; exec "$@"`, "sh", ...command];

const onTmpfs = (command: string[], dir: string, kiB: number): string[] => [
  ...["unshare", "--mount", "--map-root-user", "sh", "-c", `mount -t tmpfs -o size=${kiB}k tmpfs "$0" && exec "$@"`, dir],
  ...command,
];

/** Runs it to its end without giving up this turn of the event loop; the exit status. */
export function runChild(role: string, dir: string): number {
  return Bun.spawnSync([process.execPath, SCRIPT, role, dir], { stdout: "ignore", stderr: "ignore" }).exitCode;
}

/** One parsed line at a time; ends with the child. */
export async function* lines<Line = unknown>(child: Child): AsyncGenerator<Line> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of child.stdout) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts) yield JSON.parse(part) as Line;
  }
}
