/** The batch codec against vectors made elsewhere, and against whatever a stranger may send (sync.md section 2.5). */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { Op } from "../../src/engine/base/effects.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { BATCH_OPS_MAX, decodeBatch, encodeBatch, encodedBatchBytes } from "../../src/engine/store/batch.ts";
import { KEY_BYTES_MAX, VALUE_BYTES_MAX } from "../../src/engine/store/types.ts";
import { del, delRange, put } from "../contract/store.ts";

const folder = join(import.meta.dir, "../../fixtures/vectors/batch");
const fromWord = (word: string): Uint8Array => (word === "-" ? new Uint8Array() : Uint8Array.fromHex(word));

/** Name, lines between, bytes behind `=`. */
function stanzas(file: string): { name: string; lines: string[]; raw: Uint8Array }[] {
  const [, ...parts] = readFileSync(join(folder, file), "utf8").trimEnd().split("\n\n");
  return parts.map((part) => {
    const [name, ...lines] = part.split("\n") as [string, ...string[]];
    const last = lines.pop() ?? "";
    expect(last.startsWith("= ")).toBe(true);
    return { name: name.slice(2), lines, raw: fromWord(last.slice(2)) };
  });
}

function readOp(line: string): Op {
  const [op, ...words] = line.split(" ");
  const [key, rest] = words.slice(0, 2).map(fromWord) as [Uint8Array, Uint8Array];
  if (words[2] !== undefined) return { op: "put", key, value: rest, wroteAt: Number(words[2].slice(1)) };
  return op === "put" ? put(key, rest) : op === "del" ? del(key) : delRange(key, rest);
}

for (const { name, lines, raw } of stanzas("valid.txt")) {
  test(`valid: ${name}`, () => {
    const [prev, ...ops] = lines as [string, ...string[]];
    const hash = prev === "prev -" ? null : fromWord(prev.slice(5));
    const batch = ops.map(readOp);
    expect(decodeBatch(raw)).toEqual({ batch, prev: hash });
    expect(encodeBatch(batch, hash)).toEqual(raw);
    expect(encodedBatchBytes(batch, hash)).toBe(raw.length);
  });
}

for (const { name, lines, raw } of stanzas("invalid.txt")) {
  test(`invalid: ${name}`, () => {
    expect(() => decodeBatch(raw)).toThrow(lines[0] as string);
    expect(() => decodeBatch(raw)).toThrow(expect.objectContaining({ code: "FRAME_CORRUPT" }));
  });
}

const keyArb = fc.uint8Array({ minLength: 1, maxLength: 12 });
const opArb: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ op: fc.constant("put" as const), key: keyArb, value: fc.uint8Array({ maxLength: 40 }) }),
  fc.record({ op: fc.constant("put" as const), key: keyArb, value: fc.uint8Array({ maxLength: 40 }), wroteAt: fc.maxSafeNat() }),
  fc.record({ op: fc.constant("del" as const), key: keyArb }),
  fc.record({ op: fc.constant("delRange" as const), key: fc.uint8Array({ maxLength: 5 }), end: fc.uint8Array({ maxLength: 5 }) }),
);
const batchArb = fc.array(opArb, { maxLength: 30, size: "max" });
const prevArb = fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 }));

test("a batch comes back as it went", () => {
  fc.assert(
    fc.property(batchArb, prevArb, (batch, prev) => {
      expect(decodeBatch(encodeBatch(batch, prev))).toEqual({ batch, prev });
    }),
  );
});

test("damaged bytes are refused, and what is accepted is the one encoding of what it says", () => {
  fc.assert(
    fc.property(batchArb, prevArb, fc.nat(), fc.integer({ min: 1, max: 255 }), (batch, prev, at, flip) => {
      const raw = encodeBatch(batch, prev);
      raw[at % raw.length] = (raw[at % raw.length] as number) ^ flip;
      expect(() => decodeBatch(raw)).toThrow(EngineError);
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (raw) => {
      try {
        const { batch, prev } = decodeBatch(raw);
        expect(encodeBatch(batch, prev)).toEqual(raw);
      } catch (error) {
        expect(error).toBeInstanceOf(EngineError);
      }
    }),
  );
});

test("our own side keeps the limits too", () => {
  const wrong = [
    put("", "1"),
    put(new Uint8Array(KEY_BYTES_MAX + 1), "1"),
    put("k", new Uint8Array(VALUE_BYTES_MAX + 1)),
    delRange("", new Uint8Array(KEY_BYTES_MAX + 1)),
  ];
  for (const op of wrong) expect(() => encodeBatch([op], null)).toThrow("broken invariant");
  expect(() =>
    encodeBatch(
      Array.from({ length: BATCH_OPS_MAX + 1 }, () => del("k")),
      null,
    ),
  ).toThrow("within its limits");
  expect(() =>
    encodeBatch(
      [0, 1, 2].map((n) => put(`k${n}`, new Uint8Array(VALUE_BYTES_MAX))),
      null,
    ),
  ).toThrow("within its limits");
});
