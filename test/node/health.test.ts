/** What `/health` says of a replica: one step, the one that keeps it from serving. */
import { expect, test } from "bun:test";
import { nodeId } from "../../src/engine/base/ids.ts";
import { missingOf } from "../../src/engine/node/health.ts";
import type { Replica } from "../../src/engine/node/replica.ts";

type Seen = Parameters<typeof missingOf>[0];
const facts = { phase: "following", leader: nodeId("a"), epoch: 2, first: 1, last: 9, applied: 9, mustSync: null } as const;
const flags = { isSettledLeader: false, isTrimming: false, isRegressed: false, isFull: false };
const sync = { phase: "joined", synchronizing: false, provider: null, copy: null } as unknown as ReturnType<Replica["sync"]>;
const well: Seen = { sync: () => sync, facts: () => ({ ...facts, ...flags }), hasQuorum: () => true, silent: () => [], voteless: () => null };

const stepsOf = (seen: Partial<Seen>): [string, string][] => missingOf({ ...well, ...seen }).map(({ step, detail }) => [step, detail]);

test("nothing where it serves, with a vote or without", () => {
  expect(stepsOf({})).toEqual([]);
  expect(stepsOf({ voteless: () => "its disk is an old copy" })).toEqual([]);
});

test("each cause is named, and what only a person can mend before what passes", () => {
  const silent = { hasQuorum: () => false, silent: () => [nodeId("b"), nodeId("c")] };
  const full = { facts: () => ({ ...facts, ...flags, isFull: true }) };
  const voteless = { voteless: () => "its disk is an old copy" };
  expect(stepsOf(silent)).toEqual([["quorum", expect.stringMatching(/: no answer from b, c$/)]]);
  expect(stepsOf({ ...silent, silent: () => [] })).toEqual([["quorum", expect.stringMatching(/known yet$/)]]);
  expect(stepsOf({ ...silent, ...full })).toEqual([["space", expect.stringContaining("STORE_FULL")]]);
  expect(stepsOf({ ...silent, ...voteless })).toEqual([["replace", expect.stringContaining("its disk is an old copy; `cairn node replace`")]]);
  const copying = { ...sync, phase: "probing", synchronizing: true } as ReturnType<Replica["sync"]>;
  expect(stepsOf({ ...voteless, sync: () => copying })).toEqual([["sync", "probing: looks for a provider"]]);
});
