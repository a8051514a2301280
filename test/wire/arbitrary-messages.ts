/**
 * Random messages of every kind, within the caps of merge.md section 2 and sync.md sections 3 and 4. The tables are closed over the unions: a kind
 * without a row here does not compile.
 */
import fc from "fast-check";
import {
  type Answer,
  type AnswerOf,
  BUNDLE_BYTES_MAX,
  GET_COUNT_MAX,
  LIST_COUNT_MAX,
  PROOF_COUNT_MAX,
  RANGE_COUNT_MAX,
  type Request,
  type RequestOf,
} from "../../src/engine/wire/messages.ts";

const u53 = fc.oneof(fc.constantFrom(0, 1, 2 ** 32, Number.MAX_SAFE_INTEGER), fc.maxSafeNat());
const u32 = fc.oneof(fc.constantFrom(0, 0xffff_ffff), fc.nat());
const u8 = fc.nat(255);
const bytes = (bytesMax: number) => fc.uint8Array({ maxLength: Math.min(bytesMax, 300) });
const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });
const hashes = (countMax: number) => fc.array(hash, { maxLength: Math.min(countMax, 20) }).map((list) => new Uint8Array(list.flatMap((each) => [...each])));
const text = (bytesMax: number) => fc.string({ unit: "binary", maxLength: 12 }).filter((each) => new TextEncoder().encode(each).length <= bytesMax);
const list = <T>(item: fc.Arbitrary<T>, countMax: number) => fc.array(item, { maxLength: Math.min(countMax, 12) });
const name = text(32);

const scope = { log: fc.uint8Array({ minLength: 8, maxLength: 8 }), epoch: u53 };
const sizeAndRoot = { size: u53, root: hash };
const bundle = bytes(BUNDLE_BYTES_MAX);
const head = fc.record({ epoch: u53, ...sizeAndRoot, note: bytes(1_000), timeMs: u53 });
const paxosScope = { cluster: fc.uint8Array({ minLength: 8, maxLength: 8 }), epoch: u53, birth: fc.uint8Array({ minLength: 8, maxLength: 8 }) };
const ballot = fc.record({ round: u53, member: u32 });
const kvKey = bytes(1_000);
const id = fc.uint8Array({ minLength: 8, maxLength: 8 });
const transferScope = { ...paxosScope, transfer: id };
const root = fc.uint8Array({ minLength: 16, maxLength: 16 });
const storeKey = bytes(1_024);
const limits = fc.record({ chunkBytes: u32, chunkKeys: u32, windowChunks: u32, windowBytes: u32 });
const maybeHead = fc.option(head);
const pairs = list(fc.record({ number: u32, k: u32, secondaries: list(name, 64) }), 8);

type Rows<Union extends { kind: string }> = {
  [Kind in Union["kind"]]: { [Field in keyof Omit<Extract<Union, { kind: Kind }>, "kind">]: fc.Arbitrary<Extract<Union, { kind: Kind }>[Field]> };
};

