/**
 * Checkpoints (C2SP tlog-checkpoint): a note of three lines, origin, size and root. Ours have no extension lines, since
 * nobody could audit them, and no time, so that signing one head twice gives the same bytes.
 * Never compares a root with a tree: it says what was signed, and by whom.
 */
import { fromBase64, toBase64, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES, type Hash, type TreeSize } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { noteText, signNote, verifyNote } from "./note.ts";

export type Checkpoint = { readonly origin: string; readonly size: TreeSize; readonly root: Hash };

const DECIMAL = /^(0|[1-9][0-9]*)$/;

/** The text that is signed. */
export function checkpointBody({ origin, size, root }: Checkpoint): string {
  invariant(Number.isSafeInteger(size) && size >= 0 && root.length === HASH_BYTES, `a checkpoint of size ${size} with ${root.length} bytes of root`);
  return `${origin}\n${size}\n${toBase64(root)}\n`;
}

/** The inverse of `checkpointBody`: exactly what it makes, anything else is LOG_ENCODING. */
export function parseCheckpoint(body: string): Checkpoint {
  const lines = body.split("\n");
  const [origin = "", sizeText = "", rootText = "", end] = lines;
  if (lines.length !== 4 || end !== "" || origin === "")
    throw new EngineError("LOG_ENCODING", `checkpoint: ${lines.length - 1} lines ended by a line feed, want origin, size and root`);
  const size = DECIMAL.test(sizeText) ? Number(sizeText) : Number.NaN;
  if (!Number.isSafeInteger(size)) throw new EngineError("LOG_ENCODING", `checkpoint: size ${JSON.stringify(sizeText)}, want a decimal number below 2^53`);
  const root = fromBase64(rootText);
  if (root === null || root.length !== HASH_BYTES)
    throw new EngineError("LOG_ENCODING", `checkpoint: root ${JSON.stringify(rootText)}, want base64 of ${HASH_BYTES} bytes`);
  return { origin, size, root };
}

/** Bytes of the note that the log's key signs under its origin. */
export function signCheckpoint(checkpoint: Checkpoint, seed: Uint8Array): Uint8Array {
  return utf8(signNote(checkpointBody(checkpoint), { name: checkpoint.origin, type: 1, seed }));
}

/** What the log signed; throws LOG_SIGNATURE, or LOG_ENCODING where the bytes are no checkpoint. */
export function openCheckpoint(note: Uint8Array, log: { readonly origin: string; readonly publicKey: Uint8Array }): Checkpoint {
  const checkpoint = parseCheckpoint(verifyNote(noteText(note), { name: log.origin, type: 1, publicKey: log.publicKey }));
  if (checkpoint.origin !== log.origin)
    throw new EngineError("LOG_SIGNATURE", `checkpoint of ${JSON.stringify(checkpoint.origin)}, signed as ${JSON.stringify(log.origin)}`);
  return checkpoint;
}
