/**
 * `logorder` (merge.md section 3): one 96-byte line a sequenced entry, so line i starts at byte 96·i and any script can
 * seek in it. The queue handler appends it after the commit that made the order; it can be rebuilt from LMDB at any size.
 * Hot path: 4,096 lines a batch, one output buffer, no object per line.
 */
import { equalBytes, utf8 } from "../base/bytes.ts";
import type { Snapshot } from "../base/effects.ts";
import type { Hash } from "../base/ids.ts";
import type { MergeConfig } from "./config.ts";
import { filePath } from "./files.ts";
import { putDigits, putHex, readHex } from "./text-bytes.ts";

export const ORDER_LINE_BYTES = 96;
const INDEX_AT = 9; // after `{"index":`
const INDEX_WIDTH = 11; // padded with blanks: up to 10^11 entries keep their place
const HASH_AT = 29;

const template = utf8(`{"index":${" ".repeat(INDEX_WIDTH)},"hash":"${"0".repeat(64)}"}\n`);

export const orderFile = (config: MergeConfig): string => filePath(config, "logorder");

/** Lines of the entries from index `start` on, one for each of the hashes. */
export function orderLines(start: number, hashes: Uint8Array): Uint8Array {
  const count = hashes.length / 32;
  const lines = new Uint8Array(count * ORDER_LINE_BYTES);
  for (let i = 0; i < count; i++) {
    const at = i * ORDER_LINE_BYTES;
    lines.set(template, at);
    putDigits(lines, at + INDEX_AT + INDEX_WIDTH, start + i);
    putHex(lines, at + HASH_AT, hashes, i * 32, 32);
  }
  return lines;
}

/** Number of whole lines by size alone; `torn` bytes behind them belong to no line. */
export function orderFileSize(snap: Snapshot, config: MergeConfig): { readonly count: number; readonly torn: number } {
  const size = snap.fileSize(orderFile(config)) ?? 0;
  return { count: Math.floor(size / ORDER_LINE_BYTES), torn: size % ORDER_LINE_BYTES };
}

/** Hash in line `index`, or null where there is no such line or it is not byte for byte ours. */
export function readOrderLine(snap: Snapshot, config: MergeConfig, index: number): Hash | null {
  const line = snap.fileRead(orderFile(config), index * ORDER_LINE_BYTES, (index + 1) * ORDER_LINE_BYTES);
  if (line === null || line.length !== ORDER_LINE_BYTES) return null;
  const hash = new Uint8Array(32);
  if (!readHex(line, HASH_AT, hash, 0, 32)) return null;
  const canonical = orderLines(index, hash);
  return equalBytes(canonical, line) ? hash : null;
}
