/**
 * The mirrored store (sync.md section 2.4, `--paranoid`): an environment whose databases each have a twin in memory. Every
 * commit goes to both, every read and every step of an iterator is compared, after a commit the keys it touched are read
 * back, and every 1,000 commits the digest that was kept up is compared with one made from the disk. The first difference
 * names operation, key and both values, and is a broken invariant: the node stops. Never mirrors what other processes write.
 */
import { compareBytes, equalBytes, toHex } from "../base/bytes.ts";
import type { Batch, Row as StoredRow } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { BrokenInvariant } from "../base/invariant.ts";
import { DigestTree, digestTreeOf } from "./digest.ts";
import type { Environment, EnvironmentSnapshot } from "./lmdb.ts";
import { applyBatch, treeSnapshot } from "./memory.ts";
import { emptyTree, type Tree, treeGet, treeIterate, treePut } from "./tree.ts";
import type { RangeOptions, Store, StoreSnapshot } from "./types.ts";
import { keyText, payloadOf, wroteAtOf } from "./value.ts";

/** A twin takes about twice its live bytes of memory. */
export const MIRRORED_BYTES_MAX = 256 * 1_024 * 1_024;
const COMMITS_PER_DIGEST = 1_000;
const VALUE_SHOWN_BYTES = 32;
const DIGEST_SEED = 0;

type Row = readonly [key: Uint8Array, stored: Uint8Array];
type Mirror = {
  /** After the last commit whose promise was kept. */
  root: Tree;
  /** Asked for and not yet durable, oldest first. Each may be on disk a moment before its promise is kept. */
  readonly pending: { readonly batch: Batch; readonly wroteAt: number }[];
  readonly digests: DigestTree;
  commitCount: number;
};

/** Loads the twins from what is there. Only the databases named, of which this process is the only writer. */
export function mirrorEnvironment<Name extends string>(
  real: Environment<Name>,
  names: readonly NoInfer<Name>[],
  bytesMax = MIRRORED_BYTES_MAX,
): Environment<Name> {
  const mirrors = new Map(names.map((name) => [name, loadMirror(real.stores[name], bytesMax)]));
  const commit = async (batches: Readonly<Partial<Record<Name, Batch>>>, wroteAt = 0): Promise<void> => {
    const mine = [...mirrors].flatMap(([name, mirror]) =>
      batches[name] === undefined ? [] : [{ name, mirror, ask: { batch: ownBytes(batches[name]), wroteAt } }],
    );
    for (const { mirror, ask } of mine) mirror.pending.push(ask);
    try {
      await real.commit(batches, wroteAt);
    } catch (error) {
      for (const { mirror, ask } of mine) mirror.pending.splice(mirror.pending.indexOf(ask), 1);
      throw error;
    }
    for (const { name, mirror, ask } of mine) settle(real.stores[name], mirror, ask);
  };
  const snapshotOf = (name: Name, snapshot: StoreSnapshot): StoreSnapshot => {
    const mirror = mirrors.get(name);
    return mirror === undefined ? snapshot : new MirroredSnapshot(real.stores[name].name, snapshot, candidates(mirror));
  };
  const store = (name: Name): Store => ({
    ...real.stores[name],
    commit: (batch, wroteAt) => commit({ [name]: batch } as Partial<Record<Name, Batch>>, wroteAt),
    snapshot: () => snapshotOf(name, real.stores[name].snapshot()),
  });
  return {
    ...real,
    stores: Object.fromEntries((Object.keys(real.stores) as Name[]).map((name) => [name, store(name)])) as Record<Name, Store>,
    commit,
    snapshot(): EnvironmentSnapshot<Name> {
      const snapshot = real.snapshot();
      const stores = Object.fromEntries(Object.entries<StoreSnapshot>(snapshot.stores).map(([name, each]) => [name, snapshotOf(name as Name, each)]));
      return { stores: stores as Record<Name, StoreSnapshot>, [Symbol.dispose]: () => snapshot[Symbol.dispose]() };
    },
  };
}

function loadMirror(store: Store, bytesMax: number): Mirror {
  const { liveBytes } = store.stat();
  if (liveBytes > bytesMax) throw new EngineError("BAD_CONFIG", `${store.name}: ${liveBytes} live bytes, a store of at most ${bytesMax} is mirrored in memory`);
  using snapshot = store.snapshot();
  let root: Tree = emptyTree;
  for (const [key, stored] of snapshot.stored()) root = treePut(root, key, stored);
  return { root, pending: [], digests: new DigestTree(DIGEST_SEED), commitCount: 0 };
}

/** A commit is durable: the twin takes it, and both are asked for what it touched. */
function settle(store: Store, mirror: Mirror, ask: Mirror["pending"][number]): void {
  mirror.root = applyBatch(mirror.root, ask.batch, ask.wroteAt);
  mirror.pending.splice(mirror.pending.indexOf(ask), 1);
  mirror.digests.touch(ask.batch);
  mirror.commitCount++;
  const real = store.snapshot();
  try {
    const both = new MirroredSnapshot(store.name, real, candidates(mirror));
    for (const op of ask.batch) {
      if (op.op !== "delRange") both.wroteAt(op.key);
      else for (const _ of both.stored(op.key, op.end));
    }
    if (mirror.commitCount >= COMMITS_PER_DIGEST && mirror.pending.length === 0) compareDigests(store, mirror, real);
  } finally {
    real[Symbol.dispose]();
  }
}

