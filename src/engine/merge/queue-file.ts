/**
 * `queue.<storage>` (merge.md section 3): a header line, then one line for each entry that a storage node listed, each
 * ending in a CRC-32 of itself. The fetcher appends, the queue handler reads from its cursor; neither writes to the other.
 * Hot path: tens of thousands of lines a run, built and parsed in place, without JSON and without an object per line.
 * A line that is not byte for byte what the writer makes is a bad line; what lies behind the last LF is torn, never a line.
 */
import { crc32 } from "node:zlib";
import { utf8 } from "../base/bytes.ts";
import type { Snapshot } from "../base/effects.ts";
import { mutant } from "../base/mutant.ts";
import type { MergeConfig } from "./config.ts";
import { type FileRead, filePath, isCount, parseLine } from "./files.ts";
import { digitCount, digitsEnd, putDigits, putHex, readDigits, readHex, readHexU32 } from "./text-bytes.ts";

/** Above this the file is replaced by the next generation, once the queue handler's cursor has passed its end. */
export const QUEUE_BYTES_MAX = 16 * 1_024 * 1_024;
/** A header is shorter: an origin is at most some hundred bytes. */
const HEADER_BYTES_MAX = 4_096;
/** No line is longer: 32 bytes of name, 64 of hash, three numbers. */
const LINE_BYTES_MAX = 256;
const LF = 0x0a;
const COMMA = 0x2c;

const SEQ_AT = 7;
const openText = utf8(`{"seq":`);
const bytesText = utf8(`","bytes":`);
const crcText = utf8(`,"crc":"`);
const endText = utf8(`"}\n`);
const CRC_DIGITS = 8;
/** `,"crc":"1a2b3c4d"}` and LF. */
const CRC_TAIL_BYTES = crcText.length + CRC_DIGITS + endText.length;
/** No line is shorter: it holds a hash. */
const LINE_BYTES_MIN = 64 + CRC_TAIL_BYTES;

/** `born`: the disk of the storage node that the sequence numbers of this file are from. */
export type QueueHeader = { readonly storage: string; readonly born: string; readonly generation: number; readonly firstSeq: number };
/** `end` is the offset of the first entry line. */
export type QueueStart = { readonly header: QueueHeader; readonly end: number };

/** Entries `[firstSeq …]` of one storage node: hashes 32 bytes each, one after the other. */
export type QueueItems = { readonly firstSeq: number; readonly hashes: Uint8Array; readonly bytes: readonly number[] };

export type QueueLines = {
  readonly count: number;
  readonly seqs: Float64Array;
  readonly hashes: Uint8Array;
  readonly bytes: Uint32Array;
  /** Offset behind the last good line. */
  readonly end: number;
  /** Offset of the first bad line: the file is to be replaced. Torn bytes at the file's end are not bad. */
  readonly badAt: number | null;
};

export const queueFile = (config: Pick<MergeConfig, "folder">, storage: string): string => filePath(config, `queue.${storage}`);
export const badQueueFile = (config: Pick<MergeConfig, "folder">, storage: string, generation: number): string =>
  filePath(config, `queue.${storage}.bad-${generation}`);

export function queueHeader(config: MergeConfig, { storage, born, generation, firstSeq }: QueueHeader): Uint8Array {
  return utf8(`${JSON.stringify({ format: 1, log: config.origin, storage, born, generation, firstSeq })}\n`);
}

export function readQueueStart(snap: Snapshot, config: MergeConfig, storage: string): FileRead<QueueStart> {
  const name = `queue.${storage}`;
  const raw = snap.fileRead(queueFile(config, storage), 0, HEADER_BYTES_MAX);
  if (raw === null) return { kind: "missing", why: `${name} is missing` };
  const end = raw.indexOf(LF) + 1;
  const fields = end === 0 ? null : parseLine(raw.subarray(0, end));
  if (fields === null || fields["format"] !== 1) return { kind: "torn", why: `${name} has no header of format 1` };
  const { log, born, generation, firstSeq } = fields;
  if (log !== config.origin || fields["storage"] !== storage)
    return {
      kind: "foreign",
      why: `${name} is of log ${JSON.stringify(log)} and storage ${JSON.stringify(fields["storage"])}, want ${config.origin} and ${storage}`,
    };
  if (typeof born !== "string" || !isCount(generation) || !isCount(firstSeq))
    return { kind: "torn", why: `${name} has a header without born, generation or firstSeq` };
  return { kind: "ok", value: { header: { storage, born, generation, firstSeq }, end } };
}

/** The bytes between sequence number and hash, the same in every line of one file. */
const nameText = (storage: string): Uint8Array => utf8(`,"storage":"${storage}","hash":"`);

/** Whole lines of the listed entries. */
export function queueLines(storage: string, items: QueueItems): Uint8Array {
  const name = nameText(storage);
  const lines = new Uint8Array(items.bytes.length * (SEQ_AT + 16 + name.length + 64 + bytesText.length + 5 + CRC_TAIL_BYTES));
  let at = 0;
  for (let i = 0; i < items.bytes.length; i++) at = putLine(lines, at, name, items.firstSeq + i, items.hashes, i * 32, items.bytes[i] as number);
  return lines.subarray(0, at);
}

