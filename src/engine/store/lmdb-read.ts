/**
 * Reading an LMDB environment: one read transaction seen through its databases. What LMDB hands out lies in buffers that
 * the next call reuses: every key and value is copied before that, into plain arrays (a Buffer's `slice` is a view).
 * Never outlives its environment: closing that closes what is open here. Hot path.
 */
import { compareBytes } from "../base/bytes.ts";
import { invariant } from "../base/invariant.ts";
import { StoredSnapshot } from "./stored-snapshot.ts";
import type { RangeOptions } from "./types.ts";

/** What is used of lmdb's database handle: its own types leave some of this out. */
export interface Native {
  put(key: Uint8Array, value: Uint8Array): unknown;
  remove(key: Uint8Array): unknown;
  getBinaryFast(key: Uint8Array, options: { readonly transaction: Transaction }): Uint8Array | undefined;
  getRange(range: Range & { transaction: Transaction }): Iterable<{ key: Uint8Array; value: Uint8Array }>;
  getKeys(range: Range): Iterable<Uint8Array>;
  getStats(): object;
  clearSync(): void;
}

export interface NativeRoot extends Native {
  openDB(options: object): Native;
  batch(write: () => void): Promise<unknown>;
  childTransaction(write: () => void): Promise<unknown>;
  transactionSync(write: () => void): void;
  resetReadTxn(): void;
  useReadTransaction(): Transaction;
  readerCheck(): number;
  close(): Promise<void>;
}

type Transaction = { done(): void };
type Range = {
  readonly start: Uint8Array | undefined;
  readonly end: Uint8Array | undefined;
  readonly limit?: number;
  readonly reverse?: boolean;
  readonly exclusiveStart?: boolean;
  readonly inclusiveEnd?: boolean;
};

/** A plain view of LMDB's reused buffer, kept while the buffer stays the same. */
function plainView(): (buffer: Uint8Array, length: number) => Uint8Array {
  let of: ArrayBufferLike | null = null;
  let view: Uint8Array = new Uint8Array(0);
  return (buffer, length) => {
    if (buffer.buffer !== of || view.byteOffset !== buffer.byteOffset || view.length < length) {
      of = buffer.buffer;
      view = new Uint8Array(of, buffer.byteOffset);
    }
    return view;
  };
}

const valueView = plainView();
const keyView = plainView();
const peek = (buffer: Uint8Array, length: number): Uint8Array => valueView(buffer, length).subarray(0, length);

/** How every database is opened: keys copied out as plain arrays, values as plain views of the reused buffer. */
export const rawBytes = {
  keyEncoder: {
    writeKey(key: Uint8Array, target: Uint8Array, start: number): number {
      target.set(key, start);
      return start + key.length;
    },
    readKey: (target: Uint8Array, start: number, end: number): Uint8Array => keyView(target, end).slice(start, end),
  },
  encoder: {
    encode: (value: Uint8Array): Uint8Array => value,
    decode: (buffer: Uint8Array, length?: number): Uint8Array => peek(buffer, length ?? buffer.length),
  },
} as const;

/** LMDB refuses empty keys, so this is the least. */
const LEAST_KEY = Uint8Array.of(0);

/** One read transaction, shared by the snapshots made through it and ended with the last of them. */
export class ReadTransaction {
  private readonly transaction: Transaction;
  private readonly through: { readonly transaction: Transaction };
  private readonly onEnd: (transaction: ReadTransaction) => void;
  private ended = false;
  private readonly iterators = new Set<Iterator<unknown>>();
  constructor(root: NativeRoot, onEnd: (transaction: ReadTransaction) => void) {
    root.resetReadTxn(); // a transaction of this turn of the event loop may be older than another process's commit
    this.transaction = root.useReadTransaction();
    this.through = { transaction: this.transaction };
    this.onEnd = onEnd;
  }
  /** A view that the next read of any store overwrites. */
  read(db: Native, key: Uint8Array): Uint8Array | undefined {
    this.checkOpen();
    if (key.length === 0) return undefined;
    const buffer = db.getBinaryFast(key, this.through);
    return buffer === undefined ? undefined : peek(buffer, buffer.length);
  }
  /** Keys are copies; a value is a view that the next read of any store overwrites. */
  *rows(db: Native, from?: Uint8Array, to?: Uint8Array, options: RangeOptions = {}): Generator<readonly [Uint8Array, Uint8Array]> {
    this.checkOpen();
    if (to !== undefined && (to.length === 0 || (from !== undefined && compareBytes(from, to) >= 0))) return;
    const low = from === undefined || from.length === 0 ? LEAST_KEY : from;
    const bounds = options.reverse ? { start: to, end: low, reverse: true, exclusiveStart: to !== undefined, inclusiveEnd: true } : { start: low, end: to };
    const range = db.getRange({ ...bounds, transaction: this.transaction, ...(options.limit === undefined ? {} : { limit: options.limit }) });
    const iterator = range[Symbol.iterator]();
    this.iterators.add(iterator);
    try {
      for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
        yield [next.value.key, next.value.value];
        this.checkOpen();
      }
    } finally {
      if (this.iterators.delete(iterator)) iterator.return?.();
    }
  }
  end(): void {
    if (this.ended) return;
    this.ended = true;
    for (const iterator of this.iterators) iterator.return?.();
    this.iterators.clear();
    this.transaction.done();
    this.onEnd(this);
  }
  private checkOpen(): void {
    invariant(!this.ended, "a read transaction is used while it is open");
  }
}

/** One database as of a read transaction. `onClose` is told once. */
export class LmdbSnapshot extends StoredSnapshot {
  private readonly db: Native;
  private readonly transaction: ReadTransaction;
  constructor(name: string, db: Native, transaction: ReadTransaction, onClose: () => void) {
    super(name, onClose);
    this.db = db;
    this.transaction = transaction;
  }
  protected override find(key: Uint8Array): Uint8Array | undefined {
    return this.transaction.read(this.db, key);
  }
  protected override rows(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Iterable<readonly [Uint8Array, Uint8Array]> {
    return this.transaction.rows(this.db, from, to, options);
  }
}
