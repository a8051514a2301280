/** COLLECT, as one winner of an election sees it (sync.md 3.4 and 3.7): what it takes from the answers, and whose count. */

import { describe, expect, test } from "bun:test";
import type { NodeId } from "../../src/engine/base/ids.ts";
import { type Member, putMap } from "../../src/engine/paxos/cluster-map.ts";
import { encodeBatch } from "../../src/engine/store/batch.ts";
import { hashOf, ZERO_HASH } from "../../src/engine/store/versions.ts";
import type { AnswerOf } from "../../src/engine/wire/messages.ts";
import { newDisk } from "../merge/core-bench.ts";
import { batchOf, birthOf, config, type ReplicaBench, replicaOn, scopeOf } from "./replica-bench.ts";

const NAMES = ["a", "b", "c", "d", "e"] as NodeId[];
const members: Member[] = NAMES.map((id, at) => ({ id, number: at + 1, rank: at, birth: birthOf(id) }));

/** Member a of five, elected, with COLLECT on its way. */
function collecting(): ReplicaBench {
  const bench = replicaOn(newDisk(), { ...config, members });
  bench.fire("elect");
  bench.storeAll();
  for (const { to, requestId } of bench.takeSent()) bench.message(to, requestId, { kind: "paxos.ack", ...scopeOf(to, 1) });
  bench.storeAll();
  expect(bench.state.phase).toBe("collecting");
  return bench;
}

const lastOf = (id: NodeId, fields: Partial<AnswerOf<"paxos.last">> = {}): AnswerOf<"paxos.last"> => ({
  kind: "paxos.last",
  ...scopeOf(id, 2),
  ballot: { round: 1, member: 1 },
  first: 1,
  last: 0,
  hash: ZERO_HASH,
  accepted: [],
  ...fields,
});

function hear(bench: ReplicaBench, body: AnswerOf<"paxos.last">, from: NodeId): void {
  bench.message(from, 0, body);
  bench.storeAll();
}
const [, B, C, D, E] = NAMES as [NodeId, NodeId, NodeId, NodeId, NodeId];

describe("a collector", () => {
  test("leads with a majority of all members, its own promise among them", () => {
    const bench = collecting();
    hear(bench, lastOf(B), B);
    hear(bench, lastOf(B), B);
    expect(bench.state.phase).toBe("collecting");
    hear(bench, lastOf(C), C);
    expect(bench.state.phase).toBe("leading");
  });

  test("takes the highest ballot that follows, and drops what follows the other one", () => {
    const bench = collecting();
    const [one, other] = [batchOf("one", null), batchOf("other", null)];
    const behind = batchOf("behind one", hashOf(one));
    const entry = (version: number, round: number, batch: Uint8Array) => ({ version, ballot: { round, member: 2 }, batch });
    hear(bench, lastOf(B, { accepted: [entry(1, 1, one), entry(2, 1, behind)] }), B);
    hear(bench, lastOf(C, { accepted: [entry(1, 2, other)] }), C);
    const begun = bench.takeSent().flatMap(({ to, body }) => (body.kind === "paxos.begin" && to === B ? [body] : []));
    expect(begun.map(({ version }) => version)).toEqual([1, 2]);
    expect(begun[0]!.batch.toHex()).toBe(other.toHex());
    expect(begun[1]!.batch.toHex()).not.toBe(behind.toHex());
  });

  test("3.7: the promise of a disk that a found value replaced does not count", () => {
    const bench = collecting();
    const map = { version: 1, lastNumber: 5, members: members.map((member) => (member.id === E ? { ...member, birth: birthOf("new") } : member)) };
    const replaced = encodeBatch([putMap(map)], null);
    hear(bench, lastOf(B, { accepted: [{ version: 1, ballot: { round: 1, member: 2 }, batch: replaced }] }), B);
    hear(bench, lastOf(E), E); // the disk that is gone: it may have forgotten this by now
    expect(bench.state.phase).toBe("collecting");
    hear(bench, lastOf(D), D);
    expect(bench.state.phase).toBe("leading");
  });

  test("3.7: members that changed in a version it takes up make it collect again", () => {
    const bench = collecting();
    const shrunk = encodeBatch([putMap({ version: 1, lastNumber: 5, members: members.slice(0, 4) })], null);
    hear(bench, lastOf(B, { last: 1, hash: hashOf(shrunk) }), B);
    const [asked] = bench.takeSent().filter(({ body }) => body.kind === "paxos.recent-req");
    bench.message(B, asked!.requestId, { kind: "paxos.recent", ...scopeOf(B, 2), from: 1, last: 1, batches: [shrunk] });
    bench.storeAll();
    expect(bench.marks).toContain("paxos.newer-members");
    expect(bench.takeSent().flatMap(({ to, body }) => (body.kind === "paxos.collect" ? [`${to} ${body.ballot.round}`] : []))).toEqual(["b 2", "c 2", "d 2"]);
  });

  test("3.7: a member that reports less than it once acked does not count", () => {
    const bench = collecting();
    bench.state.memory.rows.set(2, { birth: birthOf(B), round: 1, member: 1, version: 5 });
    hear(bench, lastOf(B), B);
    hear(bench, lastOf(C), C);
    expect([bench.state.phase, bench.marks.includes("paxos.shows-less")]).toEqual(["collecting", true]);
    hear(bench, lastOf(D), D);
    expect(bench.state.phase).toBe("leading");
  });

  test("one that is too far behind gives up: only a sync helps it", () => {
    const bench = collecting();
    hear(bench, lastOf(B, { first: 402, last: 412 }), B);
    expect([bench.state.phase, bench.state.mustSync as string]).toEqual(["looking", "b"]);
  });
});
