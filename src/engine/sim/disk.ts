/**
 * A node's disk as a value: databases and plain files as persistent trees, so a copy of a whole folder is one reference
 * (sync.md 2.3). A write becomes a list of flushes, each a crash boundary of its own: the commit, then every file
 * change. Values rest encoded with their checksum, as in the real store, so a flipped bit is seen at the next read.
 * Never schedules anything: the world decides when a flush happens and what a crash keeps of it.
 */
import { compareBytes, concatBytes, equalBytes, fromUtf8, utf8 } from "../base/bytes.ts";
import type { Batch, Db, Effect, FileChange, Row, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { invariant, unreachable } from "../base/invariant.ts";
import { applyBatch } from "../store/memory.ts";
import { emptyTree, type Tree, treeDel, treeGet, treeIterate, treePut } from "../store/tree.ts";
import { keyText, openStored, payloadOf, wroteAtOf } from "../store/value.ts";

export type DiskImage = { readonly dbs: Readonly<Record<Db, Tree>>; readonly files: Tree };

export const DB_NAMES: readonly Db[] = ["replicated", "local", "log", "small", "accepts"];

export const emptyDisk: DiskImage = {
  dbs: { replicated: emptyTree, local: emptyTree, log: emptyTree, small: emptyTree, accepts: emptyTree },
  files: emptyTree,
};

/** One thing that becomes durable at once. */
export type Flush = { readonly change: "commit"; readonly db: Db; readonly batch: Batch; readonly local?: Batch } | FileChange;

/** The flushes of one `write` effect, in order. */
export function flushesOf({
  db,
  batch,
  local,
  files = [],
}: Pick<Extract<Effect<never, never>, { kind: "write" }>, "db" | "batch" | "local" | "files">): readonly Flush[] {
  invariant(local === undefined || db === "replicated", "local rows go beside replicated ones");
  const commit: Flush = { change: "commit", db, batch, ...(local === undefined ? {} : { local }) };
  return batch.length > 0 || local !== undefined || files.length === 0 ? [commit, ...files] : files;
}

/** What a flush is about, for crash points and the trace: the database or the file. */
export const flushTarget = (flush: Flush): string => (flush.change === "commit" ? flush.db : flush.file);

export function flushText(flush: Flush): string {
  switch (flush.change) {
    case "commit":
      return commitText(flush);
    case "append":
      return `${flush.file} +${flush.bytes.length} at ${flush.at}`;
    case "replace":
      return `${flush.file} replaced, ${flush.bytes.length} bytes`;
    case "rename":
      return `${flush.file} renamed ${flush.to}`;
    default:
      return unreachable(flush);
  }
}

function commitText({ db, batch, local = [] }: Extract<Flush, { change: "commit" }>): string {
  const changes = (count: number): string => `${count} ${count === 1 ? "change" : "changes"}`;
  if (batch.length === 0 && local.length > 0) return `local committed, ${changes(local.length)}`;
  return `${db} committed, ${changes(batch.length)}${local.length === 0 ? "" : `, ${local.length} local`}`;
}

/** The disk after a flush. Throws STORE_SYNC_FAILED where a file system would refuse. */
export function applyFlush(disk: DiskImage, flush: Flush): DiskImage {
  switch (flush.change) {
    case "commit":
      return applyCommit(disk, flush);
    case "append":
      return withFile(disk, flush.file, appended(disk, flush.file, flush.at, flush.bytes));
    case "replace":
      return withFile(disk, flush.file, flush.bytes.slice());
    case "rename": {
      const bytes = fileOf(disk, flush.file);
      if (bytes === undefined) throw new EngineError("STORE_SYNC_FAILED", `rename of ${flush.file} to ${flush.to}: no such file`);
      return withFile({ ...disk, files: treeDel(disk.files, utf8(flush.file)) }, flush.to, bytes);
    }
    default:
      return unreachable(flush);
  }
}

function applyCommit(disk: DiskImage, { db, batch, local }: Extract<Flush, { change: "commit" }>): DiskImage {
  const dbs = { ...disk.dbs, [db]: applyBatch(disk.dbs[db], batch, 0) };
  return { ...disk, dbs: local === undefined ? dbs : { ...dbs, local: applyBatch(dbs.local, local, 0) } };
}

/** What a crash may leave of a flush that was under way: `bytes` of an append or of a temp file, nothing of a commit. */
export function tearFlush(disk: DiskImage, flush: Flush, bytes: number): DiskImage {
  if (flush.change === "append") return withFile(disk, flush.file, appended(disk, flush.file, flush.at, flush.bytes.subarray(0, bytes)));
  if (flush.change === "replace") return withFile(disk, tempName(flush.file), flush.bytes.slice(0, bytes));
  return disk;
}

/** Name of the file that a replacement is written to before it is renamed. */
function tempName(file: string): string {
  const slash = file.lastIndexOf("/") + 1;
  return `${file.slice(0, slash)}.${file.slice(slash)}.tmp`;
}

/** Flips one bit of a stored value, behind its checksum's back. Throws NOT_FOUND where there is no such key. */
export function flipBit(disk: DiskImage, db: Db, key: Uint8Array, bit: number): DiskImage {
  const stored = treeGet(disk.dbs[db], key);
  if (stored === undefined) throw new EngineError("NOT_FOUND", `${db} has no key ${keyText(key)}`);
  return { ...disk, dbs: { ...disk.dbs, [db]: treePut(disk.dbs[db], key, flipped(stored, bit)) } };
}

/** Flips one bit of a plain file. */
export function flipFileBit(disk: DiskImage, file: string, bit: number): DiskImage {
  const bytes = fileOf(disk, file);
  if (bytes === undefined || bytes.length === 0) throw new EngineError("NOT_FOUND", `no bytes in file ${file}`);
  return withFile(disk, file, flipped(bytes, bit));
}

/** The disk with a file written, or removed with null, behind the node's back. */
export function setFile(disk: DiskImage, file: string, bytes: Uint8Array | null): DiskImage {
  return bytes === null ? { ...disk, files: treeDel(disk.files, utf8(file)) } : withFile(disk, file, bytes.slice());
}

/** The bytes of a file: not to be changed. */
export const fileOf = (disk: DiskImage, file: string): Uint8Array | undefined => treeGet(disk.files, utf8(file));

/** What lent bytes turn into: no row of ours begins so. */
const SPOILED = 0xdd;

/** Read access to an image for one step; `expire` ends it, and later reads are a broken invariant. */
export class DiskSnapshot implements Snapshot {
  private readonly disk: DiskImage;
  private readonly owner: string;
  private live = true;
  private lent: Uint8Array | null = null;

  constructor(disk: DiskImage, owner: string) {
    this.disk = disk;
    this.owner = owner;
  }

  expire(): void {
    this.live = false;
  }

  get(db: Db, key: Uint8Array): Uint8Array | undefined {
    const stored = treeGet(this.read().dbs[db], key);
    return stored === undefined ? undefined : checkedValue(this.owner, db, key, stored);
  }

  /** Spoiled by the next read, as on the real disk. */
  peek(db: Db, key: Uint8Array): Uint8Array | undefined {
    const value = this.get(db, key);
    this.lent = value ?? null;
    return value;
  }

  row(db: Db, key: Uint8Array): Row | undefined {
    const stored = treeGet(this.read().dbs[db], key);
    return stored === undefined ? undefined : { value: checkedValue(this.owner, db, key, stored), wroteAt: wroteAtOf(stored) };
  }

  wroteAt(db: Db, key: Uint8Array): number | undefined {
    const stored = treeGet(this.read().dbs[db], key);
    return stored === undefined ? undefined : wroteAtOf(stored);
  }

  *range(db: Db, from: Uint8Array, to: Uint8Array, options: { reverse?: boolean; limit?: number } = {}): Iterable<readonly [Uint8Array, Uint8Array]> {
    for (const [key, stored] of treeIterate(this.read().dbs[db], from, to, options)) {
      yield [key.slice(), checkedValue(this.owner, db, key, stored)];
      this.read();
    }
  }

  fileSize(file: string): number | null {
    return fileOf(this.read(), file)?.length ?? null;
  }

  fileRead(file: string, from: number, to: number): Uint8Array | null {
    return fileOf(this.read(), file)?.slice(from, to) ?? null;
  }

  fileList(folder: string): readonly string[] {
    const prefix = utf8(folder === "" ? "" : `${folder}/`);
    const names: string[] = [];
    for (const [path] of treeIterate(this.read().files, prefix, prefixEnd(prefix))) {
      const name = fromUtf8(path.subarray(prefix.length));
      if (!name.includes("/")) names.push(name);
    }
    return names;
  }

  private read(): DiskImage {
    invariant(this.live, "a snapshot is read only during the step it was passed to");
    this.lent?.fill(SPOILED);
    this.lent = null;
    return this.disk;
  }
}

export type DiskDifference = { readonly db: Db; readonly key: Uint8Array; readonly left: Uint8Array | null; readonly right: Uint8Array | null };

/** Keys of one database whose stored values differ, in key order, at most `limit`. */
export function diffDisks(left: DiskImage, right: DiskImage, db: Db, limit: number): DiskDifference[] {
  const differences: DiskDifference[] = [];
  const a = treeIterate(left.dbs[db])[Symbol.iterator]();
  const b = treeIterate(right.dbs[db])[Symbol.iterator]();
  let [x, y] = [a.next(), b.next()];
  while (differences.length < limit && !(x.done && y.done)) {
    const order = x.done ? 1 : y.done ? -1 : compareBytes(x.value[0], y.value[0]);
    const [key, mine, yours] = order <= 0 && !x.done ? [x.value[0], x.value[1], order === 0 && !y.done ? y.value[1] : null] : sideOf(y);
    if (mine === null || yours === null || compareBytes(mine, yours) !== 0) differences.push({ db, key, left: mine, right: yours });
    if (order <= 0) x = a.next();
    if (order >= 0) y = b.next();
  }
  return differences;
}

function sideOf(row: IteratorResult<readonly [Uint8Array, Uint8Array]>): [Uint8Array, null, Uint8Array] {
  invariant(!row.done, "the side that is behind has a row");
  return [row.value[0], null, row.value[1]];
}

/** Stored values never change, a damaged one is another array: each is checked once, and remembered with its key. */
const checked = new WeakMap<Uint8Array, Uint8Array>();

function checkedValue(owner: string, db: Db, key: Uint8Array, stored: Uint8Array): Uint8Array {
  const known = checked.get(stored);
  if (known !== undefined && equalBytes(known, key)) return payloadOf(stored);
  const payload = openStored(`${owner}/${db}`, key, stored);
  checked.set(stored, key.slice());
  return payload;
}

function appended(disk: DiskImage, file: string, at: number, bytes: Uint8Array): Uint8Array {
  const before = fileOf(disk, file) ?? new Uint8Array(0);
  if (at > before.length) throw new EngineError("STORE_SYNC_FAILED", `append to ${file} at ${at}: the file has ${before.length} bytes`);
  return concatBytes(before.subarray(0, at), bytes);
}

const withFile = (disk: DiskImage, file: string, bytes: Uint8Array): DiskImage => ({ ...disk, files: treePut(disk.files, utf8(file), bytes) });

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = bytes.slice();
  const at = (bit >> 3) % copy.length;
  copy[at] = (copy[at] as number) ^ (1 << (bit & 7));
  return copy;
}

/** The first key behind every key with this prefix; undefined for the empty prefix. */
function prefixEnd(prefix: Uint8Array): Uint8Array | undefined {
  if (prefix.length === 0) return undefined;
  const end = prefix.slice();
  end[end.length - 1] = (end[end.length - 1] as number) + 1; // the last byte is "/": it never overflows
  return end;
}
