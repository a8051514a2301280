/**
 * The store on disk: one LMDB environment with named databases (sync.md section 2.2). Never WRITEMAP, never NOSYNC, and
 * no overlapping sync: a commit resolves after LMDB's fdatasync and its durable meta page. Commits queue in the order
 * asked; what waits while one runs becomes one transaction, off the event loop. Several processes may share an
 * environment: LMDB's own lock orders them, and a snapshot sees every commit finished before it, whoever made it.
 * Disk full is STORE_FULL, leaves nothing and may pass; any other failed commit is STORE_SYNC_FAILED and final: a later
 * fsync that "succeeds" would prove nothing.
 */
import { existsSync, mkdirSync, truncateSync } from "node:fs";
import { dirname, join } from "node:path";
import { open } from "lmdb";
import type { Batch } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import { checkBatch } from "./batch.ts";
import { checkDataFile, commitMetFullDisk, fileBytesOf, roomBytesOf, syncFolder } from "./lmdb-file.ts";
import { LmdbSnapshot, type Native, type NativeRoot, ReadTransaction, rawBytes } from "./lmdb-read.ts";
import { applyOp, type EncodedOps, encodeOps } from "./lmdb-write.ts";
import type { Store, StoreSnapshot, StoreStat } from "./types.ts";

export type EnvironmentOptions = {
  /** Make the environment where there is none; otherwise that is NOT_FOUND. */
  readonly create?: boolean;
  /** Address space to begin with. LMDB grows it by itself where a commit needs more, at the price of a second mapping. */
  readonly mapBytes?: number;
};

export type EnvironmentStat = {
  readonly fileBytes: number;
  /** Pages of live data, of the tables around it and of the free list. */
  readonly liveBytes: number;
  /** Pages in the file that hold nothing any more; commits use them before the file grows. */
  readonly freeBytes: number;
  readonly openSnapshotCount: number;
};

export type EnvironmentSnapshot<Name extends string> = { readonly stores: Readonly<Record<Name, StoreSnapshot>> } & Disposable;

export type Environment<Name extends string> = {
  readonly stores: Readonly<Record<Name, Store>>;
  /** One commit over several databases: all of it or nothing. Otherwise as `Store.commit`. */
  commit(batches: Readonly<Partial<Record<Name, Batch>>>, wroteAt?: number): Promise<void>;
  /** All databases as of one commit, under one read transaction. */
  snapshot(): EnvironmentSnapshot<Name>;
  stat(): EnvironmentStat;
  /** Frees the reader slots of processes that died: until then their snapshots pin freed pages. Called each minute. */
  clearDeadReaders(): number;
  /** Waits for what was asked to be committed; ends every snapshot still open. */
  close(): Promise<void>;
};

/** Address space costs nothing until pages are used: enough that growing is rare. */
const MAP_BYTES = 64 * 1_024 ** 3;
/** Snapshots open at once over all processes that share the environment. */
const READERS_MAX = 512;
const DATABASES_MAX = 16;
/** One transaction takes at most so much of what waits: bounds how long the first of it waits for the last. */
const GROUP_BYTES_MAX = 32 * 1_024 * 1_024;
/**
 * Room asked for before a transaction, beyond what it holds: LMDB's own path for a failed page write overruns a buffer
 * (3.5.6), so a full disk is met before it. What only deletes asks for less: on a full disk deleting must go on.
 */
const SPARE_BYTES = 8 * 1_024 * 1_024;
const SPARE_DELETING_BYTES = 1_024 * 1_024;
/** Each operation may rewrite a leaf and what leads to it. */
const OP_PAGES_BYTES = 2 * 4_096;

export async function openEnvironment<Name extends string>(dir: string, names: readonly Name[], options: EnvironmentOptions = {}): Promise<Environment<Name>> {
  return openEnvironmentSync(dir, names, options);
}

/** The same for a caller that found the environment missing in the middle of a read. */
export function openEnvironmentSync<Name extends string>(dir: string, names: readonly Name[], options: EnvironmentOptions = {}): Environment<Name> {
  const dataPath = join(dir, "data.mdb");
  if (existsSync(dataPath)) checkDataFile(dataPath);
  else if (options.create !== true) throw new EngineError("NOT_FOUND", `${dir}: there is no store`);
  const isNew = !existsSync(dataPath);
  mkdirSync(dir, { recursive: true });
  const native: unknown = open({
    path: dir,
    noSubdir: false,
    mapSize: options.mapBytes ?? MAP_BYTES,
    maxDbs: DATABASES_MAX,
    maxReaders: READERS_MAX,
    overlappingSync: false,
    eventTurnBatching: false,
    ...rawBytes,
  });
  if (isNew) for (const folder of [dir, dirname(dir)]) syncFolder(folder); // LMDB syncs the file, not its name
  return new LmdbEnvironment(dir, dataPath, native as NativeRoot, names).face();
}

