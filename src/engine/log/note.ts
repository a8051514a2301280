/**
 * Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature. A key is known by its name and
 * a 4-byte id made from name, type and public key; `vkey` is the text form of all three.
 * Signatures of unknown keys are ignored, one of the known key that does not verify spoils the note.
 * Strict and bounded: a note has one spelling, and what is spelt otherwise is LOG_ENCODING before anything is verified.
 */
import { createHash } from "node:crypto";
import { concatBytes, equalBytes, fromBase64, toBase64, toHex, utf8 } from "../base/bytes.ts";
import { ED25519_PUBLIC_KEY_BYTES, publicKeyOf, signEd25519, verifyEd25519 } from "../base/ed25519.ts";
import { EngineError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";

/** C2SP asks for room for 16 signatures of up to 5 KB each; a longer text is not read at all. */
export const NOTE_BYTES_MAX = 128 * 1_024;
export const NOTE_SIGNATURES_MAX = 64;
export const KEY_ID_BYTES = 4;

/** C2SP signature types: 1 is Ed25519 over the text, 4 a timestamped cosignature of a checkpoint. */
export type KeyType = 1 | 4;
/** A public key with the name it signs under. */
export type Vkey = { readonly name: string; readonly type: KeyType; readonly publicKey: Uint8Array };
export type NoteSigner = { readonly name: string; readonly type: 1; readonly seed: Uint8Array };
/** `signature` is what follows the key id. */
export type NoteSignature = { readonly name: string; readonly keyId: Uint8Array; readonly signature: Uint8Array };
/** `body` is the signed text with its last LF, without the empty line. */
export type Note = { readonly body: string; readonly signatures: readonly NoteSignature[] };

/** Not empty, no white space of any script, no plus sign (both divide the fields around a name), nothing that a note may not contain. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: a note has no control characters but LF
const KEY_NAME = /^[^\p{White_Space}+\p{Cs}\u0000-\u001f]+$/u;
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above
const CONTROL = /[\u0000-\u0009\u000b-\u001f]/;
const DASH = "\u2014 ";

const malformed = (what: string, cause?: unknown): EngineError => new EngineError("LOG_ENCODING", what, { cause });

/** Text of a note's bytes. A byte order mark stays what it is, a character: two spellings never read as one text. */
export function noteText(bytes: Uint8Array): string {
  if (bytes.length > NOTE_BYTES_MAX) throw malformed(`note of ${bytes.length} bytes, at most ${NOTE_BYTES_MAX}`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw malformed("note: not valid UTF-8", cause);
  }
}

// ------------------------------------------------------------------ keys

export function keyIdOf(name: string, type: KeyType, publicKey: Uint8Array): Uint8Array {
  const digest = createHash("sha256")
    .update(utf8(`${name}\n`))
    .update(Uint8Array.of(type))
    .update(publicKey)
    .digest();
  return new Uint8Array(digest.subarray(0, KEY_ID_BYTES));
}

export function vkeyOf(name: string, type: KeyType, publicKey: Uint8Array): string {
  invariant(KEY_NAME.test(name), `key name ${JSON.stringify(name)}`);
  return `${name}+${toHex(keyIdOf(name, type, publicKey))}+${toBase64(concatBytes(Uint8Array.of(type), publicKey))}`;
}

/** The inverse of `vkeyOf`; throws LOG_ENCODING. */
export function parseVkey(text: string): Vkey {
  const match = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text);
  const [, name = "", idText, keyText = ""] = match ?? [];
  const key = fromBase64(keyText);
  if (match === null || !KEY_NAME.test(name) || key === null)
    throw malformed(`verifier key ${JSON.stringify(text)}: want NAME+KEYID+BASE64, with 8 hex digits of key id`);
  const type = key[0];
  if ((type !== 1 && type !== 4) || key.length !== 1 + ED25519_PUBLIC_KEY_BYTES)
    throw malformed(`verifier key of ${name}: type ${type} with ${key.length - 1} bytes, want type 1 or 4 with ${ED25519_PUBLIC_KEY_BYTES}`);
  const publicKey = key.slice(1);
  const id = toHex(keyIdOf(name, type, publicKey));
  if (id !== idText) throw malformed(`verifier key of ${name}: key id ${idText}, its key has ${id}`);
  return { name, type, publicKey };
}

