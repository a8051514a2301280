/** A build that meets a service's rows in a newer format stops, and leaves what it holds; an older format is read. */
import { expect, test } from "bun:test";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { endSync } from "../../src/engine/paxos/paxos.ts";
import { applyFlush } from "../../src/engine/sim/disk.ts";
import { encodeBatch } from "../../src/engine/store/batch.ts";
import { replicatedKeys } from "../../src/engine/store/keys.ts";
import { type Disk, newDisk } from "../merge/core-bench.ts";
import { codeOf } from "../thrown.ts";
import { B, replicaOn, scopeOf, services } from "./replica-bench.ts";

const batchOf = (format: number): Uint8Array =>
  encodeBatch(
    [
      { op: "put", key: utf8("kv/key/a"), value: utf8("1") },
      { op: "put", key: replicatedKeys.serviceFormat("kv"), value: Uint8Array.of(format) },
    ],
    null,
  );

/** What a member that is told of one chosen version comes to. */
function after(format: number): { readonly halted: string | null; readonly last: number } {
  const bench = replicaOn();
  const ballot = { round: 1, member: 2 };
  bench.request(B, { kind: "paxos.begin", ...scopeOf(B), ballot, version: 1, batch: batchOf(format), reached: 0 });
  bench.storeAll();
  bench.request(B, { kind: "paxos.commit", ...scopeOf(B), ballot, reached: 1 });
  return { halted: bench.halted, last: bench.state.last };
}

function diskWith(format: number): Disk {
  const disk = newDisk();
  const batch = [{ op: "put", key: replicatedKeys.serviceFormat("kv"), value: Uint8Array.of(format) } as const];
  disk.image = applyFlush(disk.image, { change: "commit", db: "replicated", batch });
  return disk;
}

test("a chosen version of a newer format is not taken up: the node stops", () => {
  expect(after(2)).toEqual({ halted: "STORE_FORMAT", last: 0 });
  expect(after(1)).toEqual({ halted: null, last: 1 });
});

test("nor does a node start on a store of one, or serve a copy of one", () => {
  expect(codeOf(() => replicaOn(diskWith(2)))).toBe("STORE_FORMAT");
  expect(replicaOn(diskWith(0)).halted).toBeNull();
  const bench = replicaOn();
  bench.disk.image = diskWith(7).image;
  expect(codeOf(() => endSync(bench.state, services, { timeMs: 1, upMs: 1 }, bench.snap))).toBe("STORE_FORMAT");
});
