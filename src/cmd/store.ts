/**
 * `cairn store …`: what a node's store holds, row by row; whether every row is what was written (sync.md section 2.1); and
 * how two stores differ (Table B, row 5). Works on data folders, of nodes that run or not; a running node is read as of one
 * moment. Never writes.
 */
import { compareBytes, toHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { keyOwner } from "../engine/store/keys.ts";
import { eachCopy } from "./each-copy.ts";
import { command, type OptionSpec } from "./spec.ts";
import { storeDiff } from "./store-diff.ts";
import { describeKey, parseKey } from "./store-key.ts";
import { DATABASES, databaseNamed, nodeFolder, nodeFolders, type OpenDatabase, readOr, rowsOf, withDatabase, withDatabases } from "./store-open.ts";
import { LIST_COUNT, prefixOption, rangeOf } from "./store-range.ts";
import { formatTable } from "./table.ts";

/** Rows printed at a time: as few writes as memory allows. */
const PAGE_COUNT = 1_000;
/** Of a value in a list. */
const VALUE_SHOWN_BYTES = 24;

const nodeOption = {
  name: "node",
  form: "string",
  value: "DIR|NODE",
  means: "a node's folder, or its name in the cluster; else the cluster's first node",
} as const satisfies OptionSpec;
const dbArg = { name: "db", means: DATABASES.join(", ") } as const;

async function oneFolder(node: string | undefined, cluster: string | undefined): Promise<string> {
  if (node !== undefined) return nodeFolder(node, cluster);
  const [first] = await nodeFolders(undefined, cluster);
  return first ?? "";
}

const rowFields = (db: string, key: Uint8Array): { key: string; owner: string; what: string } => ({ key: describeKey(db, key), ...keyOwner(db, key) });
const shortHex = (value: Uint8Array): string => toHex(value.subarray(0, VALUE_SHOWN_BYTES)) + (value.length > VALUE_SHOWN_BYTES ? "…" : "");

const storeGet = command({
  name: "store get",
  summary: "Print one value of a node's store, as hex",
  args: [dbArg, { name: "key", means: "as `store ls` writes it, or 0x and hex" }],
  options: [nodeOption],
  errors: ["NOT_FOUND", "UNKNOWN_NODE", "STORE_CORRUPT", "STORE_TRUNCATED"],
  examples: ["cairn store get log be6cfa06f0ebe200/edge", "cairn store get log be6cfa06f0ebe200/order/0 --node ./cluster/b --json"],
  async run(ctx) {
    const db = databaseNamed(ctx.args.db);
    const key = parseKey(db, ctx.args.key);
    const dir = await oneFolder(ctx.options.node, ctx.cluster);
    await withDatabase(dir, db, async ({ file, snapshot }) => {
      const value = readOr(file, () => snapshot.get(key));
      if (value === undefined) throw new EngineError("NOT_FOUND", `${dir}: no key ${describeKey(db, key)} in ${db}`);
      const hex = toHex(value);
      await ctx.answer({ db, ...rowFields(db, key), wroteAt: snapshot.wroteAt(key), bytes: value.length, value: hex }, `${hex}\n`);
    });
  },
});

const storeList = command({
  name: "store ls",
  summary: "List keys of a node's store, with who wrote them",
  args: [dbArg],
  options: [nodeOption, prefixOption, { name: "limit", form: "count", value: "N", default: LIST_COUNT, means: "at most so many" }],
  errors: ["NOT_FOUND", "UNKNOWN_NODE", "STORE_CORRUPT", "STORE_TRUNCATED"],
  examples: ["cairn store ls local", "cairn store ls log --prefix be6cfa06f0ebe200/tile --limit 10"],
  async run(ctx) {
    const db = databaseNamed(ctx.args.db);
    const bounds = rangeOf(db, ctx.options.prefix);
    const { limit } = ctx.options;
    const dir = await oneFolder(ctx.options.node, ctx.cluster);
    await withDatabase(dir, db, async (database) => {
      const { snapshot } = database;
      const found = [...rowsOf(database, bounds, { limit: limit + 1 })];
      const shown = found.slice(0, limit);
      await ctx.answer(
        shown.map(([key, value]) => ({ db, ...rowFields(db, key), wroteAt: snapshot.wroteAt(key), bytes: value.length })),
        shown.length === 0
          ? ""
          : formatTable([
              ["KEY", "OWNER", "BYTES", "VALUE"],
              ...shown.map(([key, value]) => [describeKey(db, key), keyOwner(db, key).owner, value.length, shortHex(value)]),
            ]),
      );
      if (found.length > limit) ctx.note(`there are more: --limit is ${limit}`);
    });
  },
});

const storeDump = command({
  name: "store dump",
  summary: "Print every row of a database: key, and value as hex",
  args: [dbArg],
  options: [nodeOption, prefixOption],
  errors: ["NOT_FOUND", "UNKNOWN_NODE", "STORE_CORRUPT", "STORE_TRUNCATED"],
  examples: ["cairn store dump local", "cairn store dump log --node b --json"],
  async run(ctx) {
    const db = databaseNamed(ctx.args.db);
    const bounds = rangeOf(db, ctx.options.prefix);
    const dir = await oneFolder(ctx.options.node, ctx.cluster);
    await withDatabase(dir, db, async (database) => {
      let page: (readonly [Uint8Array, Uint8Array])[] = [];
      const print = async (): Promise<void> => {
        await ctx.answer(
          page.map(([key, value]) => ({ db, ...rowFields(db, key), bytes: value.length, value: toHex(value) })),
          page.map(([key, value]) => `${describeKey(db, key)} ${toHex(value)}`).join("\n"),
        );
        page = [];
      };
      for (const row of rowsOf(database, bounds)) {
        page.push(row);
        if (page.length === PAGE_COUNT) await print();
      }
      await print();
    });
  },
});

const storeCheck = command({
  name: "store check",
  summary: "Read every row of every database and compare it with its checksum",
  args: [{ name: "dir", optional: true, means: "a node's folder or name, or a cluster's folder; else every node of the cluster" }],
  options: [],
  errors: ["STORE_CORRUPT", "STORE_TRUNCATED", "NOT_FOUND", "UNKNOWN_NODE"],
  examples: ["cairn store check", "cairn store check ./cluster/b --json"],
  async run(ctx) {
    await eachCopy(ctx, await nodeFolders(ctx.args.dir, ctx.cluster), (dir) =>
      withDatabases(dir, DATABASES, async (databases) => {
        for (const database of databases) {
          const { db } = database;
          const { rows, bytes } = checkDatabase(database);
          await ctx.answer({ ok: true, dir, db, rows, bytes }, `${dir} ${db}: ${rows} rows, ${bytes} bytes, every checksum right`);
        }
      }),
    );
  },
});

/** Rows can also be lost whole: keys must ascend, and be as many as the database says. Each row's checksum is looked at by the read. */
function checkDatabase(database: OpenDatabase): { readonly rows: number; readonly bytes: number } {
  const { db, file } = database;
  const countBefore = readOr(file, database.keyCount);
  let last: Uint8Array = new Uint8Array(0);
  let rows = 0;
  let bytes = 0;
  for (const [key, value] of rowsOf(database)) {
    if (compareBytes(last, key) >= 0)
      throw new EngineError("STORE_CORRUPT", `${file}: key ${describeKey(db, key)} of ${db} comes behind ${describeKey(db, last)}`);
    last = key;
    rows++;
    bytes += key.length + value.length;
  }
  const count = readOr(file, database.keyCount);
  // While a node writes, the count moves away from the snapshot: then there is nothing to compare with.
  if (count === countBefore && count !== rows) throw new EngineError("STORE_CORRUPT", `${file}: ${rows} rows of ${db} can be read, ${count} are there`);
  return { rows, bytes };
}

const storeDigest = command({
  name: "store digest",
  summary: "Print a digest of each database: equal digests are equal stores",
  args: [{ name: "dir", optional: true, means: "a node's folder or name, or a cluster's folder; else every node of the cluster" }],
  options: [{ name: "db", form: DATABASES, value: "DB", means: "only this database" }],
  errors: ["STORE_CORRUPT", "STORE_TRUNCATED", "NOT_FOUND", "UNKNOWN_NODE"],
  examples: ["cairn store digest", "cairn store digest ./cluster/b --db replicated"],
  async run(ctx) {
    const { digestSnapshot } = await import("../engine/store/diff.ts");
    const wanted = ctx.options.db === undefined ? DATABASES : [ctx.options.db];
    for (const dir of await nodeFolders(ctx.args.dir, ctx.cluster))
      await withDatabases(dir, wanted, async (databases) => {
        for (const { db, file, snapshot } of databases) {
          const digest = toHex(readOr(file, () => digestSnapshot(snapshot)));
          await ctx.answer({ dir, db, digest }, `${digest}  ${dir} ${db}`);
        }
      });
  },
});

export const storeCommands = [storeGet, storeList, storeDump, storeCheck, storeDigest, storeDiff];
