/** The receiving side of a copy (merge.md sections 2 and 6): every request is answered, whatever the disk does. */
import { describe, expect, test } from "bun:test";
import { EMPTY_ROOT, rootOf } from "../../src/engine/log/merkle.ts";
import type { MergeConfig } from "../../src/engine/merge/config.ts";
import { initialReceiver, type ReceiverState } from "../../src/engine/merge/copy-state.ts";
import { stepReceiver } from "../../src/engine/merge/receiver.ts";
import { flipBit } from "../../src/engine/sim/disk.ts";
import { logKeys } from "../../src/engine/store/keys.ts";
import type { Answer, Request } from "../../src/engine/wire/messages.ts";
import { CoreBench, type Disk, newDisk } from "./core-bench.ts";
import { A, bundle, configOf, hashesOf, names, P, range } from "./fixture.ts";

type Bench = CoreBench<ReceiverState, Request, Answer, Request, Answer>;
const S = names("s")[0] as typeof P;
const receiver = (change: Partial<MergeConfig> = {}, disk: Disk = newDisk()): Bench =>
  new CoreBench(stepReceiver, initialReceiver(configOf(S, { secondaries: [S], ...change })), disk).start() as Bench;

const scope = { log: configOf(A).log, epoch: 1 };
const order = (bench: Bench, from: number, to: number): number =>
  bench.request(P, { kind: "copy.order", ...scope, start: from, hashes: hashesOf(...range(from, to)) });
const fill = (bench: Bench, from: number, to: number): number =>
  bench.request(P, { kind: "copy.entries", ...scope, start: from, bundle: bundle(...range(from, to)) });
const verify = (bench: Bench, size: number): number =>
  bench.request(P, {
    kind: "backup.verify",
    ...scope,
    size,
    root: size === 0 ? EMPTY_ROOT : rootOf(hashesOf(...range(0, size))),
    number: 1,
    k: 1,
    secondaries: ["s"],
    floor: 0,
  });
const said = (bench: Bench, id: number): string | undefined => {
  const answer = bench.answers.get(id);
  return answer?.kind === "refused" ? answer.code : answer?.kind;
};

describe("a full disk", () => {
  test("refuses each chunk of the commit, and the receiver takes the next", () => {
    const bench = receiver();
    const first = order(bench, 0, 10); // its commit is under way: the next two wait, and share one
    const second = order(bench, 10, 20);
    const third = order(bench, 20, 30);
    bench.refuseNext();
    expect(said(bench, first)).toBe("STORE_FULL");
    bench.storeAll();
    expect([said(bench, second), said(bench, third)]).toEqual(["LOG_ORDER_GAP", "LOG_ORDER_GAP"]);
    order(bench, 0, 10);
    const [fourth, fifth] = [order(bench, 10, 20), order(bench, 20, 30)];
    bench.storeNext();
    bench.refuseNext();
    expect([said(bench, fourth), said(bench, fifth)]).toEqual(["STORE_FULL", "STORE_FULL"]);
  });

  test("refuses a verify whose word could not be written down", () => {
    const bench = receiver();
    order(bench, 0, 10);
    bench.storeAll();
    fill(bench, 0, 10);
    bench.storeAll();
    const asked = verify(bench, 10);
    bench.storeNext(); // folded
    bench.refuseNext(); // its size and root
    expect(said(bench, asked)).toBe("STORE_FULL");
    const again = verify(bench, 10);
    bench.storeAll();
    expect(said(bench, again)).toBe("backup.verified");
  });
});

describe("a row that fails its checksum", () => {
  test("refuses all chunks that were taken together", () => {
    const bench = receiver();
    order(bench, 0, 10);
    bench.storeAll();
    fill(bench, 0, 5); // under way: what comes now waits, and is taken together
    const ids = [order(bench, 10, 12), order(bench, 12, 14), order(bench, 14, 16)];
    bench.disk.image = flipBit(bench.disk.image, "log", logKeys.order(scope.log, 0), 99);
    bench.storeAll();
    for (const id of ids) expect(said(bench, id)).toBe("STORE_CORRUPT");
  });

  test("refuses the verify that met it, and serves on", () => {
    const bench = receiver();
    order(bench, 0, 10);
    bench.storeAll();
    fill(bench, 0, 10);
    bench.storeAll();
    bench.disk.image = flipBit(bench.disk.image, "log", logKeys.tail(scope.log, 3), 9);
    const asked = verify(bench, 10);
    bench.storeAll();
    expect(said(bench, asked)).toBe("STORE_CORRUPT");
    expect(bench.halted).toBeNull();
    const where = bench.request(P, { kind: "copy.where", ...scope });
    expect(bench.answers.get(where)).toMatchObject({ kind: "copy.at", storedSize: 10, verifiedSize: 0 });
  });
});
