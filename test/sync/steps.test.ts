/**
 * Table A of sync.md on a cluster whose Paxos is a script: the seventeen steps in the seed profile and with window and
 * resume; then the step table of section 5.3: every boundary of such a run, and at each the requester, the provider or the
 * leader dies. Checkers look after every event; in the end every store is equal and nothing is held.
 */
import { describe, expect, test } from "bun:test";
import { type NodeId, nodeId } from "../../src/engine/base/ids.ts";
import type { Boundary } from "../../src/engine/sim/process.ts";
import { SEED_LIMITS } from "../../src/engine/sync/state.ts";
import { type Options, SyncCluster } from "./sync-cluster.ts";

const limits = { chunkBytes: 1 << 20, chunkKeys: 6, windowChunks: 3, windowBytes: 8 << 20 };
const SEED_PROFILE: Options = { isResuming: false, holdsAll: true, limits: { ...SEED_LIMITS, chunkKeys: 6 } };
const DEFAULT: Options = { limits };
const DELTA: Options = { limits, mode: "delta", keys: 120 };
const X = nodeId("c");
const PROVIDER = nodeId("b");
const LEADER = nodeId("a");

/** A cluster with a laggard that is about to start, `plan` told of it. */
function runWith(options: Options, plan: (cluster: SyncCluster) => void): SyncCluster {
  const cluster = new SyncCluster({ keys: 18, writeMs: 700, ...options });
  cluster.begin();
  plan(cluster);
  cluster.start("c");
  const joined = cluster.runUntil(() => cluster.isWhole() && cluster.world.crashPointCount === 0, 300_000);
  const wrong =
    cluster.world.violations[0]?.invariant ?? (joined ? null : `not joined: ${cluster.ids.map((id) => cluster.state(id).requester.phase).join(" ")}`);
  if (wrong !== null) throw new Error(wrong);
  return cluster;
}

for (const [profile, options] of [
  ["seed profile", SEED_PROFILE],
  ["window and resume", DEFAULT],
  ["differences only", DELTA],
] satisfies [string, Options][])
  describe(profile, () => {
    const boundaries: Boundary[] = [];
    runWith(options, ({ world }) => {
      world.onBoundary = (at) => void (at.when === "after" && world.nowMs < 3_000 && boundaries.push(at));
    });

    test("the seventeen steps, in their order", () => {
      const cluster = runWith({ ...options, recording: true }, () => {});
      const marks = [...cluster.world.trace.marks.keys()].filter((name) => !name.startsWith("hold.new") && name !== "sync.feasible");
      const [room, last] = options.mode === "delta" ? ["sync.kept", "sync.walked"] : ["sync.cleared", "sync.last-chunk"];
      const steps = ["sync.infeasible", "hold.active", room, "sync.streaming", "sync.snapshot", last, "sync.verified", "sync.flag-off"];
      expect(marks.filter((name) => steps.includes(name))).toEqual(steps);
      expect(marks.slice(-4)).toEqual(["sync.draining", "hold.grace", "sync.drained", "hold.released"]);
    });

    for (const id of [X, PROVIDER, LEADER]) {
      const own = boundaries.filter(({ node }) => node === id);
      test(`${id} dies at each of its ${own.length} boundaries`, () => {
        expect(own.length).toBeGreaterThan(5);
        for (let nth = 1; nth <= own.length; nth++)
          for (const when of ["before", "after"] as const) {
            if (when === "before" && own[nth - 1]?.kind !== "commit") continue;
            const at = `${id} dies ${when} boundary ${nth}: ${own[nth - 1]?.kind} ${own[nth - 1]?.what}`;
            attempt(at, options, ({ world }) => world.crashAt({ node: id, nth, when, keep: nth % 2 === 0 ? "all" : "none" }));
          }
      }, 60_000);
    }

    const flushes = boundaries.filter(({ node, kind }) => node === X && kind === "commit");
    test(`others die at each of the ${flushes.length} commits of ${X}`, () => {
      expect(flushes.length).toBeGreaterThan(6);
      for (let nth = 1; nth <= flushes.length; nth++)
        for (const victims of [[PROVIDER], [LEADER], [PROVIDER, LEADER], [X, PROVIDER]]) {
          if (victims.includes(X) && nth === flushes.length) continue; // it has nothing more to write
          attempt(`${victims} die at commit ${nth}`, options, (cluster) => crashOthers(cluster, nth, victims));
        }
    }, 60_000);
  });

function attempt(what: string, options: Options, plan: (cluster: SyncCluster) => void): void {
  try {
    runWith(options, plan);
  } catch (cause) {
    throw new Error(`${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** After the nth commit of the requester. */
function crashOthers({ world }: SyncCluster, nth: number, victims: readonly NodeId[]): void {
  let count = 0;
  world.onBoundary = ({ node, kind, when }) => {
    if (node !== X || kind !== "commit" || when !== "after" || ++count !== nth) return;
    world.onBoundary = null;
    for (const id of victims) if (id !== X) world.crashNode(id);
    if (victims.includes(X)) world.crashAt({ node: X, kind: "commit", when: "before", nth: 1 });
  };
}
