/**
 * The memory twin (sync.md section 2.3): the store contract over a persistent tree. A commit builds a new root and swaps
 * it in; a snapshot is a root, free to take and to keep. Values rest in the same stored form as in LMDB, checksum
 * included. The simulator keeps roots of its own and uses `applyBatch` and `treeSnapshot` directly.
 */
import type { Batch } from "../base/effects.ts";
import { invariant, unreachable } from "../base/invariant.ts";
import { mutant } from "../base/mutant.ts";
import { checkBatch } from "./batch.ts";
import { StoredSnapshot } from "./stored-snapshot.ts";
import { emptyTree, type Tree, treeBytes, treeCount, treeDel, treeDelRange, treeGet, treeIterate, treePut } from "./tree.ts";
import type { RangeOptions, Store, StoreSnapshot, StoreStat } from "./types.ts";
import { encodeStored } from "./value.ts";

/** The tree after one batch, operations in list order. Keys are kept as given; values are copied into their stored form. */
export function applyBatch(tree: Tree, batch: Batch, wroteAt: number): Tree {
  let next = tree;
  for (const op of batch) {
    switch (op.op) {
      case "put":
        next = treePut(next, op.key, encodeStored(op.key, op.value, op.wroteAt ?? wroteAt));
        break;
      case "del":
        next = treeDel(next, op.key);
        break;
      case "delRange":
        next = treeDelRange(next, op.key, op.end);
        if (mutant("store.range-end-inclusive")) next = treeDel(next, op.end);
        break;
      default:
        unreachable(op);
    }
    if (mutant("store.half-batch")) break;
  }
  return next;
}

/** Accounting of a root. It stands for a file that is never larger than what lives in it. */
export function treeStat(tree: Tree): Pick<StoreStat, "keyCount" | "liveBytes" | "fileBytes"> {
  const liveBytes = treeBytes(tree);
  return { keyCount: treeCount(tree), liveBytes, fileBytes: liveBytes };
}

/** Read access to a root. `onClose` is told once. */
export function treeSnapshot(tree: Tree, name: string, onClose?: () => void): StoreSnapshot {
  return new TreeSnapshot(tree, name, onClose);
}

class TreeSnapshot extends StoredSnapshot {
  private readonly tree: Tree;
  constructor(tree: Tree, name: string, onClose: (() => void) | undefined) {
    super(name, onClose);
    this.tree = tree;
  }
  protected override find(key: Uint8Array): Uint8Array | undefined {
    return treeGet(this.tree, key);
  }
  protected override *rows(from?: Uint8Array, to?: Uint8Array, options?: RangeOptions): Generator<readonly [Uint8Array, Uint8Array]> {
    for (const [key, stored] of treeIterate(this.tree, from, to, options)) yield [key.slice(), stored];
  }
}

export interface MemoryStore extends Store {
  /** The state after the last commit: keep it to come back to it. */
  root(): Tree;
}

/** `beforeCommit` may throw in place of the disk: the commit is then rejected and left nothing. */
export type MemoryOptions = { readonly name?: string; readonly root?: Tree; readonly beforeCommit?: (batch: Batch) => void };

export function openMemoryStore(options: MemoryOptions = {}): MemoryStore {
  const name = options.name ?? "memory";
  let root = options.root ?? emptyTree;
  let openCount = 0;
  let closed = false;
  return {
    name,
    root: () => root,
    async commit(batch: Batch, wroteAt = 0): Promise<void> {
      invariant(!closed, `${name} is open`);
      checkBatch(batch);
      options.beforeCommit?.(batch);
      root = applyBatch(root, batch.map(ownKey), wroteAt);
    },
    snapshot(): StoreSnapshot {
      invariant(!closed, `${name} is open`);
      openCount++;
      return treeSnapshot(root, name, () => openCount--);
    },
    stat: (): StoreStat => ({ keyCount: treeCount(root), fileBytes: 0, liveBytes: treeBytes(root), openSnapshotCount: openCount }),
    async close(): Promise<void> {
      closed = true;
    },
  };
}

/** The tree keeps keys for ever: the caller's buffer may be reused. */
const ownKey = (op: Batch[number]): Batch[number] => (op.op === "put" ? { ...op, key: op.key.slice() } : op);
