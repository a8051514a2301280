/** The fetcher (merge.md section 3): its cursor is the last good line, nothing listed is lost, nothing torn survives. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { concatBytes, fromUtf8, utf8 } from "../../src/engine/base/bytes.ts";
import { CLIENT } from "../../src/engine/base/ids.ts";
import type { StepResult } from "../../src/engine/merge/config.ts";
import { NO_HELD, putCursor } from "../../src/engine/merge/cursor.ts";
import { type FetchState, initialFetch, type QueueEnd, queueEnd, RECHECK_MS, stepFetch } from "../../src/engine/merge/fetch.ts";
import { QUEUE_BYTES_MAX, queueHeader, queueLines, readQueueLines, readQueueStart } from "../../src/engine/merge/queue-file.ts";
import { initialStorage, stepStorage } from "../../src/engine/merge/storage.ts";
import type { StorageReply, StorageRequest, StorageState } from "../../src/engine/merge/storage-state.ts";
import { applyFlush, fileOf, setFile } from "../../src/engine/sim/disk.ts";
import type { Answer, AnswerOf, Request, RequestOf } from "../../src/engine/wire/messages.ts";
import { refused } from "../../src/engine/wire/messages.ts";
import { CoreBench, type Disk, newDisk } from "./core-bench.ts";
import { A, B, bundle, configOf, hashesOf, hexes, P, range } from "./fixture.ts";

type Bench = CoreBench<FetchState, never, Answer, Request, StepResult>;
const config = configOf(P);
const FILE = "merge/queue.a";
function fetcher(disk: Disk, known: QueueEnd | null = null, laterMs = 0): Bench {
  const bench = new CoreBench(stepFetch, initialFetch(config, A, known), disk) as Bench;
  bench.timeMs += laterMs;
  return bench.start();
}
const fileText = (disk: Disk): string => fromUtf8(fileOf(disk.image, FILE) ?? new Uint8Array(0));

/** A storage node with so many entries: what it lists is what a real one lists. */
function storageWith(count: number): CoreBench<StorageState, StorageRequest, Answer, Request, StorageReply> {
  const bench = new CoreBench(stepStorage, initialStorage(configOf(A, { storagequorum: 1 }))).start();
  if (count > 0) bench.request(CLIENT, { kind: "add", bundle: bundle(...range(0, count)) });
  bench.storeAll();
  return bench as CoreBench<StorageState, StorageRequest, Answer, Request, StorageReply>;
}

/** Lists as a storage node with entries numbered from 0 does, in pieces of at most `limit`. */
function listed(ask: Request, total: number, limit = 8_192, born = "a.1"): AnswerOf<"storage.listed"> {
  const { fromSeq } = ask as RequestOf<"storage.list">;
  const nextSeq = Math.max(fromSeq, Math.min(total, fromSeq + limit));
  const numbers = range(fromSeq, nextSeq);
  return { kind: "storage.listed", hashes: hashesOf(...numbers), bytes: numbers.map(() => 7), born, nextSeq, lastSeq: total, oldestPendingSeq: 0 };
}

/** Answers and stores until the run ends. */
function finish(bench: Bench, total: number, limit?: number, born?: string): StepResult {
  for (let i = 0; bench.done === null && i < 10_000; i++) {
    const [sent] = bench.takeSent();
    if (sent !== undefined) bench.message(A, sent.requestId, listed(sent.body, total, limit, born));
    else bench.storeNext();
  }
  return bench.done as StepResult;
}

/** Sequence number and hash of each good line. */
function linesIn(disk: Disk): [number, string][] {
  const snap = new CoreBench(stepFetch, initialFetch(config, A), disk).snap;
  const start = readQueueStart(snap, config, "a");
  if (start.kind !== "ok") return [];
  const lines = readQueueLines(snap, config, "a", { offset: start.value.end, limit: fileOf(disk.image, FILE)?.length ?? 0, countMax: 100_000 });
  expect(lines.badAt).toBeNull();
  return hexes(lines.hashes).map((hash, i) => [lines.seqs[i] as number, hash]);
}
const whole = (from: number, to: number): [number, string][] => hexes(hashesOf(...range(from, to))).map((hash, i) => [from + i, hash]);

