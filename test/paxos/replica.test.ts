/** Single rules of sync.md 3.2 to 3.7 that need one replica only, and the facts that assembly carries for the synchronisation. */

import { describe, expect, test } from "bun:test";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { assembleReplica } from "../../src/engine/node/assemble.ts";
import { beginSync, endSync } from "../../src/engine/paxos/paxos.ts";
import { applyFlush } from "../../src/engine/sim/disk.ts";
import { localKeys } from "../../src/engine/store/keys.ts";
import { hashOf, ZERO_HASH } from "../../src/engine/store/versions.ts";
import { type Answer, type AnswerOf, answers, type Request } from "../../src/engine/wire/messages.ts";
import { ACCEPTED_COUNT_MAX } from "../../src/engine/wire/paxos-messages.ts";
import { newDisk } from "../merge/core-bench.ts";
import { A, B, batchOf, birthOf, C, config, type ReplicaBench, replicaOn, scopeOf, services } from "./replica-bench.ts";

const ballot = (round: number, member = 2) => ({ round, member });
const lease = (round: number, reached = 0, hash = ZERO_HASH, first = 1): Request => ({
  kind: "paxos.lease",
  ...scopeOf(B, 2),
  ballot: ballot(round),
  leaseMs: 1_000,
  reached,
  hash,
  first,
  commitP99Us: 0,
});
const begin = (version: number, batch: Uint8Array, round = 1, reached = 0): Request => ({
  kind: "paxos.begin",
  ...scopeOf(B),
  ballot: ballot(round),
  version,
  batch,
  reached,
});
const collect = (round: number, last = 0): Request => ({ kind: "paxos.collect", ...scopeOf(C), ballot: ballot(round, 3), first: 1, last, hash: ZERO_HASH });

function answerTo(bench: ReplicaBench, from: typeof B, body: Request) {
  const id = bench.request(from, body);
  bench.storeAll();
  return bench.answers.get(id);
}
const refusal = (body: ReturnType<typeof answerTo>): string => (body?.kind === "paxos.refused" ? body.why : (body?.kind ?? "nothing"));

describe("leases", () => {
  test("3.2: while a lease runs nobody else is promised, and after it anybody is", () => {
    const bench = replicaOn();
    expect(answerTo(bench, B, lease(1))?.kind).toBe("paxos.lease-ack");
    bench.timeMs += 999;
    expect(refusal(answerTo(bench, C, collect(2)))).toBe("leased");
    bench.timeMs += 1;
    expect(refusal(answerTo(bench, C, collect(2)))).toBe("paxos.last");
  });

  test("3.2: for one lease and its margin after a start nobody is acked or promised, accepting goes on", () => {
    const bench = replicaOn(replicaOn().disk);
    bench.timeMs -= 2_000;
    const elect: Request = { kind: "paxos.elect", ...scopeOf(B, 1), rank: 0, first: 1, last: 0 };
    expect([refusal(answerTo(bench, C, collect(2))), refusal(answerTo(bench, B, elect))]).toEqual(["quiet", "quiet"]);
    expect(refusal(answerTo(bench, B, begin(1, batchOf("x", null))))).toBe("paxos.accept");
  });

  test("a lease of an older ballot than the promise is refused, and tells the promise", () => {
    const bench = replicaOn();
    answerTo(bench, C, collect(5));
    expect(answerTo(bench, B, lease(1))).toMatchObject({ kind: "paxos.refused", why: "promised", promised: ballot(5, 3) });
  });
});

