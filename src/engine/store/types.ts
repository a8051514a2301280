/**
 * The store contract (sync.md section 2.1): an ordered map of byte strings with atomic durable batches and stable
 * snapshots. `store/lmdb.ts` and `store/memory.ts` implement it; `test/contract/store.ts` holds both to it.
 */
import type { Batch, Row } from "../base/effects.ts";

/** Keys are 1 to 1,024 bytes in unsigned byte order. LMDB itself would take 1,978. */
export const KEY_BYTES_MAX = 1_024;
/** Values are up to 4 MiB, so that one fits a frame with its envelope. */
export const VALUE_BYTES_MAX = 4 * 1_024 * 1_024;

export type StoreStat = {
  readonly keyCount: number;
  /** Bytes of the file on disk (0 for the memory twin). */
  readonly fileBytes: number;
  /** Bytes of pages in use, or of keys and values for the twin. */
  readonly liveBytes: number;
  readonly openSnapshotCount: number;
};

export type RangeOptions = { readonly reverse?: boolean; readonly limit?: number };

/** The state after one commit, whatever follows. Close exactly once (`using`). Reads check the value's checksum. */
export interface StoreSnapshot extends Disposable {
  /** A copy of the value, or undefined. Throws STORE_CORRUPT, naming key and store, on a checksum mismatch. */
  get(key: Uint8Array): Uint8Array | undefined;
  /** The same, but lent: not to be changed, and gone with the next read of any store. */
  peek(key: Uint8Array): Uint8Array | undefined;
  /** `get` and `wroteAt` in one look. */
  row(key: Uint8Array): Row | undefined;
  /** The version passed to the commit that wrote this key, or undefined where there is no key. */
  wroteAt(key: Uint8Array): number | undefined;
  /** Rows of `[from, to)`; without bounds the whole space. Keys and values are copies. */
  iterate(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Iterable<readonly [Uint8Array, Uint8Array]>;
  /** The same rows with their values in stored form (`store/value.ts`): what comparing and digesting read. Checked too. */
  stored(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Iterable<readonly [Uint8Array, Uint8Array]>;
  /** The same, but each value is lent: not to be changed, and gone with the next row or any other read. */
  peekStored(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Iterable<readonly [Uint8Array, Uint8Array]>;
}

/** One ordered key space. Commits are totally ordered; a rejected commit left nothing. */
export interface Store {
  /** Name for messages: the folder or `memory`. */
  readonly name: string;
  /** All or nothing; resolves only when durable. Throws STORE_FULL (nothing left behind, reads go on) or STORE_SYNC_FAILED (final). */
  commit(batch: Batch, wroteAt?: number): Promise<void>;
  snapshot(): StoreSnapshot;
  stat(): StoreStat;
  close(): Promise<void>;
}
