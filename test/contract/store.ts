/**
 * What every store promises (sync.md section 2.7), run over LMDB and over the memory twin. A bench is one store's place:
 * `open` opens what an earlier `close` left there.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { compareBytes, utf8 } from "../../src/engine/base/bytes.ts";
import type { Batch, Op } from "../../src/engine/base/effects.ts";
import { nextBelow, type Prng, prng } from "../../src/engine/base/prng.ts";
import { diffSnapshots, digestSnapshot } from "../../src/engine/store/diff.ts";
import { openMemoryStore } from "../../src/engine/store/memory.ts";
import { KEY_BYTES_MAX, type Store, type StoreSnapshot, VALUE_BYTES_MAX } from "../../src/engine/store/types.ts";

export type StoreBench = { open(): Promise<Store> } & AsyncDisposable;
type Row = readonly [Uint8Array, Uint8Array];

export const put = (key: Uint8Array | string, value: Uint8Array | string): Op => ({ op: "put", key: bytes(key), value: bytes(value) });
export const del = (key: Uint8Array | string): Op => ({ op: "del", key: bytes(key) });
export const delRange = (from: Uint8Array | string, to: Uint8Array | string): Op => ({ op: "delRange", key: bytes(from), end: bytes(to) });
const bytes = (from: Uint8Array | string): Uint8Array => (typeof from === "string" ? utf8(from) : from);

/** The oracle: rows in an array, sorted again after every operation. */
export class SortedArray {
  rows: Row[] = [];
  apply(batch: Batch): void {
    for (const op of batch) {
      const gone = (key: Uint8Array): boolean =>
        op.op === "delRange" ? compareBytes(key, op.key) >= 0 && compareBytes(key, op.end) < 0 : compareBytes(key, op.key) === 0;
      this.rows = this.rows.filter(([key]) => !gone(key));
      if (op.op === "put") this.rows.push([op.key, op.value]);
      this.rows.sort(([a], [b]) => compareBytes(a, b));
    }
  }
  range(from?: Uint8Array, to?: Uint8Array, reverse = false, limit = Number.POSITIVE_INFINITY): Row[] {
    const found = this.rows.filter(([key]) => (from === undefined || compareBytes(key, from) >= 0) && (to === undefined || compareBytes(key, to) < 0));
    return (reverse ? found.reverse() : found).slice(0, limit);
  }
}

export const hexRows = (rows: Iterable<Row>): string[] => [...rows].map(([key, value]) => `${key.toHex()}=${value.toHex()}`);
const textRows = (snap: StoreSnapshot, ...range: Parameters<StoreSnapshot["iterate"]>): string =>
  [...snap.iterate(...range)].map(([key, value]) => `${new TextDecoder().decode(key)}=${new TextDecoder().decode(value)}`).join(" ");

/** Few distinct keys, so that operations meet; edges of the byte order among them. */
const keyArb = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 3, max: 3 }),
  fc.constantFrom(Uint8Array.of(0), Uint8Array.of(0, 0), Uint8Array.of(0xff), Uint8Array.of(0xff, 0xff), Uint8Array.of(0x7f, 0x80), utf8("kv/a"), utf8("kv/")),
);
const boundArb = fc.oneof(keyArb, fc.constant(new Uint8Array()));
const opArb: fc.Arbitrary<Op> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ op: fc.constant("put" as const), key: keyArb, value: fc.uint8Array({ maxLength: 20 }) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("del" as const), key: keyArb }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("delRange" as const), key: boundArb, end: boundArb }) },
);
const batchesArb = fc.array(fc.array(opArb, { maxLength: 30, size: "max" }), { maxLength: 12, size: "max" });
const rangeArb = fc.record({ from: fc.option(boundArb), to: fc.option(boundArb), reverse: fc.boolean(), limit: fc.option(fc.nat(5)) });