function compareDigests(store: Store, mirror: Mirror, real: StoreSnapshot): void {
  mirror.commitCount = 0;
  using twin = treeSnapshot(mirror.root, `${store.name} (twin)`);
  const [kept, read] = [mirror.digests.tree(twin).digest, digestTreeOf(real, DIGEST_SEED).digest];
  if (!equalBytes(kept, read)) throw new BrokenInvariant(`broken invariant: ${store.name}: digest ${toHex(read)} on disk, ${toHex(kept)} kept up beside it`);
}

/** States that a snapshot taken now may show, oldest first. */
function candidates(mirror: Mirror): Tree[] {
  const roots = [mirror.root];
  for (const { batch, wroteAt } of mirror.pending) roots.push(applyBatch(roots.at(-1) ?? emptyTree, batch, wroteAt));
  return roots;
}

/** Reads of the disk, each compared with the twin; of several states that the twin may be in, those that fit remain. */
class MirroredSnapshot implements StoreSnapshot {
  private readonly name: string;
  private readonly real: StoreSnapshot;
  private twins: readonly Tree[];
  constructor(name: string, real: StoreSnapshot, twins: readonly Tree[]) {
    this.name = name;
    this.real = real;
    this.twins = twins;
  }
  get(key: Uint8Array): Uint8Array | undefined {
    const value = this.real.get(key);
    this.keepThose("get", key, value, (twin) => payloadIn(twin, key));
    return value;
  }
  peek(key: Uint8Array): Uint8Array | undefined {
    return this.get(key);
  }
  row(key: Uint8Array): StoredRow | undefined {
    const [value, wroteAt] = [this.get(key), this.wroteAt(key)];
    return value === undefined || wroteAt === undefined ? undefined : { value, wroteAt };
  }
  wroteAt(key: Uint8Array): number | undefined {
    const version = this.real.wroteAt(key);
    const text = (n: number | undefined): Uint8Array | undefined => (n === undefined ? undefined : Uint8Array.from(String(n), (c) => c.charCodeAt(0)));
    this.keepThose("wroteAt", key, text(version), (twin) => {
      const stored = treeGet(twin, key);
      return stored === undefined ? undefined : text(wroteAtOf(stored));
    });
    this.get(key);
    return version;
  }
  *iterate(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Generator<Row> {
    for (const [key, stored] of this.rows("iterate", from, to, options)) yield [key, payloadOf(stored)];
  }
  stored(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Generator<Row> {
    return this.rows("stored", from, to, options);
  }
  peekStored(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Generator<Row> {
    return this.rows("stored", from, to, options);
  }
  [Symbol.dispose](): void {
    this.real[Symbol.dispose]();
  }

  private *rows(operation: string, from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Generator<Row> {
    const sides = new Map(this.twins.map((twin) => [twin, treeIterate(twin, from, to, options)]));
    const real = this.real.stored(from, to, options)[Symbol.iterator]();
    try {
      for (;;) {
        const row = nextOf(real);
        const found = new Map<Tree, Row | null>();
        for (const [twin, rows] of sides) if (this.twins.includes(twin)) found.set(twin, nextOf(rows));
        const least = [row, ...found.values()].reduce((low, each) => (low === null || (each !== null && compareBytes(each[0], low[0]) < 0) ? each : low), row);
        this.keepThose(operation, least?.[0] ?? from ?? new Uint8Array(0), row === null ? undefined : flat(row), (twin) => {
          const other = found.get(twin) ?? null;
          return other === null ? undefined : flat(other);
        });
        if (row === null) return;
        yield row;
      }
    } finally {
      real.return?.();
    }
  }

  private keepThose(operation: string, key: Uint8Array, value: Uint8Array | undefined, valueIn: (twin: Tree) => Uint8Array | undefined): void {
    const fitting = this.twins.filter((twin) => isSame(value, valueIn(twin)));
    if (fitting.length === 0) {
      const kept = this.twins[0] === undefined ? undefined : valueIn(this.twins[0]);
      throw new BrokenInvariant(`broken invariant: ${this.name}: ${operation} ${keyText(key)}: ${shown(value)} on disk, ${shown(kept)} in memory`);
    }
    this.twins = fitting;
  }
}

const nextOf = (rows: Iterator<Row>): Row | null => {
  const next = rows.next();
  return next.done === true ? null : next.value;
};

function payloadIn(twin: Tree, key: Uint8Array): Uint8Array | undefined {
  const stored = treeGet(twin, key);
  return stored === undefined ? undefined : payloadOf(stored);
}

/** Key and stored value as one string of bytes; both sides have the same length of key where they are equal. */
function flat([key, stored]: Row): Uint8Array {
  const joined = new Uint8Array(2 + key.length + stored.length);
  joined[0] = key.length >> 8;
  joined[1] = key.length & 0xff;
  joined.set(key, 2);
  joined.set(stored, 2 + key.length);
  return joined;
}

const isSame = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean => (a === undefined || b === undefined ? a === b : equalBytes(a, b));
const shown = (value: Uint8Array | undefined): string =>
  value === undefined ? "nothing" : `${toHex(value.subarray(0, VALUE_SHOWN_BYTES))}${value.length > VALUE_SHOWN_BYTES ? "…" : ""} (${value.length} bytes)`;
/** The twin keeps keys and values; the caller's buffers may be reused. */
const ownBytes = (batch: Batch): Batch => structuredClone(batch);
