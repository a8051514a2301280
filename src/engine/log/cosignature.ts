/**
 * Cosignatures (C2SP tlog-cosignature, Ed25519, type 04): a secondary's or witness's word that, at a time, this was the
 * largest consistent head it had seen. The time is signed with the checkpoint's body and rides in front of the signature.
 * A line is one line of a note with its LF: a cosigned checkpoint is the log's note with lines appended.
 * Never asks whether the cosigner saw the log: who calls `cosign` has checked that before.
 */
import { concatBytes, equalBytes, readU64be, u64be, utf8 } from "../base/bytes.ts";
import { ED25519_SIGNATURE_BYTES, publicKeyOf, signEd25519, verifyEd25519 } from "../base/ed25519.ts";
import { EngineError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { parseCheckpoint } from "./checkpoint.ts";
import { keyIdOf, type NoteSignature, parseNote, parseSignatureLine, signatureLine, signaturesOf, type Vkey } from "./note.ts";

const TIME_BYTES = 8;

/** Name a secondary cosigns under. */
export const cosignerName = (origin: string, secondary: string): string => `${origin}/${secondary}`;

const message = (body: string, timeSeconds: number): Uint8Array => utf8(`cosignature/v1\ntime ${timeSeconds}\n${body}`);

/** The line to append to the checkpoint `note`; throws LOG_ENCODING where that is none, for nothing else is ever cosigned. */
export function cosign(options: { readonly name: string; readonly seed: Uint8Array; readonly note: string; readonly timeSeconds: number }): string {
  const { name, seed, note, timeSeconds } = options;
  invariant(Number.isSafeInteger(timeSeconds) && timeSeconds >= 0, `a cosignature at ${timeSeconds} s`);
  const { body } = parseNote(note);
  parseCheckpoint(body);
  const signature = concatBytes(u64be(timeSeconds), signEd25519(seed, message(body, timeSeconds)));
  return signatureLine({ name, keyId: keyIdOf(name, 4, publicKeyOf(seed)), signature });
}

/** Whether the line is the cosignature of this key over the checkpoint `note`. The line may be a stranger's. */
export function checkCosignature(options: { readonly note: string; readonly line: string; readonly name: string; readonly publicKey: Uint8Array }): boolean {
  const { note, name, publicKey } = options;
  const line = parseLine(options.line);
  if (line === null || line.name !== name || !equalBytes(line.keyId, keyIdOf(name, 4, publicKey))) return false;
  return signedTime(parseNote(note).body, line, publicKey) !== null;
}

/** The note with one line more; a key that signed it already is not listed twice. Throws LOG_ENCODING. */
export function addCosignature(note: string, line: string): string {
  const added = parseLine(line);
  if (added === null) throw new EngineError("LOG_ENCODING", `cosignature: ${JSON.stringify(line.slice(0, 200))} is no signature line`);
  const known = parseNote(note).signatures.some((each) => each.name === added.name && equalBytes(each.keyId, added.keyId));
  return known ? note : note + line;
}

/** When this cosigner signed the note, Unix seconds, the latest where it did so more than once; null where it did not. Throws LOG_SIGNATURE. */
export function cosignedAt(note: string, cosigner: Vkey): number | null {
  invariant(cosigner.type === 4, `a key of type ${cosigner.type} is no cosigner's`);
  const parsed = parseNote(note);
  let latest: number | null = null;
  for (const each of signaturesOf(parsed, cosigner)) {
    const timeSeconds = signedTime(parsed.body, each, cosigner.publicKey);
    if (timeSeconds === null) throw new EngineError("LOG_SIGNATURE", `a cosignature of ${cosigner.name} does not verify over this checkpoint`);
    if (latest === null || timeSeconds > latest) latest = timeSeconds;
  }
  return latest;
}

/** The time in a signature that verifies, or null. */
function signedTime(body: string, { signature }: NoteSignature, publicKey: Uint8Array): number | null {
  if (signature.length !== TIME_BYTES + ED25519_SIGNATURE_BYTES) return null;
  const timeSeconds = readU64be(signature);
  if (timeSeconds === null) return null;
  return verifyEd25519(publicKey, message(body, timeSeconds), signature.subarray(TIME_BYTES)) ? timeSeconds : null;
}

function parseLine(line: string): NoteSignature | null {
  try {
    return line.endsWith("\n") ? parseSignatureLine(line.slice(0, -1)) : null;
  } catch {
    return null;
  }
}
