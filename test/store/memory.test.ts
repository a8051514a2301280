/** The memory twin: the store contract, and what only it can do (sync.md section 2.3). */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { compareBytes, utf8 } from "../../src/engine/base/bytes.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { setMutant } from "../../src/engine/base/mutant.ts";
import { applyBatch, openMemoryStore, treeSnapshot } from "../../src/engine/store/memory.ts";
import { emptyTree, type Tree, treeCount, treeDel, treeDelRange, treeGet, treeIterate, treePut } from "../../src/engine/store/tree.ts";
import { del, delRange, hexRows, put, SortedArray, storeContract } from "../contract/store.ts";

storeContract("memory", async () => {
  let root: Tree = emptyTree;
  return {
    async open() {
      const store = openMemoryStore({ root });
      const close = store.close;
      store.close = async () => {
        root = store.root();
        await close();
      };
      return store;
    },
    async [Symbol.asyncDispose]() {},
  };
});

test("the commit that fails leaves nothing, for each n until none fails", async () => {
  for (let failing = 1; ; failing++) {
    let calls = 0;
    const store = openMemoryStore({
      beforeCommit: () => {
        if (++calls === failing) throw new EngineError("STORE_FULL", "memory: no room");
      },
    });
    const results = await Promise.allSettled([1, 2, 3].map((n) => store.commit([put("n", String(n)), put(`k${n}`, "1")])));
    const failed = results.findIndex(({ status }) => status === "rejected");
    if (failed === -1) {
      expect(failing).toBe(4);
      return;
    }
    expect(failed).toBe(failing - 1);
    using snap = store.snapshot();
    const keys = [...snap.iterate()].map(([key]) => new TextDecoder().decode(key));
    expect(keys).toEqual(
      [1, 2, 3]
        .filter((n) => n !== failing)
        .map((n) => `k${n}`)
        .concat("n"),
    );
  }
});

test("a thousand roots are kept and each is what it was", () => {
  const roots: Tree[] = [emptyTree];
  for (let n = 1; n <= 1_000; n++) roots.push(applyBatch(roots[n - 1] as Tree, [put(`k${n % 50}`, String(n))], n));
  for (const n of [0, 1, 49, 500, 1_000]) {
    using snap = treeSnapshot(structuredClone(roots[n] as Tree), "memory");
    expect([...snap.iterate()].length).toBe(Math.min(n, 50));
    if (n > 0) expect(snap.get(utf8(`k${n % 50}`))).toEqual(utf8(String(n)));
  }
});

test("the tree stays ordered and balanced whatever is done to it", () => {
  const keyArb = fc.uint8Array({ minLength: 1, maxLength: 2 });
  const actionArb = fc.record({ kind: fc.constantFrom("put", "put", "put", "del", "range"), a: keyArb, b: keyArb });
  fc.assert(
    fc.property(fc.array(actionArb, { maxLength: 400, size: "max" }), (actions) => {
      const oracle = new SortedArray();
      let tree: Tree = emptyTree;
      for (const { kind, a, b } of actions) {
        if (kind === "put") tree = treePut(tree, a, b);
        if (kind === "del") tree = treeDel(tree, a);
        if (kind === "range") tree = treeDelRange(tree, a, b);
        oracle.apply([kind === "put" ? put(a, b) : kind === "del" ? del(a) : delRange(a, b)]);
      }
      checkBalance(tree);
      expect(hexRows(treeIterate(tree))).toEqual(hexRows(oracle.range()));
      for (const { a } of actions) expect(treeGet(tree, a) === undefined).toBe(!oracle.rows.some(([key]) => compareBytes(key, a) === 0));
    }),
    { numRuns: 100 },
  );
});

function checkBalance(tree: Tree): void {
  if (tree === null) return;
  const [left, right] = [treeCount(tree.left), treeCount(tree.right)];
  expect(tree.count).toBe(left + right + 1);
  if (left + right > 1) expect(Math.max(left, right)).toBeLessThanOrEqual(3 * Math.min(left, right));
  checkBalance(tree.left);
  checkBalance(tree.right);
}

test("a flipped bit is STORE_CORRUPT that names store and key, and so is a value under another key", () => {
  const tree = applyBatch(emptyTree, [put("kv/a", "value"), put("kv/b", "other")], 9);
  const stored = treeGet(tree, utf8("kv/a")) as Uint8Array;
  for (let bit = 0; bit < stored.length * 8; bit++) {
    const flipped = stored.slice();
    flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
    using snap = treeSnapshot(treePut(tree, utf8("kv/a"), flipped), "memory");
    expect(() => snap.get(utf8("kv/a"))).toThrow("memory: key kv/a: ");
    expect(() => [...snap.iterate()]).toThrow("memory: key kv/a: ");
  }
  using swapped = treeSnapshot(treePut(tree, utf8("kv/b"), stored), "memory");
  expect(() => swapped.get(utf8("kv/b"))).toThrow("checksum");
});

test("planted mistakes are seen: key left out of the checksum, range end deleted, half a batch", () => {
  const wrong = (name: string, seen: () => boolean): void => {
    expect(seen()).toBe(false);
    setMutant(name);
    try {
      expect(seen()).toBe(true);
    } finally {
      setMutant(null);
    }
  };
  wrong("store.checksum-without-key", () => {
    const tree = applyBatch(emptyTree, [put("a", "1")], 0);
    using snap = treeSnapshot(treePut(emptyTree, utf8("b"), treeGet(tree, utf8("a")) as Uint8Array), "memory");
    try {
      return snap.get(utf8("b")) !== undefined;
    } catch {
      return false;
    }
  });
  wrong("store.range-end-inclusive", () => treeCount(applyBatch(emptyTree, [put("a", "1"), put("b", "1"), delRange("a", "b")], 0)) !== 1);
  wrong("store.half-batch", () => treeCount(applyBatch(emptyTree, [put("a", "1"), put("b", "1")], 0)) !== 2);
});
