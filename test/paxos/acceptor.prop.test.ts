/**
 * The acceptor against what the wire said (sync.md 5.1, I4): whatever comes, in whatever order, with crashes in between, an
 * ACCEPT is never said below a ballot that was promised, a LAST reports every value whose ACCEPT was said, and both are on
 * disk when they are said.
 */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Ballot, compareBallots } from "../../src/engine/paxos/ballot.ts";
import { storedAccepted, storedVote } from "../../src/engine/paxos/records.ts";
import { hashOf, ZERO_HASH } from "../../src/engine/store/versions.ts";
import type { AnswerOf } from "../../src/engine/wire/messages.ts";
import { B, batchOf, C, type ReplicaBench, replicaOn, scopeOf } from "./replica-bench.ts";

const kind = fc.constantFrom("collect", "begin", "begin", "store", "store", "crash", "lease-over");
const action = fc.record({ kind, round: fc.integer({ min: 1, max: 4 }), member: fc.constantFrom(2, 3), version: fc.integer({ min: 1, max: 3 }) });

/** The one batch that a ballot proposes for a version: each follows the one below of the same ballot. */
function batchAt(ballot: Ballot, version: number): Uint8Array {
  const prev = version === 1 ? null : hashOf(batchAt(ballot, version - 1));
  return batchOf(`${ballot.round}.${ballot.member}.${version}`, prev);
}

describe("an acceptor", () => {
  test("keeps what it said, over crashes", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 80, size: "max" }), (actions) => {
        let bench = replicaOn();
        let promised: Ballot = { round: 0, member: 0 };
        const accepted = new Map<number, { ballot: Ballot; batch: string }>();
        const asked = new Map<number, { version: number; batch: string }>();
        const heard = new Set<number>();
        const listen = (): void => {
          for (const [id, body] of bench.answers) {
            if (heard.has(id)) continue;
            heard.add(id);
            if (body.kind === "paxos.accept") {
              expect(compareBallots(body.ballot, promised)).toBeGreaterThanOrEqual(0);
              promised = body.ballot;
              const wanted = asked.get(id)!;
              accepted.set(body.version, { ballot: body.ballot, batch: wanted.batch });
              expect([...storedAccepted(bench.snap)].some((row) => row.version === body.version && row.batch.toHex() === wanted.batch)).toBe(true);
            } else if (body.kind === "paxos.last") {
              expect(compareBallots(body.ballot, promised)).toBeGreaterThanOrEqual(0);
              promised = body.ballot;
              expect(compareBallots(storedVote(bench.snap).promised, promised)).toBeGreaterThanOrEqual(0);
              for (const [version, said] of accepted) reports(body, version, said);
            }
          }
        };
        for (const { kind, round, member, version } of actions) {
          const ballot = { round, member };
          const from = member === 2 ? B : C;
          if (kind === "collect") bench.request(from, { kind: "paxos.collect", ...scopeOf(from), ballot, first: 1, last: 0, hash: ZERO_HASH });
          if (kind === "begin") {
            const batch = batchAt(ballot, version);
            const id = bench.request(from, { kind: "paxos.begin", ...scopeOf(from), ballot, version, batch, reached: 0 });
            asked.set(id, { version, batch: batch.toHex() });
          }
          if (kind === "store") bench.storeNext();
          if (kind === "lease-over") bench.timeMs += 2_000;
          if (kind === "crash") {
            listen();
            bench.crash(0);
            bench = again(bench);
            heard.clear();
            asked.clear();
          }
          listen();
        }
      }),
      { numRuns: 150 },
    );
  }, 30_000);
});

const again = (bench: ReplicaBench): ReplicaBench => replicaOn(bench.disk);

/** The value itself, or one that a newer ballot put in its place. */
function reports(last: AnswerOf<"paxos.last">, version: number, said: { ballot: Ballot; batch: string }): void {
  const found = last.accepted.find((entry) => entry.version === version);
  expect(found).toBeDefined();
  const order = compareBallots(found!.ballot, said.ballot);
  expect(order).toBeGreaterThanOrEqual(0);
  if (order === 0) expect(found!.batch.toHex()).toBe(said.batch);
}