describe("versions", () => {
  const one = batchOf("one", null);
  const two = batchOf("two", hashOf(one));

  test("3.4: version 2 is accepted behind version 1 of the same ballot only", () => {
    const bench = replicaOn();
    expect(refusal(answerTo(bench, B, begin(2, two)))).toBe("gap");
    answerTo(bench, B, begin(1, one));
    expect(refusal(answerTo(bench, B, begin(2, two, 2)))).toBe("gap");
    expect(refusal(answerTo(bench, B, begin(2, two)))).toBe("paxos.accept");
  });

  test("3.1: a commit covers entries of its own ballot, everything else is fetched", () => {
    const bench = replicaOn();
    answerTo(bench, B, begin(1, one));
    answerTo(bench, B, { kind: "paxos.commit", ...scopeOf(B), ballot: ballot(3), reached: 1 });
    expect(bench.state.last).toBe(0);
    expect(bench.takeSent().map(({ body }) => body.kind)).toEqual(["paxos.recent-req"]);
    answerTo(bench, B, { kind: "paxos.commit", ...scopeOf(B), ballot: ballot(1), reached: 1 });
    expect([bench.state.last, bench.state.applied]).toEqual([1, 0]); // visible at once, and in the store with what else comes
    bench.fire("apply");
    bench.storeAll();
    expect([bench.state.last, bench.state.applied]).toEqual([1, 1]);
  });

  test("3.1: a commit under a ballot below the promise is late", () => {
    const bench = replicaOn();
    answerTo(bench, B, begin(1, one));
    answerTo(bench, C, collect(5));
    answerTo(bench, B, { kind: "paxos.commit", ...scopeOf(B), ballot: ballot(1), reached: 1 });
    expect([bench.state.last, bench.marks.at(-1)]).toEqual([0, "paxos.late-commit"]);
  });

  test("3.4: a version that is chosen here and not applied is accepted once more, on disk, for a leader that did not know", () => {
    const bench = replicaOn();
    answerTo(bench, B, begin(1, one));
    answerTo(bench, B, { kind: "paxos.commit", ...scopeOf(B), ballot: ballot(1), reached: 1 });
    const again = bench.request(B, begin(1, one, 7));
    expect(bench.answers.get(again)).toBeUndefined();
    bench.storeAll();
    expect(bench.answers.get(again)).toMatchObject({ kind: "paxos.accept", version: 1, ballot: ballot(7) });
    const { promised, accepted } = replicaOn(bench.disk).state;
    expect([promised, accepted.get(1)?.ballot]).toEqual([ballot(7), ballot(7)]);
  });

  test("3.4: what is on its way to disk is not written once more for each BEGIN that repeats it", () => {
    const bench = replicaOn();
    const first = bench.request(B, begin(1, one));
    const count = bench.writeCount;
    const repeated = bench.request(B, begin(1, one));
    expect([bench.writeCount, refusal(bench.answers.get(repeated))]).toEqual([count, "busy"]);
    bench.storeAll();
    expect([bench.answers.get(first)?.kind, refusal(answerTo(bench, B, begin(1, one)))]).toEqual(["paxos.accept", "paxos.accept"]);
    expect(bench.writeCount).toBe(count);
  });

  test("3.5: what is accepted and not applied is bounded: one LAST carries all of it after a restart", () => {
    const bench = replicaOn();
    let [batch, version] = [one, 1];
    for (; refusal(answerTo(bench, B, begin(version, batch))) === "paxos.accept"; version++) batch = batchOf(`v${version}`, hashOf(batch));
    expect([version, bench.state.accepted.size, bench.marks.at(-1)]).toEqual([ACCEPTED_COUNT_MAX + 1, ACCEPTED_COUNT_MAX, "paxos.busy"]);
    const last = answerTo(replicaOn(bench.disk), C, collect(5));
    expect(answers.decode(answers.encode(last as Answer))).toEqual(last as Answer);
  });

  test("3.4: two histories that meet stop the node; a deposed leader's proposal does not", () => {
    const bench = replicaOn();
    answerTo(bench, B, begin(1, one));
    answerTo(bench, B, lease(1, 1, hashOf(one)));
    const other = batchOf("other", null);
    expect(refusal(answerTo(bench, B, begin(1, other, 2)))).toBe("stale");
    expect(refusal(answerTo(bench, B, begin(2, batchOf("two", hashOf(other)), 2)))).toBe("stale");
    expect(bench.halted).toBe(null);
    answerTo(bench, B, lease(2, 1, hashOf(other)));
    expect(bench.halted).toBe("PAXOS_FORK");
  });

  test("an entry behind one that found no space brings the promise along: applying it does not take the promise away", () => {
    const bench = replicaOn();
    answerTo(bench, B, lease(1));
    bench.request(B, begin(1, one));
    bench.request(B, begin(2, two));
    bench.refuseNext();
    bench.storeAll();
    answerTo(bench, B, begin(1, one));
    bench.fire("space");
    answerTo(bench, B, lease(1, 2, hashOf(two)));
    bench.fire("apply");
    bench.storeAll();
    expect([bench.state.applied, replicaOn(bench.disk).state.promised]).toEqual([2, ballot(1)]);
  });

  test("a batch that does not decode is refused, and nothing is written", () => {
    const bench = replicaOn();
    const count = bench.writeCount;
    expect(refusal(answerTo(bench, B, begin(1, one.slice(1))))).toBe("gap");
    expect(bench.writeCount).toBe(count);
  });

  test("3.7: of another disk than the map names nothing is accepted, acked or promised", () => {
    const bench = replicaOn(newDisk(), { ...config, birth: birthOf("z") });
    expect([refusal(answerTo(bench, B, begin(1, one))), refusal(answerTo(bench, C, collect(2)))]).toEqual(["stranger", "stranger"]);
  });

  test("3.7: a disk that has less than a peer remembers is an old copy, and stays one", () => {
    const bench = replicaOn();
    answerTo(bench, B, begin(1, one));
    const own = { kind: "paxos.own", ...scopeOf(B), entries: [] } as const;
    bench.message(B, 0, { ...own, known: ballot(1), version: 1 });
    expect(bench.state.isRegressed).toBe(false); // what this run acked is remembered too
    bench.message(B, 0, { ...own, known: ballot(1), version: 2 });
    bench.storeAll();
    expect([bench.state.isRegressed, refusal(answerTo(bench, B, begin(2, two)))]).toEqual([true, "stranger"]);
    expect(replicaOn(bench.disk).state.isRegressed).toBe(true);
  });

  test("3.7: what a peer was asked before it came back is answered by its earlier run, and does not count", () => {
    const bench = replicaOn();
    bench.fire("elect");
    bench.storeAll();
    const [asked] = bench.takeSent().filter(({ to }) => to === B);
    answerTo(bench, B, { kind: "paxos.return", ...scopeOf(B) });
    bench.message(B, asked!.requestId, { kind: "paxos.ack", ...scopeOf(B, 1) });
    expect([bench.state.phase, bench.marks.at(-1)]).toEqual(["electing", "paxos.earlier-run"]);
  });

  test("3.6: trimming and a forced clear hear of what is applied, not of what is merely known to be chosen", () => {
    const bench = replicaOn();
    answerTo(bench, B, lease(1));
    answerTo(bench, B, begin(1, one));
    const early = bench.request(B, lease(1, 1, hashOf(one)));
    const probed = bench.request(C, { kind: "paxos.probe", ...scopeOf(C) });
    expect([bench.state.last, bench.state.applied]).toEqual([1, 0]);
    expect([bench.answers.get(early), bench.answers.get(probed)]).toMatchObject([{ last: 0 }, { last: 0, hash: ZERO_HASH }]);
    bench.fire("apply");
    bench.storeAll();
    expect(answerTo(bench, B, lease(1, 1, hashOf(one)))).toMatchObject({ kind: "paxos.lease-ack", last: 1 });
    expect(answerTo(bench, C, { kind: "paxos.probe", ...scopeOf(C) })).toMatchObject({ last: 1, hash: hashOf(one) });
  });

  test("a message of another cluster is refused, in whatever state", () => {
    const bench = replicaOn();
    const id = bench.request(B, { ...begin(1, one), cluster: new Uint8Array(8) } as Request);
    expect(bench.answers.get(id)).toMatchObject({ kind: "refused", code: "NOT_ALLOWED" });
  });
});

