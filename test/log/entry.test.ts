import { expect, test } from "bun:test";
import fc from "fast-check";
import { bundleCount, bundleOf, bundleOffsets, entryAt, joinBundles, sliceBundle } from "../../src/engine/log/entry.ts";
import { codeOf } from "../thrown.ts";

const entries = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 30 });

test("bytes of a small bundle (C2SP tlog-tiles, Log Entries)", () => {
  const bundle = bundleOf([Uint8Array.of(7, 8, 9), new Uint8Array(0), Uint8Array.of(255)]);
  expect(bundle.toHex()).toBe("0003070809" + "0000" + "0001ff");
  expect([...bundleOffsets(bundle)]).toEqual([0, 5, 7, 10]);
  expect(
    bundleOf([new Uint8Array(300)])
      .subarray(0, 2)
      .toHex(),
  ).toBe("012c");
});

test("an entry may have 65,535 bytes and no more", () => {
  const largest = bundleOf([new Uint8Array(65_535).fill(1)]);
  expect(bundleCount(largest)).toBe(1);
  expect(largest.subarray(0, 2).toHex()).toBe("ffff");
  expect(codeOf(() => bundleOf([new Uint8Array(65_536)]))).toBe("LOG_ENTRY_TOO_LARGE");
});

test("property: entries come back, whole and from any slice", () => {
  fc.assert(
    fc.property(entries, fc.nat(30), fc.nat(30), (list, a, b) => {
      const bundle = bundleOf(list);
      const offsets = bundleOffsets(bundle);
      expect(bundleCount(bundle)).toBe(list.length);
      expect(list.map((_, i) => entryAt(bundle, offsets, i))).toEqual(list);
      const [from, to] = [Math.min(a, b, list.length), Math.min(Math.max(a, b), list.length)];
      expect(sliceBundle(bundle, offsets, { from, to })).toEqual(bundleOf(list.slice(from, to)));
      expect(joinBundles([sliceBundle(bundle, offsets, { from: 0, to: from }), sliceBundle(bundle, offsets, { from, to: list.length })])).toEqual(bundle);
    }),
  );
});

test("offsets of many short entries behind one of another length", () => {
  for (const first of [0, 500]) {
    const count = 20_000;
    const entries = Array.from({ length: count }, (_, i) => new Uint8Array(i === 0 ? first : 3));
    expect([...bundleOffsets(bundleOf(entries))]).toEqual(Array.from({ length: count + 1 }, (_, i) => (i === 0 ? 0 : 2 + first + 5 * (i - 1))));
  }
});

test("property: a bundle cut anywhere but between entries is malformed", () => {
  fc.assert(
    fc.property(entries, fc.nat(), (list, cut) => {
      const bundle = bundleOf(list);
      const starts = new Set(bundleOffsets(bundle));
      const at = cut % (bundle.length + 1);
      const prefix = bundle.subarray(0, at);
      if (starts.has(at)) expect(bundleOffsets(prefix)[bundleCount(prefix)]).toBe(at);
      else {
        expect(codeOf(() => bundleOffsets(prefix))).toBe("LOG_ENCODING");
        expect(codeOf(() => bundleCount(prefix))).toBe("LOG_ENCODING");
      }
    }),
  );
});