const requestRows: Rows<Request> = {
  "storage.put": { ...scope, bundle },
  "storage.list": { ...scope, fromSeq: u53, limit: u32 },
  "storage.get": { ...scope, hashes: hashes(GET_COUNT_MAX) },
  "storage.settle": { ...scope, born: text(64), settledSeq: u53 },
  "storage.ready": { ...scope, lastSeq: u53 },
  "log.find": { ...scope, hashes: hashes(GET_COUNT_MAX) },
  "copy.where": { ...scope },
  "copy.order": { ...scope, start: u53, hashes: hashes(LIST_COUNT_MAX) },
  "copy.missing": { ...scope, from: u53, to: u53 },
  "copy.entries": { ...scope, start: u53, bundle },
  "copy.read": { ...scope, from: u53, to: u53, what: u8, level: u8 },
  "backup.verify": { ...scope, ...sizeAndRoot, number: u32, k: u32, secondaries: list(name, 64), floor: u53 },
  "backup.head": { ...scope, checkpoint: bytes(1_000), proof: hashes(PROOF_COUNT_MAX) },
  "dist.publish": { ...scope, checkpoint: bytes(1_000), proof: hashes(PROOF_COUNT_MAX) },
  "merge.fence": { ...scope, primary: name },
  "register.read": { ...scope },
  "register.swap": { ...scope, expect: fc.option(fc.record(sizeAndRoot)), next: head },
  "paxos.probe": paxosScope,
  "paxos.elect": { ...paxosScope, rank: u32, first: u53, last: u53 },
  "paxos.victory": { ...paxosScope, quorum: list(u32, 16) },
  "paxos.collect": { ...paxosScope, ballot, first: u53, last: u53, hash },
  "paxos.begin": { ...paxosScope, ballot, version: u53, batch: bytes(1_000), reached: u53 },
  "paxos.commit": { ...paxosScope, ballot, reached: u53 },
  "paxos.lease": { ...paxosScope, ballot, leaseMs: u32, reached: u53, hash, first: u53, commitP99Us: u32 },
  "paxos.recent-req": { ...paxosScope, from: u53 },
  "paxos.call": { ...paxosScope, ballot, run: u53, number: u53, from: name, body: bytes(1_000) },
  "paxos.version-req": paxosScope,
  "kv.put": { key: kvKey, value: bytes(1_000), ifMatch: fc.option(u53), ifNoneMatch: fc.boolean() },
  "kv.delete": { key: kvKey, ifMatch: fc.option(u53) },
  "kv.read": { key: kvKey, local: fc.boolean(), minVersion: u53 },
  "cluster.change": { what: name, id: name, rank: u32, birth: fc.uint8Array({ minLength: 8, maxLength: 8 }) },
  "cluster.read": {},
  "cluster.boot": { id: name },
  "sync.req": {
    ...paxosScope,
    mode: u8,
    last: u53,
    floor: u53,
    resume: fc.option(fc.record({ oldest: u53, oldestHash: hash, version: u53, cursor: fc.option(storeKey) })),
    limits,
  },
  "hold.req": { ...paxosScope, hold: id, lowest: u53, leaseMs: u32 },
  "hold.renew": { ...paxosScope, hold: id, lowest: u53, leaseMs: u32, bytes: u53, ending: fc.boolean() },
  "hold.release": { ...paxosScope, hold: id, reason: name },
  "sync.start": { ...transferScope, version: u53, hash, first: u53, keys: u53, bytes: u53, limits },
  "sync.chunk": {
    ...transferScope,
    number: u53,
    lo: storeKey,
    hi: fc.option(storeKey),
    batch: bytes(1_000),
    digest: hash,
    last: fc.boolean(),
    root: fc.option(root),
  },
  "sync.recent-req": { ...transferScope, from: u53 },
  "sync.verify-req": transferScope,
  "sync.done": { ...transferScope, version: u53 },
  "sync.keepalive": transferScope,
  "sync.range-req": { ...transferScope, version: u53, level: u8, ends: list(storeKey, 256) },
  "sync.range-want": { ...transferScope, version: u53, runs: list(fc.record({ end: storeKey, items: list(u32, 4_096) }), 256) },
  "sync.abort": { ...transferScope, reason: name },
  "paxos.return": paxosScope,
  "paxos.trim": {},
  "kv.scan": { prefix: kvKey, after: fc.option(kvKey), limit: u32, local: fc.boolean(), minVersion: u53 },
};