function putLine(to: Uint8Array, start: number, name: Uint8Array, seq: number, hashes: Uint8Array, hashAt: number, bytes: number): number {
  to.set(openText, start);
  let at = start + SEQ_AT + digitCount(seq);
  putDigits(to, at, seq);
  to.set(name, at);
  at = putHex(to, at + name.length, hashes, hashAt, 32);
  to.set(bytesText, at);
  at += bytesText.length + digitCount(bytes);
  putDigits(to, at, bytes);
  const crc = crc32(to.subarray(start, at));
  to.set(crcText, at);
  at += crcText.length;
  for (let digit = CRC_DIGITS - 1, rest = crc; digit >= 0; digit--, rest >>>= 4) to[at + digit] = hexDigit(rest & 15);
  to.set(endText, at + CRC_DIGITS);
  return at + CRC_DIGITS + endText.length;
}

const hexDigit = (value: number): number => (value < 10 ? 0x30 + value : 0x57 + value);

/** No more lines than this are in so many bytes. */
export const lineCountMax = (bytes: number): number => Math.ceil(bytes / LINE_BYTES_MIN);

/** Up to `countMax` lines from `offset` on, not beyond `limit`; stops before the first bad line. */
export function readQueueLines(snap: Snapshot, config: MergeConfig, storage: string, range: { offset: number; limit: number; countMax: number }): QueueLines {
  const to = Math.min(range.limit, range.offset + range.countMax * LINE_BYTES_MAX);
  const raw = snap.fileRead(queueFile(config, storage), range.offset, to) ?? new Uint8Array(0);
  return parseLines(raw, storage, range.offset, range.countMax, range.offset + raw.length < to || to === range.limit);
}

/** `whole` says that `raw` ends where the file does. */
function parseLines(raw: Uint8Array, storage: string, offset: number, countMax: number, whole: boolean): QueueLines {
  const name = nameText(storage);
  const room = Math.min(countMax, lineCountMax(raw.length) + 1); // a torn line counts in a mutant
  const slots = { seqs: new Float64Array(room), bytes: new Uint32Array(room), hashes: new Uint8Array(room * 32) };
  let count = 0;
  let at = 0;
  let badAt: number | null = null;
  while (count < countMax && at < raw.length) {
    const end = raw.indexOf(LF, at) + 1;
    if (end === 0) {
      if (raw.length - at > LINE_BYTES_MAX) badAt = offset + at;
      const seqEnd = digitsEnd(raw, at + SEQ_AT);
      if (!whole || !mutant("merge.torn-line-accepted") || raw[seqEnd] !== COMMA) break;
      slots.seqs[count++] = readDigits(raw, at + SEQ_AT, seqEnd);
      at = raw.length;
      break;
    }
    if (!parseOne(raw, at, end, name, slots, count)) {
      badAt = offset + at;
      break;
    }
    count++;
    at = end;
  }
  return {
    count,
    seqs: slots.seqs.subarray(0, count),
    bytes: slots.bytes.subarray(0, count),
    hashes: slots.hashes.subarray(0, count * 32),
    end: offset + at,
    badAt,
  };
}

type Slots = { readonly seqs: Float64Array; readonly bytes: Uint32Array; readonly hashes: Uint8Array };

/** One line `[at, end)` into a slot; false where a byte is not as written. */
function parseOne(raw: Uint8Array, at: number, end: number, name: Uint8Array, slots: Slots, slot: number): boolean {
  const crcAt = end - CRC_TAIL_BYTES;
  if (
    end - at > LINE_BYTES_MAX ||
    crcAt < at + SEQ_AT ||
    !hasAt(raw, at, openText) ||
    !hasAt(raw, crcAt, crcText) ||
    !hasAt(raw, end - endText.length, endText)
  )
    return false;
  const seqEnd = digitsEnd(raw, at + SEQ_AT);
  const hashAt = seqEnd + name.length;
  const bytesAt = hashAt + 64 + bytesText.length;
  if (bytesAt > crcAt || !hasAt(raw, seqEnd, name) || !hasAt(raw, hashAt + 64, bytesText) || digitsEnd(raw, bytesAt) !== crcAt) return false;
  const seq = readDigits(raw, at + SEQ_AT, seqEnd);
  const size = readDigits(raw, bytesAt, crcAt);
  if (seq < 0 || size < 0 || size > 65_535 || !readHex(raw, hashAt, slots.hashes, slot * 32, 32)) return false;
  slots.seqs[slot] = seq;
  slots.bytes[slot] = size;
  return readHexU32(raw, crcAt + crcText.length) === crc32(raw.subarray(at, crcAt));
}

function hasAt(raw: Uint8Array, at: number, text: Uint8Array): boolean {
  for (let i = 0; i < text.length; i++) if (raw[at + i] !== text[i]) return false;
  return true;
}
