/**
 * A small store whose commits cost one flush (sync.md section 3.5): rows in memory, batches appended to one of two
 * preallocated files, `<name>.0` and `<name>.1`. When one is long enough, all rows go to the other as its first record, and
 * on it goes there: so a flush overwrites what is there and changes no metadata. What waits while a flush runs shares the
 * next one. Opening replays the newer file. A tail that a crash tore is cut; a record that is damaged before later ones
 * is STORE_CORRUPT, and a file that was cut off STORE_TRUNCATED, for what was acknowledged on it would be forgotten. Lack of
 * space is STORE_FULL and leaves nothing; any other failed write or flush is final. One process a journal: the node's lock
 * sees to that.
 */
import { closeSync, existsSync, fdatasync, fstatSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import type { Batch, Op } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { checkBatch, encodeBatch, encodedOpBytes } from "../store/batch.ts";
import { decodeRecord, encodeRecord, holdsRecordFrom, type JournalRecord } from "../store/journal-record.ts";
import { isNoSpace, syncFolder } from "../store/lmdb-file.ts";
import { applyBatch, treeSnapshot } from "../store/memory.ts";
import { emptyTree, type Tree, treeBytes, treeCount, treeIterate } from "../store/tree.ts";
import type { Store, StoreSnapshot, StoreStat } from "../store/types.ts";
import { payloadOf, wroteAtOf } from "../store/value.ts";

/** In a node's folder: the journal of the database `accepts`, whose files are `accepts.0` and `accepts.1`. */
export const JOURNAL_FILE = "accepts";

/** From here on the rows go to the other file, unless they themselves are so long. */
const SEGMENT_BYTES = 4 * 1_024 * 1_024;
/** A file grows by so much at a time: only such a flush has metadata to write. */
const GROW_BYTES = 1_024 * 1_024;
const PAGE_BYTES = 4_096;
const PAGE = new Uint8Array(PAGE_BYTES);
/** What one flush takes of what waits. */
const GROUP_BYTES_MAX = 4 * 1_024 * 1_024;
/** Rows of a whole record are cut into batches of so much. */
const PART_BYTES = 2 * 1_024 * 1_024;

/** The system calls that may fail; a test stands in for them. */
export type JournalCalls = { write(fd: number, bytes: Uint8Array, at: number): void; datasync(fd: number): Promise<void> };

const datasync = promisify(fdatasync);
export const journalCalls: JournalCalls = {
  write(fd, bytes, at) {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, at + done);
  },
  datasync: (fd) => datasync(fd),
};

