/**
 * How a value rests in a store (sync.md section 2.1): format byte, 8-byte checksum, the version that wrote it (u64),
 * payload; numbers big-endian. LMDB and the memory twin hold the same bytes. The checksum is XXH3-64 over the payload,
 * seeded from key and version: a right value under a wrong key or version fails. It finds damage, not malice.
 * Hot path: two hashes and one copy a value, and no view of a short array (see `viewOf`).
 */
import { piece, readU32be, writeU32be, writeU64be } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { mutant } from "../base/mutant.ts";

export const STORED_HEADER_BYTES = 17;
const FORMAT = 1;
const SLASH = 0x2f;
const CHECKSUM_AT = 1;
const WROTE_AT = 9;
const WORD = 0x1_0000_0000;

/** Only 32 bits of a seed count: the runtime's XXH3 ignores the upper half, and a later one may not. */
function checksum(key: Uint8Array, payload: Uint8Array, upper: number, lower: number): bigint {
  const version = BigInt((upper ^ lower) >>> 0);
  const seed = mutant("store.checksum-without-key") ? version : Bun.hash.xxHash3(key, version) & 0xffff_ffffn;
  return Bun.hash.xxHash3(payload, seed);
}

/** Writes the stored form of `value` at `at` and returns where it ends. */
export function writeStored(target: Uint8Array, at: number, key: Uint8Array, value: Uint8Array, wroteAt: number): number {
  const sum = checksum(key, value, Math.floor(wroteAt / WORD), wroteAt % WORD);
  target[at] = FORMAT;
  writeU32be(target, at + CHECKSUM_AT, Number(sum >> 32n));
  writeU32be(target, at + CHECKSUM_AT + 4, Number(sum & 0xffff_ffffn));
  writeU64be(target, at + WROTE_AT, wroteAt);
  target.set(value, at + STORED_HEADER_BYTES);
  return at + STORED_HEADER_BYTES + value.length;
}

export function encodeStored(key: Uint8Array, value: Uint8Array, wroteAt: number): Uint8Array {
  const stored = new Uint8Array(STORED_HEADER_BYTES + value.length);
  writeStored(stored, 0, key, value, wroteAt);
  return stored;
}

/** A copy of the payload. Throws STORE_CORRUPT, naming store and key, unless the bytes are what was written under this key. */
export const openStored = (store: string, key: Uint8Array, stored: Uint8Array): Uint8Array => checked(store, key, stored, payloadOf);

/** The same as a view. */
export const viewStored = (store: string, key: Uint8Array, stored: Uint8Array): Uint8Array => checked(store, key, stored, payloadView);

function checked(store: string, key: Uint8Array, stored: Uint8Array, read: (stored: Uint8Array) => Uint8Array): Uint8Array {
  if (stored.length < STORED_HEADER_BYTES) throw corrupt(store, key, `${stored.length} bytes, at least ${STORED_HEADER_BYTES} are stored`);
  if (stored[0] !== FORMAT) throw corrupt(store, key, `format ${stored[0]}, this build knows ${FORMAT}`);
  const payload = read(stored);
  const sum = checksum(key, payload, readU32be(stored, WROTE_AT), readU32be(stored, WROTE_AT + 4));
  if (Number(sum >> 32n) !== readU32be(stored, CHECKSUM_AT) || Number(sum & 0xffff_ffffn) !== readU32be(stored, CHECKSUM_AT + 4))
    throw corrupt(store, key, `checksum ${checksumOf(stored).toHex()} kept, ${sum.toString(16).padStart(16, "0")} computed`);
  return payload;
}

/** The same, where the payload is not wanted. */
export function checkStored(store: string, key: Uint8Array, stored: Uint8Array): void {
  viewStored(store, key, stored);
}

/** The three below read bytes that were accepted before. */
export const payloadOf = (stored: Uint8Array): Uint8Array => stored.slice(STORED_HEADER_BYTES);
const payloadView = (stored: Uint8Array): Uint8Array => stored.subarray(STORED_HEADER_BYTES);
export const wroteAtOf = (stored: Uint8Array): number => readU32be(stored, WROTE_AT) * WORD + readU32be(stored, WROTE_AT + 4);
export const checksumOf = (stored: Uint8Array): Uint8Array => piece(stored, CHECKSUM_AT, WROTE_AT);

/** A key for people, as `store get` takes it: printable ASCII as it is, hex from the last slash before anything else. */
export function keyText(key: Uint8Array): string {
  const odd = key.findIndex((byte) => byte < 0x21 || byte > 0x7e);
  if (odd < 0) return String.fromCharCode(...key);
  const from = key.lastIndexOf(SLASH, odd) + 1;
  return `${String.fromCharCode(...key.subarray(0, from))}0x${key.subarray(from).toHex()}`;
}

function corrupt(store: string, key: Uint8Array, what: string): EngineError {
  return new EngineError("STORE_CORRUPT", `${store}: key ${keyText(key)}: ${what}`);
}
