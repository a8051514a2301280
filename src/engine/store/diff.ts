/**
 * Comparing two stores and digesting one (sync.md Table B row 5 and section 2.6, without the digest tree): one ordered
 * walk over both sides, constant memory. Equal means equal key, equal writing version and equal checksum; the bytes
 * themselves are compared too, so a crafted checksum hides nothing here. Throws STORE_CORRUPT as every read does.
 */
import { compareBytes, equalBytes, viewOf } from "../base/bytes.ts";
import type { Hash } from "../base/ids.ts";
import { keyOwner } from "./keys.ts";
import { KEY_BYTES_MAX, type StoreSnapshot } from "./types.ts";
import { checksumOf, STORED_HEADER_BYTES, wroteAtOf } from "./value.ts";

export type DifferenceSide = { readonly valueBytes: number; readonly wroteAt: number };

export type Difference = {
  readonly kind: "only-in-a" | "only-in-b" | "changed";
  readonly key: Uint8Array;
  /** Module that wrote the key, and what it is. */
  readonly owner: string;
  readonly what: string;
  readonly a: DifferenceSide | null;
  readonly b: DifferenceSide | null;
};

/** Rows are hashed many at a time: a call for each part would cost more than the hash. */
const DIGEST_BLOCK_BYTES = 65_536;
const DIGEST_ROW_BYTES_MAX = 2 + KEY_BYTES_MAX + 16;

type Row = readonly [key: Uint8Array, stored: Uint8Array];

/** The differences in key order; `db` names the database, for the owner of each key. Bounds are `[from, to)`. */
export function* diffSnapshots(
  db: string,
  sides: { readonly a: StoreSnapshot; readonly b: StoreSnapshot },
  bounds: { readonly from?: Uint8Array; readonly to?: Uint8Array } = {},
): Generator<Difference> {
  const left = sides.a.stored(bounds.from, bounds.to)[Symbol.iterator]();
  const right = sides.b.stored(bounds.from, bounds.to)[Symbol.iterator]();
  try {
    let a = next(left);
    let b = next(right);
    while (a !== null || b !== null) {
      const order = a === null ? 1 : b === null ? -1 : compareBytes(a[0], b[0]);
      const [onlyA, onlyB] = [order <= 0 ? a : null, order >= 0 ? b : null];
      if (onlyA === null || onlyB === null || !equalBytes(onlyA[1], onlyB[1])) yield difference(db, onlyA, onlyB);
      if (order <= 0) a = next(left);
      if (order >= 0) b = next(right);
    }
  } finally {
    left.return?.();
    right.return?.();
  }
}

/** SHA-256 over (key length u16, key, wroteAt u64, checksum 8 bytes) of each row in key order. */
export function digestSnapshot(snapshot: StoreSnapshot, bounds: { readonly from?: Uint8Array; readonly to?: Uint8Array } = {}): Hash {
  const hasher = new Bun.CryptoHasher("sha256");
  const block = new Uint8Array(DIGEST_BLOCK_BYTES);
  const view = viewOf(block);
  let used = 0;
  for (const [key, stored] of snapshot.stored(bounds.from, bounds.to)) {
    if (used + DIGEST_ROW_BYTES_MAX > block.length) {
      hasher.update(block.subarray(0, used));
      used = 0;
    }
    view.setUint16(used, key.length);
    block.set(key, used + 2);
    used += 2 + key.length;
    view.setBigUint64(used, BigInt(wroteAtOf(stored)));
    block.set(checksumOf(stored), used + 8);
    used += 16;
  }
  return new Uint8Array(hasher.update(block.subarray(0, used)).digest());
}

function next(rows: Iterator<Row>): Row | null {
  const { done, value } = rows.next();
  return done === true ? null : value;
}

function difference(db: string, a: Row | null, b: Row | null): Difference {
  const key = (a ?? b)?.[0] ?? new Uint8Array();
  const kind = a === null ? "only-in-b" : b === null ? "only-in-a" : "changed";
  return { kind, key, ...keyOwner(db, key), a: side(a), b: side(b) };
}

const side = (row: Row | null): DifferenceSide | null =>
  row === null ? null : { valueBytes: row[1].length - STORED_HEADER_BYTES, wroteAt: wroteAtOf(row[1]) };
