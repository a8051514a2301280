/**
 * The smallest store that can be read and written: a Map in key order on demand. Batches apply at once. Every key and
 * value is copied in and out, so code that keeps or changes a shared view is caught.
 */
import type { Batch, Db, Row, Snapshot } from "../../src/engine/base/effects.ts";

const nameOf = (key: Uint8Array): string => String.fromCharCode(...key);
const bytesOf = (name: string): Uint8Array => Uint8Array.from(name, (char) => char.charCodeAt(0));

export class MapSnapshot implements Snapshot {
  readonly rows = new Map<string, Uint8Array>();
  private sorted: string[] | null = null;
  getCount = 0;
  rangeCount = 0;
  private lent: Uint8Array | undefined;

  apply(batch: Batch): void {
    for (const op of batch) {
      if (op.op === "put") this.rows.set(nameOf(op.key), op.value.slice());
      else if (op.op === "del") this.rows.delete(nameOf(op.key));
      else for (const name of this.namesIn(op.key, op.end)) this.rows.delete(name);
      this.sorted = null;
    }
  }

  /** Applies a batch and gives the number of its operations. */
  applyCount(batch: Batch): number {
    this.apply(batch);
    return batch.length;
  }

  private namesIn(from: Uint8Array, to: Uint8Array): string[] {
    this.sorted ??= [...this.rows.keys()].sort((a, b) => (a < b ? -1 : 1)); // code units are bytes here
    const [low, high] = [nameOf(from), nameOf(to)];
    return this.sorted.slice(firstAtOrAbove(this.sorted, low), firstAtOrAbove(this.sorted, high));
  }

  row(db: Db, key: Uint8Array): Row | undefined {
    const value = this.get(db, key);
    return value === undefined ? undefined : { value, wroteAt: 0 };
  }

  wroteAt(db: Db, key: Uint8Array): number | undefined {
    return this.get(db, key) === undefined ? undefined : 0;
  }

  /** Spoiled by the next read, as on the real disk. */
  peek(db: Db, key: Uint8Array): Uint8Array | undefined {
    const value = this.get(db, key);
    this.lent = value;
    return value;
  }

  private spoilLent(): void {
    this.lent?.fill(0xdd);
    this.lent = undefined;
  }

  get(db: Db, key: Uint8Array): Uint8Array | undefined {
    this.spoilLent();
    if (db !== "log") throw new Error(`no such database here: ${db}`);
    this.getCount++;
    return this.rows.get(nameOf(key))?.slice();
  }

  *range(_db: Db, from: Uint8Array, to: Uint8Array, options: { reverse?: boolean; limit?: number } = {}): Iterable<readonly [Uint8Array, Uint8Array]> {
    this.rangeCount++;
    this.spoilLent();
    const names = this.namesIn(from, to);
    if (options.reverse) names.reverse();
    for (const name of names.slice(0, options.limit)) yield [bytesOf(name), (this.rows.get(name) as Uint8Array).slice()];
  }

  /** Every row, for comparing two stores. */
  dump(): Map<string, string> {
    return new Map([...this.rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => [bytesOf(name).toHex(), value.toHex()]));
  }

  fileSize(): null {
    return null;
  }
  fileRead(): null {
    return null;
  }
  fileList(): readonly string[] {
    return [];
  }
}

function firstAtOrAbove(sorted: readonly string[], name: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as string) < name) low = middle + 1;
    else high = middle;
  }
  return low;
}