/** A commit that waits for its transaction. */
type Pending = {
  readonly parts: readonly { readonly db: Native; readonly encoded: EncodedOps }[];
  readonly bytes: number;
  readonly hasRange: boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
};

class LmdbEnvironment<Name extends string> {
  private readonly dir: string;
  private readonly dataPath: string;
  private readonly root: NativeRoot;
  private readonly names: readonly Name[];
  private readonly databases = new Map<Name, Native>();
  private readonly queue: Pending[] = [];
  private readonly reading = new Set<ReadTransaction>();
  private running: Promise<void> | null = null;
  private broken: EngineError | null = null;
  private closed = false;

  constructor(dir: string, dataPath: string, root: NativeRoot, names: readonly Name[]) {
    this.dir = dir;
    this.dataPath = dataPath;
    this.root = root;
    this.names = names;
    for (const name of names) this.databases.set(name, root.openDB({ name, ...rawBytes }));
  }

  face(): Environment<Name> {
    const stores = Object.fromEntries(this.names.map((name) => [name, this.store(name)])) as Record<Name, Store>;
    return {
      stores,
      commit: (batches, wroteAt = 0) => {
        const parts: { db: Native; batch: Batch }[] = [];
        for (const name of this.names) {
          const batch = batches[name];
          if (batch !== undefined) parts.push({ db: this.database(name), batch });
        }
        return this.commit(parts, wroteAt);
      },
      snapshot: () => this.snapshot(),
      stat: () => this.stat(),
      clearDeadReaders: () => this.root.readerCheck(),
      close: () => this.close(),
    };
  }

  private store(name: Name): Store {
    const label = `${this.dir}:${name}`;
    const db = this.database(name);
    let openCount = 0;
    return {
      name: label,
      commit: (batch, wroteAt = 0) => this.commit([{ db, batch }], wroteAt),
      snapshot: () => {
        const transaction = this.begin();
        openCount++;
        return new LmdbSnapshot(label, db, transaction, () => {
          openCount--;
          transaction.end();
        });
      },
      stat: () => this.storeStat(db, openCount),
      close: () => this.close(),
    };
  }

  private snapshot(): EnvironmentSnapshot<Name> {
    const transaction = this.begin();
    const reader = (name: Name): StoreSnapshot => new LmdbSnapshot(`${this.dir}:${name}`, this.database(name), transaction, () => {});
    const stores = Object.fromEntries(this.names.map((name) => [name, reader(name)])) as Record<Name, StoreSnapshot>;
    return { stores, [Symbol.dispose]: () => transaction.end() };
  }

  private begin(): ReadTransaction {
    this.checkOpen();
    const transaction = new ReadTransaction(this.root, (ended) => this.reading.delete(ended));
    this.reading.add(transaction);
    return transaction;
  }

  private database(name: Name): Native {
    const db = this.databases.get(name);
    invariant(db !== undefined, `${this.dir} has a database ${name}`);
    return db;
  }

  private storeStat(db: Native, openSnapshotCount: number): StoreStat {
    this.checkOpen();
    const found = this.numbers(db);
    return { keyCount: found.entryCount, fileBytes: fileBytesOf(this.dataPath), liveBytes: pagesOf(found) * found.pageSize, openSnapshotCount };
  }

  private stat(): EnvironmentStat {
    this.checkOpen();
    return { ...this.pages(), fileBytes: fileBytesOf(this.dataPath), openSnapshotCount: this.reading.size };
  }

  private pages(): { liveBytes: number; freeBytes: number } {
    let livePages = 2; // the meta pages
    let usedPages = 0;
    let pageBytes = 0;
    for (const [index, name] of this.names.entries()) {
      const found = this.numbers(this.database(name));
      livePages += pagesOf(found) + (index === 0 ? pagesOf(found.root) + pagesOf(found.free) : 0);
      usedPages = found.lastPageNumber + 1;
      pageBytes = found.pageSize;
    }
    return { liveBytes: livePages * pageBytes, freeBytes: (usedPages - livePages) * pageBytes };
  }

  private numbers(db: Native): NativeStat {
    this.root.resetReadTxn();
    return db.getStats() as NativeStat;
  }

