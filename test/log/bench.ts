/**
 * Costs of the log's hot path, without the commit: hash a bundle, fold, order, tiles and entries of 4,096 entries of
 * 200 bytes a batch. Run by hand: `bun test/log/bench.ts`. The rows go into a Map, whose cost is measured and left out.
 */
import type { Op } from "../../src/engine/base/effects.ts";
import { entryOps, orderOps, tileOps } from "../../src/engine/log/append.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { EMPTY_EDGE, foldEdge, leafHashes } from "../../src/engine/log/merkle.ts";
import { LOG } from "./grow.ts";
import { MapSnapshot } from "./map-snapshot.ts";

const COUNT = 4_096;
const BATCHES = 100;
const nsOf = (run: () => void): number => {
  const from = Bun.nanoseconds();
  run();
  return Bun.nanoseconds() - from;
};

function measure(first: number): void {
  const snap = new MapSnapshot();
  const spent: Record<string, number> = { hash: 0, fold: 0, order: 0, tiles: 0, entries: 0 };
  const add = (name: string, run: () => void): void => {
    spent[name] = (spent[name] as number) + nsOf(run);
  };
  let edge = EMPTY_EDGE;
  for (let batch = 0; batch < BATCHES; batch++) {
    const count = batch === 0 ? first : COUNT;
    const bundle = bundleOf(Array.from({ length: count }, (_, i) => new Uint8Array(200).fill(i).fill(batch, 0, 4)));
    let hashes: Uint8Array = new Uint8Array(0);
    const ops: Op[][] = [];
    add("hash", () => {
      hashes = leafHashes(bundle);
    });
    add("fold", () => void foldEdge(edge, hashes));
    add("order", () => void ops.push(orderOps(snap, LOG, edge.size, hashes)));
    add("entries", () => void ops.push(entryOps(snap, LOG, edge.size, bundle)));
    add("tiles", () => {
      const tiles = tileOps(snap, LOG, edge, hashes);
      ops.push(tiles.ops);
      edge = tiles.edge;
    });
    for (const each of ops) snap.apply(each);
  }
  const each = Object.entries(spent).map(([name, ns]) => `${name} ${(ns / edge.size).toFixed(0)}`);
  const total = (Object.values(spent).reduce((sum, ns) => sum + ns, 0) - (spent["fold"] as number)) / edge.size; // tiles fold too
  console.log(`first batch ${first}: ns an entry: ${each.join(", ")}; ${Math.round(1e9 / total)} entries/s without commit`);
}

for (const first of [COUNT, 100, COUNT, 100]) measure(first);
