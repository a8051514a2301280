/** How what clients ask becomes versions at a leader (sync.md 3.4): together where it comes together, and while a version is in flight, for a moment. */
import { describe, expect, test } from "bun:test";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { CLIENT, type NodeId } from "../../src/engine/base/ids.ts";
import { decodeBatch } from "../../src/engine/store/batch.ts";
import { ZERO_HASH } from "../../src/engine/store/versions.ts";
import type { Answer, AnswerOf, Request } from "../../src/engine/wire/messages.ts";
import { B, C, type ReplicaBench, replicaOn, scopeOf } from "./replica-bench.ts";

const ballot = { round: 1, member: 1 };

/** Member a, which leads, settled, with the leases of both others. Its own writes are stored by the test. */
function leader(): ReplicaBench {
  const bench = replicaOn();
  bench.fire("elect");
  bench.storeAll();
  for (const { to, requestId } of bench.takeSent()) bench.message(to, requestId, { kind: "paxos.ack", ...scopeOf(to, 1) });
  bench.storeAll();
  bench.message(B, 0, { kind: "paxos.last", ...scopeOf(B, 2), ballot, first: 1, last: 0, hash: ZERO_HASH, accepted: [] });
  bench.storeAll();
  accepted(bench, 1);
  bench.fire("renew");
  const leases = bench.takeSent().filter(({ body }) => body.kind === "paxos.lease");
  for (const { to, requestId } of leases) bench.message(to, requestId, { kind: "paxos.lease-ack", ...scopeOf(to, 2), ballot, first: 1, last: 0 });
  bench.takeSent();
  expect([bench.state.phase, bench.state.last]).toEqual(["leading", 1]);
  return bench;
}

const accepted = (bench: ReplicaBench, version: number, by: NodeId = B): void =>
  bench.message(by, 0, { kind: "paxos.accept", ...scopeOf(by, 2), ballot, version });
const put = (key: string, fields: Partial<Extract<Request, { kind: "kv.put" }>> = {}): Request => ({
  kind: "kv.put",
  key: utf8(key),
  value: utf8("x"),
  ifMatch: null,
  ifNoneMatch: false,
  ...fields,
});
const read = (key: string): Request => ({ kind: "kv.read", key: utf8(key), local: false, minVersion: 0 });
const isBegin = ({ to, body }: { to: NodeId; body: Request }): boolean => to === C && body.kind === "paxos.begin";
/** Of the BEGINs sent since it was last asked: how many keys of clients each writes. */
function begun(bench: ReplicaBench): string[] {
  return bench.takeSent().flatMap(({ to, body }) => {
    if (to !== C || body.kind !== "paxos.begin") return [];
    const keys = decodeBatch(body.batch).batch.filter(({ key }) => Buffer.from(key).toString("latin1").startsWith("kv/key/"));
    return [`${body.version}: ${keys.length}`];
  });
}
const versionOf = (answer: Answer | undefined): number => (answer as AnswerOf<"kv.written">).version;

describe("requests that come together", () => {
  test("are one version, and their answers are those of one version", () => {
    const bench = leader();
    const ids = ["k", "l", "m"].map((key, at) => bench.request(CLIENT, put(key), at < 2));
    expect(begun(bench)).toEqual(["2: 3"]);
    bench.storeAll();
    accepted(bench, 2);
    expect(ids.map((id) => versionOf(bench.answers.get(id)))).toEqual([2, 2, 2]);
  });

  test("are read from one state, and a read among writes sees none of those it came with", () => {
    const bench = leader();
    const ids = [put("k"), read("k"), put("l"), read("l")].map((body, at) => bench.request(CLIENT, body, at < 3));
    const reads = [ids[1], ids[3]].map((id) => bench.answers.get(id as number));
    expect(reads).toEqual([1, 1].map((readVersion) => ({ kind: "kv.value", value: null, version: 0, readVersion })));
    expect(begun(bench)).toEqual(["2: 2"]);
  });

  test("and write one row twice are two versions, the second on what the first makes of it", () => {
    const bench = leader();
    const ids = [put("k"), put("k", { ifMatch: 2 }), put("k", { ifMatch: 2 })].map((body, at) => bench.request(CLIENT, body, at < 2));
    expect(begun(bench)).toEqual(["2: 1"]);
    bench.storeAll();
    bench.fire("gather");
    expect(begun(bench)).toEqual(["3: 1"]);
    bench.storeAll();
    accepted(bench, 2);
    accepted(bench, 3);
    bench.fire("gather");
    expect(ids.slice(0, 2).map((id) => versionOf(bench.answers.get(id)))).toEqual([2, 3]);
    expect(bench.answers.get(ids[2] as number)?.kind).toBe("kv.conflict");
  });
});

describe("while a version is in flight", () => {
  test("what comes waits for its end, and is one version then", () => {
    const bench = leader();
    for (const key of ["k", "l", "m"]) bench.request(CLIENT, put(key));
    expect(begun(bench)).toEqual(["2: 1"]);
    bench.storeAll();
    accepted(bench, 2);
    expect(begun(bench)).toEqual(["3: 2"]);
  });

  test("it waits no longer than a moment, so a slow link has its window full", () => {
    const bench = leader();
    for (const key of ["k", "l", "m", "n", "o", "p"]) {
      bench.request(CLIENT, put(key));
      bench.fire("gather");
    }
    expect(begun(bench)).toEqual(["2: 1", "3: 1", "4: 1", "5: 1"]);
  });

  test("much of it does not wait", () => {
    const bench = leader();
    const value = new Uint8Array(40_000);
    for (const key of ["k", "l", "m"]) bench.request(CLIENT, put(key, { value }));
    expect(begun(bench)).toEqual(["2: 1", "3: 2"]);
  });
});

test("all versions that one step begins leave before anything that it writes", () => {
  const bench = leader();
  const large = new Uint8Array(900_000);
  for (const [at, key] of ["k", "l"].entries()) bench.request(CLIENT, put(key, { value: large }), at < 1);
  expect(bench.sent.filter(isBegin)).toHaveLength(2); // the bench holds back what waits for a write
});
