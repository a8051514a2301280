/** The provider's rate (sync.md section 4.6): it yields to commits, never below its floor, and comes back. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { adjust, newRate, RATE_FLOOR, type Rate, spend, waitMs } from "../../src/engine/sync/rate.ts";

const MIB = 1_024 * 1_024;
/** One second: as many chunks as it may, then the leader's word. */
function second(rate: Rate, fromMs: number, p99Us: number | null, isStreaming = true, writtenBytes = 0): number {
  let sent = 0;
  for (let ms = fromMs; ms < fromMs + 1_000; ms += 2) {
    if (!isStreaming || waitMs(rate, ms) > 0) continue;
    spend(rate, MIB);
    sent += MIB;
  }
  adjust(rate, { p99Us, isStreaming, writtenBytes: rate.writtenBytes + writtenBytes }, fromMs + 1_000);
  return sent;
}

describe("rate", () => {
  test("half when commits suffer, a tenth more a second when they are well, no limit at first", () => {
    const rate = newRate();
    second(rate, 0, 1_000, false);
    expect(second(rate, 1_000, 1_200)).toBe(500 * MIB); // no limit
    expect(rate.bytesPerS).toBeNull();
    second(rate, 2_000, 4_000);
    expect(rate.bytesPerS).toBe(250 * MIB);
    expect(second(rate, 3_000, 2_000) / MIB).toBeWithin(240, 320); // between: as it is
    expect(rate.bytesPerS).toBe(250 * MIB);
    second(rate, 4_000, 1_400);
    expect(rate.bytesPerS).toBeCloseTo(275 * MIB);
  });

  test("never below the floor, so that a transfer ends", () => {
    const rate = newRate();
    second(rate, 0, 1_000, false);
    for (let n = 1; n < 20; n++) second(rate, n * 1_000, 1_000_000);
    expect(rate.bytesPerS).toBe(RATE_FLOOR);
    let sent = 0;
    for (let n = 20; n < 30; n++) sent += second(rate, n * 1_000, 1_000_000);
    expect(sent).toBeGreaterThan(9 * RATE_FLOOR);
    second(rate, 30_000, 1_000, false);
    expect(rate.bytesPerS).toBeNull();
  });

  test("never below twice what the cluster writes, so that a copy is not outrun; below that, the fixed floor again", () => {
    const rate = newRate();
    second(rate, 0, 1_000, false);
    for (let n = 1; n < 20; n++) second(rate, n * 1_000, 1_000_000, true, 20 * MIB);
    expect(rate.bytesPerS).toBe(40 * MIB);
    second(rate, 20_000, 2_000, true, 30 * MIB); // neither well nor ill: the floor alone moves it
    expect(rate.bytesPerS).toBe(60 * MIB);
    for (let n = 21; n < 30; n++) second(rate, n * 1_000, 1_000_000);
    expect(rate.bytesPerS).toBe(RATE_FLOOR);
  });

  test("whatever the commits do, what is sent keeps to the rate, and a wait is one that ends", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.option(fc.integer({ min: 1, max: 100_000 })), fc.boolean()), { maxLength: 40 }), (seconds) => {
        const rate = newRate();
        for (const [n, [p99Us, isStreaming]] of seconds.entries()) {
          const limit = rate.bytesPerS;
          const sent = second(rate, n * 1_000, p99Us, isStreaming);
          if (limit !== null) expect(sent).toBeLessThanOrEqual(limit * 1.25 + MIB);
          if (rate.bytesPerS !== null) {
            expect(rate.bytesPerS).toBeGreaterThanOrEqual(RATE_FLOOR);
            const wait = waitMs(rate, n * 1_000 + 1_000);
            expect(waitMs(structuredClone(rate), n * 1_000 + 1_000 + wait)).toBe(0);
          }
        }
      }),
    );
  });
});
