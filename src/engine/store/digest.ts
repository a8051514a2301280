/**
 * The digest tree of a store (sync.md section 2.6): equal rows give equal trees, whatever their history. A key ends a run at
 * level k when the low 4·k bits of its XXH3-64 are zero, so runs and inner nodes average 16 members. SHA-256, cut to 16
 * bytes: a run's over 0, then (key length u16, key, checksum 8 bytes, wroteAt u64) of each row; a node's over its level and
 * its children's digests. Kept in memory only; a commit marks the paths of the keys it touches, a question recomputes those.
 * Hot path: a scan costs one hash of each key and one SHA-256 of each run.
 */
import { compareBytes, equalBytes } from "../base/bytes.ts";
import type { Batch } from "../base/effects.ts";
import { mutant } from "../base/mutant.ts";
import type { StoreSnapshot } from "./types.ts";
import { STORED_HEADER_BYTES } from "./value.ts";

export const DIGEST_BYTES = 16;
const LEVEL_BITS = 4;
/** Of 32 hash bits: 16^8 keys stand below a node of this level. */
const LEVEL_MAX = 8;
/** What a run hashes of each stored value: checksum and version, which lie side by side behind the format byte. */
const STAMP_AT = 1;
const STAMP_BYTES = STORED_HEADER_BYTES - STAMP_AT;
const RUN_BYTES = 4_096;

export type DigestNode = {
  /** 0 is a run of rows. */
  readonly level: number;
  /** Its last key; null in the empty tree. */
  readonly end: Uint8Array | null;
  /** Level at which its last key ends a run. Above `level`: nothing that comes behind belongs to this node. */
  readonly endLevel: number;
  readonly rowCount: number;
  readonly digest: Uint8Array;
  readonly children: readonly DigestNode[];
  /** A key of it was touched since the digest was computed. */
  dirty: boolean;
};

/** Keys `(after, upTo]`; null is the open end. */
export type DigestRange = { readonly after: Uint8Array | null; readonly upTo: Uint8Array | null };

/** A tree that is being built from rows in key order. Plain data: a scan may be cut into steps. */
export type DigestBuild = {
  readonly seed: number;
  /** Bytes of the run that is open: `[0, used)`. */
  run: Uint8Array;
  used: number;
  rowCount: number;
  lastKey: Uint8Array | null;
  /** By level: finished nodes that their parent still waits for. */
  groups: DigestNode[][];
};

/** `seed` (u32, from the cluster's id) keeps strangers from choosing keys that end no run. */
export const newDigestBuild = (seed: number): DigestBuild => ({ seed, run: new Uint8Array(RUN_BYTES), used: 1, rowCount: 0, lastKey: null, groups: [] });

/** The next row; `stored` is its value in stored form. */
export function digestRow(build: DigestBuild, key: Uint8Array, stored: Uint8Array): void {
  const end = build.used + 2 + key.length + STAMP_BYTES;
  if (end > build.run.length) build.run = grown(build.run, end);
  const { run } = build;
  let at = build.used;
  run[at++] = key.length >> 8;
  run[at++] = key.length & 0xff;
  run.set(key, at);
  at += key.length;
  for (let i = 0; i < STAMP_BYTES; i++) run[at + i] = stored[STAMP_AT + i] as number;
  build.used = end;
  build.rowCount++;
  build.lastKey = key;
  const level = levelOf(key, build.seed);
  if (level > 0) closeRun(build, level);
}

/** The root. The build is of no further use. */
export function finishDigest(build: DigestBuild): DigestNode {
  if (build.rowCount > 0) closeRun(build, 0);
  for (let level = 0; level < build.groups.length; level++) {
    const group = build.groups[level] as DigestNode[];
    const [only] = group;
    if (only === undefined) continue;
    if (group.length === 1 && level === build.groups.length - 1) return only;
    build.groups[level] = [];
    addNode(build, parentOf(group));
  }
  return { level: 0, end: null, endLevel: 0, rowCount: 0, digest: digestOf(build.run.subarray(0, 1)), children: [], dirty: false };
}

/** The tree of a whole store, from nothing. */
export function digestTreeOf(snapshot: StoreSnapshot, seed: number): DigestNode {
  const build = newDigestBuild(seed);
  for (const [key, stored] of snapshot.peekStored()) digestRow(build, key, stored);
  return finishDigest(build);
}

