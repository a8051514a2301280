import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { describeKey, parseKey, prefixRange } from "../../src/cmd/store-key.ts";
import { concatBytes, utf8 } from "../../src/engine/base/bytes.ts";
import { localKeys, logKeys } from "../../src/engine/store/keys.ts";

const log = Uint8Array.fromHex("be6cfa06f0ebe200");
const bytes = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: 1, maxLength });
const tagged = fc
  .tuple(fc.uint8Array({ minLength: 8, maxLength: 8 }), fc.integer({ min: 0x60, max: 0x7b }), fc.uint8Array({ maxLength: 12 }))
  .map(([id, tag, rest]) => concatBytes(id, Uint8Array.of(tag), rest));
const textual = fc
  .stringMatching(/^[a-z/]{0,8}(0x)?[0-9a-f]{0,4}$/)
  .filter((text) => text !== "")
  .map(utf8);

test("what is described is read back to the same bytes, whatever they are", () => {
  for (const [db, keys] of [
    ["log", fc.oneof(tagged, bytes(12))],
    [
      "local",
      fc.oneof(
        textual,
        bytes(20),
        fc.tuple(textual, bytes(8)).map(([text, rest]) => concatBytes(text, rest)),
      ),
    ],
  ] as const)
    fc.assert(
      fc.property(keys, (key) => expect(parseKey(db, describeKey(db, key))).toEqual(key)),
      { numRuns: 2_000 },
    );
});

describe("keys are readable", () => {
  const cases: [string, Uint8Array, string][] = [
    ["log", logKeys.order(log, 0), "be6cfa06f0ebe200/order/0"],
    ["log", logKeys.tile(log, 2, 70_000), "be6cfa06f0ebe200/tile/2/70000"],
    ["log", logKeys.tail(log, 513), "be6cfa06f0ebe200/tail-entry/513"],
    ["log", concatBytes(logKeys.bundle(log, 3), Uint8Array.of(1)), "be6cfa06f0ebe200/bundle/3/1"],
    ["log", logKeys.edge(log), "be6cfa06f0ebe200/edge"],
    ["log", logKeys.cursor(log, "storage1"), "be6cfa06f0ebe200/queue-cursor/storage1"],
    ["log", logKeys.index(log, "i", Uint8Array.of(1, 2)), "be6cfa06f0ebe200/hash-index/0x0102"],
    ["log", Uint8Array.of(1, 2, 3), "0x010203"],
    ["local", localKeys.birth(), "node/birth"],
    ["local", localKeys.register(log), "merge/register/0xbe6cfa06f0ebe200"],
    ["local", utf8("kv/0xab"), "0x6b762f30786162"],
  ];
  for (const [db, key, text] of cases) test(text, () => expect([describeKey(db, key), parseKey(db, text)]).toEqual([text, key]));
});

test("what is no key is refused", () => {
  for (const text of [
    "",
    "0x",
    "0xabc",
    "be6cfa06f0ebe200/nothing/1",
    "be6cfa06f0ebe200/tile/1",
    "be6cfa06f0ebe200/tile/256/1",
    "be6cfa06f0ebe200/order/01",
    "order/1",
  ])
    expect(() => parseKey("log", text)).toThrow("want it as");
  expect(() => parseKey("local", "two words")).toThrow("want it as");
});

test("a prefix's range holds exactly the keys that begin so", () => {
  const key = fc.uint8Array({ minLength: 1, maxLength: 4 }).map((each) => each.map((byte) => (byte % 2 === 0 ? 255 : byte)));
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 3 }).map((each) => each.map((byte) => (byte % 3 === 0 ? 255 : byte))),
      key,
      (prefix, each) => {
        const { from, to } = prefixRange(prefix);
        const isInside = (from === undefined || Buffer.compare(each, from) >= 0) && (to === undefined || Buffer.compare(each, to) < 0);
        expect(isInside).toBe(Buffer.from(each).subarray(0, prefix.length).equals(prefix));
      },
    ),
    { numRuns: 2_000 },
  );
});