export function storeContract(title: string, make: () => Promise<StoreBench>): void {
  const check = (what: string, run: (store: Store) => Promise<void>): void =>
    test(`${title}: ${what}`, async () => {
      await using bench = await make();
      const store = await bench.open();
      await run(store);
      expect(store.stat().openSnapshotCount).toBe(0);
      await store.close();
    });

  check("rows come in unsigned byte order, the shorter first", async (store) => {
    const keys = ["ff", "00", "ffff", "0000", "7f", "80", "8000", "61"].map((hex) => Uint8Array.fromHex(hex));
    await store.commit(keys.map((key) => put(key, "")));
    using snap = store.snapshot();
    expect([...snap.iterate()].map(([key]) => key.toHex())).toEqual(["00", "0000", "61", "7f", "80", "8000", "ff", "ffff"]);
    expect([...snap.iterate(undefined, undefined, { reverse: true, limit: 3 })].map(([key]) => key.toHex())).toEqual(["ffff", "ff", "8000"]);
  });

  check("ranges are half open in both directions", async (store) => {
    await store.commit(["a", "b", "c", "d"].map((key) => put(key, key)));
    using snap = store.snapshot();
    expect(textRows(snap, utf8("b"), utf8("d"))).toBe("b=b c=c");
    expect(textRows(snap, utf8("b"), utf8("d"), { reverse: true })).toBe("c=c b=b");
    expect(textRows(snap, utf8("bb"), utf8("cc"), { reverse: true })).toBe("c=c");
    expect(textRows(snap, utf8("b"), utf8("b"))).toBe("");
    expect(textRows(snap, utf8("c"), utf8("b"))).toBe("");
    expect(textRows(snap, utf8("b"), undefined, { limit: 0 })).toBe("");
    expect(textRows(snap, undefined, new Uint8Array())).toBe("");
  });

  check("operations of a batch apply in list order", async (store) => {
    await store.commit([put("a", "1"), put("a", "2"), put("b", "1"), del("b"), del("never"), put("c", "1"), delRange("c", "d"), put("c", "2")]);
    {
      using snap = store.snapshot();
      expect(textRows(snap)).toBe("a=2 c=2");
    }
    await store.commit([put("x/1", "1"), delRange("x/", "x0"), delRange("b", "a"), delRange("a", "a")]);
    using snap = store.snapshot();
    expect(textRows(snap)).toBe("a=2 c=2");
  });

  check("the end of a deleted range stays, its start goes", async (store) => {
    await store.commit([put("a", "1"), put("b", "1"), put("c", "1")]);
    await store.commit([delRange("a", "c")]);
    using snap = store.snapshot();
    expect(textRows(snap)).toBe("c=1");
  });

  check("a key knows which version wrote it", async (store) => {
    await store.commit([put("a", "1"), put("b", "1")], 7);
    await store.commit([put("b", "2")], 2 ** 53 - 1);
    using snap = store.snapshot();
    expect([snap.wroteAt(utf8("a")), snap.wroteAt(utf8("b")), snap.wroteAt(utf8("c"))]).toEqual([7, 2 ** 53 - 1, undefined]);
    expect(["a", "b", "c"].map((key) => snap.row(utf8(key))?.wroteAt)).toEqual([7, 2 ** 53 - 1, undefined]);
    expect(snap.row(utf8("b"))?.value).toEqual(snap.get(utf8("b")));
  });

  check("a copied row keeps the version that wrote it elsewhere", async (store) => {
    await store.commit([put("a", "1"), { op: "put", key: utf8("b"), value: utf8("1"), wroteAt: 5 }], 9);
    using snap = store.snapshot();
    expect([snap.wroteAt(utf8("a")), snap.wroteAt(utf8("b"))]).toEqual([9, 5]);
  });

  check("a snapshot is the state after one commit, whatever follows", async (store) => {
    await store.commit([put("a", "1"), put("b", "1")]);
    using before = store.snapshot();
    const half = before.iterate()[Symbol.iterator]();
    half.next();
    await store.commit([put("b", "2"), del("a"), put("c", "1")]);
    using after = store.snapshot();
    expect(new TextDecoder().decode(half.next().value?.[1])).toBe("1");
    expect(half.next().done).toBe(true);
    expect(textRows(before)).toBe("a=1 b=1");
    expect(textRows(after)).toBe("b=2 c=1");
  });

  check("a snapshot is closed once and not read afterwards", async (store) => {
    await store.commit([put("a", "1")]);
    const snap = store.snapshot();
    const rows = snap.iterate()[Symbol.iterator]();
    expect(store.stat().openSnapshotCount).toBe(1);
    snap[Symbol.dispose]();
    expect(() => snap.get(utf8("a"))).toThrow("while it is open");
    expect(() => rows.next()).toThrow("while it is open");
    expect(() => snap[Symbol.dispose]()).toThrow("closed once");
  });

  check("bytes go in and out as copies", async (store) => {
    const [key, value] = [utf8("key"), utf8("value")];
    const stored = store.commit([put(key, value)]);
    key.fill(0);
    value.fill(0);
    await stored;
    using snap = store.snapshot();
    const first = snap.get(utf8("key"));
    expect(first?.constructor).toBe(Uint8Array); // a Buffer's slice would be a view
    first?.fill(0);
    for (const [rowKey, rowValue] of snap.iterate()) {
      expect(rowKey.constructor).toBe(Uint8Array);
      rowKey.fill(0);
      rowValue.fill(0);
    }
    expect(textRows(snap)).toBe("key=value");
  });

  check("limits of size hold, and a batch that breaks one leaves nothing", async (store) => {
    const longest = new Uint8Array(KEY_BYTES_MAX).fill(0x61);
    const largest = new Uint8Array(VALUE_BYTES_MAX).fill(7);
    await store.commit([put(longest, largest), put("empty", "")]);
    for (const op of [put(new Uint8Array(), "1"), put(new Uint8Array(KEY_BYTES_MAX + 1), "1"), put("big", new Uint8Array(VALUE_BYTES_MAX + 1))])
      await expect(store.commit([put("innocent", "1"), op])).rejects.toThrow("broken invariant");
    await store.commit([put("last", "1")]);
    using snap = store.snapshot();
    expect(snap.get(longest)).toEqual(largest);
    expect(snap.peek(longest)).toEqual(largest);
    expect(snap.peek(utf8("innocent"))).toBeUndefined();
    expect(snap.get(utf8("empty"))).toEqual(new Uint8Array());
    expect(snap.get(utf8("innocent"))).toBeUndefined();
    expect(snap.get(new Uint8Array())).toBeUndefined();
  });

  test(`${title}: what was committed is there after closing and opening`, async () => {
    await using bench = await make();
    const store = await bench.open();
    await store.commit([put("a", "1"), put("b", "1")], 3);
    await store.commit([del("a")], 4);
    await store.close();
    const again = await bench.open();
    {
      using snap = again.snapshot();
      expect(textRows(snap)).toBe("b=1");
      expect(snap.wroteAt(utf8("b"))).toBe(3);
    }
    await again.close();
  });

  check("commits asked for together are performed in that order", async (store) => {
    const commits: Promise<void>[] = [];
    for (let i = 0; i < 50; i++)
      commits.push(store.commit(i % 10 === 9 ? [delRange("a", "b"), put("n", String(i))] : [put(`a${i}`, "1"), put("n", String(i))], i));
    await Promise.all(commits);
    using snap = store.snapshot();
    expect(textRows(snap)).toBe("n=49");
  });

  check("accounting counts keys and grows with bytes", async (store) => {
    await store.commit([put("a", "1"), put("b", "1")]);
    expect(store.stat().keyCount).toBe(2);
    const small = store.stat().liveBytes;
    await store.commit([put("c", new Uint8Array(100_000)), del("a")]);
    expect(store.stat().keyCount).toBe(2);
    expect(store.stat().liveBytes).toBeGreaterThan(small + 99_000);
  });

  check("any batches leave what a sorted array holds, and the digest of the twin", async (store) => {
    await fc.assert(
      fc.asyncProperty(batchesArb, fc.array(rangeArb, { maxLength: 4 }), async (batches, ranges) => {
        const twin = openMemoryStore();
        const oracle = new SortedArray();
        await store.commit([delRange("", new Uint8Array(4).fill(0xff))]);
        for (const [version, batch] of batches.entries()) {
          await Promise.all([store.commit(batch, version), twin.commit(batch, version)]);
          oracle.apply(batch);
        }
        using snap = store.snapshot();
        using other = twin.snapshot();
        expect(hexRows(snap.iterate())).toEqual(hexRows(oracle.range()));
        for (const { from, to, reverse, limit } of ranges) {
          const options = { reverse, ...(limit === null ? {} : { limit }) };
          expect(hexRows(snap.iterate(from ?? undefined, to ?? undefined, options))).toEqual(
            hexRows(oracle.range(from ?? undefined, to ?? undefined, reverse, limit ?? undefined)),
          );
        }
        expect(Array.from(snap.peekStored(), (row) => hexRows([row])).flat()).toEqual(hexRows(snap.stored())); // each read while it is lent
        for (const [key, value] of oracle.rows) expect([snap.get(key), snap.peek(key)]).toEqual([value, value]);
        expect(digestSnapshot(snap)).toEqual(digestSnapshot(other));
        expect([...diffSnapshots("local", { a: snap, b: other })]).toEqual([]);
        expect(store.stat().keyCount).toBe(oracle.rows.length);
      }),
      { numRuns: 60 },
    );
  });

  for (const seed of [1, 2]) {
    check(`iterators beside writers equal a frozen copy (seed ${seed})`, async (store) => {
      await interleave(store, prng(seed));
    });
  }
}

