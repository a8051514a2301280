/** C2SP tlog-checkpoint: one spelling, three lines, signed under the origin. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { fromUtf8, utf8 } from "../../src/engine/base/bytes.ts";
import { publicKeyOf } from "../../src/engine/base/ed25519.ts";
import { checkpointBody, openCheckpoint, parseCheckpoint, signCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { signNote } from "../../src/engine/log/note.ts";
import { codeOf, failure } from "../thrown.ts";
import { type CosignatureVector, invalid, seedOf, vectors } from "./note-vectors.ts";

const origin = "example.org/log";
const log = { origin, publicKey: publicKeyOf(seedOf(4)) };
const checkpoint = { origin, size: 70_000, root: new Uint8Array(32).fill(9) };

test("checkpoints signed by another implementation open, and ours are the same bytes", () => {
  for (const [i, each] of vectors<CosignatureVector>("from-go-cosignatures.json").entries()) {
    const opened = openCheckpoint(utf8(each.checkpoint), log);
    expect(opened).toEqual({ origin, size: i * 1_000, root: new Uint8Array(32).fill(i) });
    expect(fromUtf8(signCheckpoint(opened, seedOf(4)))).toBe(each.checkpoint);
  }
});

describe("what is no checkpoint", () => {
  for (const each of invalid("checkpoint")) test(each.comment, () => expect(codeOf(() => parseCheckpoint(each.text))).toBe(each.code));

  test("nor is it once the log has signed it", () => {
    for (const { text, code, comment } of invalid("checkpoint")) {
      if (!text.endsWith("\n") || text.includes("\r")) continue;
      const signed = utf8(signNote(text, { name: origin, type: 1, seed: seedOf(4) }));
      expect([comment, codeOf(() => openCheckpoint(signed, log))]).toEqual([comment, code]);
    }
  });
});

test("encode and decode are inverses", () => {
  const sizes = fc.oneof(fc.nat(), fc.maxSafeNat());
  fc.assert(
    fc.property(sizes, fc.uint8Array({ minLength: 32, maxLength: 32 }), (size, root) => {
      expect(parseCheckpoint(checkpointBody({ origin, size, root }))).toEqual({ origin, size, root });
      expect(openCheckpoint(signCheckpoint({ origin, size, root }, seedOf(4)), log)).toEqual({ origin, size, root });
    }),
    { numRuns: 50 },
  );
});

test("signing one head twice gives the same bytes", () => {
  expect(signCheckpoint(checkpoint, seedOf(4))).toEqual(signCheckpoint(checkpoint, seedOf(4)));
});

test("another key, another origin, and another log's text under our own key are refused", () => {
  expect(codeOf(() => openCheckpoint(signCheckpoint(checkpoint, seedOf(5)), log))).toBe("LOG_SIGNATURE");
  expect(codeOf(() => openCheckpoint(signCheckpoint({ ...checkpoint, origin: "example.org/two" }, seedOf(4)), log))).toBe("LOG_SIGNATURE");
  const foreign = signNote(checkpointBody({ ...checkpoint, origin: "example.org/two" }), { name: origin, type: 1, seed: seedOf(4) });
  expect(failure(() => openCheckpoint(utf8(foreign), log)).message).toContain("example.org/two");
});
