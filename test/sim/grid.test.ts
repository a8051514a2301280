/**
 * The crash grid of merge.md section 9 in small: a sample of its boundaries in both scopes, the same however many
 * processes share the work. All cells run in the campaign `merge-grid`.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { gridBoundaries, runCell } from "../../src/engine/sim/merge-grid.ts";
import { rowsOf } from "../cmd/words-runner.ts";

setDefaultTimeout(60_000);

const MAIN = join(import.meta.dir, "../../src/cmd/main.ts");
/** A prime: over the three batches of the run each step is met at another place. */
const EVERY = 19;

async function grid(...words: string[]): Promise<{ rows: Record<string, unknown>[]; stderr: string; status: number }> {
  const child = Bun.spawn([process.execPath, MAIN, "sim", "grid", ...words, "--json"], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { rows: rowsOf(stdout), stderr, status };
}

test("a crash at a sample of boundaries, of the node or of all: started again, the run finishes what it promised", async () => {
  const { rows, status } = await grid("merge", "--every", String(EVERY));
  const [cells, summary] = [rows.slice(0, -1), rows.at(-1)];
  expect(cells.filter(({ outcome, violation }) => outcome !== "ok" || violation !== null)).toEqual([]);
  const each = Math.ceil(gridBoundaries().length / EVERY);
  expect(summary).toMatchObject({ event: "grid", area: "merge", cells: 2 * each, ok: 2 * each, violations: 0 });
  expect(each).toBeGreaterThanOrEqual(20);
  expect(cells.map(({ scope }) => scope)).toEqual([...Array(each).fill("node"), ...Array(each).fill("cluster")]);
  expect(status).toBe(0);
});

test("a grid over several processes tells the same cells in the same order, each with its replay", async () => {
  const { rows } = await grid("merge", "--scope", "node", "--from", "101", "--to", "160");
  const boundaries = Array.from({ length: 60 }, (_, at) => 101 + at);
  expect(rows.slice(0, -1).map(({ boundary }) => boundary)).toEqual(boundaries);
  const { event, at, reproduce, ...cell } = rows[30] as { event: string; at: string; reproduce: string };
  expect(cell).toEqual((({ at: _, ...rest }) => rest)(runCell(131, at, "node")) as object);
  const replay = await grid(...reproduce.split(" ").slice(3));
  expect([event, replay.rows[0]]).toEqual(["cell", rows[30]]);
});

test("a grid that is not there, and boundaries beyond the run, are refused", async () => {
  const code = ({ rows, status }: Awaited<ReturnType<typeof grid>>): unknown => [(rows[0]?.["error"] as { code?: string } | undefined)?.code, status];
  expect(code(await grid("volume"))).toEqual(["NOT_FOUND", 3]);
  for (const words of [
    ["--from", "0"],
    ["--to", "99999"],
    ["--from", "9", "--to", "8"],
    ["--every", "0"],
  ])
    expect(code(await grid("merge", ...words))).toEqual(["BAD_OPTION", 2]);
});
