/**
 * Records of a journal (sync.md section 3.5): what one flush makes durable. Big-endian, each at a multiple of 8 bytes:
 *   "CJRN" | flags u32 (1: whole) | sequence u64 | body length u32 | CRC-32 of all else, u32 | body
 *   body: batches, each its length u32 and its encoding (store/batch.ts)
 * Sequence numbers go up by one over both files, so what an earlier pass left behind the end is told from what follows.
 * A whole record holds every row that there is, and begins a file. Hot path: one buffer a record.
 */
import { crc32 } from "node:zlib";
import { viewOf } from "../base/bytes.ts";
import type { Batch } from "../base/effects.ts";
import { decodeBatch } from "./batch.ts";

const MAGIC = 0x434a524e; // "CJRN"
const WHOLE = 1;
const HEADER_BYTES = 24;
const CRC_AT = 20;
const ALIGN_BYTES = 8;
/** A record that claims more is none: the largest is a whole one of accepted entries, 12 MiB, and one group. */
const BODY_BYTES_MAX = 64 * 1_024 * 1_024;

export type JournalRecord = {
  readonly sequence: number;
  readonly isWhole: boolean;
  readonly batches: readonly Batch[] /** Where the next one begins. */;
  readonly end: number;
};

export const recordBytes = (parts: readonly Uint8Array[]): number => aligned(HEADER_BYTES + parts.reduce((sum, part) => sum + 4 + part.length, 0));

/** `parts` are encoded batches. */
export function encodeRecord(sequence: number, isWhole: boolean, parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(recordBytes(parts));
  const view = viewOf(bytes);
  let at = HEADER_BYTES;
  for (const part of parts) {
    view.setUint32(at, part.length);
    bytes.set(part, at + 4);
    at += 4 + part.length;
  }
  view.setUint32(0, MAGIC);
  view.setUint32(4, isWhole ? WHOLE : 0);
  view.setBigUint64(8, BigInt(sequence));
  view.setUint32(16, at - HEADER_BYTES);
  view.setUint32(CRC_AT, crcOf(bytes, at - HEADER_BYTES));
  return bytes;
}

/** The record at `at`, or null where there is none that was written whole. Its batches are views. */
export function decodeRecord(bytes: Uint8Array, at: number): JournalRecord | null {
  if (at + HEADER_BYTES > bytes.length) return null;
  const head = viewOf(bytes.subarray(at, at + HEADER_BYTES));
  if (head.getUint32(0) !== MAGIC || head.getUint32(4) > WHOLE) return null;
  const length = head.getUint32(16);
  if (length > BODY_BYTES_MAX || at + HEADER_BYTES + length > bytes.length) return null;
  const record = bytes.subarray(at, at + HEADER_BYTES + length);
  if (crcOf(record, length) !== head.getUint32(CRC_AT)) return null;
  return {
    sequence: Number(head.getBigUint64(8)),
    isWhole: head.getUint32(4) === WHOLE,
    batches: batchesIn(record.subarray(HEADER_BYTES)),
    end: at + aligned(HEADER_BYTES + length),
  };
}

/** Whether anywhere behind `from` lies a record with this number or a later one. */
export function holdsRecordFrom(bytes: Uint8Array, from: number, sequence: number): boolean {
  for (let at = aligned(from); at + HEADER_BYTES <= bytes.length; at += ALIGN_BYTES) {
    if (bytes[at] !== MAGIC >>> 24) continue;
    const found = decodeRecord(bytes, at);
    if (found !== null && found.sequence >= sequence) return true;
  }
  return false;
}

function batchesIn(body: Uint8Array): Batch[] {
  const batches: Batch[] = [];
  const view = viewOf(body);
  for (let at = 0; at < body.length; ) {
    const length = view.getUint32(at);
    batches.push(decodeBatch(body.subarray(at + 4, at + 4 + length)).batch);
    at += 4 + length;
  }
  return batches;
}

const crcOf = (bytes: Uint8Array, length: number): number => crc32(bytes.subarray(HEADER_BYTES, HEADER_BYTES + length), crc32(bytes.subarray(0, CRC_AT)));
const aligned = (bytes: number): number => Math.ceil(bytes / ALIGN_BYTES) * ALIGN_BYTES;
