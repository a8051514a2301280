/** Frames on a stream: vectors, any cutting of any stream, the cap before the allocation, and time linear in bytes. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FRAME_BYTES_MAX, FrameDecoder, setFrameLength } from "../../src/engine/wire/frame.ts";
import { codeOf } from "../thrown.ts";
import { hex, vectors } from "./vectors.ts";

const { bytesMax, valid, invalid } = vectors<{
  bytesMax: number;
  valid: { comment: string; stream: string; frames: string[]; inside?: boolean }[];
  invalid: { comment: string; stream: string; frames: string[] }[];
}>("frames");

function all(decoder: FrameDecoder, into: string[] = []): string[] {
  for (let frame = decoder.next(); frame !== null; frame = decoder.next()) into.push(frame.toHex());
  return into;
}
function framed(payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(4 + payload.length);
  setFrameLength(frame, payload.length);
  frame.set(payload, 4);
  return frame;
}

describe("vectors", () => {
  for (const { comment, stream, frames, inside } of valid)
    test(comment, () => {
      const whole = new FrameDecoder(bytesMax);
      whole.push(hex(stream));
      expect(all(whole)).toEqual(frames);
      expect(whole.isInside).toBe(inside === true);
      const cut = new FrameDecoder(bytesMax);
      const found: string[] = [];
      for (const byte of hex(stream)) {
        cut.push(new Uint8Array([byte]));
        all(cut, found);
      }
      expect(found).toEqual(frames);
      expect(cut.isInside).toBe(inside === true);
    });
  for (const { comment, stream, frames } of invalid)
    test(`refused: ${comment}`, () => {
      const decoder = new FrameDecoder(bytesMax);
      decoder.push(hex(stream));
      const found: string[] = [];
      expect(codeOf(() => all(decoder, found))).toBe("FRAME_CORRUPT");
      expect(found).toEqual(frames);
    });
});

test("any frames, cut anywhere, handed over early or late, come out as they went in", () => {
  const frames = fc.array(fc.uint8Array({ maxLength: 3_000, size: "max" }), { maxLength: 12 });
  const cuts = fc.array(fc.record({ length: fc.integer({ min: 1, max: 4_000 }), read: fc.boolean() }), { minLength: 1, maxLength: 40, size: "max" });
  fc.assert(
    fc.property(frames, cuts, (payloads, pieces) => {
      const stream = Buffer.concat(payloads.map(framed));
      const decoder = new FrameDecoder(3_000);
      const found: string[] = [];
      for (let at = 0, i = 0; at < stream.length; i++) {
        const { length, read } = pieces[i % pieces.length]!;
        decoder.push(new Uint8Array(stream.subarray(at, at + length)));
        at += length;
        if (read) all(decoder, found);
      }
      expect(all(decoder, found)).toEqual(payloads.map((each) => each.toHex()));
      expect(decoder.isInside).toBe(false);
    }),
    { numRuns: 200 },
  );
});

test("an announced length allocates no more than four times what has come", () => {
  const before = process.memoryUsage().arrayBuffers;
  const decoders = Array.from({ length: 200 }, () => {
    const decoder = new FrameDecoder();
    const begun = new Uint8Array(1_000);
    setFrameLength(begun, FRAME_BYTES_MAX); // 16 MiB announced, 996 bytes sent
    decoder.push(begun);
    expect(decoder.next()).toBeNull();
    return decoder;
  });
  Bun.gc(true);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1_024 * 1_024); // 200 times 16 MiB would be 3.2 GiB
  expect(decoders.every((each) => each.isInside)).toBe(true);
});

test("16 MiB in pieces of 64 bytes is not copied again with every piece", () => {
  const stream = framed(new Uint8Array(FRAME_BYTES_MAX).fill(1));
  const decoder = new FrameDecoder();
  const start = performance.now();
  let found: Uint8Array | null = null;
  for (let at = 0; at < stream.length; at += 64) {
    decoder.push(stream.subarray(at, at + 64));
    found = decoder.next() ?? found;
  }
  expect(found?.length).toBe(FRAME_BYTES_MAX);
  expect(performance.now() - start).toBeLessThan(3_000); // 262,144 copies of 8 MiB on average would take minutes
});
