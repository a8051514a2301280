/** C2SP tlog-cosignature, Ed25519: vectors another implementation accepted, and what a stranger may send in place of a line. */
import { describe, expect, test } from "bun:test";
import { fromUtf8 } from "../../src/engine/base/bytes.ts";
import { signCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { addCosignature, checkCosignature, cosign, cosignedAt, cosignerName } from "../../src/engine/log/cosignature.ts";
import { parseVkey, signNote, verifyNote } from "../../src/engine/log/note.ts";
import { codeOf } from "../thrown.ts";
import { type CosignatureVector, keyOf, seedOf, vectors } from "./note-vectors.ts";

const origin = "example.org/log";
const name = cosignerName(origin, "s1");
const cosigner = keyOf(name, 4, 5);
const note = fromUtf8(signCheckpoint({ origin, size: 7, root: new Uint8Array(32).fill(1) }, seedOf(4)));
const line = cosign({ name, seed: seedOf(5), note, timeSeconds: 1_700_000_000 });
const check = (changes: Partial<Parameters<typeof checkCosignature>[0]>): boolean =>
  checkCosignature({ note, line, name, publicKey: cosigner.publicKey, ...changes });

describe("lines that another implementation accepted", () => {
  for (const each of vectors<CosignatureVector>("from-go-cosignatures.json")) {
    test(each.comment, () => {
      const key = parseVkey(each.cosigner);
      const seed = Uint8Array.fromHex(each.seed);
      expect(cosign({ name: key.name, seed, note: each.checkpoint, timeSeconds: each.timeSeconds })).toBe(each.line);
      expect(checkCosignature({ note: each.checkpoint, line: each.line, name: key.name, publicKey: key.publicKey })).toBe(true);
      const cosigned = addCosignature(each.checkpoint, each.line);
      expect(cosigned).toBe(each.checkpoint + each.line);
      expect(cosignedAt(cosigned, key)).toBe(each.timeSeconds);
    });
  }
});

describe("a line from a stranger", () => {
  test("of the right key over this note is accepted", () => expect(check({})).toBe(true));
  test("over another note is not", () => {
    const other = fromUtf8(signCheckpoint({ origin, size: 8, root: new Uint8Array(32).fill(1) }, seedOf(4)));
    expect(check({ note: other })).toBe(false);
  });
  test("of another key or name is not", () => {
    expect(check({ publicKey: keyOf(name, 4, 6).publicKey })).toBe(false);
    expect(check({ name: cosignerName(origin, "s2") })).toBe(false);
    expect(check({ line: cosign({ name, seed: seedOf(6), note, timeSeconds: 1 }) })).toBe(false);
  });
  test("that the same key signed as a plain note is not", () => {
    const plain = signNote(note.slice(0, note.indexOf("\n\n") + 1), { name, type: 1, seed: seedOf(5) });
    expect(check({ line: `${plain.split("\n").at(-2)}\n` })).toBe(false);
  });
  test("with any character changed, or none, or two lines, is not, and never an exception", () => {
    for (let at = 0; at < line.length; at++) expect(check({ line: `${line.slice(0, at)}${line[at] === "A" ? "B" : "A"}${line.slice(at + 1)}` })).toBe(false);
    for (const text of ["", "\n", line.trimEnd(), line + line, `\n${line}`, "\u2014 \n", `${"x".repeat(100_000)}\n`]) expect(check({ line: text })).toBe(false);
  });
});

describe("a cosigned note", () => {
  test("is still the log's, and tells each cosigner apart", () => {
    const second = cosign({ name: cosignerName(origin, "s2"), seed: seedOf(6), note, timeSeconds: 5 });
    const both = [line, second].reduce(addCosignature, note);
    expect(verifyNote(both, keyOf(origin, 1, 4))).toBe(note.slice(0, note.indexOf("\n\n") + 1));
    expect(cosignedAt(both, cosigner)).toBe(1_700_000_000);
    expect(cosignedAt(both, keyOf(cosignerName(origin, "s2"), 4, 6))).toBe(5);
    expect(cosignedAt(note, cosigner)).toBeNull();
  });
  test("lists a key once; a line that is none is refused", () => {
    const once = addCosignature(note, line);
    expect(addCosignature(once, cosign({ name, seed: seedOf(5), note, timeSeconds: 9 }))).toBe(once);
    for (const text of ["", "x\n", line.trimEnd(), line + line]) expect(codeOf(() => addCosignature(note, text))).toBe("LOG_ENCODING");
  });
  test("with a forged line of a known cosigner is refused as a whole", () => {
    const forged = cosign({ name, seed: seedOf(5), note, timeSeconds: 1 }).replace(/.{8}\n$/, "AAAAAAA=\n");
    expect(codeOf(() => cosignedAt(note + forged, cosigner))).toBe("LOG_SIGNATURE");
    expect(codeOf(() => cosignedAt(note + line + forged, cosigner))).toBe("LOG_SIGNATURE");
  });
  test("of several times by one key counts with the latest", () => {
    const later = cosign({ name, seed: seedOf(5), note, timeSeconds: 1_700_000_100 });
    expect(cosignedAt(note + later + line, cosigner)).toBe(1_700_000_100);
  });
});

test("nothing but a checkpoint is ever cosigned", () => {
  const receipt = signNote("example.org/log/receipt\nstorage a\n", { name: origin, type: 1, seed: seedOf(4) });
  expect(codeOf(() => cosign({ name, seed: seedOf(5), note: receipt, timeSeconds: 1 }))).toBe("LOG_ENCODING");
  expect(codeOf(() => cosign({ name, seed: seedOf(5), note: "no note", timeSeconds: 1 }))).toBe("LOG_ENCODING");
});