const withCursor = (disk: Disk, generation: number, offset: number, seq: number): void => {
  const op = putCursor(config.log, "a", { born: "a.1", generation, offset, seq, held: NO_HELD });
  disk.image = applyFlush(disk.image, { change: "commit", db: "log", batch: [op] });
};
const filled = (count: number, generation = 1, firstSeq = 0): Uint8Array => {
  const numbers = range(firstSeq, firstSeq + count);
  const lines = queueLines("a", { firstSeq, hashes: hashesOf(...numbers), bytes: numbers.map(() => 7) });
  return concatBytes(queueHeader(config, { storage: "a", born: "a.1", generation, firstSeq }), lines);
};
const diskWith = (bytes: Uint8Array): Disk => {
  const disk = newDisk();
  disk.image = setFile(disk.image, FILE, bytes);
  return disk;
};

describe("a run", () => {
  test("lists all there is, then all that is new, and says so", () => {
    const disk = newDisk();
    expect(finish(fetcher(disk), 5)).toEqual({ step: "fetch", log: "main", target: A, changed: true, counts: { fetched: 5, seq: 5 }, notes: [] });
    expect(linesIn(disk)).toEqual(whole(0, 5));
    expect(finish(fetcher(disk), 9)).toMatchObject({ changed: true, counts: { fetched: 4, seq: 9 } });
    expect(linesIn(disk)).toEqual(whole(0, 9));
    expect(finish(fetcher(disk), 9)).toMatchObject({ changed: false, counts: { fetched: 0, seq: 9 } });
    expect(
      fileText(disk).startsWith(`{"format":1,"log":"example.org/log","storage":"a","born":"a.1","generation":1,"firstSeq":0}\n{"seq":0,"storage":"a",`),
    ).toBe(true);
  });

  test("stops at what the node had when first asked", () => {
    const disk = newDisk();
    const bench = fetcher(disk);
    bench.message(A, bench.takeSent()[0]!.requestId, listed({ kind: "storage.list", log: config.log, epoch: 1, fromSeq: 0, limit: 1 }, 4, 2));
    expect(finish(bench, 900)).toMatchObject({ counts: { seq: 900 } }); // the node gives what it has, once more it is not asked
    expect(bench.sent).toEqual([]);
    const [first] = fetcher(disk).takeSent();
    expect(first!.body).toMatchObject({ kind: "storage.list", fromSeq: 900 });
  });

  test("asks ahead while it appends, and appends what has come in one write", () => {
    const disk = newDisk();
    const bench = fetcher(disk);
    const writes: number[] = [];
    for (let i = 0; i < 50 && bench.done === null; i++) {
      const sent = bench.takeSent();
      expect(sent.length).toBeLessThanOrEqual(1);
      if (sent.length === 1) bench.message(A, sent[0]!.requestId, listed(sent[0]!.body, 100, 10));
      else {
        const [write] = bench.writes;
        writes.push(write!.flushes.reduce((sum, flush) => sum + (flush.change === "append" ? flush.bytes.filter((byte) => byte === 10).length : 0), 0));
        bench.storeNext();
      }
    }
    expect(writes).toEqual([10, 40, 40, 10]);
    expect(linesIn(disk)).toEqual(whole(0, 100));
  });

  test("a real storage node is understood, and settles into the same file", () => {
    const disk = newDisk();
    const node = storageWith(20);
    const bench = fetcher(disk);
    for (let i = 0; i < 10 && bench.done === null; i++) {
      for (const { body, requestId } of bench.takeSent()) bench.message(A, requestId, node.answers.get(node.request(P, body)) as Answer);
      bench.storeNext();
    }
    expect(linesIn(disk)).toEqual(whole(0, 20));
  });
});

