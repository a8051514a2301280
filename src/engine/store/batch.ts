/**
 * The encoded batch (sync.md section 2.5): what Paxos decides, sync carries and history keeps. Big-endian:
 *   "CBAT" | format u8 = 1 | flags u8 (1: prev follows) | prev 32 bytes | op count u32 | ops | CRC-32 of all before, u32
 *   op: tag u8, key length u16, key; put (1): value length u32, value; del (2); delRange (3): end length u16, end;
 *   put of a copied row (4): version that wrote it u64, then as put
 * Each batch has one encoding. `prev` is the SHA-256 of the encoded batch before it, which makes history a hash chain.
 * A decoder checks each length against its cap and against what remains before it allocates.
 */
import { crc32 } from "node:zlib";
import { viewOf } from "../base/bytes.ts";
import type { Batch, Op } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES, type Hash } from "../base/ids.ts";
import { invariant, unreachable } from "../base/invariant.ts";
import { KEY_BYTES_MAX, VALUE_BYTES_MAX } from "./types.ts";

/** One proposal's worth (sync.md section 3.4): a batch travels in one frame of at most 16 MiB. */
export const BATCH_BYTES_MAX = 8 * 1_024 * 1_024;
export const BATCH_OPS_MAX = 65_536;

export type EncodedBatch = { readonly batch: Batch; readonly prev: Hash | null };

const MAGIC = 0x43424154; // "CBAT"
const FORMAT = 1;
const HAS_PREV = 1;
const PUT = 1;
const DEL = 2;
const DEL_RANGE = 3;
const PUT_AT = 4;
const VERSION_BYTES = 8;
const HEADER_BYTES = 10; // magic, format, flags, op count
const OP_BYTES_MIN = 3;
const CRC_BYTES = 4;

/** Our own cores keep the limits of the store: what they hand over is checked once, here. */
export function checkBatch(batch: Batch): void {
  for (const op of batch) {
    if (op.op === "delRange") {
      invariant(op.key.length <= KEY_BYTES_MAX && op.end.length <= KEY_BYTES_MAX, `bounds of at most ${KEY_BYTES_MAX} bytes`);
      continue;
    }
    invariant(op.key.length >= 1 && op.key.length <= KEY_BYTES_MAX, `a key of 1 to ${KEY_BYTES_MAX} bytes, not ${op.key.length}`);
    if (op.op === "put") invariant(op.value.length <= VALUE_BYTES_MAX, `a value of at most ${VALUE_BYTES_MAX} bytes, not ${op.value.length}`);
  }
}

/** Bytes that `encodeBatch` makes of it: lets a proposer stop packing before it encodes. */
export function encodedBatchBytes(batch: Batch, prev: Hash | null): number {
  let total = HEADER_BYTES + (prev === null ? 0 : HASH_BYTES) + CRC_BYTES;
  for (const op of batch) total += encodedOpBytes(op);
  return total;
}

export function encodedOpBytes(op: Op): number {
  if (op.op === "put") return OP_BYTES_MIN + op.key.length + (op.wroteAt === undefined ? 0 : VERSION_BYTES) + 4 + op.value.length;
  return OP_BYTES_MIN + op.key.length + (op.op === "delRange" ? 2 + op.end.length : 0);
}

export function encodeBatch(batch: Batch, prev: Hash | null): Uint8Array {
  checkBatch(batch);
  invariant(prev === null || prev.length === HASH_BYTES, "prev is a SHA-256");
  const bytes = new Uint8Array(encodedBatchBytes(batch, prev));
  invariant(bytes.length <= BATCH_BYTES_MAX && batch.length <= BATCH_OPS_MAX, "a batch within its limits");
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC);
  view.setUint8(4, FORMAT);
  view.setUint8(5, prev === null ? 0 : HAS_PREV);
  let at = 6;
  if (prev !== null) {
    bytes.set(prev, at);
    at += HASH_BYTES;
  }
  view.setUint32(at, batch.length);
  at += 4;
  for (const op of batch) at = writeOp(bytes, view, at, op);
  view.setUint32(at, crc32(bytes.subarray(0, at)));
  return bytes;
}

