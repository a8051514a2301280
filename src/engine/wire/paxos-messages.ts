/**
 * The messages of Paxos (sync.md 3.1) as field tables, tags 40–59 and 140–159 of the one wire: BEGIN is answered by
 * ACCEPT, COLLECT by LAST, LEASE by LEASE_ACK, ELECT by ACK, PROBE by PROBE_REPLY, RECENT_REQ by RECENT, and each of them
 * by `paxos.refused` where a rule forbids it. Behind them what clients ask of a replica: a member that does not lead sends
 * a write on as `paxos.call`, and asks for the leader's version once for many reads. `wire/messages.ts` composes them.
 */
import { bytes, fixed, flag, list, nullable, struct, text, u32, u53 } from "./codec.ts";

/** An encoded batch: store/batch.ts has the same cap. */
const BATCH_BYTES_MAX = 8 * 1_024 * 1_024;
/** Accepted entries that one LAST reports: an acceptor takes no more above what it knows to be chosen. */
export const ACCEPTED_COUNT_MAX = 128;
/** Versions in one RECENT: at most 1 MiB of them, or one. */
export const RECENT_COUNT_MAX = 1_024;
const MEMBERS_COUNT_MAX = 16;
export const KV_KEY_BYTES_MAX = 1_000;
export const KV_VALUE_BYTES_MAX = 1_024 * 1_024;
export const KV_ROWS_MAX = 1_024;
/** A forwarded command or its answer: the largest value and what surrounds it. */
const CALL_BYTES_MAX = 9 * 1_024 * 1_024;

/** Every Paxos message says which cluster it is of, the sender's epoch, and the birth of the sender's disk (3.7). */
const scope = { cluster: fixed(8), epoch: u53, birth: fixed(8) };
const hash = fixed(32);
const name = text(32);
const ballot = struct({ round: u53, member: u32 });
const batch = bytes(BATCH_BYTES_MAX);
const entry = struct({ version: u53, ballot, batch });
const member = struct({ id: name, number: u32, rank: u32, birth: fixed(8) });
const kvKey = bytes(KV_KEY_BYTES_MAX);
const kvValue = bytes(KV_VALUE_BYTES_MAX);
/** `ifMatch`: the version that the key must have, 0 for any there is. `ifNoneMatch`: there must be no such key. */
const conditions = { ifMatch: nullable(u53), ifNoneMatch: flag };
/** `local`: this node's own state, which may be old; `minVersion`: wait until it has come so far. */
const freshness = { local: flag, minVersion: u53 };

export const paxosRequests = {
  "paxos.probe": [40, { ...scope }],
  "paxos.elect": [41, { ...scope, rank: u32, first: u53, last: u53 }],
  "paxos.victory": [42, { ...scope, quorum: list(u32, MEMBERS_COUNT_MAX) }],
  "paxos.collect": [43, { ...scope, ballot, first: u53, last: u53, hash }],
  "paxos.begin": [44, { ...scope, ballot, version: u53, batch, reached: u53 }],
  "paxos.commit": [45, { ...scope, ballot, reached: u53 }],
  "paxos.lease": [46, { ...scope, ballot, leaseMs: u32, reached: u53, hash, first: u53, commitP99Us: u32 }],
  "paxos.recent-req": [47, { ...scope, from: u53 }],
  /** For the leadership of one ballot only, and done at most once there: `run` and `number` tell a repeated one. */
  "paxos.call": [48, { ...scope, ballot, run: u53, number: u53, from: name, body: bytes(CALL_BYTES_MAX) }],
  "paxos.version-req": [49, { ...scope }],
  "kv.put": [50, { key: kvKey, value: kvValue, ...conditions }],
  "kv.delete": [51, { key: kvKey, ifMatch: nullable(u53) }],
  "kv.read": [52, { key: kvKey, ...freshness }],
  "kv.scan": [53, { prefix: kvKey, after: nullable(kvKey), limit: u32, ...freshness }],
  /** `what`: add, remove, or replace (another disk); `rank` is that of a new member. */
  "cluster.change": [54, { what: name, id: name, rank: u32, birth: fixed(8) }],
  "cluster.read": [55, {}],
  /** A run of a node's process begins: its number is raised. */
  "cluster.boot": [56, { id: name }],
  /** A member's process begins: what is known of its disk? */
  "paxos.return": [57, { ...scope }],
  /** A person wants what may be trimmed to be trimmed now. */
  "paxos.trim": [58, {}],
} as const;

export const paxosAnswers = {
  "paxos.probe-reply": [
    140,
    { ...scope, first: u53, last: u53, hash, floor: u53, synchronizing: flag, promised: ballot, quorum: list(u32, MEMBERS_COUNT_MAX), leader: name },
  ],
  "paxos.ack": [141, { ...scope }],
  /** To what asks for nothing back. */
  "paxos.noted": [142, {}],
  "paxos.last": [143, { ...scope, ballot, first: u53, last: u53, hash, accepted: list(entry, ACCEPTED_COUNT_MAX) }],
  "paxos.accept": [144, { ...scope, ballot, version: u53 }],
  /** Why not, in one word, and what the asker may not know: the promise, the range that is held, who leads. */
  "paxos.refused": [145, { ...scope, why: name, promised: ballot, first: u53, last: u53, leader: name }],
  "paxos.lease-ack": [146, { ...scope, ballot, first: u53, last: u53 }],
  "paxos.recent": [147, { ...scope, from: u53, last: u53, batches: list(batch, RECENT_COUNT_MAX) }],
  /** The outcome of a call, and the version that it was computed on. */
  "paxos.result": [148, { ...scope, version: u53, body: bytes(CALL_BYTES_MAX) }],
  "paxos.version": [149, { ...scope, version: u53 }],
  "kv.written": [150, { version: u53 }],
  /** A failed condition: the version that the key has, 0 where there is no such key. */
  "kv.conflict": [151, { version: u53 }],
  "kv.value": [152, { value: nullable(kvValue), version: u53, readVersion: u53 }],
  "kv.rows": [153, { rows: list(struct({ key: kvKey, value: kvValue, version: u53 }), KV_ROWS_MAX), readVersion: u53, more: flag }],
  "cluster.is": [154, { version: u53, members: list(member, MEMBERS_COUNT_MAX) }],
  "cluster.booted": [155, { boot: u53, version: u53 }],
  /** What the asker is remembered to have acked, and accepted entries that were begun under its own ballots. */
  "paxos.own": [156, { ...scope, known: ballot, version: u53, entries: list(entry, ACCEPTED_COUNT_MAX) }],
  /** Versions `[first, next)` went with this version; with version 0 none did. `by` says what keeps `next` back, `waitMs` for how long at least. */
  "paxos.trimmed": [157, { first: u53, next: u53, version: u53, by: name, waitMs: u32 }],
} as const;
