/**
 * Byte-string helpers shared by every codec: comparison, concatenation, hex, base64, big-endian integers.
 * `subarray` views and copies are never mixed up here: each function says which it returns.
 */
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** UTF-8 bytes of a text. */
export const utf8 = (text: string): Uint8Array => encoder.encode(text);
/** Text of UTF-8 bytes; throws a TypeError where they are not valid UTF-8. */
export const fromUtf8 = (bytes: Uint8Array): string => decoder.decode(bytes);

/** Unsigned byte order, shorter first on a common prefix: the order of every store. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** One new array holding the parts in order. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let total = 0;
  for (const part of parts) total += part.length;
  const joined = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Lower-case hex: the form of hashes in JSON and files. */
export const toHex = (bytes: Uint8Array): string => bytes.toHex();
/** Bytes of lower-case hex, or null where the text is not exactly that. */
export function fromHex(text: string): Uint8Array | null {
  return text.length % 2 === 0 && /^[0-9a-f]*$/.test(text) ? Uint8Array.fromHex(text) : null;
}

/** Standard base64 with padding: the form of hashes in C2SP texts. */
export const toBase64 = (bytes: Uint8Array): string => bytes.toBase64();
/** Bytes of canonical standard base64 (padding required, unused bits zero), or null. */
export function fromBase64(text: string): Uint8Array | null {
  try {
    const bytes = Uint8Array.fromBase64(text, { lastChunkHandling: "strict" });
    return bytes.toBase64() === text ? bytes : null;
  } catch {
    return null;
  }
}

/**
 * For large arrays only: a short one lives inside its object, and the first `.buffer`, `subarray` or view of it moves it out,
 * which costs some 300 ns. Short numbers are read and written byte by byte below; short pieces are copied (`piece`).
 */
export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const PIECE_COPY_BYTES_MAX = 512;

/** Bytes `[from, to)`, not to be changed: a copy where that is cheaper than a view. */
export const piece = (bytes: Uint8Array, from: number, to: number): Uint8Array =>
  to - from <= PIECE_COPY_BYTES_MAX ? bytes.slice(from, to) : bytes.subarray(from, to);

const WORD = 0x1_0000_0000;
/** The upper half of a safe integer is below this. */
const UPPER_MAX = 0x20_0000;

export function writeU32be(target: Uint8Array, at: number, value: number): void {
  target[at] = value >>> 24;
  target[at + 1] = value >>> 16;
  target[at + 2] = value >>> 8;
  target[at + 3] = value;
}

export const readU32be = (bytes: Uint8Array, at: number): number =>
  (((bytes[at] as number) << 24) | ((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number)) >>> 0;

/** 8 bytes of a safe integer. */
export function writeU64be(target: Uint8Array, at: number, value: number): void {
  writeU32be(target, at, Math.floor(value / WORD));
  writeU32be(target, at + 4, value % WORD);
}

/** Big-endian bytes of a safe integer: 8 bytes sort as the numbers do. */
export function u64be(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  writeU64be(bytes, 0, value);
  return bytes;
}

/** The safe integer of 8 big-endian bytes at an offset, or null above 2^53 − 1. The caller knows that they are there. */
export function readU64be(bytes: Uint8Array, offset = 0): number | null {
  const upper = readU32be(bytes, offset);
  return upper < UPPER_MAX ? upper * WORD + readU32be(bytes, offset + 4) : null;
}
