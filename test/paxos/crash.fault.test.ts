/**
 * Killed, or without space, at the first, second, third… thing that a node does while clients write: whatever was
 * acknowledged stays, invariants hold after every event, and the node catches up when it is back (sync.md 5.3).
 */
import { describe, expect, test } from "bun:test";
import type { NodeId } from "../../src/engine/base/ids.ts";
import { diffDisks } from "../../src/engine/sim/disk.ts";
import { PaxosCheckers } from "../../src/engine/sim/paxos-checkers.ts";
import { PaxosClients, put } from "../../src/engine/sim/paxos-clients.ts";
import { PaxosCluster } from "../../src/engine/sim/paxos-world.ts";
import { runFor } from "../../src/engine/sim/steer.ts";

const NODES = ["a", "b", "c"] as NodeId[];
const [LEADER, MEMBER] = NODES as [NodeId, NodeId, NodeId];
const WRITES = 3;

function open(): { cluster: PaxosCluster; clients: PaxosClients } {
  const cluster = new PaxosCluster({ seed: 5, nodeCount: 3, recording: false, keepCount: 500 });
  const checkers = new PaxosCheckers(cluster);
  const clients = new PaxosClients(cluster, checkers);
  cluster.world.check = () => checkers.check() ?? clients.check();
  cluster.startNodes();
  runFor(cluster.world, 3_000);
  return { cluster, clients };
}

/** Writes at a node that is not hurt, then everybody is up again, and every store is the same. */
function writeAndHeal(cluster: PaxosCluster, clients: PaxosClients): void {
  const { world } = cluster;
  for (let i = 0; i < WRITES; i++) {
    const call = clients.ask("c" as NodeId, put("k", clients.nextValue()));
    runFor(world, 8_000, () => call.state !== "waiting");
  }
  runFor(world, 5_000, () => world.crashPointCount === 0); // leases alone come to the point
  for (const id of NODES) {
    Object.assign(world.node(id).faults, { full: false, fullNext: 0 });
    world.startNode(id);
  }
  const endings: (string | undefined)[] = [];
  for (let i = 0; i < 3 && endings.at(-1) !== "kv.written"; i++) {
    const call = clients.ask("c" as NodeId, put("k", clients.nextValue()));
    runFor(world, 5_000, () => call.state !== "waiting");
    endings.push(call.body?.kind); // the first may have been on its way to a leader that was gone
    runFor(world, 2_000);
  }
  expect(world.violations).toEqual([]);
  expect(endings.at(-1)).toBe("kv.written");
  const [one, ...others] = NODES.map((id) => world.diskOf(id));
  for (const other of others) expect(diffDisks(one!, other, "replicated", 3)).toEqual([]);
}

describe("a node that dies", () => {
  for (const [id, what] of [
    [LEADER, "the leader"],
    [MEMBER, "a member"],
  ] as const)
    test(`${what}, after each of its deeds`, () => {
      for (let n = 1; n < 40; n += 3) {
        const { cluster, clients } = open();
        cluster.world.crashAt({ node: id, nth: n, keep: n % 2 === 1 ? "none" : "all" });
        writeAndHeal(cluster, clients);
        expect(cluster.world.crashPointCount).toBe(0); // it was hurt
      }
    }, 60_000);
});

describe("a disk without space", () => {
  for (const [id, what] of [
    [LEADER, "the leader's"],
    [MEMBER, "a member's"],
  ] as const)
    test(`${what}, for the first writes and longer`, () => {
      for (const count of [1, 2, 3, 4, 6, 50]) {
        const { cluster, clients } = open();
        cluster.world.node(id).faults.fullNext = count;
        writeAndHeal(cluster, clients);
        expect(cluster.world.trace.marks.get("paxos.full") ?? 0).toBeGreaterThan(0);
      }
    }, 60_000);
});
