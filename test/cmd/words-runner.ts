/** Commands of the source tree as processes beside a cluster: stdin is what is given, and ends. */
import { selfEnvironment } from "../../src/engine/node/self.ts";
import type { UpBench } from "../node/up-bench.ts";

const MAIN = `${import.meta.dir}/../../src/cmd/main.ts`;

export type Run = { readonly stdout: string; readonly stderr: string; readonly status: number };
export type RunOptions = { readonly stdin?: string | Uint8Array; readonly cwd?: string; readonly cluster?: string | null };
export type Runner = (words: readonly string[], options?: RunOptions) => Promise<Run>;

/** The state folder is the bench's own, so that no cluster of this machine is found. */
export function environmentOf(bench: UpBench, cluster: string | null = bench.data): Record<string, string | undefined> {
  return { ...selfEnvironment(), XDG_STATE_HOME: `${bench.folder}/other-state`, CAIRN_CLUSTER: cluster ?? undefined, NO_COLOR: "1" };
}

/** A busy machine is no failure: where a test asks for no time of its own there is plenty. */
export const commandWords = (words: readonly string[]): string[] => [
  process.execPath,
  MAIN,
  ...(words.includes("--timeout") ? [] : ["--timeout", "25s"]),
  ...words,
];

export function runnerOf(bench: UpBench): Runner {
  return async (words, { stdin = "", cwd = bench.folder, cluster } = {}) => {
    const child = Bun.spawn(commandWords(words), {
      stdin: typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin,
      stdout: "pipe",
      stderr: "pipe",
      cwd,
      env: environmentOf(bench, cluster),
    });
    const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    return { stdout, stderr, status };
  };
}

/** One object a line. */
export const rowsOf = <Row = Record<string, unknown>>(text: string): Row[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Row);

/** `CODE status` of a failure, from what it printed on stderr. */
export const failureOf = ({ stderr, status }: Run): string => `${/error\[(\w+)\]/.exec(stderr)?.[1] ?? stderr} ${status}`;
