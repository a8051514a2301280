/** `desc([currentsize, …positions])[k]` against an oracle that only counts (merge.md section 1): all k, 0 to 4 secondaries. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { nextSize, readingOf, type Sizes, waitFor } from "../../src/cmd/quorum.ts";
import { gateCount, quorumSize } from "../../src/engine/merge/choose.ts";

const SECONDARIES_MAX = 4;

/** Largest size up to the first that `k` of the copies reach; null where there are fewer copies than that. */
function counted(upTo: number, copies: readonly number[], k: number): number | null {
  if (k > copies.length) return null;
  for (let size = upTo; ; size--) if (copies.filter((copy) => copy >= size).length >= k) return size;
}

const cluster = fc.record({ currentSize: fc.nat(40), shares: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: SECONDARIES_MAX }) }).map(
  ({ currentSize, shares }): Sizes => ({
    currentSize,
    positions: shares.map((share, at) => ({ secondary: `s${at + 1}`, size: Math.floor(share * currentSize) })),
  }),
);
const eachK = (check: (sizes: Sizes, k: number) => void): void =>
  fc.assert(
    fc.property(cluster, (sizes) => {
      for (let k = 0; k <= SECONDARIES_MAX + 1; k++) check(sizes, k);
    }),
    { numRuns: 500 },
  );
const sizesOf = ({ positions }: Sizes): number[] => positions.map(({ size }) => size);

describe("quorum", () => {
  test("the size in force is the largest that k secondaries verified, and none where there are fewer", () => {
    eachK((sizes, k) => expect(quorumSize(sizes.currentSize, sizesOf(sizes), k)).toBe(counted(sizes.currentSize, sizesOf(sizes), k)));
  });

  test("the other reading wants one copy more, and is never above the one in force", () => {
    eachK((sizes, k) => {
      const { size, otherReading } = readingOf(sizes, k);
      expect(otherReading).toBe(counted(Math.max(0, ...sizesOf(sizes)), sizesOf(sizes), k + 1));
      if (otherReading !== null) expect(otherReading).toBeLessThanOrEqual(size as number);
    });
  });

  test("who counts has verified the size: at least k of them, unless there is nothing to sign", () => {
    eachK((sizes, k) => {
      const { size, counted: names } = readingOf(sizes, k);
      for (const name of names) expect(sizes.positions.find(({ secondary }) => secondary === name)?.size).toBeGreaterThanOrEqual(size as number);
      if (size !== null && size > 0) expect(names.length).toBeGreaterThanOrEqual(k);
    });
  });

  test("when those that the head waits for have verified what they lack, the size can be signed; with one of them less it cannot", () => {
    eachK((sizes, k) => {
      const signable = quorumSize(sizes.currentSize, sizesOf(sizes), k);
      for (let wanted = 0; wanted <= sizes.currentSize; wanted++) {
        const wait = waitFor(sizes, k, wanted);
        if (signable === null || signable >= wanted) {
          expect(wait).toBeNull();
          continue;
        }
        if (wait === null) throw new Error(`${wanted} cannot be signed, and nobody is waited for`);
        const after = (count: number): number | null => {
          const done = new Map(wait.behind.slice(0, count).map(({ secondary, toGo }) => [secondary, toGo]));
          const moved = sizes.positions.map(({ secondary, size }) => size + (done.get(secondary) ?? 0));
          return quorumSize(sizes.currentSize, moved, k);
        };
        expect(after(wait.missingCount)).toBeGreaterThanOrEqual(wanted);
        expect(after(wait.missingCount - 1)).toBeLessThan(wanted);
      }
    });
  });

  test("the next size is the nearest one above what can be signed, and null exactly where everything can", () => {
    eachK((sizes, k) => {
      const signable = quorumSize(sizes.currentSize, sizesOf(sizes), k) ?? 0;
      const next = nextSize(sizes, signable);
      expect(next === null).toBe(signable === sizes.currentSize);
      if (next !== null) for (const size of [sizes.currentSize, ...sizesOf(sizes)]) expect(size <= signable || size >= next).toBeTrue();
    });
  });

  test("so many answers open the gate that they meet every set of k signers, and each other", () => {
    for (let count = 1; count <= 7; count++)
      for (let k = 0; k <= count; k++) {
        const needed = gateCount(count, k);
        expect(needed).toBeLessThanOrEqual(count);
        if (k > 0) expect(needed + k).toBeGreaterThan(count);
        expect(2 * needed).toBeGreaterThan(count);
      }
    expect(gateCount(0, 0)).toBe(0);
  });
});
