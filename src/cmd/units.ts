/**
 * Durations and sizes as people write them (architecture.md section 7): `500ms`, `10s`, `5m`; `64M`, `1G` in powers of
 * 1,024; a bare number is seconds or bytes. Each parser answers null for what it cannot read, and has its printer beside it:
 * what the printer writes, the parser reads back exactly. Never rounds silently: a value that is no whole number of
 * milliseconds or bytes, or lies above 2^53 - 1, is refused.
 */
const NUMBER = /^(0|[1-9][0-9]*)(\.[0-9]+)?([a-zA-Z]*)$/;
const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE_UNITS: Readonly<Record<string, number>> = { B: 1, K: 1_024, M: 1_024 ** 2, G: 1_024 ** 3, T: 1_024 ** 4 };

/** Digits only, no sign, no leading zero, at most 2^53 - 1. */
export function parseCount(text: string): number | null {
  if (!/^(0|[1-9][0-9]*)$/.test(text)) return null;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : null;
}

/** Milliseconds. */
export const parseDuration = (text: string): number | null => parseWithUnit(text, DURATION_UNITS, "s");

/** Bytes. */
export const parseSize = (text: string): number | null => parseWithUnit(text, SIZE_UNITS, "B");

export const formatDuration = (valueMs: number): string => formatWithUnit(valueMs, DURATION_UNITS);
export const formatSize = (valueBytes: number): string => formatWithUnit(valueBytes, SIZE_UNITS);

function parseWithUnit(text: string, units: Readonly<Record<string, number>>, bare: string): number | null {
  const match = NUMBER.exec(text);
  if (match === null) return null;
  const [, whole = "", fraction = "", unit = ""] = match;
  const factor = new Map(Object.entries(units)).get(unit === "" ? bare : unit);
  if (factor === undefined) return null;
  const digits = fraction.slice(1);
  // In integers: 1.1G is exact or refused, never the nearest float.
  const scaled = BigInt(whole + digits) * BigInt(factor);
  const divisor = 10n ** BigInt(digits.length);
  const value = scaled / divisor;
  return scaled % divisor === 0n && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : null;
}

/** The largest unit that divides the value: `90s`, not `1.5m`. */
function formatWithUnit(value: number, units: Readonly<Record<string, number>>): string {
  const [unit, factor] = Object.entries(units).findLast(([, each]) => value !== 0 && value % each === 0) ?? Object.entries(units)[0] ?? ["", 1];
  return `${value / factor}${unit}`;
}