describe("requests that nobody decides", () => {
  test("end by their deadline: surely not done, and reads too", () => {
    const bench = replicaOn();
    const put = bench.request(A, { kind: "kv.put", key: utf8("k"), value: utf8("v"), ifMatch: null, ifNoneMatch: false });
    const read = bench.request(A, { kind: "kv.read", key: utf8("k"), local: false, minVersion: 0 });
    const later = bench.request(A, { kind: "kv.read", key: utf8("k"), local: true, minVersion: 9 });
    for (let i = 0; i < 24; i++) bench.fire("sweep");
    expect([put, read, later].map((id) => (bench.answers.get(id) as AnswerOf<"refused">).code)).toEqual(Array(3).fill("PAXOS_NO_QUORUM"));
    expect(bench.timers.has("sweep")).toBe(false);
  });

  test("sent on and not answered: nobody can tell", () => {
    const bench = replicaOn();
    answerTo(bench, B, lease(1));
    const put = bench.request(A, { kind: "kv.put", key: utf8("k"), value: utf8("v"), ifMatch: null, ifNoneMatch: false });
    expect(bench.takeSent().map(({ to, body }) => `${to} ${body.kind}`)).toEqual(["b paxos.call"]);
    for (let i = 0; i < 24; i++) bench.fire("sweep");
    expect((bench.answers.get(put) as AnswerOf<"refused">).code).toBe("PAXOS_OUTCOME_UNKNOWN");
  });

  test("sent on and refused by a leader that fell, after this member took over: it goes on leading", () => {
    const bench = replicaOn();
    answerTo(bench, B, lease(1));
    bench.request(A, { kind: "kv.put", key: utf8("k"), value: utf8("v"), ifMatch: null, ifNoneMatch: false });
    const [call] = bench.takeSent();
    bench.fire("elect");
    bench.storeAll();
    bench.message(B, 0, { kind: "paxos.ack", ...scopeOf(B, bench.state.epoch) });
    bench.fire("elect");
    bench.storeAll();
    const promised = { ballot: bench.state.promised, first: 1, last: 0, hash: ZERO_HASH, accepted: [] };
    bench.message(C, 0, { kind: "paxos.last", ...scopeOf(C), ...promised });
    bench.storeAll();
    const refusedBy = { promised: ballot(1), first: 1, last: 0, leader: "" };
    bench.message(B, call!.requestId, { kind: "paxos.refused", ...scopeOf(B), why: "not-leader", ...refusedBy });
    expect([bench.state.phase, bench.state.leader, bench.state.queue.length]).toEqual(["leading", A, 1]);
  });
});

