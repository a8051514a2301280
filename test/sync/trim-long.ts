/**
 * The long trimming run of the seed's work plan in virtual time (sync.md section 1, row 7): updates all the while, trimming as it
 * comes due, and nodes taken offline in turn, most for so long that they come back by a copy. Every invariant after every
 * event; at the end of each turn all stores are compared, and none may hold more than trimming leaves.
 */
import { nextBelow, nextOf, prng } from "../../src/engine/base/prng.ts";
import { diffDisks } from "../../src/engine/sim/disk.ts";
import { PaxosCheckers } from "../../src/engine/sim/paxos-checkers.ts";
import { PaxosClients, put, remove } from "../../src/engine/sim/paxos-clients.ts";
import { PaxosCluster } from "../../src/engine/sim/paxos-world.ts";
import { runFor } from "../../src/engine/sim/steer.ts";
import { watchSync } from "../../src/engine/sim/sync-watch.ts";
import { treeIterate } from "../../src/engine/store/tree.ts";
import { DEFAULT_LIMITS, SYNC_TIMING } from "../../src/engine/sync/state.ts";

const KEYS = Array.from({ length: 300 }, (_, n) => `key-${n}`);
const KEEP = 500;
/** A trim comes due when so many versions beyond the kept ones are there, and waits a minute for a new leader. */
const VERSIONS_MAX = KEEP + 250 + 60 * 8;
const WRITE_EVERY_MS = 200;
const BACK_MS = 60_000;

export type TrimRun = { readonly nodes: number; readonly versions: number; readonly first: number; readonly copies: number; readonly turns: number };

/** Throws at the first broken invariant, store that differs or node that does not come back. */
export function runTrimLong(nodes: 3 | 5, virtualMs: number, seed: number): TrimRun {
  const dice = prng(seed);
  const cluster = new PaxosCluster({
    seed,
    nodeCount: nodes,
    recording: false,
    keepCount: KEEP,
    sync: { limits: DEFAULT_LIMITS, timing: SYNC_TIMING, isResuming: true, mode: "full", holdsAll: false },
    flushMs: [0, 4],
  });
  const { world } = cluster;
  const checkers = new PaxosCheckers(cluster);
  const watched = watchSync(cluster);
  const clients = new PaxosClients(cluster, checkers);
  world.check = () => checkers.check() ?? clients.check() ?? watched.check();
  cluster.startNodes();
  runFor(world, 3_000);

  const write = (): void => {
    const leader = cluster.leader();
    if (leader !== null && clients.openCount < 8)
      clients.ask(leader, nextBelow(dice, 5) === 0 ? remove(nextOf(dice, KEYS)) : put(nextOf(dice, KEYS), clients.nextValue()));
  };
  const writeFor = (ms: number, met: () => boolean = () => false): boolean => {
    for (const endMs = world.nowMs + ms; world.nowMs < endMs && !met(); ) {
      write();
      runFor(world, 2 * nextBelow(dice, WRITE_EVERY_MS));
      if (world.violations[0] !== undefined) throw new Error(`seed ${seed}: ${world.violations[0].invariant}`);
    }
    return met();
  };
  const isJoined = (): boolean => cluster.nodeIds.every((id) => cluster.syncOf(id)?.requester.phase === "joined");
  const stores = () => cluster.nodeIds.map((id) => world.node(id).disk);
  const isEqual = (): boolean => stores().every((other) => diffDisks(stores()[0] ?? other, other, "replicated", 1).length === 0);

  let turns = 0;
  for (const endMs = world.nowMs + virtualMs; world.nowMs < endMs; turns++) {
    const away = Array.from({ length: (nodes - 1) / 2 }, (_, at) => cluster.nodeIds[(turns + at) % nodes] as (typeof cluster.nodeIds)[number]);
    for (const id of away) world.crashNode(id);
    writeFor(60_000 + nextBelow(dice, 240_000));
    for (const id of away) world.startNode(id);
    if (!writeFor(BACK_MS, isJoined)) throw new Error(`seed ${seed}, turn ${turns}: ${away.join(" and ")} not back within ${BACK_MS / 1_000} s`);
    runFor(world, 2_000);
    if (!isEqual()) throw new Error(`seed ${seed}, turn ${turns}: stores differ`);
    for (const { dbs } of stores()) {
      const rows = [...treeIterate(dbs.replicated)].length;
      // a version has a row of its own, and at most one in its service's history
      if (rows > KEYS.length + 2 * VERSIONS_MAX + 100) throw new Error(`seed ${seed}, turn ${turns}: ${rows} rows`);
    }
  }
  const [some] = cluster.nodeIds.map((id) => cluster.stateOf(id));
  return { nodes, versions: some?.last ?? 0, first: some?.first ?? 0, copies: world.trace.marks.get("sync.flag-off") ?? 0, turns };
}
