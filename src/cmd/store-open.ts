/**
 * The databases of a node's folder, opened for reading beside whoever else has them open: LMDB orders the processes, and a
 * snapshot is the state of one moment; of the journal `accepts` it is what was whole when it was read. Says which folders are
 * meant by a path, a node's name, or nothing. Never makes a store where there is none.
 */
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { EngineError } from "../engine/base/errors.ts";
import { BrokenInvariant } from "../engine/base/invariant.ts";
import type { RangeOptions, StoreSnapshot } from "../engine/store/types.ts";
import { resolveCluster } from "./cluster.ts";

export type Bounds = { readonly from?: Uint8Array; readonly to?: Uint8Array };

export const DATABASES = ["replicated", "local", "accepts", "log", "small"] as const;
export type Database = (typeof DATABASES)[number];
const ENVIRONMENTS: readonly { readonly folder: string; readonly databases: readonly Database[] }[] = [
  { folder: "store", databases: ["replicated", "local"] },
  { folder: "log", databases: ["log"] },
  { folder: "small", databases: ["small"] },
];

export type OpenDatabase = {
  readonly db: Database;
  readonly file: string;
  readonly snapshot: StoreSnapshot;
  /** As the file's own table says, now. */
  keyCount(): number;
};

export function databaseNamed(text: string): Database {
  const found = DATABASES.find((each) => each === text);
  if (found === undefined) throw new EngineError("USAGE", `there is no database ${JSON.stringify(text)}: want ${DATABASES.join(", ")}`);
  return found;
}

/** Runs `work` on the databases that are there, of those wanted; one environment's are as of one commit. */
export async function withDatabases<T>(dir: string, wanted: readonly Database[], work: (databases: readonly OpenDatabase[]) => Promise<T>): Promise<T> {
  const { openEnvironment } = await import("../engine/store/lmdb.ts");
  await using closers = new AsyncDisposableStack();
  const open: OpenDatabase[] = [];
  for (const { folder, databases } of ENVIRONMENTS) {
    const path = join(dir, folder);
    const names = databases.filter((db) => wanted.includes(db));
    if (names.length === 0 || !existsSync(join(path, "data.mdb"))) continue;
    const file = join(path, "data.mdb");
    const environment = await openEnvironment(path, databases).catch((cause: unknown) => {
      throw readFailure(file, cause);
    });
    closers.defer(() => environment.close());
    const snapshot = environment.snapshot();
    closers.defer(() => snapshot[Symbol.dispose]());
    for (const db of names) open.push({ db, file, snapshot: snapshot.stores[db], keyCount: () => environment.stores[db].stat().keyCount });
  }
  if (wanted.includes("accepts")) open.push(...(await acceptsIn(dir)));
  if (open.length === 0) throw new EngineError("NOT_FOUND", `${dir}: no database ${wanted.join(" or ")} is there; want a node's data folder`);
  return await work(open);
}

/** Nothing is opened for writing: a journal does that with its first commit. */
async function acceptsIn(dir: string): Promise<OpenDatabase[]> {
  const { JOURNAL_FILE, journalExists, openJournal } = await import("../engine/node/journal.ts");
  const file = join(dir, JOURNAL_FILE);
  if (!journalExists(file)) {
    if (!existsSync(join(dir, "store", "data.mdb"))) return [];
    throw new EngineError("STORE_CORRUPT", `${file}.0 is lost: ${join(dir, "store")} was made with it, and what its node promised lay there`);
  }
  const journal = openJournal(file);
  return [{ db: "accepts", file, snapshot: journal.snapshot(), keyCount: () => journal.stat().keyCount }];
}

/** Rows of `[from, to)` in stored form or not; what LMDB itself stumbles over is STORE_CORRUPT too, naming the file. */
export function* rowsOf({ file, snapshot }: OpenDatabase, bounds: Bounds = {}, options: RangeOptions = {}): Generator<readonly [Uint8Array, Uint8Array]> {
  const rows = snapshot.iterate(bounds.from, bounds.to, options)[Symbol.iterator]();
  try {
    for (;;) {
      const next = readOr(file, () => rows.next());
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    rows.return?.();
  }
}

export function readOr<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw readFailure(file, cause);
  }
}

function readFailure(file: string, cause: unknown): unknown {
  if (cause instanceof EngineError || cause instanceof BrokenInvariant || !(cause instanceof Error)) return cause;
  return new EngineError("STORE_CORRUPT", `${file}: ${cause.message}`, { cause });
}

/** One database of one folder. */
export const withDatabase = <T>(dir: string, db: Database, work: (database: OpenDatabase) => Promise<T>): Promise<T> =>
  withDatabases(dir, [db], async ([database]) => {
    if (database === undefined) throw new EngineError("NOT_FOUND", `${dir}: no database ${db}`);
    return work(database);
  });

/** The folder at a path, or that of the cluster's node of this name. */
export async function nodeFolder(given: string, cluster: string | undefined): Promise<string> {
  const found = await stat(given).catch(() => null);
  if (found?.isDirectory() === true) return resolve(given);
  if (given.includes("/")) throw new EngineError("NOT_FOUND", `${given}: no such folder`);
  const { nodes, name } = await resolveCluster(cluster);
  const node = nodes.find(({ id }) => id === given);
  if (node?.dir == null)
    throw new EngineError("UNKNOWN_NODE", `${given} is no folder here, and no node of ${name} whose folder is known: ${nodes.map(({ id }) => id).join(", ")}`);
  return node.dir;
}

/** Those that a path names (all nodes of a cluster's data folder), or all of the addressed cluster. */
export async function nodeFolders(given: string | undefined, cluster: string | undefined): Promise<readonly string[]> {
  if (given !== undefined) {
    const dir = await nodeFolder(given, cluster);
    if (!existsSync(join(dir, "cluster.json"))) return [dir];
    return foldersOf(dir);
  }
  return foldersOf(cluster);
}

async function foldersOf(cluster: string | undefined): Promise<readonly string[]> {
  const { nodes, name } = await resolveCluster(cluster);
  const dirs = nodes.flatMap(({ dir }) => dir ?? []);
  if (dirs.length === 0) throw new EngineError("NOT_FOUND", `${name}: no node's folder is known here; name one`);
  return dirs;
}