/** Sixty commits, some not awaited, with up to eight iterators that each take a few rows at a time. */
async function interleave(store: Store, dice: Prng): Promise<void> {
  const oracle = new SortedArray();
  const open: { snap: StoreSnapshot; rows: Iterator<Row>; want: string[]; got: string[] }[] = [];
  const finish = (index: number): void => {
    const [{ snap, want, got }] = open.splice(index, 1) as [(typeof open)[number]];
    expect(got).toEqual(want);
    snap[Symbol.dispose]();
  };
  const advance = (index: number, count: number): void => {
    const at = open[index] as (typeof open)[number];
    let ended = false;
    for (let i = 0; i < count && !ended; i++) {
      const { done, value } = at.rows.next();
      ended = done === true;
      if (!ended) at.got.push(...hexRows([value]));
    }
    if (ended) finish(index);
  };
  for (let round = 0; round < 60; round++) {
    const batch: Op[] = [];
    for (let i = nextBelow(dice, 30); i >= 0; i--) {
      const key = Uint8Array.of(nextBelow(dice, 256));
      batch.push(nextBelow(dice, 4) === 0 ? del(key) : put(key, Uint8Array.of(round, nextBelow(dice, 256))));
    }
    const stored = store.commit(batch, round);
    if (open.length > 0) advance(nextBelow(dice, open.length), nextBelow(dice, 20));
    await stored;
    oracle.apply(batch);
    if (open.length < 8) {
      const snap = store.snapshot();
      open.push({ snap, rows: snap.iterate()[Symbol.iterator](), want: hexRows(oracle.range()), got: [] });
    }
    if (open.length > 0) advance(nextBelow(dice, open.length), nextBelow(dice, 60));
  }
  while (open.length > 0) advance(0, 1_000);
}
