/**
 * A receipt as its holder checks it (merge.md section 4): the storage node's signature over its batch, and the path from the
 * entry's leaf hash to the batch's root. Needs nothing but the line, the entry and the node's receipt key, so it can be
 * checked offline, years later. Never asks whether the promise was kept: an inclusion proof says that.
 */
import { fromBase64, fromHex, fromUtf8, toHex } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { leafHash } from "../log/merkle.ts";
import { verifyNote } from "../log/note.ts";
import { checkInclusion } from "../log/proof.ts";
import { isCount, parseLine } from "./files.ts";
import { receiptBody, receiptKeyName } from "./receipt.ts";

export type ReceiptSigner = { readonly origin: string; readonly storage: NodeId; readonly publicKey: Uint8Array };
export type Receipt = { readonly storage: NodeId; readonly leafHash: Uint8Array; readonly timeMs: number; readonly promiseMs: number };

/** `line` with its LF, as the node answered it. Throws LOG_ENCODING, LOG_SIGNATURE or LOG_PROOF. */
export function checkReceipt(line: Uint8Array, entry: Uint8Array, { origin, storage, publicKey }: ReceiptSigner): Receipt {
  const { timeMs, promiseMs, batch, note, ...named } = receiptFields(line);
  const leaf = leafHash(entry);
  mustBe("leafHash", named.leafHash, toHex(leaf));
  mustBe("bytes", named.bytes, entry.length);
  mustBe("log", named.log, origin);
  mustBe("storage", named.storage, storage);
  const body = verifyNote(note, { name: receiptKeyName(origin, storage), type: 1, publicKey });
  const root = fromBase64(/\nroot (.*)\n$/.exec(body)?.[1] ?? "") ?? new Uint8Array(0);
  // The signed text is rebuilt, not parsed: what the line says beside it counts only when it gives the same bytes.
  mustBe("note", body, receiptBody({ origin, self: storage }, { timeMs, promiseMs, size: batch.size, root }));
  checkInclusion({ index: batch.index, size: batch.size, leaf, root, path: batch.path });
  return { storage, leafHash: leaf, timeMs, promiseMs };
}

type Fields = {
  readonly log: unknown;
  readonly storage: unknown;
  readonly leafHash: unknown;
  readonly bytes: unknown;
  readonly timeMs: number;
  readonly promiseMs: number;
  readonly batch: { readonly index: number; readonly size: number; readonly path: Uint8Array };
  readonly note: string;
};

function receiptFields(line: Uint8Array): Fields {
  const fields = parseLine(line);
  if (fields === null || fields["receipt"] !== 1) throw malformed(`${JSON.stringify(textOf(line).slice(0, 80))} is not one line of format 1`);
  const { log, storage, leafHash, bytes, timeMs, promiseMs, note } = fields;
  const { index, size, path } = (fields["batch"] ?? {}) as { readonly index?: unknown; readonly size?: unknown; readonly path?: unknown };
  if (!isCount(timeMs) || !isCount(promiseMs) || typeof note !== "string") throw malformed("time, promise or note is missing");
  const hashes = Array.isArray(path) && path.every((each) => typeof each === "string") ? fromHex(path.join("")) : null;
  if (!isCount(index) || !isCount(size) || hashes === null) throw malformed("its batch has no index, size or path");
  return { log, storage, leafHash, bytes, timeMs, promiseMs, batch: { index, size, path: hashes }, note };
}

function textOf(line: Uint8Array): string {
  try {
    return fromUtf8(line);
  } catch {
    return "bytes that are no UTF-8";
  }
}

function mustBe(what: string, told: unknown, wanted: unknown): void {
  if (told !== wanted) throw malformed(`${what} is ${JSON.stringify(told)}, want ${JSON.stringify(wanted)}`);
}

const malformed = (what: string): EngineError => new EngineError("LOG_ENCODING", `receipt: ${what}`);
