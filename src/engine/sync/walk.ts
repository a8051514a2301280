/**
 * How a delta copy finds out what differs (sync.md section 4.5): the provider's digest tree is walked in key order beside the
 * own one. Nodes that are equal here are passed; of the others the children are asked for; of a run the digests of its
 * rows, against which the own rows are held: those not listed go, those not found are wanted. Plain data; sends nothing and
 * writes nothing.
 */
import { compareBytes, equalBytes } from "../base/bytes.ts";
import type { Op } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { mutant } from "../base/mutant.ts";
import { decodeBatch } from "../store/batch.ts";
import { type DigestBuild, type DigestNode, findNode, itemDigest, newDigestBuild, rowsBetween } from "../store/digest.ts";
import { keyBehind, LAST_KEY } from "../store/keys.ts";
import type { StoreSnapshot } from "../store/types.ts";
import { encodeStored } from "../store/value.ts";
import type { AnswerOf } from "../wire/messages.ts";
import { ITEM_BYTES, RANGE_NODES_MAX } from "../wire/sync-messages.ts";

/** A node of the provider's tree: keys `(after, end]`. */
export type FarNode = { readonly level: number; readonly after: Uint8Array | null; readonly end: Uint8Array; readonly digest: Uint8Array };

/** `missing`: digests of rows that were not found here, with their places; all of them before the own rows are read. */
type FarRun = { readonly after: Uint8Array | null; readonly end: Uint8Array; readonly items: readonly string[]; readonly missing: Map<string, number> };

/** Runs that are made equal together. */
export type RunBatch = {
  readonly runs: readonly FarRun[];
  /** Runs whose own rows were read; in the next one, the first own key that was not. */
  readCount: number;
  readAt: Uint8Array | null;
  /** Own rows that the provider has not, in key order: `[from, to]` with none in between that stays. */
  stale: { from: Uint8Array; to: Uint8Array }[];
  /** Rows to fetch, in key order. */
  wanted: { readonly run: FarRun; readonly item: number }[];
};

export type Walk = {
  /** The provider's snapshot. */
  readonly version: number;
  readonly salt: Uint8Array;
  /** The own store as the walk found it: behind the cursor it is still so. */
  readonly view: number;
  readonly build: DigestBuild;
  at: Uint8Array;
  /** Null until every own row is digested. */
  own: DigestNode | null;
  /** The provider's; null until it said so. */
  root: FarNode | null;
  /** Not compared yet, the next one last. */
  readonly stack: FarNode[];
  /** What the question on its way is about. */
  asked: readonly FarNode[];
  batch: RunBatch | null;
  /** Of what differed, for people. */
  runCount: number;
  takenCount: number;
  erasedCount: number;
};

export const newWalk = (about: { version: number; salt: Uint8Array; view: number; seed: number }): Walk => ({
  ...{ version: about.version, salt: about.salt, view: about.view, build: newDigestBuild(about.seed), at: new Uint8Array(0) },
  ...{ own: null, root: null, stack: [], asked: [], batch: null, runCount: 0, takenCount: 0, erasedCount: 0 },
});

/** The nodes to ask about next: the first that differ, all of one level. None: everything was compared. `onEqual` is told of what is passed. */
export function nextNodes(walk: Walk, own: DigestNode, onEqual: (rowCount: number) => void): readonly FarNode[] {
  const nodes: FarNode[] = [];
  for (let node = walk.stack.at(-1); node !== undefined && nodes.length < RANGE_NODES_MAX; node = walk.stack.at(-1)) {
    const equal = equalNode(own, node);
    if (equal === null && nodes.length > 0 && nodes[0]?.level !== node.level) break;
    walk.stack.pop();
    if (equal === null) nodes.push(node);
    else onEqual(equal.rowCount);
  }
  return nodes;
}

/** Equal rows between equal bounds; an own row before them and behind `after` would be one that the provider has not. */
function equalNode(own: DigestNode, far: FarNode): DigestNode | null {
  const found = findNode(own, far.level, far.end);
  if (found === null || !equalBytes(found.node.digest, far.digest)) return null;
  const { node, after } = found;
  const isBare = after === null || (far.after !== null && compareBytes(after, far.after) <= 0);
  return isBare ? node : null;
}

/** What RANGE_DIGESTS says of the nodes asked about. Throws FRAME_CORRUPT where it cannot be so. */
export function takeDigests(walk: Walk, { level, groups }: AnswerOf<"sync.range-digests">): void {
  const { asked } = walk;
  if (groups.length === 0 || groups.length > Math.max(1, asked.length)) throw wrong(`${groups.length} groups for ${asked.length} nodes`);
  if (walk.root === null) {
    const [only, ...more] = groups[0]?.nodes ?? [];
    if (only === undefined || more.length > 0) throw wrong("a tree has one root");
    walk.root = { level, after: null, end: only.end.slice(), digest: only.digest };
    walk.stack.push(walk.root);
    return;
  }
  walk.asked = [];
  for (const node of asked.slice(groups.length).reverse()) walk.stack.push(node);
  const answered = asked.slice(0, groups.length);
  if (answered[0]?.level === 0) {
    walk.batch = newBatch(answered.map((node, at) => runOf(node, groups[at]?.items ?? new Uint8Array(0))));
    walk.runCount += answered.length;
    return;
  }
  for (let at = answered.length - 1; at >= 0; at--) {
    const parent = answered[at] as FarNode;
    for (const child of childrenOf(parent, groups[at]?.nodes ?? []).reverse()) walk.stack.push(child);
  }
}