/** An empty one, durable when it returns. `path` is that of the files without their number. */
export async function makeJournal(path: string, calls: JournalCalls = journalCalls): Promise<void> {
  const fd = openSync(`${path}.tmp`, "w");
  try {
    calls.write(fd, encodeRecord(1, true, []), 0);
    await calls.datasync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.tmp`, `${path}.0`);
  syncFolder(dirname(path));
}

export async function removeJournal(path: string): Promise<void> {
  for (const number of [0, 1]) await rm(`${path}.${number}`, { force: true });
  syncFolder(dirname(path));
}

export const journalExists = (path: string): boolean => existsSync(`${path}.0`) || existsSync(`${path}.1`);

/** Throws STORE_CORRUPT where a record is damaged, or no file begins with a whole one, STORE_TRUNCATED where the newer file was cut off. */
export function openJournal(path: string, calls: JournalCalls = journalCalls): Store {
  return new Journal(path, calls, recovered(path)).face();
}

// ------------------------------------------------------------------ opening

type Recovered = { readonly current: 0 | 1; readonly root: Tree; readonly sequence: number; readonly end: number };

function recovered(path: string): Recovered {
  const files = ([0, 1] as const).map((number) => {
    const bytes = readOr(`${path}.${number}`);
    return { number, bytes, first: beginning(bytes) };
  });
  const [newer, older] = files.toSorted((a, b) => (b.first?.sequence ?? 0) - (a.first?.sequence ?? 0)) as [(typeof files)[0], (typeof files)[0]];
  if (newer.first === null)
    throw new EngineError(
      "STORE_CORRUPT",
      `${path}: ${journalExists(path) ? "neither file begins with a whole record" : `neither ${path}.0 nor ${path}.1 is there`}`,
    );
  let root: Tree = emptyTree;
  let sequence = newer.first.sequence;
  let end = 0;
  const ends: number[] = [];
  for (let next: JournalRecord | null = newer.first; next !== null; next = following(newer.bytes, end, sequence)) {
    for (const batch of next.batches) root = applyBatch(root, copied(batch), 0);
    ({ sequence, end } = next);
    ends.push(end);
  }
  mustHaveGrown(`${path}.${newer.number}`, newer.bytes.length, ends);
  // a torn record is the last one there is: nothing was written behind it
  if (holdsRecordFrom(newer.bytes, end, sequence + 1))
    throw new EngineError("STORE_CORRUPT", `${path}.${newer.number}: record ${sequence + 1} at ${end} is damaged`);
  if (older.first === null && holdsRecordFrom(older.bytes, 0, sequence + 2))
    throw new EngineError("STORE_CORRUPT", `${path}.${older.number}: its first record is damaged`);
  return { current: newer.number, root, sequence, end };
}

/**
 * A file grows by whole pieces before anything in the new one is acknowledged, so that a crash leaves at most one record
 * beyond them, beside the one that the journal was made with. With more there, it was cut off, and acknowledged records with it.
 */
function mustHaveGrown(path: string, bytes: number, ends: readonly number[]): void {
  const grown = bytes - (bytes % GROW_BYTES);
  const beyond = ends.filter((end) => end > grown).length;
  if (bytes > grown && beyond > (grown === 0 ? 2 : 1))
    throw new EngineError(
      "STORE_TRUNCATED",
      `${path}: ${bytes} bytes, and it was ${grown + GROW_BYTES} at least when the last of ${ends.length} records was written`,
    );
}

function beginning(bytes: Uint8Array): JournalRecord | null {
  const first = decodeRecord(bytes, 0);
  return first?.isWhole === true ? first : null;
}

function following(bytes: Uint8Array, at: number, sequence: number): JournalRecord | null {
  const next = decodeRecord(bytes, at);
  return next?.sequence === sequence + 1 ? next : null;
}

/** The file's bytes are let go. */
const copied = (batch: Batch): Batch => batch.map((op): Op => (op.op === "put" ? { ...op, key: op.key.slice() } : op));

function readOr(path: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return new Uint8Array(0);
    throw error;
  }
}

// ------------------------------------------------------------------ the open store

type Pending = { readonly batch: Batch; readonly encoded: Uint8Array; readonly resolve: () => void; readonly reject: (error: unknown) => void };
type Segment = { readonly path: string; fd: number | null /** As far as it is allocated. */; size: number };

class Journal {
  private readonly path: string;
  private readonly calls: JournalCalls;
  private readonly segments: readonly [Segment, Segment];
  private current: 0 | 1;
  private root: Tree;
  private sequence: number;
  private end: number;
  private readonly queue: Pending[] = [];
  private running: Promise<void> | null = null;
  private broken: EngineError | null = null;
  private openCount = 0;
  private closed = false;

  constructor(path: string, calls: JournalCalls, { current, root, sequence, end }: Recovered) {
    this.path = path;
    this.calls = calls;
    this.segments = [
      { path: `${path}.0`, fd: null, size: 0 },
      { path: `${path}.1`, fd: null, size: 0 },
    ];
    this.current = current;
    this.root = root;
    this.sequence = sequence;
    this.end = end;
  }

  face(): Store {
    return {
      name: this.path,
      commit: (batch, wroteAt = 0) => this.commit(batch, wroteAt),
      snapshot: () => this.snapshot(),
      stat: () => this.stat(),
      close: () => this.close(),
    };
  }

  private snapshot(): StoreSnapshot {
    invariant(!this.closed, `${this.path} is open`);
    this.openCount++;
    return treeSnapshot(this.root, this.path, () => this.openCount--);
  }

  private stat(): StoreStat {
    invariant(!this.closed, `${this.path} is open`);
    const fileBytes = this.segments.reduce((sum, { size }) => sum + size, 0);
    return { keyCount: treeCount(this.root), fileBytes, liveBytes: treeBytes(this.root), openSnapshotCount: this.openCount };
  }

  private commit(batch: Batch, wroteAt: number): Promise<void> {
    return new Promise((resolve, reject) => {
      invariant(!this.closed, `${this.path} is open`);
      if (this.broken !== null) throw this.broken;
      checkBatch(batch);
      if (batch.length === 0) return resolve();
      const encoded = encodeBatch(wroteAt === 0 ? batch : batch.map((op) => (op.op === "put" ? { wroteAt, ...op } : op)), null);
      this.queue.push({ batch: ownKeys(batch, wroteAt), encoded, resolve, reject });
      this.running ??= this.drain();
    });
  }

  /** Never rejects: each batch's promise is told. */
  private async drain(): Promise<void> {
    await null; // batches asked for in the same turn go together
    while (this.queue.length > 0) {
      const group = this.nextGroup();
      const failure = this.broken ?? (await this.write(group));
      for (const { resolve, reject } of group) failure === null ? resolve() : reject(failure);
    }
    this.running = null;
  }

  private nextGroup(): Pending[] {
    let count = 0;
    for (let bytes = 0; count < this.queue.length; count++) {
      bytes += (this.queue[count] as Pending).encoded.length;
      if (count > 0 && bytes > GROUP_BYTES_MAX) break;
    }
    return this.queue.splice(0, count);
  }

  /** One record and one flush. Null once it is durable: only then are its rows seen. */
  private async write(group: readonly Pending[]): Promise<EngineError | null> {
    const parts = group.map(({ encoded }) => encoded);
    const sequence = this.sequence + 1;
    const turns = this.end >= SEGMENT_BYTES && this.end >= 2 * treeBytes(this.root);
    const into = turns ? (this.current === 0 ? 1 : 0) : this.current;
    const at = turns ? 0 : this.end;
    const record = encodeRecord(sequence, turns, turns ? [...wholeParts(this.root), ...parts] : parts);
    try {
      await this.store(this.segments[into], record, at);
    } catch (error) {
      return this.failed(error);
    }
    this.current = into;
    this.sequence = sequence;
    this.end = at + record.length;
    for (const { batch } of group) this.root = applyBatch(this.root, batch, 0);
    return null;
  }

  private async store(segment: Segment, record: Uint8Array, at: number): Promise<void> {
    if (segment.fd === null) {
      const isNew = !existsSync(segment.path);
      segment.fd = openSync(segment.path, isNew ? "wx+" : "r+");
      segment.size = fstatSync(segment.fd).size;
      if (isNew) syncFolder(dirname(segment.path));
    }
    const wanted = at + record.length;
    if (wanted > segment.size || segment.size % GROW_BYTES !== 0) {
      const size = Math.ceil(Math.max(wanted, segment.size) / GROW_BYTES) * GROW_BYTES;
      // zeros, since space alone would be metadata again when used; page by page, since what is cached in one piece is written back in one
      for (let from = segment.size; from < size; from += PAGE_BYTES - (from % PAGE_BYTES)) this.calls.write(segment.fd, PAGE.subarray(from % PAGE_BYTES), from);
      segment.size = size;
    }
    this.calls.write(segment.fd, record, at);
    await this.calls.datasync(segment.fd);
  }

  /** What does not fit was not flushed, and the next record goes over it. */
  private failed(error: unknown): EngineError {
    const what = error instanceof Error ? error.message : String(error);
    if (isNoSpace(error)) return new EngineError("STORE_FULL", `${this.path}: no room for a record (${what})`, { cause: error });
    this.broken = new EngineError("STORE_SYNC_FAILED", `${this.path}: a commit failed: ${what}`, { cause: error });
    return this.broken;
  }

  private async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.running;
    for (const { fd } of this.segments) if (fd !== null) closeSync(fd);
  }
}

/** The tree keeps keys for ever: the caller's buffer may be reused. */
const ownKeys = (batch: Batch, wroteAt: number): Batch =>
  batch.map((op): Op => (op.op === "put" ? { op: "put", key: op.key.slice(), value: op.value.slice(), wroteAt: op.wroteAt ?? wroteAt } : op));

/** All rows as encoded batches. */
function wholeParts(root: Tree): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let batch: Op[] = [];
  let bytes = 0;
  const cut = (): void => {
    if (batch.length > 0) parts.push(encodeBatch(batch, null));
    batch = [];
    bytes = 0;
  };
  for (const [key, stored] of treeIterate(root)) {
    const op: Op = { op: "put", key, value: payloadOf(stored), wroteAt: wroteAtOf(stored) };
    batch.push(op);
    bytes += encodedOpBytes(op);
    if (bytes >= PART_BYTES) cut();
  }
  cut();
  return parts;
}
