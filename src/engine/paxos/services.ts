/**
 * How a service plugs into Paxos (sync.md 3.8): what it answers, which one row a command writes, and a pure evaluation at
 * the leader, in arrival order, on the newest proposed state. The rows that every service keeps beside its own (`first`,
 * `last`, `hist/<n>`, `format`) are written here, once a batch. Assembly says which services there are.
 */
import { concatBytes, readU64be, toHex, u64be, utf8 } from "../base/bytes.ts";
import type { Op } from "../base/effects.ts";
import { invariant } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import { encodedOpBytes } from "../store/batch.ts";
import { replicatedKeys } from "../store/keys.ts";
import type { Answer, Request } from "../wire/messages.ts";
import { putNumber } from "./records.ts";
import type { Command, Outcome } from "./state.ts";
import type { View } from "./view.ts";

/** What one command does, to rows that it named before and to no others, and what its client is told. */
export type Effected = { readonly ops: readonly Op[]; readonly outcome: Answer };

export type Service = {
  readonly name: string;
  /** Format of its rows: a node of an older build must not apply what it cannot read. */
  readonly format: number;
  readonly handles: (body: Request) => boolean;
  /** The rows that a command may write; none where it only reads. */
  keysOf(body: Request): readonly Uint8Array[];
  /** Whether a command travels alone, with nothing else in flight. */
  isAlone(body: Request): boolean;
  /** What a command does to the state before `version`; no row of its own was written since. */
  evaluate(command: Command, view: View, version: number): Effected;
  read(body: Request, view: View, readVersion: number): Answer;
  /** How a change is told in the history: the key as its users know it. */
  nameOf(key: Uint8Array): Uint8Array;
};

/** Of one proposal (sync.md 3.4). A single command above the bytes travels alone. */
export const PROPOSAL_OPS_MAX = 1_024;
export const PROPOSAL_BYTES_MAX = 1_024 * 1_024;
/** Each service that is touched writes three rows of its own at most. */
const SERVICE_ROWS = 3;

export type Evaluated = { readonly operations: Op[]; readonly outcomes: Outcome[] /** Commands that wait for the next proposal. */; readonly left: Command[] };

export const serviceOf = (services: readonly Service[], body: Request): Service | null => services.find((service) => service.handles(body)) ?? null;

/** One proposal's worth of the queue, in arrival order; at most one write a row: the second waits, and so what follows it on that row. */
export function evaluate(services: readonly Service[], commands: readonly Command[], view: View, version: number): Evaluated {
  const operations: Op[] = [];
  const outcomes: Outcome[] = [];
  const left: Command[] = [];
  const rows = new Set<string>();
  const touched = new Map<Service, Op[]>();
  const opsMax = PROPOSAL_OPS_MAX - services.length * SERVICE_ROWS;
  let bytes = 0;
  let isEnded = false; // by a command that travels alone
  for (const command of commands) {
    const service = serviceOf(services, command.body);
    invariant(service !== null, `a command of a service: ${command.body.kind}`);
    const keys = service.keysOf(command.body).map(toHex);
    const waits = keys.some((row) => rows.has(row)) && !mutant("paxos.two-writes-one-key");
    for (const row of keys) rows.add(row);
    const isAlone = service.isAlone(command.body);
    if (isEnded || (isAlone && outcomes.length > 0)) {
      isEnded = true;
      left.push(command);
      continue;
    }
    isEnded = isAlone;
    const isFull = operations.length >= opsMax || bytes >= PROPOSAL_BYTES_MAX;
    if (isFull || waits || (bytes > 0 && bytes + bytesOf(command.body) > PROPOSAL_BYTES_MAX)) {
      left.push(command);
      continue;
    }
    const { ops, outcome } = service.evaluate(command, view, version);
    outcomes.push({ ...command, body: outcome });
    if (ops.length === 0) continue;
    for (const op of ops) bytes += encodedOpBytes(op);
    operations.push(...ops);
    const own = touched.get(service);
    if (own === undefined) touched.set(service, [...ops]);
    else own.push(...ops);
  }
  for (const [service, ops] of touched) operations.push(...ownRows(service, ops, view, version));
  return { operations, outcomes, left };
}

/** About what a command adds to a batch. */
export function bytesOf(body: Request): number {
  let bytes = 64;
  for (const value of Object.values(body)) if (value instanceof Uint8Array) bytes += value.length;
  return bytes;
}

function ownRows(service: Service, ops: readonly Op[], view: View, version: number): Op[] {
  const { name, format } = service;
  const key = replicatedKeys.serviceLast(name);
  const raw = view.get(key);
  const n = (raw === null ? 0 : (readU64be(raw.value) ?? 0)) + 1;
  const own: Op[] = [putNumber(key, n), { op: "put", key: replicatedKeys.history(name, n), value: encodeHistory(service, ops, version) }];
  const formatKey = replicatedKeys.serviceFormat(name);
  if (view.get(formatKey)?.value[0] !== format) own.push({ op: "put", key: formatKey, value: Uint8Array.of(format) });
  return own;
}

/** `format u8 | version u64 | (deleted u8 | key length u16 | key)…`: what changed, not how. */
function encodeHistory(service: Service, ops: readonly Op[], version: number): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(1), u64be(version)];
  for (const { op, key } of ops) {
    const name = service.nameOf(key);
    parts.push(Uint8Array.of(op === "put" ? 0 : 1, name.length >>> 8, name.length & 0xff), name);
  }
  return concatBytes(...parts);
}

/** The version that a history row is about. */
export const historyVersion = (row: Uint8Array): number => readU64be(row, 1) ?? 0;

/** The names of what a history row says was changed, in the order of the batch. */
export function historyNames(row: Uint8Array): Uint8Array[] {
  const names: Uint8Array[] = [];
  for (let at = 9; at + 3 <= row.length; ) {
    const end = at + 3 + (((row[at + 1] ?? 0) << 8) | (row[at + 2] ?? 0));
    names.push(row.subarray(at + 3, end));
    at = end;
  }
  return names;
}

/** What a key is called behind its service's prefix. */
export const behind = (prefix: string): ((key: Uint8Array) => Uint8Array) => {
  const length = utf8(prefix).length;
  return (key) => key.subarray(length);
};