  private commit(batches: readonly { readonly db: Native; readonly batch: Batch }[], wroteAt: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.checkOpen();
      if (this.broken !== null) throw this.broken;
      for (const { batch } of batches) checkBatch(batch);
      const parts = batches.filter(({ batch }) => batch.length > 0).map(({ db, batch }) => ({ db, encoded: encodeOps(batch, wroteAt) }));
      if (parts.length === 0) return resolve();
      let bytes = 0;
      for (const { encoded } of parts) bytes += encoded.bytes;
      this.queue.push({ parts, bytes, hasRange: parts.some(({ encoded }) => encoded.hasRange), resolve, reject });
      this.running ??= this.drain();
    });
  }

  /** Never rejects: each batch's promise is told. */
  private async drain(): Promise<void> {
    await null; // batches asked for in the same turn go together
    while (this.queue.length > 0) {
      const group = this.nextGroup();
      const failure = this.broken ?? (await this.write(group));
      for (const pending of group) failure === null ? pending.resolve() : pending.reject(failure);
    }
    this.running = null;
  }

  /** Batches without ranges together, up to the limit; one with a range alone: it must read what it deletes. */
  private nextGroup(): Pending[] {
    let count = 0;
    for (let bytes = 0; count < this.queue.length; count++) {
      const next = this.queue[count] as Pending;
      bytes += next.bytes;
      if (count > 0 && (next.hasRange || bytes > GROUP_BYTES_MAX)) break;
      if (next.hasRange) return this.queue.splice(0, 1);
    }
    return this.queue.splice(0, count);
  }

  /** Pages that hold nothing any more count as room: a store that was emptied can be filled again. */
  private noRoom(group: readonly Pending[]): EngineError | null {
    let wantBytes = group.some(({ parts }) => parts.some(({ encoded }) => encoded.hasPut)) ? SPARE_BYTES : SPARE_DELETING_BYTES;
    for (const { parts } of group) for (const { encoded } of parts) wantBytes += encoded.bytes + encoded.ops.length * OP_PAGES_BYTES;
    const roomBytes = roomBytesOf(this.dir);
    if (roomBytes >= wantBytes || roomBytes + this.pages().freeBytes >= wantBytes) return null;
    return new EngineError("STORE_FULL", `${this.dir}: a commit asks for ${wantBytes} bytes, ${roomBytes} are free`);
  }

  /** One transaction. Null once it is durable. */
  private async write(group: readonly Pending[]): Promise<EngineError | null> {
    const apply = (): void => {
      for (const { parts } of group) for (const { db, encoded } of parts) for (const op of encoded.ops) applyOp(db, op);
    };
    try {
      const refused = this.noRoom(group);
      if (refused !== null) return refused;
      if (group[0]?.hasRange === true) await this.root.childTransaction(apply);
      else await this.root.batch(apply);
      return null;
    } catch (error) {
      const cause = await commitCause(error);
      const failure = this.classify(
        cause,
        group.reduce((total, pending) => total + pending.bytes, 0),
      );
      if (failure.code !== "STORE_FULL" && !mutant("store.retry-after-fsync-error")) this.broken = failure;
      return failure;
    }
  }

  private classify(cause: unknown, commitBytes: number): EngineError {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    const what = cause instanceof Error ? cause.message : String(cause);
    if (commitMetFullDisk(this.dataPath, code, commitBytes) && this.stillUsable())
      return new EngineError("STORE_FULL", `${this.dir}: no room for a commit of ${commitBytes} bytes (${what})`, { cause });
    return new EngineError("STORE_SYNC_FAILED", `${this.dir}: a commit failed: ${what}`, { cause });
  }

  /**
   * A failed write of the meta page closes the environment for good: then a read transaction fails too. Otherwise what
   * the commit left behind the last page in use is cut off, under LMDB's write lock, so that the space is free again.
   */
  private stillUsable(): boolean {
    try {
      this.root.transactionSync(() => {
        const { lastPageNumber, pageSize } = this.numbers(this.database(this.names[0] as Name));
        const usedBytes = (lastPageNumber + 1) * pageSize;
        if (fileBytesOf(this.dataPath) > usedBytes) truncateSync(this.dataPath, usedBytes);
      });
      return true;
    } catch {
      return false; // the caller's STORE_SYNC_FAILED carries the first cause
    }
  }

  private async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.running;
    for (const transaction of this.reading) transaction.end();
    await this.root.close();
  }

  private checkOpen(): void {
    invariant(!this.closed, `${this.dir} is open`);
  }
}

/** lmdb rejects with a general error that carries a promise of the real one. */
async function commitCause(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !("commitError" in error)) return error;
  try {
    await error.commitError;
    return error;
  } catch (cause) {
    return cause;
  }
}

type NativePages = { readonly treeBranchPageCount: number; readonly treeLeafPageCount: number; readonly overflowPages: number };
type NativeStat = NativePages & {
  readonly pageSize: number;
  readonly entryCount: number;
  readonly lastPageNumber: number;
  readonly root: NativePages;
  readonly free: NativePages;
};

const pagesOf = (pages: NativePages): number => pages.treeBranchPageCount + pages.treeLeafPageCount + pages.overflowPages;
