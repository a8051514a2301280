/**
 * The codec and the message tables: vectors of a second encoder, a round trip of every kind, and decoders fed with
 * damage: whatever the bytes, only FRAME_CORRUPT may come out (architecture section 5, guarantee 7).
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { concatBytes } from "../../src/engine/base/bytes.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { BrokenInvariant } from "../../src/engine/base/invariant.ts";
import { fixed, flag, hashes, list, messages, text, u8, u32, u53, Writer } from "../../src/engine/wire/codec.ts";
import { answers, type RequestOf, refused, requests } from "../../src/engine/wire/messages.ts";
import { codeOf } from "../thrown.ts";
import { answerKinds, arbitraryAnswer, arbitraryRequest, requestKinds } from "./arbitrary-messages.ts";
import { hex, vectors } from "./vectors.ts";

type Side = "request" | "answer";
type Vectors = {
  valid: { comment: string; side: Side; kind: string; fields: Record<string, unknown>; bytes: string }[];
  invalid: { comment: string; side: Side; bytes: string; says: string }[];
};
const files = [vectors<Vectors>("messages"), vectors<Vectors>("../sync/messages")];
const [valid, invalid] = [files.flatMap((each) => each.valid), files.flatMap((each) => each.invalid)];

/** A message as the vectors write it: byte fields as hex. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value, (_, each) => (each instanceof Uint8Array ? each.toHex() : each)));
const decode = (side: Side, raw: Uint8Array): unknown => (side === "request" ? requests.decode(raw) : answers.decode(raw));
const reencode = (side: Side, raw: Uint8Array): Uint8Array =>
  side === "request" ? requests.encode(requests.decode(raw)) : answers.encode(answers.decode(raw));

describe("vectors", () => {
  for (const { comment, side, kind, fields, bytes } of valid)
    test(comment, () => {
      expect(plain(decode(side, hex(bytes)))).toEqual({ kind, ...fields });
      expect(reencode(side, hex(bytes)).toHex()).toBe(hex(bytes).toHex());
    });
  for (const { comment, side, bytes, says } of invalid)
    test(`refused: ${comment}`, () => {
      expect(() => decode(side, hex(bytes))).toThrow(says);
      expect(codeOf(() => decode(side, hex(bytes)))).toBe("FRAME_CORRUPT");
    });
  test("every kind has a vector", () => {
    expect(new Set(valid.map(({ kind }) => kind))).toEqual(new Set<string>([...requests.kinds, ...answers.kinds]));
  });
  test("each valid message cut at any byte, or with one more, is refused", () => {
    for (const { side, bytes } of valid) {
      const raw = hex(bytes);
      for (let length = 0; length < raw.length; length++) expect(codeOf(() => decode(side, raw.subarray(0, length)))).toBe("FRAME_CORRUPT");
      expect(codeOf(() => decode(side, new Uint8Array([...raw, 0])))).toBe("FRAME_CORRUPT");
    }
  });
});

/** Encoded whole, and the same bytes in pieces. */
function inPieces<Message>(table: { encode(message: Message): Uint8Array; encodePieces(message: Message): Uint8Array[] }, message: Message): Uint8Array {
  const whole = table.encode(message);
  expect(concatBytes(...table.encodePieces(message)).toHex()).toBe(whole.toHex());
  return whole;
}

test("long fields are pieces of their own and not copied, short ones are", () => {
  const log = new Uint8Array(8);
  for (const [length, count] of [
    [16_383, 1],
    [16_384, 3],
    [1_048_576, 3],
  ] as const) {
    const bundle = new Uint8Array(length).fill(7);
    const copy = { kind: "copy.entries", log, epoch: 3, start: 9, bundle } as const;
    const came = { kind: "storage.entries", bundle, served: 5, absent: [1, 2] } as const;
    expect(requests.decode(inPieces(requests, copy))).toEqual(copy);
    expect(answers.decode(inPieces(answers, came))).toEqual({ ...came, absent: [1, 2] });
    expect(requests.encodePieces(copy).length).toBe(count);
    expect(answers.encodePieces(came).includes(bundle)).toBe(count === 3);
  }
});

describe("round trip", () => {
  for (const kind of requestKinds)
    test(kind, () =>
      fc.assert(
        fc.property(arbitraryRequest(kind), (message) => expect(requests.decode(inPieces(requests, message))).toEqual(message)),
        { numRuns: 40 },
      ),
    );
  for (const kind of answerKinds)
    test(kind, () =>
      fc.assert(
        fc.property(arbitraryAnswer(kind), (message) => expect(answers.decode(inPieces(answers, message))).toEqual(message)),
        { numRuns: 40 },
      ),
    );
});

