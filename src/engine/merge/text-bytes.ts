/**
 * Digits and lower-case hex written into and read from byte arrays in place, for the files that hold one line an entry.
 * Hot path: nothing is allocated. The readers accept only what the writers make: no sign, leading zero or capital.
 */
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;

const hexOf = new Uint16Array(256); // both digits of a byte, high digit in the high byte
const nibbleOf = new Uint8Array(256).fill(0xff);
for (let i = 0; i < 16; i++) nibbleOf[i.toString(16).charCodeAt(0)] = i;
for (let i = 0; i < 256; i++) {
  const text = i.toString(16).padStart(2, "0");
  hexOf[i] = (text.charCodeAt(0) << 8) | text.charCodeAt(1);
}

/** Writes `length` bytes of `from` as hex; returns the offset behind. */
export function putHex(to: Uint8Array, at: number, from: Uint8Array, fromAt: number, length: number): number {
  for (let i = 0; i < length; i++) {
    const pair = hexOf[from[fromAt + i] as number] as number;
    to[at + 2 * i] = pair >> 8;
    to[at + 2 * i + 1] = pair & 0xff;
  }
  return at + 2 * length;
}

/** Reads `2·length` hex digits; false where one is not a lower-case digit. */
export function readHex(from: Uint8Array, at: number, to: Uint8Array, toAt: number, length: number): boolean {
  let seen = 0;
  for (let i = 0; i < length; i++) {
    const high = nibbleOf[from[at + 2 * i] as number] as number;
    const low = nibbleOf[from[at + 2 * i + 1] as number] as number;
    seen |= high | low;
    to[toAt + i] = (high << 4) | low;
  }
  return seen < 16;
}

/** The number in eight lower-case hex digits, or -1. */
export function readHexU32(from: Uint8Array, at: number): number {
  let value = 0;
  for (let i = 0; i < 8; i++) {
    const nibble = nibbleOf[from[at + i] as number] as number;
    if (nibble > 15) return -1;
    value = (value << 4) | nibble;
  }
  return value >>> 0;
}

/** Writes a count's decimal digits so that they end before `end`; returns where they start. */
export function putDigits(to: Uint8Array, end: number, value: number): number {
  let at = end;
  let rest = value;
  do {
    const next = Math.floor(rest / 10);
    to[--at] = DIGIT_0 + (rest - next * 10);
    rest = next;
  } while (rest > 0);
  return at;
}

export function digitCount(value: number): number {
  let count = 1;
  for (let limit = 10; value >= limit; limit *= 10) count++;
  return count;
}

/** End of the run of digits at `at`, at most 16 of them. */
export function digitsEnd(from: Uint8Array, at: number): number {
  let end = at;
  while (end < at + 16 && (from[end] as number) >= DIGIT_0 && (from[end] as number) <= DIGIT_9) end++;
  return end;
}

/** The count in the digits `[at, end)`, or -1 where there is none, a leading zero, or more than 2^53 − 1. */
export function readDigits(from: Uint8Array, at: number, end: number): number {
  if (end === at || (from[at] === DIGIT_0 && end - at > 1)) return -1;
  let value = 0;
  for (let i = at; i < end; i++) value = value * 10 + ((from[i] as number) - DIGIT_0);
  return value <= Number.MAX_SAFE_INTEGER ? value : -1;
}
