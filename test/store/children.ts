/** Starting `child.ts` and reading what it says. */
import { join } from "node:path";

type Child = Bun.Subprocess<"pipe", "pipe", "pipe" | "ignore">;

const SCRIPT = join(import.meta.dir, "child.ts");

/** `fileKiBMax` stands for a full disk: writes beyond it fail, as on a device without space. */
export function startChild(role: string, dir: string, limits: { fileKiBMax?: number; before?: readonly string[] } = {}): Child {
  const command = [...(limits.before ?? []), process.execPath, SCRIPT, role, dir];
  const limited = limits.fileKiBMax === undefined ? command : ["sh", "-c", `ulimit -f ${limits.fileKiBMax * 2}; exec "$@"`, "sh", ...command];
  return Bun.spawn(limited, { stdin: "pipe", stdout: "pipe", stderr: "ignore" });
}

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
