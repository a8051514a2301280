/**
 * A laggard in real processes (sync.md section 1, rows 7 and 12): killed, its versions trimmed away, started and killed again at
 * each phase of its sync; it never serves or votes with half a store, and in the end all stores are equal. On the binary.
 */
import { expect, test } from "bun:test";
import { liveCluster } from "../node/live-cluster.ts";
import { COMPILED, eventually, healthOf, type NodeStatus, type ReadyNode, statusOf } from "../node/up-bench.ts";

/** A leader trims nothing before a minute is over, since an earlier one's holds may last as long. */
const TRIM_MS = 150_000;
const LIMIT_MS = 300_000;
/** So much that a copy takes a second: 32 MiB. */
const VALUE_BYTES = 128 * 1_024;
const VALUE_COUNT = 256;
const PHASES = ["clearing", "copying", "copying", "verifying"] as const;
const KILLS = 5;

const live = liveCluster(COMPILED, LIMIT_MS);

const node = (at: number): ReadyNode => live.node(at);
const put = (at: number, key: string, body: string | Uint8Array<ArrayBuffer>): Promise<Response> =>
  fetch(`${node(at).admin}/kv/${key}`, { method: "PUT", body });

test(
  "a laggard is killed at each phase of its sync, and in the end has what the others have",
  async () => {
    for (let at = 0; at < VALUE_COUNT; at++) expect((await put(0, `large/${at}`, new Uint8Array(VALUE_BYTES).fill(at))).status).toBe(200);
    const before = (await statusOf(node(2)))?.paxos.last ?? 0;
    await live.kill(2, node(2).pid);
    // writes go on until what c would need next is trimmed away
    let written = 0;
    for (const untilMs = performance.now() + TRIM_MS; ((await statusOf(node(0)))?.paxos.first ?? 0) <= before + 1; ) {
      if (performance.now() > untilMs) throw new Error(`nothing was trimmed: ${JSON.stringify(await statusOf(node(0)))}, c was at ${before}`);
      await Promise.all(Array.from({ length: 20 }, (_, at) => put(at % 2, `small/${written + at}`, `value ${written + at}`)));
      written += 20;
    }

    const seen = new Set<string>();
    for (let round = 0; round < KILLS; round++) {
      live.start(2);
      const wanted = PHASES[round % PHASES.length];
      let status: NodeStatus | null = null;
      // until that phase, or until it went by unseen
      for (;;) {
        const now = await statusOf(node(2));
        if (now === null) continue;
        if (now.sync?.synchronizing === true) {
          seen.add(now.sync.phase);
          expect(await healthOf(node(2))).not.toBe(200);
          // half a store is not read, whatever one asks
          const read = await fetch(`${node(2).admin}/kv/small%2F1?consistency=local`).catch(() => null);
          if (read !== null && (await statusOf(node(2)))?.sync?.synchronizing === true) expect(read.status).toBe(503);
        }
        status = now;
        if ((now.sync?.synchronizing === true && now.sync.phase === wanted) || (await healthOf(node(2))) === 200) break;
      }
      await live.kill(2, status.pid);
      await put(round % 2, `between/${round}`, "written while c was down");
    }
    expect(seen.size).toBeGreaterThan(0);

    live.start(2);
    await eventually(
      () => healthOf(node(2)),
      (status) => status === 200,
      60_000,
    );
    expect(await (await fetch(`${node(2).admin}/kv/between%2F4?consistency=local`)).text()).toBe("written while c was down");
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
