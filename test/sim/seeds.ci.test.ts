/**
 * Two thousand seeds of the merge, as in the README, and some hundred of the replicated store: no invariant breaks, and
 * whatever ran at once, they are the same runs. Prints its rate; time decides nothing.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { rowsOf } from "../cmd/words-runner.ts";

const MAIN = join(import.meta.dir, "../../src/cmd/main.ts");
/** By area. One of the store has five times the events of one of the merge. */
const SEEDS = { merge: 2_000, sync: 200 };
const HANG_MS = 20 * 60_000;

async function seeds(area: string, range: string): Promise<{ row: Record<string, unknown>; status: number }> {
  const child = Bun.spawn([process.execPath, MAIN, "sim", "run", "--area", area, "--seeds", range, "--json"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
  const [stdout, status] = await Promise.all([child.stdout.text(), child.exited]);
  return { row: rowsOf(stdout)[0] ?? {}, status };
}

for (const [area, count] of Object.entries(SEEDS))
  test(
    `no invariant breaks in ${count} seeds of ${area}`,
    async () => {
      const startedMs = performance.now();
      const { row, status } = await seeds(area, String(count));
      const seconds = (performance.now() - startedMs) / 1_000;
      process.stderr.write(
        `${count} seeds of ${area}, ${row["events"]} events in ${seconds.toFixed(0)} s: ${(count / seconds).toFixed(1)} seeds/s, trace ${row["traceHash"]}\n`,
      );
      expect(row["violations"]).toEqual([]);
      expect(row["seeds"]).toBe(count);
      expect(status).toBe(0);
    },
    HANG_MS,
  );

for (const area of Object.keys(SEEDS))
  test(`seeds of ${area} are the same runs every time`, async () => {
    const [one, two] = [await seeds(area, "41..52"), await seeds(area, "41..52")];
    expect(one.row["traceHash"]).toBe(two.row["traceHash"] as string);
    expect(one.row["events"]).toBe(two.row["events"] as number);
  }, 120_000);
