/**
 * Two thousand seeds of the merge, as in the README: no invariant breaks, and whatever ran at once, they are the same
 * runs. Prints its rate; time decides nothing.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { rowsOf } from "../cmd/words-runner.ts";

const MAIN = join(import.meta.dir, "../../src/cmd/main.ts");
const SEEDS = 2_000;
const HANG_MS = 20 * 60_000;

async function seeds(range: string): Promise<{ row: Record<string, unknown>; status: number }> {
  const child = Bun.spawn([process.execPath, MAIN, "sim", "run", "--area", "merge", "--seeds", range, "--json"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
  const [stdout, status] = await Promise.all([child.stdout.text(), child.exited]);
  return { row: rowsOf(stdout)[0] ?? {}, status };
}

test(
  `no invariant breaks in ${SEEDS} seeds of the merge`,
  async () => {
    const startedMs = performance.now();
    const { row, status } = await seeds(String(SEEDS));
    const seconds = (performance.now() - startedMs) / 1_000;
    process.stderr.write(
      `${SEEDS} seeds, ${row["events"]} events in ${seconds.toFixed(0)} s: ${(SEEDS / seconds).toFixed(1)} seeds/s, trace ${row["traceHash"]}\n`,
    );
    expect(row["violations"]).toEqual([]);
    expect(row["seeds"]).toBe(SEEDS);
    expect(status).toBe(0);
  },
  HANG_MS,
);

test("seeds are the same runs every time", async () => {
  const [one, two] = [await seeds("41..52"), await seeds("41..52")];
  expect(one.row["traceHash"]).toBe(two.row["traceHash"] as string);
  expect(one.row["events"]).toBe(two.row["events"] as number);
}, 120_000);
