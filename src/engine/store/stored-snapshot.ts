/**
 * What every snapshot does with rows in their stored form, wherever they lie: hand out a value only where its checksum
 * fits its key, and be closed once. Who holds the rows says how they are found. Hot path.
 */
import type { Row } from "../base/effects.ts";
import { invariant } from "../base/invariant.ts";
import type { RangeOptions, StoreSnapshot } from "./types.ts";
import { checkStored, openStored, viewStored, wroteAtOf } from "./value.ts";

export abstract class StoredSnapshot implements StoreSnapshot {
  private readonly name: string;
  private readonly onClose: (() => void) | undefined;
  private closed = false;

  /** `onClose` is told once. */
  constructor(name: string, onClose: (() => void) | undefined) {
    this.name = name;
    this.onClose = onClose;
  }

  /** May be a view that the next read overwrites. */
  protected abstract find(key: Uint8Array): Uint8Array | undefined;
  /** Keys are copies; a value may be a view that the next read overwrites. */
  protected abstract rows(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Iterable<readonly [Uint8Array, Uint8Array]>;

  get(key: Uint8Array): Uint8Array | undefined {
    this.checkOpen();
    const stored = this.find(key);
    return stored === undefined ? undefined : openStored(this.name, key, stored);
  }

  peek(key: Uint8Array): Uint8Array | undefined {
    this.checkOpen();
    const stored = this.find(key);
    return stored === undefined ? undefined : viewStored(this.name, key, stored);
  }

  row(key: Uint8Array): Row | undefined {
    this.checkOpen();
    const stored = this.find(key);
    return stored === undefined ? undefined : { value: openStored(this.name, key, stored), wroteAt: wroteAtOf(stored) };
  }

  wroteAt(key: Uint8Array): number | undefined {
    this.checkOpen();
    const stored = this.find(key);
    if (stored === undefined) return undefined;
    checkStored(this.name, key, stored);
    return wroteAtOf(stored);
  }

  *iterate(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Generator<readonly [Uint8Array, Uint8Array]> {
    this.checkOpen();
    for (const [key, stored] of this.rows(from, to, options)) {
      yield [key, openStored(this.name, key, stored)];
      this.checkOpen();
    }
  }

  *stored(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Generator<readonly [Uint8Array, Uint8Array]> {
    for (const [key, stored] of this.peekStored(from, to, options)) yield [key, stored.slice()];
  }

  *peekStored(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Generator<readonly [Uint8Array, Uint8Array]> {
    this.checkOpen();
    for (const row of this.rows(from, to, options)) {
      checkStored(this.name, row[0], row[1]);
      yield row;
      this.checkOpen();
    }
  }

  [Symbol.dispose](): void {
    invariant(!this.closed, `a snapshot of ${this.name} is closed once`);
    this.closed = true;
    this.onClose?.();
  }

  private checkOpen(): void {
    if (this.closed) invariant(false, `a snapshot of ${this.name} is read while it is open`);
  }
}
