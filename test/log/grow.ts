/** Appends batches of entries to a log in a MapSnapshot, as a primary does: order, entries, tiles and edge at once. */
import type { Op, Snapshot } from "../../src/engine/base/effects.ts";
import { decodeEdge, encodeEdge, entryOps, orderCutOps, orderOps, tileOps } from "../../src/engine/log/append.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { type Edge, EMPTY_EDGE, leafHashes } from "../../src/engine/log/merkle.ts";
import { LogReader } from "../../src/engine/log/reader.ts";
import { logKeys } from "../../src/engine/store/keys.ts";
import type { MapSnapshot } from "./map-snapshot.ts";

export const LOG = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

/** Entry i of the test log: its length varies with i, some are empty. */
export const entryOf = (i: number): Uint8Array => new Uint8Array((i * 7) % 13).fill(i % 251).map((byte, at) => byte ^ (i >> at));
export const entriesOf = (from: number, to: number): Uint8Array[] => Array.from({ length: to - from }, (_, i) => entryOf(from + i));

export function storedEdge(snap: Snapshot): Edge {
  const raw = snap.get("log", logKeys.edge(LOG));
  return raw === undefined ? EMPTY_EDGE : decodeEdge(raw);
}

/** Operations that append these entries behind what is stored. */
export function growOps(snap: Snapshot, entries: readonly Uint8Array[]): Op[] {
  const bundle = bundleOf(entries);
  const hashes = leafHashes(bundle);
  const edge = storedEdge(snap);
  const tiles = tileOps(snap, LOG, edge, hashes);
  return [
    ...orderOps(snap, LOG, edge.size, hashes),
    ...entryOps(snap, LOG, edge.size, bundle),
    ...tiles.ops,
    { op: "put", key: logKeys.edge(LOG), value: encodeEdge(tiles.edge) },
  ];
}

/** Grows the log up to a size in the batches given, and the rest at once. */
export function growTo(snap: MapSnapshot, size: number, batches: readonly number[] = []): void {
  for (const count of [...batches, size]) {
    const { size: from } = storedEdge(snap);
    const to = Math.min(size, from + count);
    if (to > from) snap.apply(growOps(snap, entriesOf(from, to)));
  }
}

/** Cuts the log back to a size, edge and all. */
export function cutTo(snap: MapSnapshot, size: number): void {
  const edge = size === 0 ? undefined : encodeEdge(new LogReader(snap, LOG).edgeAt(size));
  const edgeKey = logKeys.edge(LOG);
  snap.apply([
    ...orderCutOps(snap, LOG, size, storedEdge(snap).size),
    edge === undefined ? { op: "del", key: edgeKey } : { op: "put", key: edgeKey, value: edge },
  ]);
}
