/**
 * The filter of one sorted run (merge.md section 6): 16 bits a record answer "surely not here" for all but about one new
 * hash in a thousand. A Bloom filter in blocks of 64 bytes, the block chosen by the leading bits of the hash: a run that
 * is written in hash order writes its filter front to back, so a merge may stop after any record. Stored in rows of 252
 * blocks. What is known of finished runs is cached, up to a limit; dropping it costs reads, never an answer.
 */
import type { Op, Snapshot } from "../base/effects.ts";

/** Four more than the specification's sketch: a false alarm costs a seek, and half a mebibyte per million records is less dear. */
const BITS_PER_RECORD = 16;
const BLOCK_BYTES = 64;
const BLOCK_BITS = BLOCK_BYTES * 8;
/** Bits set a record. */
const PROBE_COUNT = 8;
/** Blocks in one row: four pages of the store, less its own few bytes. */
const ROW_BLOCKS = 252;
/** Filters of thirty million records; beyond it the least recently used run is read again when asked. */
const FILTER_CACHE_BYTES_MAX = 64 * 1_024 * 1_024;

/** Number of 64-byte blocks for so many records. */
export const filterBlocks = (recordCount: number): number => Math.max(1, Math.ceil((recordCount * BITS_PER_RECORD) / BLOCK_BITS));
const rowBytes = (blockCount: number, row: number): number => Math.min(ROW_BLOCKS, blockCount - row * ROW_BLOCKS) * BLOCK_BYTES;

/** What the filters look at in a hash. */
export type Probe = {
  /** Its leading 32 bits: they choose the block. */
  lead: number;
  /** Where the probes within the block begin and how far apart they are, from the 48 bits behind. */
  start: number;
  step: number;
};

/** The probe of the hash or record at an offset. Whole words: a remainder of a larger number is one of floats, and dear. */
export function setProbe(probe: Probe, view: DataView, at: number): void {
  const low = view.getUint32(at + 6);
  probe.lead = view.getUint32(at);
  probe.start = view.getUint16(at + 4) ^ (low >>> 16);
  probe.step = low | 1;
}

const blockOf = (lead: number, blockCount: number): number => Math.floor((lead * blockCount) / 0x1_0000_0000);

function setBits(row: Uint8Array, offset: number, { start, step }: Probe): void {
  for (let i = 0, bit = start; i < PROBE_COUNT; i++, bit = (bit + step) | 0) {
    const at = offset + ((bit & (BLOCK_BITS - 1)) >> 3);
    row[at] = (row[at] as number) | (1 << (bit & 7));
  }
}

function hasBits(row: Uint8Array, offset: number, { start, step }: Probe): boolean {
  for (let i = 0, bit = start; i < PROBE_COUNT; i++, bit = (bit + step) | 0)
    if (((row[offset + ((bit & (BLOCK_BITS - 1)) >> 3)] as number) & (1 << (bit & 7))) === 0) return false;
  return true;
}

/** Adds records to the filter of a run that is being written; rows written before are read back and go on. */
export class FilterWriter {
  private readonly rows = new Map<number, Uint8Array>();
  private readonly snap: Snapshot;
  private readonly keyOf: (row: number) => Uint8Array;
  private readonly blockCount: number;
  /** The row of the last record: neighbours are mostly in one. */
  private lastRow = -1;
  private last: Uint8Array = new Uint8Array(0);

  constructor(snap: Snapshot, keyOf: (row: number) => Uint8Array, blockCount: number) {
    this.snap = snap;
    this.keyOf = keyOf;
    this.blockCount = blockCount;
  }

  add(probe: Probe): void {
    const block = blockOf(probe.lead, this.blockCount);
    const n = Math.floor(block / ROW_BLOCKS);
    if (n !== this.lastRow) {
      this.last = this.rows.get(n) ?? this.open(n);
      this.lastRow = n;
    }
    setBits(this.last, (block - n * ROW_BLOCKS) * BLOCK_BYTES, probe);
  }

  private open(n: number): Uint8Array {
    const row = this.snap.get("log", this.keyOf(n)) ?? new Uint8Array(rowBytes(this.blockCount, n));
    this.rows.set(n, row);
    return row;
  }

  ops(): Op[] {
    return Array.from(this.rows, ([n, value]): Op => ({ op: "put", key: this.keyOf(n), value }));
  }
}

/** The filter of a finished run, its rows read when first asked for. */
class Filter {
  private readonly rows: (Uint8Array | undefined)[] = [];
  readonly blockCount: number;
  bytes = 0;

  constructor(blockCount: number) {
    this.blockCount = blockCount;
  }

  /** Whether the run may hold a record of this hash. */
  mayHold(snap: Snapshot, keyOf: (row: number) => Uint8Array, probe: Probe): boolean {
    const block = blockOf(probe.lead, this.blockCount);
    const n = Math.floor(block / ROW_BLOCKS);
    const row = this.rows[n] ?? this.read(snap, keyOf(n), n);
    return hasBits(row, (block - n * ROW_BLOCKS) * BLOCK_BYTES, probe);
  }

  private read(snap: Snapshot, key: Uint8Array, n: number): Uint8Array {
    const row = snap.get("log", key) ?? new Uint8Array(rowBytes(this.blockCount, n)); // no record fell into it
    this.rows[n] = row;
    this.bytes += row.length;
    return row;
  }
}

/** Filters by the name of their run, the least recently used first. A name stands for one content: see `Run.stamp`. */
export class FilterCache {
  private readonly filters = new Map<string, Filter>();
  private readonly bytesMax: number;

  constructor(bytesMax: number = FILTER_CACHE_BYTES_MAX) {
    this.bytesMax = bytesMax;
  }

  filter(name: string, blockCount: number): Filter {
    const known = this.filters.get(name) ?? new Filter(blockCount);
    this.filters.delete(name);
    this.filters.set(name, known);
    return known;
  }

  drop(name: string): void {
    this.filters.delete(name);
  }

  /** Bytes of all rows kept. */
  get bytes(): number {
    let total = 0;
    for (const filter of this.filters.values()) total += filter.bytes;
    return total;
  }

  /** Lets go of the oldest until what is kept fits. */
  shrink(): void {
    let total = this.bytes;
    for (const [name, filter] of this.filters) {
      if (total <= this.bytesMax) return;
      total -= filter.bytes;
      this.filters.delete(name);
    }
  }
}