describe("what can go wrong", () => {
  test("a torn tail is cut by the next append", () => {
    const full = filled(4);
    const lineBytes = queueLines("a", { firstSeq: 3, hashes: hashesOf(3), bytes: [7] }).length;
    for (let cut = 1; cut <= lineBytes; cut++) {
      const disk = diskWith(full.subarray(0, full.length - cut));
      finish(fetcher(disk), 6);
      expect(linesIn(disk)).toEqual(whole(0, 6));
    }
  });

  test("a bad line inside: the file is kept aside, and the same range listed again in the next generation", () => {
    const bytes = filled(6, 5, 2);
    bytes[bytes.length - 200] = bytes[bytes.length - 200]! ^ 1;
    const disk = diskWith(bytes);
    const result = finish(fetcher(disk), 9);
    expect(result.notes[0]).toContain("kept as merge/queue.a.bad-5");
    expect(fileOf(disk.image, "merge/queue.a.bad-5")).toEqual(bytes);
    expect(fileText(disk)).toStartWith(`{"format":1,"log":"example.org/log","storage":"a","born":"a.1","generation":6,"firstSeq":2}\n`);
    expect(linesIn(disk)).toEqual(whole(2, 9));
  });

  test("a warm process passes over what its last run left, until the queue handler has stood still for a while", () => {
    const disk = newDisk();
    finish(fetcher(disk), 4);
    const first = fetcher(disk); // the one before made the file
    finish(first, 6);
    const known = queueEnd(first.state);
    expect(known?.nextSeq).toBe(6);
    const bytes = (fileOf(disk.image, FILE) as Uint8Array).slice();
    bytes[bytes.length - 200] = bytes[bytes.length - 200]! ^ 1;
    disk.image = setFile(disk.image, FILE, bytes);

    const second = fetcher(disk, known);
    expect(finish(second, 9)).toMatchObject({ counts: { fetched: 3, seq: 9 }, notes: [] });
    expect(queueEnd(second.state)).toMatchObject({ nextSeq: 9, cursorMs: known?.cursorMs, offset: fileOf(disk.image, FILE)?.length });

    const later = fetcher(disk, queueEnd(second.state), RECHECK_MS);
    expect(finish(later, 9).notes[0]).toContain("bad line");
    expect(linesIn(disk)).toEqual(whole(0, 9));
  });

  test("a warm process believes nothing of another generation, of a shorter file, or of a run that failed", () => {
    const disk = newDisk();
    finish(fetcher(disk), 4);
    const first = fetcher(disk); // the one before made the file
    finish(first, 6);
    const known = queueEnd(first.state) as QueueEnd;
    const bytes = (fileOf(disk.image, FILE) as Uint8Array).slice();
    disk.image = setFile(disk.image, FILE, bytes.slice(0, -30));
    finish(fetcher(disk, known), 8);
    expect(linesIn(disk)).toEqual(whole(0, 8));
    finish(fetcher(disk, { ...known, generation: known.generation + 1, nextSeq: 100 }), 9);
    expect(linesIn(disk)).toEqual(whole(0, 9));

    const failed = fetcher(disk, known);
    const [sent] = failed.takeSent();
    failed.message(A, sent!.requestId, refused("LOG_BUSY", "busy"));
    expect(failed.done).toMatchObject({ error: { code: "LOG_BUSY" } });
    expect(queueEnd(failed.state)).toBeNull();
  });

  test("a header that does not read is a bad file too; one of another log is foreign and stays", () => {
    const disk = diskWith(utf8("{\n"));
    finish(fetcher(disk), 3);
    expect([linesIn(disk), fileOf(disk.image, "merge/queue.a.bad-0")]).toEqual([whole(0, 3), utf8("{\n")]);
    const other = queueHeader(configOf(P, { origin: "example.org/other" }), { storage: "a", born: "a.1", generation: 1, firstSeq: 0 });
    const foreign = diskWith(other);
    expect(finish(fetcher(foreign), 3)).toMatchObject({ changed: false, error: { code: "MERGE_FILE_FOREIGN" } });
    expect(fileOf(foreign.image, FILE)).toEqual(other);
  });

  test("above 16 MiB the file is replaced, but only when the queue handler's cursor has passed its end", () => {
    const header = queueHeader(config, { storage: "a", born: "a.1", generation: 3, firstSeq: 0 });
    const line = queueLines("a", { firstSeq: 1, hashes: hashesOf(1), bytes: [7] });
    const bytes = new Uint8Array(header.length + line.length * Math.ceil(QUEUE_BYTES_MAX / line.length));
    bytes.set(header);
    for (let at = header.length; at < bytes.length; at += line.length) bytes.set(line, at);
    const behind = diskWith(bytes);
    withCursor(behind, 3, bytes.length - line.length, 1);
    finish(fetcher(behind), 3);
    expect(fileOf(behind.image, FILE)!.length).toBe(bytes.length + line.length);
    const passed = diskWith(bytes);
    withCursor(passed, 3, bytes.length, 2);
    finish(fetcher(passed), 3);
    expect(fileText(passed)).toStartWith(`{"format":1,"log":"example.org/log","storage":"a","born":"a.1","generation":4,"firstSeq":2}\n`);
    expect(linesIn(passed)).toEqual(whole(2, 3));
  });

  test("a file shorter than the cursor lost what was already read: the next generation begins at the cursor", () => {
    const disk = diskWith(filled(3));
    withCursor(disk, 1, filled(8).length, 8);
    finish(fetcher(disk), 9);
    expect(linesIn(disk)).toEqual(whole(8, 9));
    const missing = newDisk();
    withCursor(missing, 4, 999, 5);
    finish(fetcher(missing), 7);
    expect([linesIn(missing), fileText(missing).includes(`"generation":5`)]).toEqual([whole(5, 7), true]);
  });

  test("silence and a lost link end the run with what was fetched kept", () => {
    for (const end of [(bench: Bench) => bench.fire("ask"), (bench: Bench) => bench.lost(A)]) {
      const disk = newDisk();
      const bench = fetcher(disk);
      bench.message(A, bench.takeSent()[0]!.requestId, listed({ kind: "storage.list", log: config.log, epoch: 1, fromSeq: 0, limit: 1 }, 9, 2));
      bench.takeSent();
      bench.lost(B);
      end(bench);
      expect(bench.done).toBeNull();
      bench.storeAll();
      expect(bench.done).toMatchObject({ changed: true, error: { code: "UNAVAILABLE" }, counts: { fetched: 2 } });
      expect(linesIn(disk)).toEqual(whole(0, 2));
    }
  });

  test("a refusal, a full disk and nonsense end the run by name", () => {
    const ask = (): [Bench, number] => {
      const bench = fetcher(diskWith(filled(0)));
      return [bench, bench.takeSent()[0]!.requestId];
    };
    const [fenced, first] = ask();
    fenced.message(A, first, refused("MERGE_FENCED", "epoch 2"));
    expect(fenced.done).toMatchObject({ error: { code: "MERGE_FENCED", detail: "epoch 2" } });
    const [full, second] = ask();
    full.message(A, second, listed({ kind: "storage.list", log: config.log, epoch: 1, fromSeq: 0, limit: 1 }, 2));
    full.refuseNext();
    expect(full.done).toMatchObject({ error: { code: "STORE_FULL" } });
    const good = listed({ kind: "storage.list", log: config.log, epoch: 1, fromSeq: 0, limit: 9 }, 3);
    for (const wrong of [{ bytes: [7, 7] }, { nextSeq: 4 }, { nextSeq: 2 }, { hashes: new Uint8Array(0), bytes: [], nextSeq: 0 }, { bytes: [7, 7, 70_000] }]) {
      const [bench, id] = ask();
      bench.message(A, id, { ...good, ...wrong });
      expect(bench.done).toMatchObject({ error: { code: "FRAME_CORRUPT" } });
    }
  });

  test("late and repeated answers change nothing", () => {
    const disk = newDisk();
    const bench = fetcher(disk);
    const [sent] = bench.takeSent();
    bench.message(B, sent!.requestId, listed(sent!.body, 2));
    bench.message(A, sent!.requestId + 7, listed(sent!.body, 2));
    bench.message(A, sent!.requestId, listed(sent!.body, 2));
    bench.message(A, sent!.requestId, listed(sent!.body, 2));
    bench.storeAll();
    bench.message(A, sent!.requestId, listed(sent!.body, 2));
    expect([linesIn(disk), bench.marks.filter((name) => name === "fetch.late").length]).toEqual([whole(0, 2), 3]);
  });

  test("a node whose disk is an older copy is listed from 0 in a new generation", () => {
    const disk = diskWith(filled(50));
    const result = finish(fetcher(disk), 3);
    expect(result.notes[0]).toContain("listed again from 0");
    expect(linesIn(disk)).toEqual(whole(0, 3));
  });

  test("a node on another disk is listed from 0, however many entries it has by then", () => {
    for (const total of [0, 3, 50, 51, 200]) {
      const disk = diskWith(filled(50));
      const bench = fetcher(disk);
      expect(finish(bench, total, undefined, "a.2").notes[0]).toContain("another disk");
      expect(fileText(disk)).toStartWith(`{"format":1,"log":"example.org/log","storage":"a","born":"a.2","generation":2,"firstSeq":0}\n`);
      expect([linesIn(disk), bench.marks]).toEqual([whole(0, total), ["fetch.other-disk", "fetch.new-queue"]]);
      expect(finish(fetcher(disk), total + 1, undefined, "a.2")).toMatchObject({ notes: [], counts: { fetched: 1 } });
    }
  });

  test("where nothing was listed before, another disk is worth no warning", () => {
    const disk = diskWith(filled(0));
    expect(finish(fetcher(disk), 2, undefined, "a.2")).toMatchObject({ notes: [], counts: { fetched: 2 } });
    expect(linesIn(disk)).toEqual(whole(0, 2));
  });

  test("a node that changes its disk with every answer ends the run", () => {
    const disk = diskWith(filled(5));
    const bench = fetcher(disk);
    for (let disks = 2; bench.done === null && disks < 9; disks++) {
      const [sent] = bench.takeSent();
      if (sent !== undefined) bench.message(A, sent.requestId, listed(sent.body, 7, 2, `a.${disks}`));
      bench.storeAll();
    }
    expect(bench.done).toMatchObject({ error: { code: "FRAME_CORRUPT" } });
    expect(finish(fetcher(disk), 7, undefined, "a.9").notes[0]).toBeUndefined();
    expect(linesIn(disk)).toEqual(whole(0, 7));
  });

  test("a cursor without its file goes on only on the disk it is about", () => {
    const disk = newDisk();
    withCursor(disk, 4, 999, 5);
    finish(fetcher(disk), 7, undefined, "a.2");
    expect([linesIn(disk), fileText(disk).includes(`"born":"a.2","generation":6`)]).toEqual([whole(0, 7), true]);
  });

  test("no file is begun before the node has said which disk it is for", () => {
    const disk = newDisk();
    const bench = fetcher(disk);
    bench.fire("ask");
    bench.storeAll();
    expect([bench.done?.error?.code, fileOf(disk.image, FILE)]).toEqual(["UNAVAILABLE", undefined]);
    const torn = diskWith(utf8("{\n"));
    const other = fetcher(torn);
    other.storeAll();
    other.fire("ask");
    expect([fileOf(torn.image, FILE), fileOf(torn.image, "merge/queue.a.bad-0")]).toEqual([undefined, utf8("{\n")]);
    finish(fetcher(torn), 3);
    expect(linesIn(torn)).toEqual(whole(0, 3));
  });
});

test("whatever a crash leaves, the next runs list everything once and in order, all of it again from another disk", () => {
  const run = fc.record({
    isWiped: fc.nat(4).map((each) => each === 0),
    more: fc.nat(30),
    steps: fc.nat(12),
    flushes: fc.nat(2),
    torn: fc.nat(400),
    limit: fc.integer({ min: 1, max: 20 }),
  });
  fc.assert(
    fc.property(fc.array(run, { maxLength: 12, size: "max" }), (runs) => {
      const disk = newDisk();
      let total = 0;
      let disks = 1;
      for (const { isWiped, more, steps, flushes, torn, limit } of runs) {
        if (isWiped) disks++;
        total = isWiped ? more : total + more;
        const bench = fetcher(disk);
        for (let i = 0; i < steps && bench.done === null; i++) {
          const [sent] = bench.takeSent();
          if (sent !== undefined) bench.message(A, sent.requestId, listed(sent.body, total, limit, `a.${disks}`));
          else bench.storeNext();
        }
        bench.crash(flushes, torn);
      }
      finish(fetcher(disk), total, undefined, `a.${disks}`);
      expect(linesIn(disk)).toEqual(whole(0, total));
    }),
    { numRuns: 150 },
  );
});
