/** Sealed frames: vectors of another library, and every way in which a stream can differ from what was sealed. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BrokenInvariant } from "../../src/engine/base/invariant.ts";
import { FRAME_BYTES_MAX } from "../../src/engine/wire/frame.ts";
import { Opener, type RekeyLimits, Sealer, TAG_BYTES } from "../../src/engine/wire/sealed.ts";
import { codeOf } from "../thrown.ts";
import { hex, vectors } from "./vectors.ts";

const vector = vectors<{ key: string; limits: RekeyLimits; frames: { plain: string; generation: number; counter: number; frame: string }[] }>("sealed");
const key = new Uint8Array(32).fill(5);
const limits: RekeyLimits = { framesPerKey: 4, bytesPerKey: 1_000 };
/** The frame as the decoder hands it on: without its length. */
const bare = (frame: Uint8Array): Uint8Array => frame.slice(4);
const sealAll = (plains: readonly Uint8Array[], by: RekeyLimits = limits): Uint8Array[] => {
  const sealer = new Sealer(key, by);
  return plains.map((each) => bare(sealer.seal(each)));
};

test("vectors: the same bytes, over two changes of key", () => {
  const sealer = new Sealer(hex(vector.key), vector.limits);
  const opener = new Opener(hex(vector.key), vector.limits);
  for (const { plain, frame } of vector.frames) {
    expect(sealer.seal(hex(plain)).toHex()).toBe(frame);
    expect(opener.open(bare(hex(frame))).toHex()).toBe(plain);
  }
  expect(vector.frames.map(({ generation }) => generation)).toEqual([0, 0, 0, 1, 1, 2]);
});

const plains = fc.array(fc.uint8Array({ maxLength: 600 }), { minLength: 2, maxLength: 12, size: "max" });

test("what was sealed opens in order, in parts or whole", () => {
  fc.assert(
    fc.property(plains, fc.nat(600), (list, at) => {
      const sealer = new Sealer(key, limits);
      const opener = new Opener(key, limits);
      for (const plain of list) expect(opener.open(bare(sealer.seal(plain.subarray(0, at), plain.subarray(at)))).toHex()).toBe(plain.toHex());
    }),
    { numRuns: 100 },
  );
});