const register = { head: maybeHead, epoch: u53, primary: name };
const answerRows: Rows<Answer> = {
  "storage.kept": { count: u32 },
  "storage.listed": { hashes: hashes(LIST_COUNT_MAX), bytes: list(u32, LIST_COUNT_MAX), born: text(64), nextSeq: u53, lastSeq: u53, oldestPendingSeq: u53 },
  "storage.entries": { bundle, served: u32, absent: list(u32, GET_COUNT_MAX) },
  "storage.settled": { settledSeq: u53 },
  "storage.noted": {},
  "log.found": { indexes: list(fc.option(u53), GET_COUNT_MAX), currentSize: u53, signedSize: u53 },
  "copy.at": {
    orderSize: u53,
    storedSize: u53,
    verifiedSize: u53,
    verifiedRoot: hash,
    headSize: u53,
    headRoot: hash,
    publishedSize: u53,
    epoch: u53,
    pairs,
  },
  "copy.ordered": { orderSize: u53 },
  "copy.lacking": { ranges: list(fc.record({ from: u53, to: u53 }), RANGE_COUNT_MAX), scannedTo: u53 },
  "copy.stored": { from: u53, to: u53 },
  "copy.piece": { bytes: bundle },
  "backup.verified": sizeAndRoot,
  "backup.cosigned": { line: text(1_024) },
  "dist.published": { size: u53 },
  "merge.fenced": { epoch: u53, verifiedSize: u53, verifiedRoot: hash, head: maybeHead, pairs, covered: u32 },
  "register.is": register,
  "register.swapped": register,
  "register.conflict": register,
  "register.unknown": {},
  refused: {
    code: text(64),
    text: text(1_024),
    size: u53,
    index: u53,
    epoch: u53,
    primary: name,
    mine: bytes(32).map((each) => each.subarray(0, 32)),
    yours: hash,
    retry: fc.boolean(),
  },
  "paxos.probe-reply": {
    ...paxosScope,
    first: u53,
    last: u53,
    hash,
    floor: u53,
    synchronizing: fc.boolean(),
    promised: ballot,
    quorum: list(u32, 16),
    leader: name,
  },
  "paxos.ack": paxosScope,
  "paxos.noted": {},
  "paxos.last": { ...paxosScope, ballot, first: u53, last: u53, hash, accepted: list(fc.record({ version: u53, ballot, batch: bytes(1_000) }), 64) },
  "paxos.accept": { ...paxosScope, ballot, version: u53 },
  "paxos.refused": { ...paxosScope, why: name, promised: ballot, first: u53, last: u53, leader: name },
  "paxos.lease-ack": { ...paxosScope, ballot, first: u53, last: u53 },
  "paxos.recent": { ...paxosScope, from: u53, last: u53, batches: list(bytes(1_000), 1_024) },
  "paxos.result": { ...paxosScope, version: u53, body: bytes(1_000) },
  "paxos.version": { ...paxosScope, version: u53 },
  "cluster.is": {
    version: u53,
    members: list(fc.record({ id: name, number: u32, rank: u32, birth: fc.uint8Array({ minLength: 8, maxLength: 8 }) }), 16),
  },
  "cluster.booted": { boot: u53, version: u53 },
  "sync.grant": { ...transferScope, resumes: fc.boolean(), limits },
  "sync.aborted": { ...transferScope, reason: name, retryAfterMs: u32 },
  "hold.ack": { ...paxosScope, hold: id, first: u53, last: u53, leaseMs: u32 },
  "hold.refused": { ...paxosScope, hold: id, reason: name, retryAfterMs: u32 },
  "sync.chunk-ack": { ...transferScope, number: u53, cursor: fc.option(storeKey), chunks: u32, bytes: u32 },
  "sync.recent": { ...transferScope, from: u53, last: u53, batches: list(bytes(1_000), 1_024) },
  "sync.verify": { ...transferScope, version: u53, root, top: list(fc.record({ end: storeKey, digest: root }), 256) },
  "sync.noted": transferScope,
  "sync.range-digests": {
    ...transferScope,
    version: u53,
    level: u8,
    groups: list(fc.record({ nodes: list(fc.record({ end: storeKey, digest: root }), 4_096), items: bytes(32_768) }), 256),
  },
  "sync.range-rows": { ...transferScope, version: u53, batch: bytes(1_000) },
  "sync.no-transfer": transferScope,
  "paxos.trimmed": { first: u53, next: u53, version: u53, by: name, waitMs: u32 },
  "paxos.own": { ...paxosScope, known: ballot, version: u53, entries: list(fc.record({ version: u53, ballot, batch: bytes(1_000) }), 64) },
  "kv.written": { version: u53 },
  "kv.conflict": { version: u53 },
  "kv.value": { value: fc.option(bytes(1_000)), version: u53, readVersion: u53 },
  "kv.rows": { rows: list(fc.record({ key: kvKey, value: bytes(1_000), version: u53 }), 1_024), readVersion: u53, more: fc.boolean() },
};

export const requestKinds = Object.keys(requestRows) as Request["kind"][];
export const answerKinds = Object.keys(answerRows) as Answer["kind"][];

export function arbitraryRequest<Kind extends Request["kind"]>(kind: Kind): fc.Arbitrary<RequestOf<Kind>> {
  return fc.record({ kind: fc.constant(kind), ...requestRows[kind] }) as unknown as fc.Arbitrary<RequestOf<Kind>>;
}
export function arbitraryAnswer<Kind extends Answer["kind"]>(kind: Kind): fc.Arbitrary<AnswerOf<Kind>> {
  return fc.record({ kind: fc.constant(kind), ...answerRows[kind] }) as unknown as fc.Arbitrary<AnswerOf<Kind>>;
}
