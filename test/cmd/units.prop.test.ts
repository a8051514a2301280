/**
 * Durations and sizes: what the printer writes the parser reads back, the parser agrees with plain arithmetic where that is
 * exact, and nothing that is no whole number of units gets through.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatDuration, formatSize, parseCount, parseDuration, parseSize } from "../../src/cmd/units.ts";

const whole = fc.oneof(fc.nat(10_000), fc.maxSafeNat());

test("printed, then parsed, is the same value", () => {
  fc.assert(fc.property(whole, (value) => parseDuration(formatDuration(value)) === value && parseSize(formatSize(value)) === value));
});

test("a value and its unit multiply", () => {
  const unit = fc.constantFrom(["ms", 1], ["s", 1_000], ["m", 60_000], ["h", 3_600_000], ["", 1_000]);
  fc.assert(fc.property(fc.nat(1_000_000), unit, (value, [name, factor]) => parseDuration(`${value}${name}`) === value * Number(factor)));
  const size = fc.constantFrom(["B", 1], ["K", 1_024], ["M", 1_048_576], ["G", 1_073_741_824], ["", 1]);
  fc.assert(fc.property(fc.nat(1_000_000), size, (value, [name, factor]) => parseSize(`${value}${name}`) === value * Number(factor)));
});

test("a fraction is exact or refused", () => {
  fc.assert(
    fc.property(fc.nat(1_000), fc.nat(9_999), (whole, fraction) => {
      const digits = String(fraction).padStart(4, "0");
      const exact = fraction % 10 === 0 ? whole * 1_000 + fraction / 10 : null;
      return parseDuration(`${whole}.${digits}s`) === exact;
    }),
  );
});

test("a count is its own decimal text and nothing else", () => {
  fc.assert(fc.property(whole, (value) => parseCount(String(value)) === value));
  fc.assert(fc.property(fc.string(), (text) => parseCount(text) === null || String(parseCount(text)) === text));
});

const refused = [
  "",
  " ",
  "0012",
  "-1",
  "+1",
  "1e3",
  "0x10",
  "18446744073709551615",
  "9007199254740992",
  "NaN",
  "Infinity",
  "1_000",
  " 1",
  "1 ",
  "1.",
  ".5",
  "٣",
];
for (const text of refused)
  test(`${JSON.stringify(text)} is refused by all three`, () => expect([parseCount(text), parseDuration(text), parseSize(text)]).toEqual([null, null, null]));

for (const text of ["1x", "5S", "1constructor", "1 s", "1s1", "0.1ms", "9007199254740992ms", "300000000000000d"])
  test(`the duration ${text} is refused`, () => expect(parseDuration(text)).toBeNull());

for (const text of ["64m", "1KB", "1KiB", "0.5B", "1.0001K", "9000000000T"]) test(`the size ${text} is refused`, () => expect(parseSize(text)).toBeNull());