function childrenOf(parent: FarNode, said: AnswerOf<"sync.range-digests">["groups"][number]["nodes"]): FarNode[] {
  let { after } = parent;
  const children: FarNode[] = [];
  for (const { end, digest } of said) {
    if (after !== null && compareBytes(end, after) <= 0) throw wrong("the children of a node do not ascend");
    children.push({ level: parent.level - 1, after, end: end.slice(), digest });
    after = end.slice();
  }
  if (after === null || !equalBytes(after, parent.end) || children.length === 0) throw wrong("the children of a node end where it does");
  return children;
}

function runOf({ after, end }: FarNode, packed: Uint8Array): FarRun {
  if (packed.length === 0 || packed.length % ITEM_BYTES !== 0) throw wrong(`${packed.length} bytes of digests`);
  const items = Array.from({ length: packed.length / ITEM_BYTES }, (_, at) => packed.slice(at * ITEM_BYTES, (at + 1) * ITEM_BYTES).toHex());
  return { after, end, items, missing: new Map(items.map((item, at) => [item, at])) };
}

const newBatch = (runs: readonly FarRun[]): RunBatch => ({ runs, readCount: 0, readAt: null, stale: [], wanted: [] });

/** Holds own rows against the lists, so many at most; true when all were. */
export function readOwn(walk: Walk, batch: RunBatch, view: StoreSnapshot, rowsMax: number): boolean {
  let left = rowsMax;
  for (let run = batch.runs[batch.readCount]; run !== undefined; run = batch.runs[batch.readCount]) {
    let span: { from: Uint8Array; to: Uint8Array } | null = null;
    const rows =
      batch.readAt === null ? rowsBetween(view, run.after, run.end, left + 1) : view.stored(batch.readAt, keyBehind(run.end) ?? undefined, { limit: left + 1 });
    for (const [key, stored] of rows) {
      if (left-- === 0) {
        batch.readAt = key;
        return false;
      }
      if (run.missing.delete(itemDigest(walk.salt, key, stored, ITEM_BYTES).toHex())) {
        span = null;
        continue;
      }
      walk.erasedCount++;
      if (span !== null) span.to = key;
      else {
        span = { from: key, to: key };
        batch.stale.push(span);
      }
    }
    for (const item of run.missing.values()) batch.wanted.push({ run, item });
    batch.readCount++;
    batch.readAt = null;
  }
  return true;
}

/** The first rows wanted, as RANGE_WANT names them. */
export function wantedRuns({ wanted }: RunBatch, countMax: number): { readonly end: Uint8Array; readonly items: readonly number[] }[] {
  const runs: { end: Uint8Array; items: number[] }[] = [];
  for (const { run, item } of wanted.slice(0, countMax)) {
    const last = runs.at(-1);
    if (last !== undefined && last.end === run.end) last.items.push(item);
    else runs.push({ end: run.end, items: [item] });
  }
  return runs;
}

/** The rows of RANGE_ROWS, each of them the one that was listed; they are wanted no more. Throws FRAME_CORRUPT. */
export function takeRows(walk: Walk, batch: RunBatch, raw: Uint8Array): readonly Op[] {
  const { batch: ops, prev } = decodeBatch(raw);
  if (prev !== null || ops.length === 0 || ops.length > batch.wanted.length) throw wrong(`${ops.length} rows, ${batch.wanted.length} are wanted`);
  let before: Uint8Array | null = null;
  for (const [at, op] of ops.entries()) {
    if (op.op !== "put" || op.wroteAt === undefined) throw wrong(`copied rows were wanted, not ${op.op}`);
    const { run, item } = batch.wanted[at] as RunBatch["wanted"][number];
    const digest = itemDigest(walk.salt, op.key, encodeStored(op.key, op.value, op.wroteAt), ITEM_BYTES).toHex();
    if (digest !== run.items[item] || (before !== null && compareBytes(op.key, before) <= 0)) throw wrong(`${op.key.toHex()} is not the row that was listed`);
    before = op.key;
  }
  batch.wanted = batch.wanted.slice(ops.length);
  walk.takenCount += ops.length;
  return ops;
}

/** Deletions up to a key: what is behind it stays for later. */
export function erasures(batch: RunBatch, upTo: Uint8Array): Op[] {
  if (mutant("sync.delta-keeps-stale")) return [];
  const ops: Op[] = [];
  const later: RunBatch["stale"] = [];
  for (const { from, to } of batch.stale) {
    const next = compareBytes(to, upTo) <= 0 ? null : keyBehind(upTo);
    if (compareBytes(from, upTo) > 0) later.push({ from, to });
    else if (next === null) ops.push(...erase(from, to));
    else {
      ops.push({ op: "delRange", key: from, end: next });
      later.push({ from: next, to });
    }
  }
  batch.stale = later;
  return ops;
}

const erase = (from: Uint8Array, to: Uint8Array): Op[] => (from === to ? [] : [{ op: "delRange", key: from, end: to } as Op]).concat({ op: "del", key: to });

/** Everything behind the provider's last key. */
export function eraseBehind(last: Uint8Array): readonly Op[] {
  const from = keyBehind(last);
  return from === null
    ? []
    : [
        { op: "delRange", key: from, end: LAST_KEY },
        { op: "del", key: LAST_KEY },
      ];
}

const wrong = (what: string): EngineError => new EngineError("FRAME_CORRUPT", `digests of ranges: ${what}`);
