/** The storage role (merge.md sections 2 and 4): receipts, repeats, storage quorum, listing, serving, settling, admission. */
import { afterEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { fromUtf8 } from "../../src/engine/base/bytes.ts";
import { CLIENT, type NodeId } from "../../src/engine/base/ids.ts";
import { setMutant } from "../../src/engine/base/mutant.ts";
import { bundleCount, bundleOf } from "../../src/engine/log/entry.ts";
import { nodeHash, rootOf } from "../../src/engine/log/merkle.ts";
import { verifyNote } from "../../src/engine/log/note.ts";
import type { AddAnswer, MergeConfig } from "../../src/engine/merge/config.ts";
import { receiptKeyName } from "../../src/engine/merge/receipt.ts";
import { ADD_BYTES_MAX, heldEntries, initialStorage, stepStorage } from "../../src/engine/merge/storage.ts";
import { PUT_WAIT_MS } from "../../src/engine/merge/storage-copies.ts";
import type { StorageReply, StorageRequest, StorageState } from "../../src/engine/merge/storage-state.ts";
import { applyFlush, type DiskImage, flipBit } from "../../src/engine/sim/disk.ts";
import { logKeys } from "../../src/engine/store/keys.ts";
import { type Answer, type AnswerOf, BUNDLE_BYTES_MAX, type Request, refused } from "../../src/engine/wire/messages.ts";
import { CoreBench, type Disk, newDisk } from "./core-bench.ts";
import { A, B, bundle, C, configOf, entries, hashesOf, hexes, names, P, range } from "./fixture.ts";

type Bench = CoreBench<StorageState, StorageRequest, Answer, Request, StorageReply>;
const storage = (self: NodeId, change: Partial<MergeConfig> = {}, disk: Disk = newDisk()): Bench =>
  new CoreBench(stepStorage, initialStorage(configOf(self, change)), disk).start() as Bench;
/** Alone: no other node has to keep anything. */
const lone = (change: Partial<MergeConfig> = {}, disk: Disk = newDisk()): Bench => storage(A, { storagequorum: 1, ...change }, disk);

const scope = { log: configOf(A).log, epoch: 1 };
const add = (bench: Bench, ...numbers: readonly number[]): number => bench.request(CLIENT, { kind: "add", bundle: bundle(...numbers) });
const puts = (bench: Bench) => bench.takeSent().filter((each) => each.body.kind === "storage.put");
const kept = (count: number): Answer => ({ kind: "storage.kept", count });

function linesOf(bench: Bench, id: number): string[] {
  const answer = bench.answers.get(id);
  if (answer?.kind !== "added") throw new Error(`request ${id}: ${JSON.stringify(answer)}`);
  return fromUtf8((answer as AddAnswer).lines)
    .split("\n")
    .slice(0, -1);
}
const codeOf = (bench: Bench, id: number): string | undefined => {
  const answer = bench.answers.get(id);
  return answer?.kind === "refused" ? answer.code : answer?.kind;
};
function list(bench: Bench, fromSeq: number, limit = 8_192): AnswerOf<"storage.listed"> {
  const id = bench.request(P, { kind: "storage.list", ...scope, fromSeq, limit });
  return bench.answers.get(id) as AnswerOf<"storage.listed">;
}
function get(bench: Bench, hashes: Uint8Array): AnswerOf<"storage.entries"> {
  return bench.answers.get(bench.request(P, { kind: "storage.get", ...scope, hashes })) as AnswerOf<"storage.entries">;
}

/** A stranger's check of one receipt line, from its text and the storage node's key alone. */
function checkReceipt(line: string, config: MergeConfig, leafHash: string): void {
  const receipt = JSON.parse(line);
  expect(Object.keys(receipt)).toEqual(["receipt", "log", "storage", "leafHash", "bytes", "timeMs", "promiseMs", "batch", "note"]);
  expect(receipt).toMatchObject({ receipt: 1, log: config.origin, storage: config.self, leafHash, promiseMs: config.promiseMs });
  const publicKey = config.receiptKeys[config.self] as Uint8Array;
  const body = verifyNote(receipt.note, { name: receiptKeyName(config.origin, config.self), type: 1, publicKey });
  let hash: Uint8Array = Uint8Array.fromHex(receipt.leafHash);
  const path = receipt.batch.path.map((each: string) => Uint8Array.fromHex(each));
  for (let i = receipt.batch.index, last = receipt.batch.size - 1; last > 0; i >>= 1, last >>= 1) {
    if (i % 2 === 1) hash = nodeHash(path.shift(), hash);
    else if (i < last) hash = nodeHash(hash, path.shift());
  }
  expect(path).toEqual([]);
  expect(body).toBe(
    `${config.origin}/receipt\nstorage ${config.self}\ntime ${receipt.timeMs}\npromise ${receipt.promiseMs}\nsize ${receipt.batch.size}\nroot ${hash.toBase64()}\n`,
  );
}

afterEach(() => setMutant(null));

describe("receipts", () => {
  test("each line proves its entry under one signature a batch, of any size up to 256", () => {
    for (const count of [...range(1, 18), 255, 256, 257, 600]) {
      const bench = lone();
      const id = add(bench, ...range(0, count));
      bench.storeAll();
      const lines = linesOf(bench, id);
      const hashes = hexes(hashesOf(...range(0, count)));
      expect(lines.length).toBe(count);
      lines.forEach((line, i) => {
        checkReceipt(line, configOf(A), hashes[i]!);
      });
      expect(new Set(lines.map((line) => JSON.parse(line).note)).size).toBe(Math.ceil(count / 256));
    }
  });

  test("neighbours and repeats in any order give the lines that each gives alone", () => {
    const bench = lone();
    const asked = [0, 1, 1, 6, 3, 3, 2, 5, 4, 0, 4, 5, 6];
    const all = add(bench, ...asked);
    const alone = range(0, 7).map((number) => add(bench, number));
    bench.storeAll();
    const lines = alone.map((id) => linesOf(bench, id)[0]);
    expect(linesOf(bench, all)).toEqual(asked.map((number) => lines[number]!));
  });

  test("one line a batch says the same as its entries' own lines", () => {
    const bench = lone();
    const asked = [...range(0, 300), 7, 290, 8];
    const batched = bench.request(CLIENT, { kind: "add", bundle: bundle(...asked), receipts: "batch" });
    const single = add(bench, ...asked);
    bench.storeAll();
    const own = linesOf(bench, single).map((line) => JSON.parse(line));
    const derived = linesOf(bench, batched).flatMap((text) => {
      const { receipts, log, storage, timeMs, promiseMs, indexes, bytes, leafHashes, note } = JSON.parse(text);
      expect(receipts).toBe(1);
      expect(bytes.length).toBe(leafHashes.length / 64);
      return indexes.map((index: number) => ({
        ...{ log, storage, timeMs, promiseMs, note, leafHash: leafHashes.slice(index * 64, index * 64 + 64), bytes: bytes[index], index, size: bytes.length },
        root: rootOf(Uint8Array.fromHex(leafHashes)).toBase64(),
      }));
    });
    expect(derived.length).toBe(asked.length);
    own.forEach(({ batch, receipt: _format, ...rest }, i) => {
      const root = /^root (.*)$/m.exec(rest.note)?.[1];
      expect(derived[i]).toEqual({ ...rest, index: batch.index, size: batch.size, root });
    });
    expect(linesOf(bench, batched).length).toBe(5); // two batches of new entries, three repeats that are not in a row
  });

  test("nothing is answered before the commit", () => {
    const bench = lone();
    const id = add(bench, 1);
    expect(bench.answers.has(id)).toBe(false);
    bench.storeNext();
    expect(linesOf(bench, id).length).toBe(1);
  });

  test("a repeat gets the same bytes: within one add, in the next write, after a restart and after its bytes are gone", () => {
    const disk = newDisk();
    const bench = lone({ storageKeepMs: 16 }, disk);
    const first = add(bench, 1, 2, 1);
    const second = add(bench, 2, 3);
    bench.storeAll();
    const [one, two, again] = linesOf(bench, first);
    expect(again).toBe(one!);
    expect(linesOf(bench, second)[0]).toBe(two!);
    expect(list(bench, 0).nextSeq).toBe(3);
    bench.request(P, { kind: "storage.settle", ...scope, born: "a.1", settledSeq: 3 });
    bench.storeAll();
    for (let i = 0; i < 40; i++) {
      bench.fire("keep");
      bench.storeAll();
    }
    expect(get(bench, hashesOf(1)).absent).toEqual([0]);
    expect(heldEntries(bench.snap, scope.log).size).toBe(0);
    const later = lone({}, disk);
    const third = add(later, 1);
    later.storeAll();
    expect(linesOf(later, third)).toEqual([one!]);
  });

  test("while a write is under way the next ones are gathered into one", () => {
    const bench = lone();
    for (const number of range(0, 50)) add(bench, number);
    expect(bench.writes.length).toBe(1);
    bench.storeAll();
    expect(bench.writeCount).toBe(2);
    expect(bench.answers.size).toBe(50);
    expect(JSON.parse(linesOf(bench, 50)[0]!).batch).toMatchObject({ index: 48, size: 49 });
  });
});

describe("storage quorum", () => {
  test("the put leaves after our own commit, the receipt after the other's", () => {
    const bench = storage(A);
    const id = add(bench, 1, 2);
    expect(bench.sent).toEqual([]);
    bench.storeNext();
    const [put, ...more] = puts(bench);
    expect(more).toEqual([]);
    expect(put).toMatchObject({ to: B, body: { kind: "storage.put", bundle: bundle(1, 2) } });
    expect(bench.answers.has(id)).toBe(false);
    bench.message(B, put!.requestId, kept(2));
    expect(linesOf(bench, id).length).toBe(2);
    expect(bench.timers.size).toBe(0);
  });

  test("the planted mistake answers too early", () => {
    setMutant("merge.receipt-before-quorum");
    const bench = storage(A);
    const id = add(bench, 1);
    bench.storeNext();
    expect(bench.answers.has(id)).toBe(true);
  });

  test("the next by name are asked; a silent, lost or unwilling one is replaced", () => {
    const bench = storage(B);
    const id = add(bench, 1);
    bench.storeNext();
    expect(puts(bench)[0]).toMatchObject({ to: C });
    bench.fire("put.1");
    const [second] = puts(bench);
    expect(second).toMatchObject({ to: A });
    bench.message(C, 1, kept(1)); // late
    expect(bench.answers.has(id)).toBe(false);
    bench.message(A, second!.requestId, kept(1));
    expect(linesOf(bench, id).length).toBe(1);
    expect(bench.marks).toEqual(expect.arrayContaining(["storage.put-silent", "storage.late-kept"]));
  });

  test("one that failed is asked last, by name among its like, until it keeps or puts something again", () => {
    const bench = storage(A);
    let number = 0;
    const next = (): { to: NodeId; requestId: number } => {
      add(bench, ++number);
      bench.storeAll();
      return puts(bench)[0]!;
    };
    bench.lost(next().to);
    const [instead] = puts(bench);
    expect(instead).toMatchObject({ to: C });
    bench.message(C, instead!.requestId, kept(1));
    const silent = next();
    expect(silent.to).toBe(C);
    bench.fire(`put.${silent.requestId}`);
    const [last] = puts(bench);
    expect(last!.to).toBe(B); // not twice for one lot, and not never
    expect(next().to).toBe(B); // both failed
    bench.message(C, silent.requestId, kept(1)); // late, but there
    const unwilling = next();
    expect(unwilling.to).toBe(C);
    bench.message(C, unwilling.requestId, refused("STORE_FULL", "full"));
    expect(next().to).toBe(B);
    bench.request(C, { kind: "storage.put", ...scope, bundle: bundle(99) });
    expect(next().to).toBe(C);
    bench.message(B, last!.requestId, kept(1));
    expect(next().to).toBe(B);
  });

  test("too few: refused by name, the entries stay, and adding again copies them again", () => {
    const bench = storage(A);
    const id = add(bench, 1);
    bench.storeNext();
    bench.lost(puts(bench)[0]!.to);
    bench.message(C, puts(bench)[0]!.requestId, refused("LOG_BUSY", "later"));
    expect(codeOf(bench, id)).toBe("LOG_STORAGE_QUORUM");
    expect((bench.answers.get(id) as AnswerOf<"refused">).text).toContain("b (not reachable), c (LOG_BUSY)");
    expect(hexes(list(bench, 0).hashes)).toEqual(hexes(hashesOf(1)));
    const again = add(bench, 1);
    bench.storeAll();
    const [put] = puts(bench);
    expect(put).toMatchObject({ to: B, body: { bundle: bundle(1) } });
    expect(bench.answers.has(again)).toBe(false);
    bench.message(B, put!.requestId, kept(1));
    expect(linesOf(bench, again).length).toBe(1);
  });

  test("a repeat of what is still being copied waits for the same copy", () => {
    const bench = storage(A);
    add(bench, 1);
    bench.storeNext();
    const again = add(bench, 1);
    bench.storeAll();
    const [put, ...more] = puts(bench);
    expect([more, bench.answers.size]).toEqual([[], 0]);
    bench.message(B, put!.requestId, kept(1));
    expect(linesOf(bench, again)).toEqual(linesOf(bench, 1));
  });

  test("after a restart the last write is in doubt: its receipt leaves only after a copy", () => {
    const disk = newDisk();
    const before = storage(A, {}, disk);
    add(before, 1);
    before.storeNext();
    const bench = storage(A, {}, disk);
    const id = add(bench, 1);
    bench.storeAll();
    expect(bench.answers.has(id)).toBe(false);
    const [put] = puts(bench);
    bench.message(put!.to, put!.requestId, kept(1));
    expect(linesOf(bench, id).length).toBe(1);
  });

  test("what another node put here is on two disks: its receipt needs no third, unless the quorum is three", () => {
    for (const storagequorum of [2, 3]) {
      const bench = storage(A, { storagequorum });
      const put = bench.request(B, { kind: "storage.put", ...scope, bundle: bundle(1, 2) });
      expect(bench.answers.has(put)).toBe(false);
      bench.storeNext();
      expect(bench.answers.get(put)).toEqual(kept(2));
      bench.takeSent();
      const id = add(bench, 2);
      bench.storeAll();
      expect(bench.answers.has(id)).toBe(storagequorum === 2);
    }
  });

  test("puts are packed up to 1 MiB and none is lost", () => {
    const bench = storage(A);
    const big = bundleOf(range(0, 90).map((i) => new Uint8Array(60_000).fill(i)));
    const id = bench.request(CLIENT, { kind: "add", bundle: big });
    bench.storeNext();
    const sent = puts(bench);
    let count = 0;
    for (const { body, requestId, to } of sent) {
      const { bundle } = body as Extract<Request, { kind: "storage.put" }>;
      expect(bundle.length).toBeLessThanOrEqual(BUNDLE_BYTES_MAX);
      count += bundleCount(bundle);
      bench.message(to, requestId, kept(bundleCount(bundle)));
    }
    expect(count).toBe(90);
    expect(linesOf(bench, id).length).toBe(90);
  });

  test("a silent peer has two seconds", () => {
    const bench = storage(A);
    add(bench, 1);
    bench.storeNext();
    expect(bench.timers).toEqual(new Map([["put.1", PUT_WAIT_MS]]));
  });
});

describe("listing and serving", () => {
  test("lists what is durable in the order it came, from any number on", () => {
    const bench = lone();
    add(bench, 5, 6);
    bench.storeAll();
    add(bench, 7);
    expect(list(bench, 0)).toMatchObject({ nextSeq: 2, lastSeq: 2, oldestPendingSeq: 0 });
    bench.storeAll();
    expect(list(bench, 1)).toEqual({
      kind: "storage.listed",
      hashes: hashesOf(6, 7),
      bytes: entries(6, 7).map((entry) => entry.length),
      born: "a.1",
      nextSeq: 3,
      lastSeq: 3,
      oldestPendingSeq: 0,
    });
    expect(list(bench, 1, 1)).toMatchObject({ nextSeq: 2, hashes: hashesOf(6) });
    expect(list(bench, 9)).toMatchObject({ bytes: [], nextSeq: 9, lastSeq: 3 });
  });

  test("serves by hash in asked order, says what is absent, stops at 1 MiB", () => {
    const bench = lone();
    add(bench, ...range(0, 700));
    bench.storeAll();
    const asked = [3, 4, 5, 900, 600, 2, 901];
    expect(get(bench, hashesOf(...asked))).toEqual({
      kind: "storage.entries",
      bundle: bundle(3, 4, 5, 600, 2),
      served: 7,
      absent: [3, 6],
    });
    const large = range(0, 40).map((i) => new Uint8Array(50_000).fill(i));
    bench.request(CLIENT, { kind: "add", bundle: bundleOf(large) });
    bench.storeAll();
    const { served, bundle: got } = get(bench, list(bench, 700).hashes);
    expect([served, got.length]).toEqual([20, 20 * 50_002]);
  });

  test("a row that does not read is an absent entry, not a failure", () => {
    const bench = lone();
    add(bench, 1, 2);
    bench.storeAll();
    add(bench, 3);
    bench.storeAll();
    bench.disk.image = flipBit(bench.disk.image, "log", logKeys.pending(scope.log, 0), 99);
    expect(get(bench, hashesOf(1, 3, 2))).toEqual({ kind: "storage.entries", bundle: bundle(3), served: 3, absent: [0, 2] });
  });

  test("an entry whose row is gone or does not read is stored anew when it comes again, from a client or a peer", () => {
    const key = logKeys.pending(scope.log, 0);
    const lose = [
      (image: DiskImage) => flipBit(image, "log", key, 99),
      (image: DiskImage) => applyFlush(image, { change: "commit", db: "log", batch: [{ op: "del", key }] }),
    ];
    for (const [i, lost] of lose.entries()) {
      const bench = lone();
      const first = add(bench, 1, 2);
      bench.storeAll();
      add(bench, 3);
      bench.storeAll();
      bench.disk.image = lost(bench.disk.image);
      const again = i === 0 ? add(bench, 3, 1) : bench.request(B, { kind: "storage.put", ...scope, bundle: bundle(3, 1) });
      bench.storeAll();
      expect([bench.marks.includes("storage.unreadable"), bench.answers.get(again)?.kind]).toEqual([true, i === 0 ? "added" : "storage.kept"]);
      expect(list(bench, 3)).toMatchObject({ hashes: hashesOf(1), lastSeq: 4 }); // 3 has its old number
      expect(get(bench, hashesOf(1, 2, 3))).toMatchObject({ bundle: bundle(1, 3), absent: [1] });
      const repeat = add(bench, 1);
      bench.storeAll();
      expect(list(bench, 3).lastSeq).toBe(4);
      const lines = [first, repeat].map((id) => linesOf(bench, id)[0] as string);
      for (const line of lines) checkReceipt(line, bench.state.config, hexes(hashesOf(1))[0] as string);
      expect(lines[1]).not.toBe(lines[0]);
    }
  });

  test("a settled entry is not stored anew: it is in the log", () => {
    const bench = lone();
    add(bench, 1, 2);
    bench.storeAll();
    bench.request(P, { kind: "storage.settle", ...scope, born: "a.1", settledSeq: 2 });
    bench.storeAll();
    bench.disk.image = flipBit(bench.disk.image, "log", logKeys.pending(scope.log, 0), 99);
    add(bench, 1);
    bench.storeAll();
    expect(list(bench, 0).lastSeq).toBe(2);
  });

  test("only the primary of the promised epoch is served, only storage nodes may put", () => {
    const bench = lone();
    const ask = { kind: "storage.list", ...scope, fromSeq: 0, limit: 1 } as const;
    expect(codeOf(bench, bench.request(B, ask))).toBe("MERGE_FENCED");
    expect(codeOf(bench, bench.request(P, { ...ask, epoch: 2 }))).toBe("MERGE_FENCED");
    expect(codeOf(bench, bench.request(P, { ...ask, log: new Uint8Array(8) }))).toBe("LOG_UNKNOWN");
    expect(codeOf(bench, bench.request(P, { kind: "storage.put", ...scope, bundle: bundle(1) }))).toBe("NOT_ALLOWED");
  });
});

describe("settling and admission", () => {
  test("settling never passes what is durable, never goes back, and is told when durable", () => {
    const bench = lone();
    add(bench, ...range(0, 10));
    bench.storeAll();
    const settle = (settledSeq: number): number => bench.request(P, { kind: "storage.settle", ...scope, born: "a.1", settledSeq });
    expect(codeOf(bench, settle(11))).toBe("LOG_RANGE");
    const id = settle(6);
    expect(bench.answers.has(id)).toBe(false);
    bench.storeAll();
    expect(bench.answers.get(id)).toEqual({ kind: "storage.settled", settledSeq: 6 });
    expect(bench.answers.get(settle(2))).toEqual({ kind: "storage.settled", settledSeq: 6 });
    expect(list(bench, 0).oldestPendingSeq).toBe(6);
    const later = lone({}, bench.disk);
    expect(list(later, 0)).toMatchObject({ oldestPendingSeq: 6, lastSeq: 10 });
  });

  test("a word about an older disk settles nothing here", () => {
    const bench = lone();
    add(bench, 1, 2);
    bench.storeAll();
    const id = bench.request(P, { kind: "storage.settle", ...scope, born: "a.0", settledSeq: 2 });
    expect(bench.answers.get(id)).toEqual({ kind: "storage.settled", settledSeq: 0 });
    expect([bench.marks.includes("storage.settle-other-disk"), list(bench, 0).oldestPendingSeq]).toEqual([true, 0]);
  });

  test("a disk keeps the name of the run that first wrote to it", () => {
    const disk = newDisk();
    expect(list(lone({}, disk), 0).born).toBe("a.1");
    const bench = lone({ boot: "a.2" }, disk); // nothing was written yet
    add(bench, 1);
    bench.storeAll();
    expect([list(bench, 0).born, list(lone({ boot: "a.3" }, disk), 0).born]).toEqual(["a.2", "a.2"]);
  });

  test("bytes go whole batches at a time, storageKeepMs after they were settled, and listing starts behind them", () => {
    const bench = lone({ storageKeepMs: 1_600 });
    add(bench, 1, 2);
    bench.storeAll();
    add(bench, 3, 4);
    bench.storeAll();
    bench.request(P, { kind: "storage.settle", ...scope, born: "a.1", settledSeq: 3 });
    bench.storeAll();
    for (let i = 0; i < 15; i++) bench.fire("keep");
    bench.storeAll();
    expect(heldEntries(bench.snap, scope.log).size).toBe(4);
    for (let i = 0; i < 2; i++) bench.fire("keep");
    bench.storeAll();
    expect([...heldEntries(bench.snap, scope.log)].sort()).toEqual(hexes(hashesOf(3, 4)).sort());
    expect(hexes(list(bench, 0).hashes)).toEqual(hexes(hashesOf(3, 4)));
  });

  test("bytes that a full disk did not let go are let go by the next try", () => {
    const bench = lone({ storageKeepMs: 1_600 });
    add(bench, 1, 2);
    bench.storeAll();
    bench.request(P, { kind: "storage.settle", ...scope, born: "a.1", settledSeq: 2 });
    bench.storeAll();
    for (let i = 0; i < 15; i++) bench.fire("keep");
    bench.timeMs += 1_000;
    const id = add(bench, 3); // its write forgets as well
    bench.refuseNext();
    expect(codeOf(bench, id)).toBe("STORE_FULL");
    expect(bench.writes.length).toBe(0); // and not at once, over and over
    bench.fire("space");
    bench.storeAll();
    expect(heldEntries(bench.snap, scope.log).size).toBe(0);
  });

  test("a full disk refuses by name, keeps nothing of the batch, and opens again when told", () => {
    const bench = lone();
    const id = add(bench, 1);
    bench.refuseNext();
    expect(codeOf(bench, id)).toBe("STORE_FULL");
    expect(codeOf(bench, add(bench, 2))).toBe("STORE_FULL");
    bench.fire("space");
    const again = add(bench, 1);
    bench.storeAll();
    expect(linesOf(bench, again).length).toBe(1);
    expect(list(bench, 0).lastSeq).toBe(1);
    bench.request(CLIENT, { kind: "space", low: true });
    expect(codeOf(bench, add(bench, 3))).toBe("STORE_FULL");
    bench.request(CLIENT, { kind: "space", low: false });
    expect(codeOf(bench, add(bench, 3))).toBeUndefined();
    bench.request(CLIENT, { kind: "space", low: true });
    bench.refuseNext();
    bench.fire("space");
    expect(codeOf(bench, add(bench, 4))).toBe("STORE_FULL"); // the node knows better
  });

  test("busy when half the promise has passed, until it is settled", () => {
    const bench = lone();
    add(bench, 1);
    bench.storeAll();
    bench.timeMs += 30_001;
    expect(codeOf(bench, add(bench, 2))).toBe("LOG_BUSY");
    bench.request(P, { kind: "storage.settle", ...scope, born: "a.1", settledSeq: 1 });
    bench.storeAll();
    const id = add(bench, 2);
    bench.storeAll();
    expect(linesOf(bench, id).length).toBe(1);
  });

  test("what waits is counted with its hashes: entries of no bytes have them too", () => {
    const bench = lone();
    const body = { kind: "add", bundle: new Uint8Array(2 * 2_048) } as const; // 2,048 entries of no bytes
    bench.request(CLIENT, body); // under way
    bench.request(CLIENT, body);
    expect(bench.state.waitingBytes).toBeGreaterThan(2_048 * 32);
    bench.storeAll();
    expect(bench.state.waitingBytes).toBe(0);
  });

  test("busy when too many bytes wait for the write in flight; too large an add and a broken bundle are refused", () => {
    const bench = lone();
    const body = { kind: "add", bundle: bundleOf(range(0, 120).map((i) => new Uint8Array(65_535).fill(i))) } as const;
    const ids = range(0, 6).map(() => bench.request(CLIENT, body));
    expect(ids.map((id) => codeOf(bench, id))).toEqual([undefined, undefined, undefined, undefined, undefined, "LOG_BUSY"]);
    bench.storeAll();
    expect(codeOf(bench, ids[4]!)).toBe("added");
    expect(codeOf(bench, bench.request(CLIENT, { kind: "add", bundle: new Uint8Array(ADD_BYTES_MAX + 1) }))).toBe("LOG_ENTRY_TOO_LARGE");
    expect(codeOf(bench, bench.request(CLIENT, { kind: "add", bundle: Uint8Array.of(0, 5, 1) }))).toBe("LOG_ENCODING");
    expect(codeOf(bench, bench.request(CLIENT, { kind: "add", bundle: new Uint8Array(0) }))).toBe("USAGE");
  });

  test("draining finishes what was begun and then is closed", () => {
    const bench = lone();
    const id = add(bench, 1);
    const drain = bench.request(CLIENT, { kind: "drain" });
    expect(codeOf(bench, add(bench, 2))).toBe("NOT_READY");
    expect(bench.answers.has(drain)).toBe(false);
    bench.storeAll();
    expect([codeOf(bench, id), codeOf(bench, drain), bench.state.phase]).toEqual(["added", "storage.noted", "closed"]);
  });

  test("a counter row that does not decode stops the role", () => {
    const disk = newDisk();
    const bench = lone({}, disk);
    add(bench, 1);
    bench.storeAll();
    disk.image = flipBit(disk.image, "log", logKeys.storage(scope.log), 77);
    expect(lone({}, disk).halted).toBe("STORE_CORRUPT");
  });
});

describe("three storage nodes, any interleaving", () => {
  const action = fc.record({
    what: fc.constantFrom("add", "add", "add", "store", "store", "deliver", "deliver", "drop", "timer", "crash", "lost"),
    who: fc.nat(2),
    pick: fc.nat(1_000),
    numbers: fc.array(fc.nat(25), { minLength: 1, maxLength: 4 }),
  });

  /** I6: a receipt that leaves names an entry that is on `quorum` disks at that moment; the same entry, the same bytes. */
  test("a receipt that left is kept by a quorum, and is always the same", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 120, size: "max" }), fc.integer({ min: 1, max: 3 }), (actions, storagequorum) => {
        const ids = names("a,b,c");
        const disks = ids.map(() => newDisk());
        const boot = (who: number): Bench => storage(ids[who]!, { storagequorum }, disks[who]);
        const benches = ids.map((_, who) => boot(who));
        const wire: { from: number; to: number; requestId: number; body: Request; boots: number }[] = [];
        const boots = [0, 0, 0];
        const answered = [0, 0, 0];
        const receipts = new Map<string, string>();
        const waitingPuts: { server: number; id: number; client: number; requestId: number; boots: number; serverBoots: number }[] = [];
        const collect = (): void => {
          benches.forEach((bench, from) => {
            for (const { to, requestId, body } of bench.takeSent())
              if (body.kind === "storage.put") wire.push({ from, to: ids.indexOf(to), requestId, body, boots: boots[from]! });
            for (const [id, answer] of bench.answers) {
              if (id <= answered[from]! || answer.kind !== "added") continue;
              const lines = linesOf(bench, id);
              hexes((answer as AddAnswer).hashes).forEach((hash, i) => {
                const key = `${ids[from]} ${hash}`;
                expect(lines[i]).toBe(receipts.get(key) ?? lines[i]!);
                receipts.set(key, lines[i]!);
                const holders = disks.filter((_, at) => heldEntries(benches[at]!.snap, scope.log).has(hash)).length;
                expect(holders).toBeGreaterThanOrEqual(storagequorum);
              });
              bench.answers.delete(id);
            }
            for (const put of waitingPuts.filter((each) => each.server === from && each.serverBoots === boots[from])) {
              const answer = bench.answers.get(put.id);
              if (answer === undefined) continue;
              waitingPuts.splice(waitingPuts.indexOf(put), 1);
              if (put.boots === boots[put.client]) benches[put.client]!.message(ids[from]!, put.requestId, answer as Answer);
            }
          });
        };
        for (const { what, who, pick, numbers } of actions) {
          const bench = benches[who]!;
          const message = wire[pick % Math.max(1, wire.length)];
          if (what === "add") add(bench, ...numbers);
          else if (what === "store") bench.storeNext();
          else if (what === "timer") bench.fire([...bench.timers.keys()][0] ?? "");
          else if (what === "lost") bench.lost(ids[pick % 3]!);
          else if (what === "crash") {
            bench.crash(pick % 2);
            boots[who]!++;
            benches[who] = boot(who);
          } else if (message !== undefined) {
            if (what === "drop") wire.splice(wire.indexOf(message), 1);
            else {
              if (pick % 5 !== 0) wire.splice(wire.indexOf(message), 1); // else: comes again
              const id = benches[message.to]!.request(ids[message.from]!, message.body);
              waitingPuts.push({
                server: message.to,
                id,
                client: message.from,
                requestId: message.requestId,
                boots: message.boots,
                serverBoots: boots[message.to]!,
              });
            }
          }
          collect();
        }
      }),
      { numRuns: 60 },
    );
  });
});