describe("refused, and nothing opens any more", () => {
  /** Opens frames until one is refused; what came before must be what was sealed. */
  function openUntilRefused(frames: readonly Uint8Array[], list: readonly Uint8Array[]): number {
    const opener = new Opener(key, limits);
    for (const [i, frame] of frames.entries()) {
      let plain: Uint8Array;
      try {
        plain = opener.open(frame);
      } catch (error) {
        expect(error).toMatchObject({ name: "EngineError", code: "FRAME_CORRUPT" });
        for (const each of sealAll(list)) expect(codeOf(() => opener.open(each))).toBe("FRAME_CORRUPT");
        return i;
      }
      expect(plain.toHex()).toBe(list[i]!.toHex());
    }
    return frames.length;
  }
  const at = fc.nat();
  test("a flipped bit", () => {
    fc.assert(
      fc.property(plains, at, at, (list, index, bit) => {
        const frames = sealAll(list);
        const i = index % frames.length;
        const place = bit % (frames[i]!.length * 8);
        frames[i] = frames[i]!.with(place >> 3, frames[i]![place >> 3]! ^ (1 << (place & 7)));
        expect(openUntilRefused(frames, list)).toBe(i);
      }),
      { numRuns: 200 },
    );
  });
  test("a frame cut short, or longer", () => {
    fc.assert(
      fc.property(plains, at, at, fc.boolean(), (list, index, cut, longer) => {
        const frames = sealAll(list);
        const i = index % frames.length;
        frames[i] = longer ? new Uint8Array([...frames[i]!, 0]) : frames[i]!.slice(0, cut % frames[i]!.length);
        expect(openUntilRefused(frames, list)).toBe(i);
      }),
      { numRuns: 200 },
    );
  });
  test("a frame that was sent before", () => {
    fc.assert(
      fc.property(plains, at, at, (list, from, to) => {
        const frames = sealAll(list);
        const first = from % frames.length;
        const place = first + 1 + (to % (frames.length - first));
        frames.splice(place, 0, frames[first]!);
        expect(openUntilRefused(frames, [...list, new Uint8Array(0)])).toBe(place);
      }),
      { numRuns: 200 },
    );
  });
  test("two frames in the other order", () => {
    fc.assert(
      fc.property(plains, at, (list, index) => {
        const frames = sealAll(list);
        const i = index % (frames.length - 1);
        [frames[i], frames[i + 1]] = [frames[i + 1]!, frames[i]!];
        expect(openUntilRefused(frames, list)).toBe(i);
      }),
      { numRuns: 200 },
    );
  });
  test("a frame left out", () => {
    fc.assert(
      fc.property(plains, at, (list, index) => {
        const frames = sealAll(list);
        const i = index % (frames.length - 1); // without the last one nothing is missing yet: the goodbye is for that
        frames.splice(i, 1);
        expect(openUntilRefused(frames, list)).toBe(i);
      }),
      { numRuns: 200 },
    );
  });
  test("a frame of another key, which is also the other direction's", () => {
    const [frame] = sealAll([new Uint8Array(10)]);
    expect(codeOf(() => new Opener(key.with(0, 6), limits).open(frame!))).toBe("FRAME_CORRUPT");
  });
  test("a frame that was sealed under another length", async () => {
    const imported = await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["encrypt"]);
    const sealedUnder = async (length: number) => {
      const options = { name: "AES-GCM", iv: new Uint8Array(12), additionalData: new Uint8Array([0, 0, 0, length]) };
      return new Uint8Array(await crypto.subtle.encrypt(options, imported, new Uint8Array(10)));
    };
    expect(new Opener(key, limits).open(await sealedUnder(26))).toEqual(new Uint8Array(10));
    const other = await sealedUnder(27);
    expect(codeOf(() => new Opener(key, limits).open(other))).toBe("FRAME_CORRUPT");
  });
  test("an old key: sealer and opener that change keys at different frames", () => {
    const frames = sealAll(
      Array.from({ length: 6 }, () => new Uint8Array(1)),
      { framesPerKey: 5, bytesPerKey: 1_000 },
    );
    const opener = new Opener(key, limits);
    for (const frame of frames.slice(0, 4)) opener.open(frame);
    expect(codeOf(() => opener.open(frames[4]!))).toBe("FRAME_CORRUPT");
  });
});

test("no two frames are sealed under one key and nonce: equal plaintexts all look different, over many changes of key", () => {
  const frames = sealAll(
    Array.from({ length: 2_000 }, () => new Uint8Array(16)),
    { framesPerKey: 7, bytesPerKey: 100 },
  );
  expect(new Set(frames.map((each) => each.toHex())).size).toBe(2_000);
});

test("the change of key comes by frames, and by bytes", () => {
  const byBytes = sealAll([new Uint8Array(1_000), new Uint8Array(1)]);
  const byFrames = sealAll([new Uint8Array(1), new Uint8Array(1)], { framesPerKey: 1, bytesPerKey: 1_000 });
  const never = sealAll([new Uint8Array(1_000), new Uint8Array(1)], { framesPerKey: 9, bytesPerKey: 9_000 });
  expect(byBytes[1]).toEqual(byFrames[1]!); // generation 1, counter 0 in both
  expect(byBytes[1]).not.toEqual(never[1]!);
});

test("the caller's key is its own: a change of key does not wipe it", () => {
  const mine = key.slice();
  const sealer = new Sealer(mine, { framesPerKey: 1, bytesPerKey: 1 });
  for (let i = 0; i < 3; i++) sealer.seal(new Uint8Array(1));
  expect(mine).toEqual(key);
});

test("the largest frame passes, one byte more is our own mistake", () => {
  const sealer = new Sealer(key);
  const plain = new Uint8Array(FRAME_BYTES_MAX - TAG_BYTES);
  expect(new Opener(key).open(bare(sealer.seal(plain))).length).toBe(plain.length);
  expect(() => sealer.seal(plain, new Uint8Array(1))).toThrow(BrokenInvariant);
});

test("an opened payload is a plain Uint8Array: its slice is a copy", () => {
  const [frame] = sealAll([new Uint8Array(10)]);
  expect(new Opener(key, limits).open(frame!)).not.toBeInstanceOf(Buffer);
});