/** A node of a tree by its level and last key, and the last key before it. Null where there is no such node. */
export function findNode(root: DigestNode, level: number, end: Uint8Array): { readonly node: DigestNode; readonly after: Uint8Array | null } | null {
  let node = root;
  let after: Uint8Array | null = null;
  while (node.level > level) {
    const at = childAt(node.children, end);
    after = node.children[at - 1]?.end ?? after;
    const child = node.children[at];
    if (child === undefined) return null;
    node = child;
  }
  return node.level === level && node.end !== null && equalBytes(node.end, end) ? { node, after } : null;
}

/** The rows of a run. */
export const rowsBetween = (snapshot: StoreSnapshot, after: Uint8Array | null, end: Uint8Array, limit?: number): ReturnType<StoreSnapshot["stored"]> =>
  snapshot.stored(after === null ? undefined : justBehind(after), justBehind(end), limit === undefined ? {} : { limit });

/** A short digest of one row, for lists that are compared once: SHA-256 over salt, key and stamp, cut to `length` bytes. */
export function itemDigest(salt: Uint8Array, key: Uint8Array, stored: Uint8Array, length: number): Uint8Array {
  const item = new Uint8Array(salt.length + key.length + STAMP_BYTES);
  item.set(salt);
  item.set(key, salt.length);
  for (let i = 0; i < STAMP_BYTES; i++) item[salt.length + key.length + i] = stored[STAMP_AT + i] as number;
  const full = new Uint8Array(32);
  Bun.SHA256.hash(item, full);
  return full.slice(0, length);
}

/** The tree beside one store: told of every commit, it answers for the newest state at the cost of what changed. */
export class DigestTree {
  private readonly seed: number;
  private root: DigestNode;
  constructor(seed: number) {
    this.seed = seed;
    this.root = { ...finishDigest(newDigestBuild(seed)), dirty: true };
  }

  /** A batch that was committed. */
  touch(batch: Batch): void {
    for (const op of batch) {
      if (op.op === "put") markKey(this.root, op.key);
      else if (mutant("digest.forgets-deletes")) continue;
      else if (op.op === "del") markKey(this.root, op.key);
      else markRange(this.root, op.key, op.end);
    }
  }

  /** The tree of this snapshot, which shows exactly the commits that `touch` was told of. */
  tree(snapshot: StoreSnapshot): DigestNode {
    if (!this.root.dirty) return this.root;
    const build = newDigestBuild(this.seed);
    rebuild(build, this.root, null, true, snapshot);
    this.root = finishDigest(build);
    return this.root;
  }
}

/** Walks two trees top down and yields what is to be compared key by key: nothing where they are equal. */
export function* differingRanges(a: DigestNode, b: DigestNode, onCompare?: () => void): Generator<DigestRange> {
  const [left, right] = [new Frontier(a), new Frontier(b)];
  let after: Uint8Array | null = null;
  for (let [x, y] = [left.head, right.head]; x !== undefined && y !== undefined; [x, y] = [left.head, right.head]) {
    if (x.level !== y.level) {
      (x.level > y.level ? left : right).descend();
      continue;
    }
    onCompare?.();
    if (equalBytes(x.digest, y.digest)) {
      left.pass();
      right.pass();
    } else if (x.level > 0) {
      left.descend();
      right.descend();
      continue;
    } else yield { after, upTo: realign(left, right) };
    after = left.passed;
  }
  if (left.head !== undefined || right.head !== undefined) yield { after, upTo: null };
}

/** Nodes of one tree from left to right, the first of them split as far as was asked for. */
class Frontier {
  private readonly stack: DigestNode[];
  /** The last key behind us. */
  passed: Uint8Array | null = null;
  constructor(root: DigestNode) {
    this.stack = [root];
  }
  get head(): DigestNode | undefined {
    return this.stack.at(-1);
  }
  descend(): void {
    const { children = [] } = this.stack.pop() ?? {};
    for (let i = children.length - 1; i >= 0; i--) this.stack.push(children[i] as DigestNode);
  }
  pass(): void {
    this.passed = this.stack.pop()?.end ?? null;
  }
  /** Passes one run. */
  passRun(): void {
    while ((this.head?.level ?? 0) > 0) this.descend();
    this.pass();
  }
}

/** Passes runs of both sides until both end with the same key; null where a side came to its end before. */
function realign(left: Frontier, right: Frontier): Uint8Array | null {
  left.passRun();
  right.passRun();
  for (;;) {
    const [a, b] = [left.passed, right.passed];
    if (a === null || b === null) return drain(left, right);
    const order = compareBytes(a, b);
    if (order === 0) return a;
    const behind = order < 0 ? left : right;
    if (behind.head === undefined) return drain(left, right);
    behind.passRun();
  }
}