/** Throws FRAME_CORRUPT. Keys and values are views of `bytes`. */
export function decodeBatch(bytes: Uint8Array): EncodedBatch {
  if (bytes.length > BATCH_BYTES_MAX) throw wrong(`${bytes.length} bytes, at most ${BATCH_BYTES_MAX}`);
  if (bytes.length < HEADER_BYTES + CRC_BYTES) throw wrong(`${bytes.length} bytes, at least ${HEADER_BYTES + CRC_BYTES}`);
  const view = viewOf(bytes);
  const body = bytes.length - CRC_BYTES;
  if (view.getUint32(0) !== MAGIC) throw wrong("does not start with CBAT");
  if (bytes[4] !== FORMAT) throw wrong(`format ${bytes[4]}, this build knows ${FORMAT}`);
  const [kept, computed] = [view.getUint32(body), crc32(bytes.subarray(0, body))];
  if (kept !== computed) throw wrong(`CRC-32 ${kept.toString(16)} kept, ${computed.toString(16)} computed`);
  const flags = bytes[5] as number;
  if (flags > HAS_PREV) throw wrong(`flags ${flags}`);
  const from = new Cursor(bytes.subarray(0, body), 6);
  const prev = flags === HAS_PREV ? from.take(HASH_BYTES, "prev") : null;
  const count = from.u32("op count");
  if (count > BATCH_OPS_MAX || count * OP_BYTES_MIN > from.left()) throw wrong(`${count} operations announced in ${from.left()} bytes`);
  const batch: Op[] = [];
  for (let i = 0; i < count; i++) batch.push(readOp(from));
  if (from.left() > 0) throw wrong(`${from.left()} bytes too many`);
  return { batch, prev };
}

function writeOp(bytes: Uint8Array, view: DataView, start: number, op: Op): number {
  let at = start;
  view.setUint8(at, tagOf(op));
  view.setUint16(at + 1, op.key.length);
  bytes.set(op.key, at + 3);
  at += OP_BYTES_MIN + op.key.length;
  switch (op.op) {
    case "put":
      if (op.wroteAt !== undefined) {
        view.setBigUint64(at, BigInt(op.wroteAt));
        at += VERSION_BYTES;
      }
      view.setUint32(at, op.value.length);
      bytes.set(op.value, at + 4);
      return at + 4 + op.value.length;
    case "del":
      return at;
    case "delRange":
      view.setUint16(at, op.end.length);
      bytes.set(op.end, at + 2);
      return at + 2 + op.end.length;
    default:
      return unreachable(op);
  }
}

function tagOf(op: Op): number {
  if (op.op === "put") return op.wroteAt === undefined ? PUT : PUT_AT;
  return op.op === "del" ? DEL : DEL_RANGE;
}

function readOp(from: Cursor): Op {
  const tag = from.u8("tag");
  if (tag < PUT || tag > PUT_AT) throw wrong(`operation ${tag} is unknown`);
  const key = from.take(from.length(2, tag === DEL_RANGE ? 0 : 1, KEY_BYTES_MAX, "key"), "key");
  const wroteAt = tag === PUT_AT ? { wroteAt: from.u53("version") } : {};
  if (tag === PUT || tag === PUT_AT) return { op: "put", key, value: from.take(from.length(4, 0, VALUE_BYTES_MAX, "value"), "value"), ...wroteAt };
  if (tag === DEL) return { op: "del", key };
  return { op: "delRange", key, end: from.take(from.length(2, 0, KEY_BYTES_MAX, "end"), "end") };
}

class Cursor {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private at: number;
  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    this.at = at;
  }
  left(): number {
    return this.bytes.length - this.at;
  }
  take(length: number, what: string): Uint8Array {
    if (length > this.left()) throw wrong(`${what}: ${length} bytes announced, ${this.left()} left`);
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }
  u8(what: string): number {
    return this.take(1, what)[0] as number;
  }
  u32(what: string): number {
    this.take(4, what);
    return this.view.getUint32(this.at - 4);
  }
  u53(what: string): number {
    this.take(8, what);
    const value = this.view.getBigUint64(this.at - 8);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw wrong(`${what}: a number above 2^53 - 1`);
    return Number(value);
  }
  /** A length field of 2 or 4 bytes, within its bounds. */
  length(width: 2 | 4, min: number, max: number, what: string): number {
    this.take(width, what);
    const length = width === 2 ? this.view.getUint16(this.at - 2) : this.view.getUint32(this.at - 4);
    if (length < min || length > max) throw wrong(`${what}: ${length} bytes, want ${min} to ${max}`);
    return length;
  }
}

const wrong = (what: string): EngineError => new EngineError("FRAME_CORRUPT", `batch: ${what}`);