/** What decodes is the one encoding of its value; what does not is FRAME_CORRUPT. */
function decodesOrRefuses(side: Side, raw: Uint8Array): void {
  try {
    expect(reencode(side, raw).toHex()).toBe(raw.toHex());
  } catch (error) {
    if (!(error instanceof EngineError && error.code === "FRAME_CORRUPT")) throw error;
  }
}

describe("damage", () => {
  test("random bytes behind each tag", () => {
    const tags = fc.constantFrom(...[...Array(82).keys()], ...Array.from({ length: 82 }, (_, i) => 100 + i));
    const raw = fc.tuple(tags, fc.uint8Array({ maxLength: 200 })).map(([tag, rest]) => new Uint8Array([tag, ...rest]));
    fc.assert(
      fc.property(raw, (bytes) => {
        decodesOrRefuses("request", bytes);
        decodesOrRefuses("answer", bytes);
      }),
      { numRuns: 3_000 },
    );
  });
  const changes = fc.array(fc.record({ at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), bit: fc.nat(7), cut: fc.boolean() }), {
    minLength: 1,
    maxLength: 3,
  });
  const damaged = (raw: Uint8Array, list: readonly { at: number; bit: number; cut: boolean }[]): Uint8Array => {
    let bytes = raw.slice();
    for (const { at, bit, cut } of list) {
      const index = Math.floor(at * bytes.length);
      if (cut) bytes = bytes.slice(0, index);
      else if (bytes.length > 0) bytes[index] = bytes[index]! ^ (1 << bit);
    }
    return bytes;
  };
  test("requests with flipped bits and cut ends", () => {
    const message = fc.oneof(...requestKinds.map((kind) => arbitraryRequest(kind)));
    fc.assert(
      fc.property(message, changes, (each, list) => decodesOrRefuses("request", damaged(requests.encode(each), list))),
      { numRuns: 2_000 },
    );
  });
  test("answers with flipped bits and cut ends", () => {
    const message = fc.oneof(...answerKinds.map((kind) => arbitraryAnswer(kind)));
    fc.assert(
      fc.property(message, changes, (each, list) => decodesOrRefuses("answer", damaged(answers.encode(each), list))),
      { numRuns: 2_000 },
    );
  });
  test("a length of 4 GiB allocates nothing", () => {
    const raw = hex("01 a1b2c3d4e5f60718 0000000000000003 ffffffff");
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 1_000; i++) expect(codeOf(() => requests.decode(raw))).toBe("FRAME_CORRUPT");
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1_024 * 1_024);
  });
});

describe("fields", () => {
  const written = (write: (to: Writer) => void) => () => write(new Writer());
  test("a value out of its form is our own mistake", () => {
    for (const value of [-1, 256, 1.5, Number.NaN]) expect(written((to) => u8.write(to, value))).toThrow(BrokenInvariant);
    for (const value of [-1, 2 ** 32, 0.5]) expect(written((to) => u32.write(to, value))).toThrow(BrokenInvariant);
    for (const value of [-1, 2 ** 53, Number.POSITIVE_INFINITY]) expect(written((to) => u53.write(to, value))).toThrow(BrokenInvariant);
    expect(written((to) => fixed(32).write(to, new Uint8Array(31)))).toThrow(BrokenInvariant);
    expect(written((to) => text(4).write(to, "—x—"))).toThrow(BrokenInvariant);
    expect(written((to) => hashes(4).write(to, new Uint8Array(33)))).toThrow(BrokenInvariant);
    expect(written((to) => list(flag, 1).write(to, [true, false]))).toThrow(BrokenInvariant);
  });
  test("two messages cannot share a tag", () => {
    expect(() => messages({ one: [1, {}], other: [1, {}] })).toThrow(BrokenInvariant);
  });
  test("a fixed field outlives its frame, also where the frame is a Buffer", () => {
    const raw = Buffer.from(requests.encode({ kind: "copy.where", log: new Uint8Array(8).fill(7), epoch: 0 }));
    const message = requests.decode(raw) as RequestOf<"copy.where">;
    raw.fill(0);
    expect(message.log).toEqual(new Uint8Array(8).fill(7));
    expect(message.log).not.toBeInstanceOf(Buffer);
  });
  test("a long refusal is cut at a character and still fits", () => {
    for (const detail of ["—".repeat(1_000), `x${"—".repeat(1_000)}`, "\u{1f9ed}".repeat(600), "a".repeat(5_000), ""]) {
      const message = answers.decode(answers.encode(refused("FAILED", detail)));
      if (message.kind !== "refused") throw new Error("another kind came back");
      expect(detail.startsWith(message.text)).toBe(true);
      expect(message.text.length).toBeGreaterThanOrEqual(Math.min(detail.length, 341)); // 1,024 bytes of 3-byte characters
    }
  });
});