function drain(left: Frontier, right: Frontier): null {
  for (const side of [left, right]) while (side.head !== undefined) side.pass();
  return null;
}

// ------------------------------------------------------------------ building

function levelOf(key: Uint8Array, seed: number): number {
  const low = Number(Bun.hash.xxHash3(key, BigInt(seed)) & 0xffff_ffffn);
  if (low === 0) return LEVEL_MAX;
  return Math.floor((31 - Math.clz32(low & -low)) / LEVEL_BITS);
}

function closeRun(build: DigestBuild, endLevel: number): void {
  const { run, used, rowCount, lastKey: end } = build;
  addNode(build, { level: 0, end, endLevel, rowCount, digest: digestOf(run.subarray(0, used)), children: [], dirty: false });
  build.used = 1; // the first byte is the level
  build.rowCount = 0;
}

/** Where the node's last key ends a run of its parent's level too, the parent is complete. */
function addNode(build: DigestBuild, node: DigestNode): void {
  while (build.groups.length <= node.level) build.groups.push([]);
  const group = build.groups[node.level] as DigestNode[];
  group.push(node);
  if (node.endLevel < node.level + 2) return;
  build.groups[node.level] = [];
  addNode(build, parentOf(group));
}

function parentOf(children: readonly DigestNode[]): DigestNode {
  const last = children.at(-1) as DigestNode;
  const level = last.level + 1;
  const joined = new Uint8Array(1 + children.length * DIGEST_BYTES);
  joined[0] = level;
  let rowCount = 0;
  for (const [at, child] of children.entries()) {
    joined.set(child.digest, 1 + at * DIGEST_BYTES);
    rowCount += child.rowCount;
  }
  return { level, end: last.end, endLevel: last.endLevel, rowCount, digest: digestOf(joined), children, dirty: false };
}

function digestOf(bytes: Uint8Array): Uint8Array {
  const full = new Uint8Array(32);
  Bun.SHA256.hash(bytes, full);
  return full.slice(0, DIGEST_BYTES);
}

function grown(run: Uint8Array, length: number): Uint8Array {
  const larger = new Uint8Array(Math.max(length, run.length * 2));
  larger.set(run);
  return larger;
}

// ------------------------------------------------------------------ keeping up

/** Children cover the key space without holes: each from behind the one before it to its own end, the last one all the rest. */
function markKey(root: DigestNode, key: Uint8Array): void {
  let node: DigestNode | undefined = root;
  while (node !== undefined) {
    node.dirty = true;
    node = node.children[childAt(node.children, key)];
  }
}

function markRange(node: DigestNode, from: Uint8Array, to: Uint8Array): void {
  if (compareBytes(from, to) >= 0) return;
  node.dirty = true;
  for (let at = childAt(node.children, from); at < node.children.length; at++) {
    const before = node.children[at - 1]?.end ?? null;
    if (before !== null && compareBytes(before, to) >= 0) return;
    markRange(node.children[at] as DigestNode, from, to);
  }
}

/** Index of the child that a key belongs to. */
function childAt(children: readonly DigestNode[], key: Uint8Array): number {
  let low = 0;
  let high = children.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    const end = children[middle]?.end ?? null;
    if (end !== null && compareBytes(end, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Feeds an old tree into a build: whole nodes where they are clean, complete and begin where the build stands, else their
 * children, and at the bottom the rows of the snapshot. A run whose last key was deleted so flows into the one behind it.
 */
function rebuild(build: DigestBuild, node: DigestNode, after: Uint8Array | null, isLast: boolean, snapshot: StoreSnapshot): void {
  if (!node.dirty && node.endLevel > node.level && standsAt(build, node.level)) {
    addNode(build, node);
    return;
  }
  if (node.level === 0) {
    const from = after === null ? undefined : justBehind(after);
    const to = isLast || node.end === null ? undefined : justBehind(node.end);
    for (const [key, stored] of snapshot.peekStored(from, to)) digestRow(build, key, stored);
    return;
  }
  let before = after;
  for (const [at, child] of node.children.entries()) {
    rebuild(build, child, before, isLast && at === node.children.length - 1, snapshot);
    before = child.end;
  }
}

/** Whether nothing below `level` is open: a node of that level may follow. */
function standsAt(build: DigestBuild, level: number): boolean {
  if (build.rowCount > 0) return false;
  for (let below = 0; below < level; below++) if ((build.groups[below]?.length ?? 0) > 0) return false;
  return true;
}

function justBehind(key: Uint8Array): Uint8Array {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}