describe("facts for the synchronisation", () => {
  const clocks = { timeMs: 5_000, upMs: 5_000 };

  test("a peer whose first version is out of reach is named, until the sync is over", () => {
    const replica = assembleReplica(config, []);
    const disk = newDisk();
    const bench = replicaOn(disk);
    replica.step({ kind: "start", ...clocks }, bench.snap);
    expect(replica.handles(lease(1))).toBe(true);
    expect(replica.handles({ kind: "copy.where", log: new Uint8Array(8), epoch: 1 })).toBe(false);
    replica.step({ kind: "request", id: 1, from: B, body: lease(1, 412, ZERO_HASH, 402), ...clocks }, bench.snap);
    expect(replica.facts(clocks.upMs)).toMatchObject({ phase: "following", mustSync: B, last: 0, isSettledLeader: false });
    replica.beginSync(clocks, bench.snap);
    expect(replica.facts(clocks.upMs).phase).toBe("syncing");
    const [refused] = replica
      .step({ kind: "request", id: 2, from: C, body: collect(9), ...clocks, upMs: 99_000 }, bench.snap)
      .filter(({ kind }) => kind === "answer");
    expect(refused).toMatchObject({ body: { kind: "paxos.refused", why: "synchronizing" } });
    expect(replica.endSync(clocks, bench.snap).filter(({ kind }) => kind === "send")).toHaveLength(2);
    expect(replica.facts(clocks.upMs)).toMatchObject({ phase: "looking", mustSync: null });
    replica.hold(7);
    expect(replica.state.held).toBe(7);
  });

  test("a promise that is on its way to disk while the store is replaced holds behind it, and what was accepted too", () => {
    const bench = replicaOn();
    const one = batchOf("one", null);
    bench.request(C, collect(5));
    const accepted = bench.request(C, { ...begin(1, one), ballot: ballot(5, 3) } as Request);
    beginSync(bench.state, services, clocks, bench.snap);
    endSync(bench.state, services, clocks, bench.snap);
    expect([bench.state.promised, refusal(bench.answers.get(bench.request(B, begin(1, batchOf("other", null)))))]).toEqual([ballot(5, 3), "busy"]);
    bench.storeAll();
    expect(bench.answers.get(accepted)).toMatchObject({ kind: "paxos.accept", version: 1 });
    expect([bench.state.isInDoubt, bench.state.accepted.get(1)?.ballot, refusal(answerTo(bench, B, begin(1, batchOf("other", null))))]).toEqual([
      false,
      ballot(5, 3),
      "promised",
    ]);
  });

  test("what a peer asked is remembered over a sync, written yet or not", () => {
    const bench = replicaOn();
    bench.request(C, collect(5));
    beginSync(bench.state, services, clocks, bench.snap);
    endSync(bench.state, services, clocks, bench.snap);
    expect(answerTo(bench, C, { kind: "paxos.return", ...scopeOf(C) })).toMatchObject({ kind: "paxos.own", known: ballot(5, 3) });
  });

  test("a start that finds the flag does not look for a leader", () => {
    const disk = newDisk();
    disk.image = applyFlush(disk.image, { change: "commit", db: "local", batch: [{ op: "put", key: localKeys.synchronizing(), value: new Uint8Array(1) }] });
    const bench = replicaOn(disk);
    expect([bench.state.phase, bench.timers.size]).toEqual(["syncing", 0]);
    const probe = answerTo(bench, B, { kind: "paxos.probe", ...scopeOf(B) });
    expect(probe).toMatchObject({ kind: "paxos.probe-reply", synchronizing: true });
  });
});
