/** C2SP signed-note: vectors of another implementation, every sentence that starts with MUST, and damage anywhere. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { publicKeyOf } from "../../src/engine/base/ed25519.ts";
import { NOTE_BYTES_MAX, noteText, parseNote, parseVkey, signNote, verifyNote, vkeyOf } from "../../src/engine/log/note.ts";
import { codeOf, failure } from "../thrown.ts";
import { invalid, keyOf, type NoteVector, seedOf, vectors } from "./note-vectors.ts";

const fromGo = vectors<NoteVector>("from-go-notes.json");
const NAME = "example.org/one";
const note = signNote("hello\n", { name: NAME, type: 1, seed: seedOf(1) });
const vkey = keyOf(NAME, 1, 1);

describe("notes made by another implementation", () => {
  for (const each of fromGo) {
    test(each.comment, () => {
      expect(verifyNote(each.note, parseVkey(each.vkey))).toBe(each.body);
      if (each.seed === undefined) return;
      const { name, publicKey } = parseVkey(each.vkey);
      const seed = Uint8Array.fromHex(each.seed);
      expect(publicKeyOf(seed)).toEqual(publicKey);
      expect(vkeyOf(name, 1, publicKey)).toBe(each.vkey);
      expect(signNote(each.body, { name, type: 1, seed })).toBe(each.note);
    });
  }
});

describe("what is no note", () => {
  for (const each of invalid("note")) test(each.comment, () => expect(codeOf(() => parseNote(each.text))).toBe(each.code));

  test("bytes that are not UTF-8", () => {
    const bytes = utf8(note);
    bytes[0] = 0xff;
    expect(codeOf(() => noteText(bytes))).toBe("LOG_ENCODING");
  });
  test("a byte order mark is a character of the text: it spoils the signature", () => {
    const marked = Uint8Array.of(0xef, 0xbb, 0xbf, ...utf8(note));
    expect(codeOf(() => verifyNote(noteText(marked), vkey))).toBe("LOG_SIGNATURE");
  });
  test("half a surrogate pair", () => expect(codeOf(() => parseNote(note.replace("hello", "\ud800")))).toBe("LOG_ENCODING"));
  test("longer than the limit, as text and as bytes", () => {
    const long = `${"x".repeat(NOTE_BYTES_MAX)}${note}`;
    expect(codeOf(() => parseNote(long))).toBe("LOG_ENCODING");
    expect(codeOf(() => noteText(utf8(long)))).toBe("LOG_ENCODING");
  });
});

describe("signatures", () => {
  const line = (text: string): string => `${text.split("\n").at(-2)}\n`;

  test("16 signatures of 5 KB each are read, as C2SP asks", () => {
    const large = Array.from({ length: 16 }, (_, i) => `\u2014 pq${i} ${new Uint8Array(5_000).fill(i).toBase64()}\n`).join("");
    expect(verifyNote(note + large, vkey)).toBe("hello\n");
  });
  test("one by a key that shares name or id, but not both, is ignored", () => {
    const sameName = line(signNote("other\n", { name: NAME, type: 1, seed: seedOf(2) }));
    const sameId = line(note).replace(NAME, "example.org/two");
    expect(verifyNote(note + sameName + sameId, vkey)).toBe("hello\n");
    expect(codeOf(() => verifyNote(`hello\n\n${sameName}${sameId}`, vkey))).toBe("LOG_SIGNATURE");
  });
  test("one of the known key that does not verify spoils the note, wherever it stands", () => {
    const bad = line(signNote("other\n", { name: NAME, type: 1, seed: seedOf(1) }));
    expect(codeOf(() => verifyNote(note + bad, vkey))).toBe("LOG_SIGNATURE");
    expect(codeOf(() => verifyNote(`hello\n\n${bad}${line(note)}`, vkey))).toBe("LOG_SIGNATURE");
    expect(verifyNote(note + line(note), vkey)).toBe("hello\n");
  });
  test("the error names who did sign", () => {
    const { message } = failure(() => verifyNote(note, keyOf("example.org/two", 1, 2)));
    expect(message).toContain("example.org/two+");
    expect(message).toContain(`signed by ${NAME}+`);
  });
  test("no character of a note can be changed", () => {
    for (let at = 0; at < note.length; at++) {
      const changed = `${note.slice(0, at)}${note[at] === "A" ? "B" : "A"}${note.slice(at + 1)}`;
      expect(["LOG_SIGNATURE", "LOG_ENCODING"]).toContain(codeOf(() => verifyNote(changed, vkey)));
    }
  });
});

test("what is signed is what is read back, for any text of whole lines", () => {
  const text = fc.string({ unit: "grapheme", maxLength: 40 }).map((each) => `${each.replace(/\p{Cc}/gu, "\n")}\n`);
  fc.assert(
    fc.property(text, (body) => {
      const signed = signNote(body, { name: NAME, type: 1, seed: seedOf(1) });
      expect(verifyNote(signed, vkey)).toBe(body);
      expect(noteText(utf8(signed))).toBe(signed);
    }),
    { numRuns: 60 },
  );
});

describe("verifier keys", () => {
  for (const each of invalid("vkey")) test(each.comment, () => expect(codeOf(() => parseVkey(each.text))).toBe(each.code));

  test("the text gives back name, type and key", () => {
    for (const type of [1, 4] as const) {
      const publicKey = publicKeyOf(seedOf(6));
      expect(parseVkey(vkeyOf("a.example/b", type, publicKey))).toEqual({ name: "a.example/b", type, publicKey });
    }
  });
  test("an upper-case key id is another spelling, and refused", () => {
    expect(codeOf(() => parseVkey(vkeyOf(NAME, 1, publicKeyOf(seedOf(1))).replace(/\+[0-9a-f]{8}\+/, (id) => id.toUpperCase())))).toBe("LOG_ENCODING");
  });
});
