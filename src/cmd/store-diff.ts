/**
 * `cairn store diff`: how two stores differ (sync.md, table B row 5): data folders, running nodes, or one of each. Folders are
 * compared as they are. With --at running nodes first come to a version; then both sides are compared at the newest one that
 * both have, whatever is written meanwhile: keys that newer versions touched are counted and left out.
 */
import { compareBytes, equalBytes, toHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import type { Touched } from "../engine/gateway/store-rows.ts";
import { keyOwner } from "../engine/store/keys.ts";
import { type ClientNode, resolveCluster } from "./cluster.ts";
import { type AnyContext, command, type OptionSpec } from "./spec.ts";
import { describeKey } from "./store-key.ts";
import { type Bounds, DATABASES, type Database, databaseNamed, nodeFolder, withDatabase } from "./store-open.ts";
import { LIST_COUNT, prefixOption, rangeOf } from "./store-range.ts";
import { folderSide, liveSide, type Side, type SideRow } from "./store-side.ts";

type Difference = { readonly kind: "only-in-a" | "only-in-b" | "changed"; readonly key: Uint8Array; readonly a: SideRow | null; readonly b: SideRow | null };

const sideMeans = "a node's folder, its name in the cluster, or http://HOST:PORT of its admin port";
const liveOption = { name: "live", form: "flag", means: "ask nodes that are named over their admin ports, not in their folders" } as const satisfies OptionSpec;

export const storeDiff = command({
  name: "store diff",
  summary: "List the keys in which two stores differ; exit 8 where there are any",
  args: [
    { name: "a", means: sideMeans },
    { name: "b", means: "another" },
  ],
  options: [
    { name: "db", form: DATABASES, value: "DB", default: "replicated", means: "which database; only `replicated` is to be equal on all nodes" },
    prefixOption,
    { name: "limit", form: "count", value: "N", default: LIST_COUNT, means: "list at most so many; all are counted" },
    { name: "values", form: "flag", means: "show both values, as hex" },
    liveOption,
    { name: "at", form: "count", value: "V", means: "wait until both have version V, and compare what both have; nodes that are named are asked live" },
  ],
  errors: ["DIFFERENCES", "STORE_CORRUPT", "STORE_TRUNCATED", "SYNC_TRIMMED", "NOT_FOUND", "UNKNOWN_NODE", "NOT_READY", "UNAVAILABLE", "TIMEOUT"],
  examples: ["cairn store diff a b", "cairn store diff ./cluster/a ./restored/a --db log --values", "cairn store diff a c --at 120"],
  async run(ctx) {
    const { limit, values, live, at } = ctx.options;
    const db = databaseNamed(ctx.options.db);
    if (at !== undefined && db !== "replicated") throw new EngineError("USAGE", `--at: ${db} has no versions`);
    const asked: Asked = {
      cluster: ctx.cluster,
      timeoutMs: ctx.timeoutMs,
      db,
      bounds: rangeOf(db, ctx.options.prefix),
      hasValues: values,
      isLive: live || at !== undefined,
      at: at ?? 0,
    };
    await withSide(ctx.args.a, asked, (a) =>
      withSide(ctx.args.b, asked, async (b) => {
        const common = at === undefined ? null : await commonOf(a, b, at);
        const found = { count: 0, left: 0, rows: 0 };
        for await (const each of differences(a, b, common, found)) {
          if (found.count++ >= limit) continue;
          await ctx.answer(differenceRow(db, each, values), differenceText(db, each, values));
        }
        if (found.count > limit) ctx.note(`${found.count - limit} more are not listed: --limit is ${limit}`);
        const where = common === null ? "" : ` at version ${common.version}`;
        if (found.left > 0) ctx.note(`${found.left} keys were written behind it and are not compared`);
        if (found.count > 0)
          throw new EngineError("DIFFERENCES", `${a.name} and ${b.name} differ in ${found.count} ${found.count === 1 ? "key" : "keys"} of ${db}${where}`);
        const version = common === null ? {} : { version: common.version, left: found.left };
        const text = `${db} of ${a.name} and ${b.name}: equal${where}${found.rows === 0 ? ", no key on either side" : ""}`;
        await ctx.answer({ db, equal: true, a: a.name, b: b.name, ...version }, text);
      }),
    );
  },
});

type Asked = Pick<AnyContext, "cluster" | "timeoutMs"> & {
  readonly db: Database;
  readonly bounds: Bounds;
  readonly hasValues: boolean;
  readonly isLive: boolean;
  readonly at: number;
};

async function withSide(given: string, asked: Asked, work: (side: Side) => Promise<void>): Promise<void> {
  const node = await liveNode(given, asked);
  if (node !== null) {
    if (asked.db !== "replicated") throw new EngineError("USAGE", `${given} is asked live: only \`replicated\` can be, not ${asked.db}`);
    return work(await liveSide(node, asked));
  }
  const dir = await nodeFolder(given, asked.cluster);
  await withDatabase(dir, asked.db, (database) => work(folderSide(dir, database, asked)));
}

/** A node that is addressed, or named and to be asked live; null for a folder. */
async function liveNode(given: string, { isLive, cluster }: Asked): Promise<ClientNode | null> {
  if (/^https?:\/\//.test(given)) return (await resolveCluster(given)).nodes[0] ?? null;
  if (given.includes("/")) return null;
  const { nodes } = await resolveCluster(cluster).catch((error: unknown) => {
    if (isLive) throw error;
    return { nodes: [] };
  });
  const known = nodes.find(({ id }) => id === given);
  if (known === undefined) return null;
  return isLive || known.dir === null ? known : null;
}

// ------------------------------------------------------------------ one version for both

type Common = { readonly version: number; has(key: Uint8Array): boolean };

/** The newest version that both sides show, and which keys the further one changed behind it. */
async function commonOf(a: Side, b: Side, at: number): Promise<Common> {
  for (const { name, last } of [a, b]) if ((last ?? 0) < at) throw new EngineError("NOT_READY", `version ${at} is asked for, ${name} ends at ${last}`);
  const version = Math.min(a.last ?? 0, b.last ?? 0);
  const sets = await Promise.all([a, b].map((side) => (side.last === version ? NOTHING : side.touchedBehind(version))));
  const keys = new Set(sets.flatMap(({ keys }) => keys.map(toHex)));
  const ranges = sets.flatMap((set) => set.ranges);
  const isWithin = (key: Uint8Array): boolean => ranges.some(([from, to]) => compareBytes(from, key) <= 0 && compareBytes(key, to) < 0);
  return { version, has: (key) => keys.has(toHex(key)) || isWithin(key) };
}

const NOTHING: Touched = { keys: [], ranges: [] };

/** One ordered walk over both sides, in constant memory. */
async function* differences(a: Side, b: Side, common: Common | null, seen: { left: number; rows: number }): AsyncGenerator<Difference> {
  const left = a.rows()[Symbol.asyncIterator]();
  const right = b.rows()[Symbol.asyncIterator]();
  try {
    let x = await next(left);
    let y = await next(right);
    while (x !== null || y !== null) {
      seen.rows++;
      const order = x === null ? 1 : y === null ? -1 : compareBytes(x.key, y.key);
      const [onlyA, onlyB] = [order <= 0 ? x : null, order >= 0 ? y : null];
      const key = (onlyA ?? onlyB)?.key ?? new Uint8Array(0);
      if (common?.has(key) === true) seen.left++;
      else if (onlyA === null || onlyB === null) yield { kind: onlyA === null ? "only-in-b" : "only-in-a", key, a: onlyA, b: onlyB };
      else if (!isSame(onlyA, onlyB)) yield { kind: "changed", key, a: onlyA, b: onlyB };
      if (order <= 0) x = await next(left);
      if (order >= 0) y = await next(right);
    }
  } finally {
    await left.return?.();
    await right.return?.();
  }
}

async function next(rows: AsyncIterator<SideRow>): Promise<SideRow | null> {
  const { done, value } = await rows.next();
  return done === true ? null : value;
}

/** Equal version and checksum are equal bytes; where the bytes are here they are compared too, so that a crafted checksum hides nothing. */
function isSame(a: SideRow, b: SideRow): boolean {
  if (a.stored !== null && b.stored !== null) return equalBytes(a.stored, b.stored);
  return a.wroteAt === b.wroteAt && a.valueBytes === b.valueBytes && equalBytes(a.checksum, b.checksum);
}

// ------------------------------------------------------------------ what is shown

function differenceRow(db: string, { kind, key, a, b }: Difference, hasValues: boolean): object {
  const side = (row: SideRow | null): object | null =>
    row === null ? null : { valueBytes: row.valueBytes, wroteAt: row.wroteAt, ...(hasValues && row.value !== null ? { value: toHex(row.value) } : {}) };
  return { db, kind, key: describeKey(db, key), ...keyOwner(db, key), a: side(a), b: side(b) };
}

function differenceText(db: string, { kind, key, a, b }: Difference, hasValues: boolean): string {
  const side = (name: string, row: SideRow | null): string[] =>
    row === null ? [] : [`  ${name}: ${row.valueBytes} bytes, written at ${row.wroteAt}${hasValues && row.value !== null ? `, ${toHex(row.value)}` : ""}`];
  return [`${kind} ${describeKey(db, key)} (${keyOwner(db, key).owner})`, ...side("a", a), ...side("b", b)].join("\n");
}
