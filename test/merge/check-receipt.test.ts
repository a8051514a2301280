/** A receipt in the hands of a stranger: what the storage role prints is accepted, and anything else is not. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { fromUtf8, utf8 } from "../../src/engine/base/bytes.ts";
import type { NodeId } from "../../src/engine/base/ids.ts";
import { leafHashes } from "../../src/engine/log/merkle.ts";
import { checkReceipt } from "../../src/engine/merge/check-receipt.ts";
import { lineBytesMax, putReceiptLine, receiptPrinter, signReceipts } from "../../src/engine/merge/receipt.ts";
import { A, B, bundle, configOf, entries, range } from "./fixture.ts";

const config = configOf(A);
const signer = (storage: NodeId) => ({ origin: config.origin, storage, publicKey: config.receiptKeys[storage] ?? new Uint8Array(32) });

function linesOf(count: number): Uint8Array[] {
  const numbers = range(0, count);
  const lengths = new Uint8Array(2 * count);
  for (const [at, entry] of entries(...numbers).entries()) lengths.set([entry.length >> 8, entry.length & 255], 2 * at);
  const printer = receiptPrinter(config, signReceipts(config, { hashes: leafHashes(bundle(...numbers)), lengths, timeMs: 1_700_000_000_000 }));
  return numbers.map((at) => {
    const line = new Uint8Array(lineBytesMax(printer));
    return line.slice(0, putReceiptLine(line, 0, printer, at, -1));
  });
}

test("each receipt of a batch of any size checks, for its own entry alone", () => {
  for (const count of [1, 2, 3, 7, 8, 255, 256]) {
    const lines = linesOf(count);
    const all = entries(...range(0, count + 1));
    for (const at of [0, count >> 1, count - 1]) {
      const line = lines[at] as Uint8Array;
      expect(checkReceipt(line, all[at] as Uint8Array, signer(A))).toMatchObject({ storage: A, timeMs: 1_700_000_000_000, promiseMs: config.promiseMs });
      expect(() => checkReceipt(line, all[count] as Uint8Array, signer(A))).toThrow("leafHash");
    }
  }
});

test("another node, another origin and another key are refused", () => {
  const [line] = linesOf(1) as [Uint8Array];
  const [entry] = entries(0) as [Uint8Array];
  expect(() => checkReceipt(line, entry, signer(B))).toThrow("storage");
  expect(() => checkReceipt(line, entry, { ...signer(A), origin: "example.org/other" })).toThrow("log");
  expect(() => checkReceipt(line, entry, { ...signer(A), publicKey: signer(B).publicKey })).toThrow(expect.objectContaining({ code: "LOG_SIGNATURE" }));
});

test("a longer promise, a later time and another place in the batch are not what was signed", () => {
  const line = fromUtf8(linesOf(5)[2] as Uint8Array);
  const [entry] = entries(2) as [Uint8Array];
  const check = (from: string, to: string) => () => {
    const changed = line.replace(from, to);
    expect(changed).not.toBe(line);
    checkReceipt(utf8(changed), entry, signer(A));
  };
  expect(check('"promiseMs":60000', '"promiseMs":90000')).toThrow("note");
  expect(check('"timeMs":1700000000000', '"timeMs":1700000000001')).toThrow("note");
  expect(check('"size":5', '"size":6')).toThrow("note");
  expect(check('"index":2', '"index":3')).toThrow(expect.objectContaining({ code: "LOG_PROOF" }));
});

test("a flipped bit anywhere is an error of the table", () => {
  const line = linesOf(5)[3] as Uint8Array;
  const [entry] = entries(3) as [Uint8Array];
  fc.assert(
    fc.property(fc.nat(line.length - 1), fc.nat(7), (at, bit) => {
      const changed = line.slice();
      changed[at] = (changed[at] as number) ^ (1 << bit);
      expect(() => checkReceipt(changed, entry, signer(A))).toThrow(expect.objectContaining({ name: "EngineError" }));
    }),
    { numRuns: 1_000 },
  );
});
