/** Whom a laggard asks (sync.md section 4.7), and when a provider's snapshot is too old (section 4.3). */
import { describe, expect, test } from "bun:test";
import { nodeId } from "../../src/engine/base/ids.ts";
import { candidates } from "../../src/engine/sync/choose.ts";
import { initialSync, MIB, type Reply, type SyncConfig } from "../../src/engine/sync/state.ts";
import { statusOf } from "../../src/engine/sync/status.ts";
import { CLUSTER, SyncCluster } from "./sync-cluster.ts";

const C = nodeId("c");
const OWN = { first: 1, last: 12 };

describe("the provider's order", () => {
  const orderOf = (replies: Readonly<Record<string, Partial<Reply>>>, oldest: number | null = null): string => {
    const config = { ...new SyncCluster({ nodes: 5 }).config(C), isResuming: true } satisfies SyncConfig;
    const state = initialSync(config);
    const nothing = new Uint8Array(32);
    for (const [id, reply] of Object.entries(replies))
      state.requester.replies.set(nodeId(id), {
        ...{ kind: "paxos.probe-reply", cluster: CLUSTER, epoch: 2, birth: CLUSTER, first: 20, last: 40, hash: nothing, floor: 0, synchronizing: false },
        ...{ promised: { round: 1, member: 1 }, leader: "a", quorum: [], tookMs: 1, ...reply },
      } as Reply);
    if (oldest !== null) {
      const row = { transfer: new Uint8Array(8), oldestHash: nothing, version: oldest, cursor: null, number: 0, digest: nothing, positionHash: nothing };
      state.requester.cursor = { ...row, oldest, position: oldest, isDelta: false };
      state.requester.flag = { provider: "b", transfer: new Uint8Array(8), isForced: false, isCleared: true };
    }
    return candidates(state, OWN, 0)
      .filter(({ why }) => why === null)
      .map(({ peer }) => peer)
      .join(" ");
  };
  const all = { a: {}, b: {}, d: {}, e: {} };

  test("who leads comes last, the others by rank", () => expect(orderOf(all)).toBe("b d e a"));
  test("who answers sooner comes first, whatever its rank; a few milliseconds are nothing", () => {
    expect(orderOf({ ...all, b: { tookMs: 80 }, d: { tookMs: 14 }, e: { tookMs: 2 } })).toBe("e d b a");
    expect(orderOf({ ...all, b: { tookMs: 4 }, d: { tookMs: 2 }, e: { tookMs: 0 } })).toBe("b d e a");
    expect(orderOf({ ...all, a: { tookMs: 0 }, b: { tookMs: 900 } })).toBe("d e b a");
  });
  test("who has what a copy that goes on needs comes before both", () =>
    expect(orderOf({ ...all, b: { first: 35 }, d: { first: 35 }, e: { tookMs: 500 } }, 30)).toBe("e a b d"));
  test("who is below the floor, flagged or follows nobody is none", () =>
    expect(orderOf({ a: {}, b: { last: 11 }, d: { synchronizing: true }, e: { leader: "" } })).toBe("a"));
});

describe("a snapshot that is too old", () => {
  for (const mode of ["full", "delta"] as const)
    for (const [growth, snapshots] of [
      [20 * MIB, 1],
      [26 * MIB, 2],
    ] as const)
      test(`${mode}: a file of 100 MiB grew by ${growth / MIB} under it`, () => {
        const cluster = new SyncCluster({ mode, keys: 200 });
        cluster.begin();
        cluster.fileBytes = 100 * MIB;
        cluster.start("c");
        cluster.runUntil(() => (cluster.state(C).requester.durable?.number ?? 0) >= 1, 10_000);
        cluster.fileBytes += growth;
        cluster.runUntil(() => cluster.isWhole(), 120_000);
        expect(cluster.world.violations).toEqual([]);
        expect(cluster.world.trace.marks.get("sync.snapshot")).toBe(snapshots);
      });

  test("a small file may grow at will, and status says how much", () => {
    const cluster = new SyncCluster({ keys: 200 });
    cluster.begin();
    cluster.fileBytes = MIB;
    cluster.start("c");
    cluster.runUntil(() => (cluster.state(C).requester.durable?.number ?? 0) >= 1, 10_000);
    cluster.fileBytes += 15 * MIB;
    const growth = (): number => statusOf(cluster.state(nodeId("b")), cluster.upMs()).provides[0]?.fileGrowthBytes ?? 0;
    expect(cluster.runUntil(() => growth() > 0, 10_000)).toBe(true);
    expect(growth()).toBe(15 * MIB);
    cluster.runUntil(() => cluster.isWhole(), 120_000);
    expect(cluster.world.trace.marks.get("sync.snapshot")).toBe(1);
  });
});
