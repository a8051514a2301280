/**
 * A persistent ordered map from byte strings to byte strings: nodes never change, every update shares what it did not
 * touch, so a root is a snapshot and a thousand of them are cheap. Weight-balanced (Nievergelt and Reingold, with the
 * proven parameters 3 and 2 of Hirai and Yamamoto); ranges go by split and join. Plain data: a root can be cloned.
 * Keys and values are kept as given and never copied: neither the giver nor a reader may change them.
 */
import { compareBytes } from "../base/bytes.ts";

export type TreeNode = {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly left: Tree;
  readonly right: Tree;
  /** Of this subtree. */
  readonly count: number;
  /** Keys and values of this subtree. */
  readonly bytes: number;
};
export type Tree = TreeNode | null;
export type TreeRow = readonly [key: Uint8Array, value: Uint8Array];

export const emptyTree: Tree = null;

/** A subtree may outweigh its sibling this many times. */
const DELTA = 3;
/** Above this ratio of grandchildren one rotation would not restore balance: two are made. */
const RATIO = 2;

export const treeCount = (tree: Tree): number => (tree === null ? 0 : tree.count);
export const treeBytes = (tree: Tree): number => (tree === null ? 0 : tree.bytes);

export function treeGet(tree: Tree, key: Uint8Array): Uint8Array | undefined {
  let at = tree;
  while (at !== null) {
    const order = compareBytes(key, at.key);
    if (order === 0) return at.value;
    at = order < 0 ? at.left : at.right;
  }
  return undefined;
}

export function treePut(tree: Tree, key: Uint8Array, value: Uint8Array): TreeNode {
  if (tree === null) return node(key, value, null, null);
  const order = compareBytes(key, tree.key);
  if (order < 0) return balance(tree.key, tree.value, treePut(tree.left, key, value), tree.right);
  if (order > 0) return balance(tree.key, tree.value, tree.left, treePut(tree.right, key, value));
  return node(key, value, tree.left, tree.right);
}

/** The same tree where there is no such key. */
export function treeDel(tree: Tree, key: Uint8Array): Tree {
  if (tree === null) return null;
  const order = compareBytes(key, tree.key);
  if (order < 0) {
    const left = treeDel(tree.left, key);
    return left === tree.left ? tree : balance(tree.key, tree.value, left, tree.right);
  }
  if (order > 0) {
    const right = treeDel(tree.right, key);
    return right === tree.right ? tree : balance(tree.key, tree.value, tree.left, right);
  }
  return join(tree.left, tree.right);
}

/** Without the keys of `[from, to)`. */
export function treeDelRange(tree: Tree, from: Uint8Array, to: Uint8Array): Tree {
  if (compareBytes(from, to) >= 0) return tree;
  return join(below(tree, from), atLeast(tree, to));
}

/** Rows of `[from, to)`, the whole space without bounds; from the high end when `reverse`. */
export function* treeIterate(tree: Tree, from?: Uint8Array, to?: Uint8Array, options: { reverse?: boolean; limit?: number } = {}): Generator<TreeRow> {
  const reverse = options.reverse ?? false;
  let left = options.limit ?? Number.POSITIVE_INFINITY;
  const stack: TreeNode[] = [];
  descend(stack, tree, reverse ? to : from, reverse);
  for (let at = stack.pop(); at !== undefined && left > 0; at = stack.pop(), left--) {
    if (reverse ? from !== undefined && compareBytes(at.key, from) < 0 : to !== undefined && compareBytes(at.key, to) >= 0) return;
    yield [at.key, at.value];
    descend(stack, reverse ? at.left : at.right, undefined, reverse);
  }
}

/** Stacks the path to the first row at or behind `bound` (strictly below it when `reverse`). */
function descend(stack: TreeNode[], tree: Tree, bound: Uint8Array | undefined, reverse: boolean): void {
  let at = tree;
  while (at !== null) {
    const inside = bound === undefined || compareBytes(at.key, bound) < 0 === reverse;
    if (inside) stack.push(at);
    at = inside === reverse ? at.right : at.left;
  }
}

function node(key: Uint8Array, value: Uint8Array, left: Tree, right: Tree): TreeNode {
  const count = 1 + treeCount(left) + treeCount(right);
  return { key, value, left, right, count, bytes: key.length + value.length + treeBytes(left) + treeBytes(right) };
}

/** A node whose subtrees may be off balance by one insertion or removal. */
function balance(key: Uint8Array, value: Uint8Array, left: Tree, right: Tree): TreeNode {
  const leftCount = treeCount(left);
  const rightCount = treeCount(right);
  if (leftCount + rightCount <= 1) return node(key, value, left, right);
  if (right !== null && rightCount > DELTA * leftCount) {
    const inner = right.left;
    if (inner === null || inner.count < RATIO * treeCount(right.right)) return node(right.key, right.value, node(key, value, left, inner), right.right);
    return node(inner.key, inner.value, node(key, value, left, inner.left), node(right.key, right.value, inner.right, right.right));
  }
  if (left !== null && leftCount > DELTA * rightCount) {
    const inner = left.right;
    if (inner === null || inner.count < RATIO * treeCount(left.left)) return node(left.key, left.value, left.left, node(key, value, inner, right));
    return node(inner.key, inner.value, node(left.key, left.value, left.left, inner.left), node(key, value, inner.right, right));
  }
  return node(key, value, left, right);
}

/** One tree of two of any weight with a row between them. */
function link(key: Uint8Array, value: Uint8Array, left: Tree, right: Tree): TreeNode {
  if (left === null || right === null) return right === null ? putLast(left, key, value) : putFirst(right, key, value);
  if (DELTA * left.count < right.count) return balance(right.key, right.value, link(key, value, left, right.left), right.right);
  if (DELTA * right.count < left.count) return balance(left.key, left.value, left.left, link(key, value, left.right, right));
  return node(key, value, left, right);
}

function putFirst(tree: Tree, key: Uint8Array, value: Uint8Array): TreeNode {
  return tree === null ? node(key, value, null, null) : balance(tree.key, tree.value, putFirst(tree.left, key, value), tree.right);
}

function putLast(tree: Tree, key: Uint8Array, value: Uint8Array): TreeNode {
  return tree === null ? node(key, value, null, null) : balance(tree.key, tree.value, tree.left, putLast(tree.right, key, value));
}

/** One tree of two of any weight, every key of `left` being below every key of `right`. */
function join(left: Tree, right: Tree): Tree {
  if (left === null) return right;
  if (right === null) return left;
  let first = right;
  while (first.left !== null) first = first.left;
  return link(first.key, first.value, left, withoutFirst(right));
}

function withoutFirst(tree: TreeNode): Tree {
  return tree.left === null ? tree.right : balance(tree.key, tree.value, withoutFirst(tree.left), tree.right);
}

function below(tree: Tree, bound: Uint8Array): Tree {
  if (tree === null) return null;
  if (compareBytes(tree.key, bound) >= 0) return below(tree.left, bound);
  return link(tree.key, tree.value, tree.left, below(tree.right, bound));
}

function atLeast(tree: Tree, bound: Uint8Array): Tree {
  if (tree === null) return null;
  if (compareBytes(tree.key, bound) < 0) return atLeast(tree.right, bound);
  return link(tree.key, tree.value, atLeast(tree.left, bound), tree.right);
}