// ------------------------------------------------------------------ notes

export function signatureLine({ name, keyId, signature }: NoteSignature): string {
  return `${DASH}${name} ${toBase64(concatBytes(keyId, signature))}\n`;
}

/** The note of one signature. `body` is our own text: whole lines, not empty. */
export function signNote(body: string, signer: NoteSigner): string {
  invariant(body.endsWith("\n") && body.isWellFormed() && !CONTROL.test(body), "a note's body is lines of text");
  invariant(KEY_NAME.test(signer.name), `key name ${JSON.stringify(signer.name)}`);
  const keyId = keyIdOf(signer.name, signer.type, publicKeyOf(signer.seed));
  return `${body}\n${signatureLine({ name: signer.name, keyId, signature: signEd25519(signer.seed, utf8(body)) })}`;
}

/** Takes a note apart without verifying anything; throws LOG_ENCODING. */
export function parseNote(text: string): Note {
  if (text.length > NOTE_BYTES_MAX) throw malformed(`note of ${text.length} characters, at most ${NOTE_BYTES_MAX}`);
  if (!text.isWellFormed() || CONTROL.test(text)) throw malformed("note: a control character, or half a surrogate pair");
  const gap = text.lastIndexOf("\n\n"); // the body may have empty lines of its own: the last one counts
  if (gap < 0) throw malformed("note: no empty line between text and signatures");
  const lines = text.slice(gap + 2).split("\n");
  if (lines.pop() !== "" || lines.length === 0) throw malformed("note: want one or more signature lines, the last one ended by a line feed");
  if (lines.length > NOTE_SIGNATURES_MAX) throw malformed(`note: ${lines.length} signatures, at most ${NOTE_SIGNATURES_MAX}`);
  return { body: text.slice(0, gap + 1), signatures: lines.map(parseSignatureLine) };
}

/** A signature line without its LF; throws LOG_ENCODING. */
export function parseSignatureLine(line: string): NoteSignature {
  const fields = line.startsWith(DASH) ? line.slice(DASH.length).split(" ") : [];
  const [name = "", base64 = ""] = fields;
  const bytes = fromBase64(base64);
  if (fields.length !== 2 || !KEY_NAME.test(name) || bytes === null || bytes.length <= KEY_ID_BYTES)
    throw malformed(`note: signature line ${JSON.stringify(line.slice(0, 200))}, want an em dash, a key name and base64 of key id and signature`);
  return { name, keyId: bytes.slice(0, KEY_ID_BYTES), signature: bytes.slice(KEY_ID_BYTES) };
}

/** The signatures that claim to be of this key. */
export function signaturesOf(note: Note, vkey: Vkey): readonly NoteSignature[] {
  const keyId = keyIdOf(vkey.name, vkey.type, vkey.publicKey);
  return note.signatures.filter((each) => each.name === vkey.name && equalBytes(each.keyId, keyId));
}

/** The body, when the key signed it; throws LOG_SIGNATURE, or LOG_ENCODING where the text is no note. */
export function verifyNote(text: string, vkey: Vkey): string {
  invariant(vkey.type === 1, `a key of type ${vkey.type} does not sign the text itself`);
  const note = parseNote(text);
  const claimed = signaturesOf(note, vkey);
  if (claimed.length === 0) {
    const others = note.signatures.map(({ name, keyId }) => `${name}+${toHex(keyId)}`).join(", ");
    throw new EngineError("LOG_SIGNATURE", `no signature of ${vkey.name}+${toHex(keyIdOf(vkey.name, vkey.type, vkey.publicKey))}; signed by ${others}`);
  }
  const message = utf8(note.body);
  for (const { signature } of claimed) {
    if (!verifyEd25519(vkey.publicKey, message, signature))
      throw new EngineError("LOG_SIGNATURE", `the signature ${toBase64(signature)} is not of ${vkey.name} over this text`);
  }
  return note.body;
}
