/**
 * The crash-point grid of merge.md section 9: one fixed run of the merge, and the same run again with a crash at each of
 * its boundaries (every effect and every flush), of the node where it happens or of the whole cluster. After each the
 * cluster is started again and must finish what it promised, with every invariant held on the way.
 */
import { utf8 } from "../base/bytes.ts";
import type { NodeId } from "../base/ids.ts";
import { MergeRun } from "./merge-run.ts";
import { type MergeShape, namesOf } from "./merge-world.ts";
import type { Boundary } from "./process.ts";

export type GridScope = "node" | "cluster";

export type GridCell = {
  /** Number of the boundary, from 1. */
  readonly boundary: number;
  readonly scope: GridScope;
  /** What happened there, without the crash: `p queue commit log`. */
  readonly at: string;
  readonly outcome: "ok" | "not reached";
  readonly violation: { readonly invariant: string; readonly at: number } | null;
};

const SHAPE: MergeShape = {
  storages: namesOf("a,b"),
  primary: namesOf("p")[0] as NodeId,
  secondaries: namesOf("s1,s2"),
  frontends: namesOf("f"),
  backupquorum: 1,
  storagequorum: 2,
  cosign: "prefer",
};
const SEED = 9_001;
/** Three batches of different sizes, so that first, middle and last ones all occur, across a tile boundary. */
const BATCHES = [7, 300, 40];

/** The run that the grid crashes: adds, then a round, thrice. */
function play(run: MergeRun): void {
  const { cluster } = run;
  let next = 0;
  for (const count of BATCHES) {
    const entries = Array.from({ length: count }, () => utf8(`grid entry ${next++}`));
    for (const storage of cluster.shape.storages) run.add(storage, entries.slice(storage === "a" ? 0 : count >> 1));
    for (const group of cluster.roundSteps) {
      if (cluster.world.running(cluster.shape.primary, "daemon") === null || cluster.world.violations.length > 0) return;
      cluster.runSteps(group);
    }
  }
}

const newRun = (): MergeRun => new MergeRun({ seed: SEED, shape: SHAPE, recording: false, flushMs: [1, 1], keep: "torn" });

/** Every boundary of the run without a crash, in order. */
export function gridBoundaries(): readonly Boundary[] {
  const run = newRun();
  const seen: Boundary[] = [];
  run.cluster.world.onBoundary = (boundary) => {
    if (boundary.when === "after") seen.push(boundary);
  };
  play(run);
  return seen;
}

export const boundaryText = ({ node, process, kind, what }: Boundary): string => `${node} ${process} ${kind} ${what}`.trimEnd();

/** One cell: a crash right after the nth boundary of the run. */
export function runCell(boundary: number, at: string, scope: GridScope): GridCell {
  const run = newRun();
  const { world } = run.cluster;
  world.crashAt({ nth: boundary, scope });
  play(run);
  run.heal();
  const [violation] = world.violations;
  return { boundary, scope, at, outcome: world.crashPointCount === 0 ? "ok" : "not reached", violation: violation ?? null };
}
