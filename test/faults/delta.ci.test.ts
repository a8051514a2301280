/**
 * A laggard with `[sync] mode = "delta"` in real processes (sync.md section 4.5): large values stay where they are, what differs is
 * fetched; killed on the way it walks again; in the end all stores are equal. On the binary.
 */
import { expect, test } from "bun:test";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { liveCluster } from "../node/live-cluster.ts";
import { COMPILED, eventually, healthOf, type ReadyNode, statusOf } from "../node/up-bench.ts";

const LIMIT_MS = 180_000;
const VALUE_BYTES = 64 * 1_024;
const VALUE_COUNT = 200;
/** Of the values, so many are written anew while the laggard is away. */
const CHANGED_COUNT = 40;
const KILLS = 3;

const live = liveCluster(COMPILED, LIMIT_MS);

const node = (at: number): ReadyNode => live.node(at);
const put = async (key: string, body: string | Uint8Array<ArrayBuffer>): Promise<void> => {
  const answer = await fetch(`${node(0).admin}/kv/${encodeURIComponent(key)}`, { method: "PUT", body });
  if (answer.status !== 200) throw new Error(`${key}: ${answer.status} ${await answer.text()}`);
};

/** Of the process that runs now. */
const markCount = async (name: string): Promise<number> => {
  const text = await (await fetch(`${node(2).admin}/metrics`)).text();
  return Number(new RegExp(`^cairn_marks_total\\{mark="${name}"\\} (\\d+)`, "m").exec(text)?.[1] ?? 0);
};

test(
  "a laggard fetches what differs, killed again and again, and has what the others have",
  async () => {
    for (let at = 0; at < VALUE_COUNT; at++) await put(`large/${at}`, new Uint8Array(VALUE_BYTES).fill(at));
    const before = (await statusOf(node(2)))?.paxos.last ?? 0;
    await live.kill(2, node(2).pid);
    await appendFile(join(node(2).dir, "config.toml"), '\n[sync]\nmode = "delta"\n');
    for (let at = 0; at < CHANGED_COUNT; at++) await put(`large/${at * 5}`, new Uint8Array(VALUE_BYTES).fill(255 - at));
    await eventually(
      async () => {
        await Promise.all(Array.from({ length: 40 }, (_, at) => put(`small/${at}`, `${performance.now()}`)));
        await live.bench.run("paxos", "trim");
        return (await statusOf(node(0)))?.paxos.first ?? 0;
      },
      (first) => first > before + 1,
      LIMIT_MS / 2,
    );

    const seen = { kept: 0, cleared: 0 };
    const look = async (): Promise<void> => {
      for (const what of ["kept", "cleared"] as const) seen[what] += await markCount(`sync.${what}`);
    };
    for (let round = 0; round < KILLS; round++) {
      live.start(2);
      const { status } = await eventually(
        async () => ({ status: await statusOf(node(2)), health: await healthOf(node(2)) }),
        ({ status: now, health }) => now?.sync?.synchronizing === true || health === 200,
        60_000,
      );
      await Bun.sleep(round * 40); // a little further each time
      await look();
      await live.kill(2, status?.pid);
      await put(`between/${round}`, "written while c was down");
    }

    live.start(2);
    await eventually(
      () => healthOf(node(2)),
      (status) => status === 200,
      60_000,
    );
    await look();
    expect(seen.cleared).toBe(0);
    expect(seen.kept).toBeGreaterThan(0);
    const last = (await statusOf(node(0)))?.paxos.last ?? 0;
    for (const at of [0, 1, 2])
      await eventually(
        async () => (await statusOf(node(at)))?.paxos.applied ?? 0,
        (applied) => applied >= last,
      );
    expect(await live.bench.differences(live.ready.nodes)).toEqual([]);
  },
  LIMIT_MS,
);
