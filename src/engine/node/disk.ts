/**
 * The disk behind the effects (base/effects.ts, duties 3, 4, 5 and 9): three LMDB environments, a journal and the plain
 * files of one node's folder. `store/` holds `replicated` and `local`, `log/` and `small/` one database each; `small/` is
 * opened when first used, and so is the journal `accepts`, which belongs to one process. A write is one LMDB commit, then its file changes in order; it resolves when the last is durable. Writes
 * that must keep an order are awaited one after the other by whoever asks. Lack of space is STORE_FULL; anything else
 * that fails is STORE_SYNC_FAILED, and from then on every write is refused.
 */
import { existsSync, mkdirSync, statfsSync } from "node:fs";
import { join } from "node:path";
import type { Batch, Db, FileChange, Row, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { BrokenInvariant, invariant } from "../base/invariant.ts";
import { type Environment, type EnvironmentSnapshot, type EnvironmentStat, openEnvironmentSync } from "../store/lmdb.ts";
import { roomBytesOf } from "../store/lmdb-file.ts";
import { mirrorEnvironment } from "../store/mirrored.ts";
import type { RangeOptions, Store, StoreSnapshot } from "../store/types.ts";
import type { Views } from "../sync/state.ts";
import { changeFile, type FileCalls, fileCalls, fileList, fileRead, fileSize, insidePath } from "./file-changes.ts";
import { JOURNAL_FILE, type JournalCalls, journalExists, makeJournal, openJournal } from "./journal.ts";
import { MappedPages } from "./mapped-pages.ts";

export type DiskWrite = {
  readonly db: Db;
  readonly batch: Batch;
  /** In the same commit as a batch of `replicated`. */
  readonly local?: Batch;
  readonly files?: readonly FileChange[];
  /** Kept with each value. */
  readonly wroteAt?: number;
};

export type Disk = {
  /** The state now. Databases are opened as they are first read; those of one environment are as of one commit. */
  snapshot(): Snapshot & Disposable;
  /** Resolves when batch and file changes are durable. Throws STORE_FULL or STORE_SYNC_FAILED. */
  write(write: DiskWrite): Promise<void>;
  /** Snapshots of `replicated` for as long as whoever opened them wants: each pins the pages that commits free meanwhile. */
  views(): Views;
  /** By environment; one that was never used is left out. */
  environmentStat(): Readonly<Partial<Record<EnvironmentName, EnvironmentStat>>>;
  /** Bytes that this user may still write to the file system. */
  freeBytes(): number;
  /** Whether so little is left that nothing new should be promised: below 5 % or below 1 GiB. */
  isNearlyFull(): boolean;
  /** Frees what snapshots of dead processes hold. Called each minute. */
  clearDeadReaders(): void;
  close(): Promise<void>;
};

export type DiskOptions = {
  /** False: a folder without a store is NOT_FOUND. Otherwise one is made. */
  readonly create?: boolean;
  readonly calls?: FileCalls;
  readonly journalCalls?: JournalCalls;
  /** `replicated` is kept in memory too, and every read of it compared (sync.md section 2.4). */
  readonly paranoid?: boolean;
};

export type EnvironmentName = "store" | "log" | "small";

type LmdbName = Exclude<Db, "accepts">;
const ENVIRONMENTS: Readonly<Record<LmdbName, EnvironmentName>> = { replicated: "store", local: "store", log: "log", small: "small" };
const DATABASES: Readonly<Record<EnvironmentName, readonly LmdbName[]>> = { store: ["replicated", "local"], log: ["log"], small: ["small"] };

/** Room for what is already promised: merging and trimming write before they free. */
const NEARLY_FULL_SHARE = 0.05;
const NEARLY_FULL_BYTES = 1_024 ** 3;
/** Rows taken to be read of a range that has no limit: most are of a few. */
const RANGE_READS = 4;
/** Asked for beyond the bytes of a write that has both parts, so that its files do not fail after its batch is stored. */
const SPARE_BYTES = 4 * 1_024 * 1_024;

export async function openDisk(dir: string, options: DiskOptions = {}): Promise<Disk> {
  const disk = new RealDisk(dir, options);
  const journal = join(dir, JOURNAL_FILE);
  if ((options.create ?? true) && !journalExists(journal)) {
    mkdirSync(dir, { recursive: true });
    await makeJournal(journal);
  }
  disk.environment("store");
  disk.environment("log");
  return disk;
}

class RealDisk implements Disk {
  private readonly dir: string;
  private readonly create: boolean;
  private readonly calls: FileCalls;
  private readonly journalCalls: JournalCalls | undefined;
  private readonly paranoid: boolean;
  private readonly environments = new Map<EnvironmentName, Environment<LmdbName>>();
  private accepts: Store | null = null;
  private readonly writing = new Set<Promise<void>>();
  private readonly pages = new MappedPages();
  private dead: EngineError | null = null;
  private closed = false;

  constructor(dir: string, options: DiskOptions) {
    this.dir = dir;
    this.create = options.create ?? true;
    this.calls = options.calls ?? fileCalls;
    this.journalCalls = options.journalCalls;
    this.paranoid = options.paranoid ?? false;
  }

  environment(name: EnvironmentName): Environment<LmdbName> {
    let found = this.environments.get(name);
    if (found === undefined) {
      found = this.pages.opening(join(this.dir, name, "data.mdb"), () =>
        openEnvironmentSync<LmdbName>(join(this.dir, name), DATABASES[name], { create: this.create || name === "small" }),
      );
      if (this.paranoid && name === "store") found = mirrorEnvironment<LmdbName>(found, ["replicated"]);
      this.environments.set(name, found);
    }
    return found;
  }

  snapshot(): Snapshot & Disposable {
    this.checkOpen();
    const open = (name: EnvironmentName): EnvironmentSnapshot<LmdbName> | null =>
      name === "small" && !existsSync(join(this.dir, name)) ? null : this.environment(name).snapshot();
    return new DiskSnapshot(this.dir, open, () => this.journal().snapshot(), this.pages);
  }

  private journal(): Store {
    this.accepts ??= openJournal(join(this.dir, JOURNAL_FILE), this.journalCalls);
    return this.accepts;
  }

  views(): Views {
    const open = new Map<number, StoreSnapshot>();
    let lastView = 0;
    const read = (view: number): StoreSnapshot => {
      const found = open.get(view);
      invariant(found !== undefined, `view ${view} of ${this.dir} is read while it is open`);
      this.pages.reading(RANGE_READS);
      return found;
    };
    return {
      open: () => {
        this.checkOpen();
        open.set(++lastView, this.environment("store").stores.replicated.snapshot());
        return lastView;
      },
      read,
      close: (view) => {
        read(view)[Symbol.dispose]();
        open.delete(view);
      },
      stat: () => {
        this.checkOpen();
        return this.environment("store").stores.replicated.stat();
      },
    };
  }

  write(write: DiskWrite): Promise<void> {
    this.checkOpen();
    const done = this.perform(write);
    const settled = done.then(
      () => {},
      () => {},
    );
    this.writing.add(settled);
    void settled.then(() => this.writing.delete(settled));
    return done;
  }

  private async perform({ db, batch, local = [], files = [], wroteAt }: DiskWrite): Promise<void> {
    if (this.dead !== null) throw this.dead;
    for (const change of files) for (const file of change.change === "rename" ? [change.file, change.to] : [change.file]) insidePath(this.dir, file);
    if (db === "accepts") {
      invariant(local.length + files.length === 0, "nothing lies beside a batch of accepts");
      return this.orDie(() => this.journal().commit(batch), true);
    }
    const hasBatch = batch.length + local.length > 0;
    if (hasBatch && files.length > 0) this.requireRoom(batch, files);
    invariant(local.length === 0 || db === "replicated", "local rows go beside replicated ones");
    const batches = local.length === 0 ? { [db]: batch } : { [db]: batch, local };
    if (hasBatch) await this.orDie(() => this.pages.whileWriting(() => this.environment(ENVIRONMENTS[db]).commit(batches, wroteAt)), true);
    // With a stored batch a lack of space is final too: "full" would say that nothing of this write is there.
    for (const change of files) await this.orDie(() => changeFile(this.dir, change, this.calls), !hasBatch);
  }

  private async orDie(act: () => Promise<void>, survivesFull: boolean): Promise<void> {
    if (this.dead !== null) throw this.dead;
    try {
      await act();
    } catch (error) {
      if (error instanceof BrokenInvariant || (survivesFull && error instanceof EngineError && error.code === "STORE_FULL")) throw error;
      this.dead ??= syncFailure(this.dir, error);
      throw this.dead;
    }
  }

  private requireRoom(batch: Batch, files: readonly FileChange[]): void {
    let wantBytes = SPARE_BYTES;
    for (const op of batch) wantBytes += op.key.length + (op.op === "put" ? op.value.length : 0);
    for (const change of files) wantBytes += change.change === "rename" ? 0 : change.bytes.length;
    const freeBytes = this.freeBytes();
    if (freeBytes < wantBytes) throw new EngineError("STORE_FULL", `${this.dir}: ${freeBytes} bytes are free, a write asks for ${wantBytes}`);
  }

  environmentStat(): Readonly<Partial<Record<EnvironmentName, EnvironmentStat>>> {
    return Object.fromEntries([...this.environments].map(([name, environment]) => [name, environment.stat()]));
  }

  freeBytes(): number {
    return roomBytesOf(this.dir);
  }

  isNearlyFull(): boolean {
    const { bavail, blocks, bsize } = statfsSync(this.dir);
    return bavail * bsize < NEARLY_FULL_BYTES || bavail < blocks * NEARLY_FULL_SHARE;
  }

  clearDeadReaders(): void {
    for (const environment of this.environments.values()) environment.clearDeadReaders();
  }

  async close(): Promise<void> {
    this.closed = true;
    this.pages.close();
    await Promise.all(this.writing);
    for (const environment of this.environments.values()) await environment.close();
    this.environments.clear();
    await this.accepts?.close();
  }

  private checkOpen(): void {
    invariant(!this.closed, `the disk ${this.dir} is open`);
  }
}

/** Opens a read transaction for each environment it is asked about, and none for the others. */
class DiskSnapshot implements Snapshot, Disposable {
  private readonly dir: string;
  private readonly open: (name: EnvironmentName) => EnvironmentSnapshot<LmdbName> | null;
  private readonly openAccepts: () => StoreSnapshot;
  private readonly pages: MappedPages;
  private readonly opened = new Map<EnvironmentName, EnvironmentSnapshot<LmdbName> | null>();
  private accepts: StoreSnapshot | null = null;
  private closed = false;

  constructor(dir: string, open: (name: EnvironmentName) => EnvironmentSnapshot<LmdbName> | null, openAccepts: () => StoreSnapshot, pages: MappedPages) {
    this.dir = dir;
    this.pages = pages;
    this.open = open;
    this.openAccepts = openAccepts;
  }

  get(db: Db, key: Uint8Array): Uint8Array | undefined {
    this.pages.reading(1);
    return this.store(db)?.get(key);
  }

  peek(db: Db, key: Uint8Array): Uint8Array | undefined {
    this.pages.reading(1);
    return this.store(db)?.peek(key);
  }

  row(db: Db, key: Uint8Array): Row | undefined {
    this.pages.reading(1);
    return this.store(db)?.row(key);
  }

  wroteAt(db: Db, key: Uint8Array): number | undefined {
    this.pages.reading(1);
    return this.store(db)?.wroteAt(key);
  }

  range(db: Db, from: Uint8Array, to: Uint8Array, options?: RangeOptions): Iterable<readonly [Uint8Array, Uint8Array]> {
    this.pages.reading(options?.limit ?? RANGE_READS);
    return this.store(db)?.iterate(from, to, options) ?? [];
  }

  fileSize(file: string): number | null {
    return fileSize(this.dir, file);
  }

  fileRead(file: string, from: number, to: number): Uint8Array | null {
    return fileRead(this.dir, file, from, to);
  }

  fileList(folder: string): readonly string[] {
    return fileList(this.dir, folder);
  }

  [Symbol.dispose](): void {
    if (this.closed) return;
    this.closed = true;
    for (const snapshot of this.opened.values()) snapshot?.[Symbol.dispose]();
    this.opened.clear();
    this.accepts?.[Symbol.dispose]();
  }

  private store(db: Db): StoreSnapshot | undefined {
    invariant(!this.closed, `a snapshot of ${this.dir} is read while it is open`);
    if (db === "accepts") {
      this.accepts ??= this.openAccepts();
      return this.accepts;
    }
    const name = ENVIRONMENTS[db];
    let found = this.opened.get(name);
    if (found === undefined) {
      found = this.open(name);
      this.opened.set(name, found);
    }
    return found?.stores[db];
  }
}

function syncFailure(dir: string, error: unknown): EngineError {
  if (error instanceof EngineError && error.code === "STORE_SYNC_FAILED") return error;
  const what = error instanceof Error ? error.message : String(error);
  return new EngineError("STORE_SYNC_FAILED", `${dir}: a write failed: ${what}`, { cause: error });
}
