/** Six kills of the campaign `merge-kill`, which holds many: two steps and a node at a call, a whole cluster, the loop, a random time. */
import { expect, test } from "bun:test";
import { COMPILED } from "../node/up-bench.ts";
import { type KillPoint, KillRun } from "./kill-run.ts";

const POINTS: readonly KillPoint[] = [
  { victim: { kind: "step", words: ["queue"] }, call: { name: "fdatasync", nth: 2 }, scope: "process" },
  { victim: { kind: "step", words: ["dist"] }, call: { name: "rename", nth: 1 }, scope: "cluster" },
  { victim: { kind: "step", words: ["backup", "--secondary", "b"] }, call: { name: "fsync", nth: 2 }, scope: "process" },
  { victim: { kind: "node", name: "c" }, call: { name: "fdatasync", nth: 3 }, scope: "process" },
  { victim: { kind: "node", name: "a" }, call: { name: "pwrite64", nth: 4 }, scope: "cluster" },
  { victim: { kind: "loop" }, call: null, scope: "process" },
];

test("six kills of a cluster under load: what was acknowledged is in the log, which verifies on every node", async () => {
  await using run = await KillRun.open(COMPILED[0] as string, 6);
  const rows = [];
  for (const point of POINTS) rows.push(await run.kill(point));
  expect(rows.map(({ died }) => died)).toEqual(["call", "call", "call", "call", "call", "time"]);
  const { entries, acknowledged, heads } = await run.finish();
  expect(entries).toBeGreaterThanOrEqual(acknowledged);
  expect(acknowledged).toBeGreaterThan(20);
  expect(heads).toBeGreaterThan(5);
}, 300_000);
