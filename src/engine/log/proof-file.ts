/**
 * `.tlog-proof` files (C2SP tlog-proof): an inclusion proof with the checkpoint it leads to, so that an entry can be
 * proved offline, years later, to somebody who has only the log's verifier key and perhaps a policy.
 * The extra data is nobody's word: it is carried, never believed.
 */
import { fromBase64, toBase64, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES, type Hash } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { type Checkpoint, openCheckpoint } from "./checkpoint.ts";
import { NOTE_BYTES_MAX, type Vkey } from "./note.ts";
import { checkInclusion, PATH_COUNT_MAX } from "./proof.ts";

/** `checkpoint` is the note's text, verbatim; `path` leads from the leaf to its root. */
export type LogProof = { readonly index: number; readonly path: Uint8Array; readonly checkpoint: string; readonly extra: Uint8Array | null };

/** Room for the largest checkpoint, the longest path, and extra data of 64 KiB. */
const PROOF_TEXT_MAX = NOTE_BYTES_MAX + 96 * 1_024;
const HEADER = "c2sp.org/tlog-proof@v1";

export function encodeProof({ index, path, checkpoint, extra }: LogProof): string {
  invariant(Number.isSafeInteger(index) && index >= 0 && path.length % HASH_BYTES === 0, `a proof of index ${index} with ${path.length} bytes of path`);
  let text = `${HEADER}\n`;
  if (extra !== null) text += `extra ${toBase64(extra)}\n`;
  text += `index ${index}\n`;
  for (let at = 0; at < path.length; at += HASH_BYTES) text += `${toBase64(path.subarray(at, at + HASH_BYTES))}\n`;
  return `${text}\n${checkpoint}`;
}

/** The inverse of `encodeProof`, nothing verified yet; throws LOG_ENCODING. */
export function parseProof(text: string): LogProof {
  if (text.length > PROOF_TEXT_MAX) throw malformed(`${text.length} characters, at most ${PROOF_TEXT_MAX}`);
  const gap = text.indexOf("\n\n");
  if (gap < 0) throw malformed("no empty line before the checkpoint");
  const [header, ...lines] = text.slice(0, gap).split("\n");
  if (header !== HEADER) throw malformed(`first line ${JSON.stringify(header?.slice(0, 80))}, want ${HEADER}`);
  const extra = lines[0]?.startsWith("extra ") ? fromBase64(lines.shift()?.slice("extra ".length) ?? "") : undefined;
  if (extra === null) throw malformed("extra data is not base64");
  const indexLine = lines.shift() ?? "";
  const digits = /^index (0|[1-9][0-9]*)$/.exec(indexLine)?.[1];
  if (digits === undefined || !Number.isSafeInteger(Number(digits)))
    throw malformed(`${JSON.stringify(indexLine.slice(0, 80))}, want index and a decimal number`);
  if (lines.length > PATH_COUNT_MAX) throw malformed(`${lines.length} hashes, at most ${PATH_COUNT_MAX}`);
  const path = new Uint8Array(lines.length * HASH_BYTES);
  for (const [i, line] of lines.entries()) {
    const hash = fromBase64(line);
    if (hash === null || hash.length !== HASH_BYTES) throw malformed(`hash ${i} is ${JSON.stringify(line.slice(0, 80))}, want base64 of ${HASH_BYTES} bytes`);
    path.set(hash, i * HASH_BYTES);
  }
  return { index: Number(digits), path, checkpoint: text.slice(gap + 2), extra: extra ?? null };
}

/** The checkpoint that the proof leads to, signed by the log, when the leaf lies in it; throws LOG_SIGNATURE, LOG_ENCODING or LOG_PROOF. */
export function openProof(proof: LogProof, { vkey, leaf }: { readonly vkey: Vkey; readonly leaf: Hash }): Checkpoint {
  const checkpoint = openCheckpoint(utf8(proof.checkpoint), { origin: vkey.name, publicKey: vkey.publicKey });
  checkInclusion({ index: proof.index, size: checkpoint.size, leaf, root: checkpoint.root, path: proof.path });
  return checkpoint;
}

const malformed = (what: string): EngineError => new EngineError("LOG_ENCODING", `proof: ${what}`);
