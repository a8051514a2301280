/** The dist step after the swap (merge.md section 5, step 6): what a peer that goes, or answers late, may not end. */
import { describe, expect, test } from "bun:test";
import { REGISTER } from "../../src/engine/base/ids.ts";
import { entryOps, orderOps, tileOps } from "../../src/engine/log/append.ts";
import { signCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { EMPTY_EDGE, EMPTY_ROOT, rootOf } from "../../src/engine/log/merkle.ts";
import type { Head, MergeConfig, StepResult } from "../../src/engine/merge/config.ts";
import { putCovered } from "../../src/engine/merge/cursor.ts";
import { stepDist } from "../../src/engine/merge/dist.ts";
import { type DistState, initialDist } from "../../src/engine/merge/dist-state.ts";
import { putEdge, rows } from "../../src/engine/merge/records.ts";
import { applyFlush, DiskSnapshot, flushesOf } from "../../src/engine/sim/disk.ts";
import { type Answer, type Request, refused } from "../../src/engine/wire/messages.ts";
import { CoreBench, newDisk } from "./core-bench.ts";
import { A, bundle, configOf, hashesOf, names, P, range } from "./fixture.ts";

type Bench = CoreBench<DistState, never, Answer, Request, StepResult>;
const [S1, S2, F, G] = names("s1,s2,f,g") as [typeof P, typeof P, typeof P, typeof P];
const SIZE = 5;
const seed = new Uint8Array(32).fill(7);

/** A run whose gate is open and whose register holds a head that nobody has cosigned or published. */
function releasing(change: Partial<MergeConfig> = {}): Bench {
  const config = configOf(P, { secondaries: [S1, S2], frontends: [F, G], backupquorum: 2, boot: "now", logSeed: seed, ...change });
  const { log } = config;
  const disk = newDisk();
  const snap = new DiskSnapshot(disk.image, "bench");
  const hashes = hashesOf(...range(0, SIZE));
  const tiles = tileOps(snap, log, EMPTY_EDGE, hashes);
  const ops = [
    ...orderOps(snap, log, 0, hashes),
    ...entryOps(snap, log, 0, bundle(...range(0, SIZE))),
    ...tiles.ops,
    putEdge(log, tiles.edge),
    rows.putGate(log, { boot: "now", floor: 0 }),
    putCovered(log, SIZE, [{ storage: A, born: "a.1", seq: SIZE }]),
  ];
  for (const flush of flushesOf({ db: "log", batch: ops })) disk.image = applyFlush(disk.image, flush);
  const bench = new CoreBench(stepDist, initialDist(config), disk).start() as Bench;
  const root = rootOf(hashes);
  const head: Head = { epoch: 1, size: SIZE, root, note: signCheckpoint({ origin: config.origin, size: SIZE, root }, seed), timeMs: 1 };
  bench.message(REGISTER, bench.takeSent()[0]?.requestId as number, { kind: "register.is", head, epoch: 1, primary: P });
  bench.storeAll();
  return bench;
}
const sentKinds = (bench: Bench): string[] => bench.takeSent().map(({ to, body }) => `${body.kind} ${to}`);

describe("while cosignatures are waited for", () => {
  test("a peer that is lost does not end the run before anybody got the head", () => {
    const bench = releasing();
    expect(sentKinds(bench)).toEqual(["backup.head s1", "backup.head s2"]);
    bench.lost(G); // its link was opened by an earlier run
    bench.lost(A);
    expect(bench.done).toBeNull();
    bench.fire("cosign");
    expect(sentKinds(bench)).toEqual(["copy.where f", "copy.where g", "storage.settle a"]);
  });
});

describe("without frontends", () => {
  test("storage nodes are told once, however late the cosignatures are", () => {
    const bench = releasing({ frontends: [] });
    const [first, second] = bench.takeSent();
    bench.fire("cosign");
    const settles = bench.takeSent();
    expect(settles.map(({ body }) => body.kind)).toEqual(["storage.settle"]);
    bench.message(S1, first?.requestId as number, refused("LOG_NOT_VERIFIED", ""));
    bench.message(S2, second?.requestId as number, refused("LOG_NOT_VERIFIED", ""));
    expect(sentKinds(bench)).toEqual([]);
    bench.message(A, settles[0]?.requestId as number, { kind: "storage.settled", settledSeq: SIZE });
    expect(bench.done).toMatchObject({ counts: { owed: 0 } });
  });
});

describe("a frontend that lies", () => {
  test("about sizes that cannot be is left alone, and the next one gets the head", () => {
    const bench = releasing({ secondaries: [], backupquorum: 0 });
    const [toF, toG] = bench.takeSent();
    const at = { kind: "copy.at", verifiedRoot: EMPTY_ROOT, headSize: 0, headRoot: EMPTY_ROOT, publishedSize: 0, epoch: 1, pairs: [] } as const;
    bench.message(F, toF?.requestId as number, { ...at, orderSize: 0, storedSize: 0, verifiedSize: SIZE });
    bench.message(G, toG?.requestId as number, { ...at, orderSize: SIZE, storedSize: SIZE, verifiedSize: SIZE });
    expect(sentKinds(bench)).toEqual(["dist.publish g"]);
  });
});
