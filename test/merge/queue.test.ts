/** The queue handler (merge.md sections 1, 3, 7): the order is made once, files never say more than LMDB, nothing is lost. */
import { afterEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { fromUtf8, utf8 } from "../../src/engine/base/bytes.ts";
import { setMutant } from "../../src/engine/base/mutant.ts";
import { leafHashes, rootOf } from "../../src/engine/log/merkle.ts";
import { LogReader } from "../../src/engine/log/reader.ts";
import { type Cursor, readCovered, readCursor } from "../../src/engine/merge/cursor.ts";
import { currentSizeFile, latchFile, readCurrentSize } from "../../src/engine/merge/files.ts";
import { orderLines } from "../../src/engine/merge/order-file.ts";
import { applyFlush, DiskSnapshot, fileOf, setFile } from "../../src/engine/sim/disk.ts";
import { logKeys } from "../../src/engine/store/keys.ts";
import { refused } from "../../src/engine/wire/messages.ts";
import { newDisk } from "./core-bench.ts";
import { A, B, hashesOf, hexes, names, range } from "./fixture.ts";
import { QueueCluster, type StepBench } from "./queue-cluster.ts";

const hex = (...numbers: readonly number[]): string[] => hexes(hashesOf(...numbers));
const fileText = (cluster: QueueCluster, name: string): string => fromUtf8(fileOf(cluster.primary.image, `merge/${name}`) ?? new Uint8Array(0));

/** Order, entries, tiles and files agree, by the slow way. */
function checkLog(cluster: QueueCluster): void {
  const order = cluster.order();
  expect(new Set(order).size).toBe(order.length); // I5
  const reader = new LogReader(cluster.snap, cluster.config.log);
  const hashes = reader.orderHashes(0, order.length);
  expect(hexes(leafHashes(reader.entries(0, order.length, Number.POSITIVE_INFINITY).bundle))).toEqual(order);
  const root = rootOf(hashes);
  expect(reader.rootAt(order.length)).toEqual(root);
  const current = readCurrentSize(cluster.snap, cluster.config);
  expect(current).toMatchObject({ kind: "ok", value: { size: order.length, root, epoch: 1 } });
  expect(fileOf(cluster.primary.image, "merge/logorder") ?? new Uint8Array(0)).toEqual(orderLines(0, hashes));
}

afterEach(() => setMutant(null));

describe("a run", () => {
  test("orders by storage node, then arrival; an entry listed twice is pulled once", () => {
    const cluster = new QueueCluster();
    cluster.add(A, 3, 1, 2);
    cluster.add(B, 9, 1, 7);
    const result = cluster.round();
    expect(result).toEqual({ step: "queue", log: "main", changed: true, counts: { sequenced: 5, repeats: 1, size: 5, held: 0 }, notes: [] });
    expect(cluster.order()).toEqual(hex(3, 1, 2, 9, 7));
    checkLog(cluster);
    expect(readCovered(cluster.snap, cluster.config.log, 5)).toEqual([
      { storage: "a", born: "a.1", seq: 3 },
      { storage: "b", born: "b.1", seq: 3 },
    ]);
    expect(cluster.round()).toMatchObject({ changed: false, counts: { sequenced: 0, repeats: 0, size: 5 } });
  });

  test("nothing is ordered before the first head: what was listed waits in the queue files", () => {
    const cluster = new QueueCluster("a,b", {}, false);
    cluster.add(A, 3, 1, 2);
    const result = cluster.round();
    expect(result).toMatchObject({ changed: false, counts: { sequenced: 0, size: 0 }, notes: ["the log has no first head yet: `cairn log init` makes it"] });
    expect(result.error).toBeUndefined();
    expect(cluster.order()).toEqual([]);
  });

  test("a repeat in a later run only moves the cursor", () => {
    const cluster = new QueueCluster();
    cluster.add(A, ...range(0, 300));
    cluster.round();
    cluster.add(B, ...range(100, 320));
    const before = fileText(cluster, "currentsize");
    cluster.fetchAll();
    const queue = cluster.queue();
    const asked = cluster.finish(queue);
    expect(asked).toMatchObject({ counts: { sequenced: 20, repeats: 200, size: 320 } });
    expect(queue.marks).toContain("queue.repeat");
    checkLog(cluster);
    expect(fileText(cluster, "currentsize")).not.toBe(before);
    expect(readCursor(cluster.snap, cluster.config.log, "b")?.seq).toBe(220);
  });

  test("batches of 16,384 and 8 MiB: one write each, and the next is pulled while one is written", () => {
    const cluster = new QueueCluster("a");
    cluster.add(A, ...range(0, 40_000));
    cluster.fetchAll();
    const queue = cluster.queue();
    queue.storeNext(); // currentsize of the empty log
    const sizes: number[] = [];
    let pulledAhead = false;
    while (queue.done === null) {
      if (queue.writes.length > 0 && queue.sent.length > 0) pulledAhead = true;
      while (cluster.deliver(queue));
      const append = queue.writes[0]?.flushes.find((flush) => flush.change === "append");
      if (append?.change === "append") sizes.push(append.bytes.length / 96);
      if (!queue.storeNext()) break;
    }
    expect([sizes, pulledAhead]).toEqual([[16_384, 16_384, 7_232], true]);
    checkLog(cluster);
  });

  test("does what the files held at its start", () => {
    const cluster = new QueueCluster("a");
    cluster.add(A, 1);
    cluster.fetchAll();
    const queue = cluster.queue();
    queue.storeNext();
    cluster.add(A, 2);
    cluster.fetchAll();
    expect(cluster.finish(queue)).toMatchObject({ counts: { size: 1 } });
    expect(cluster.finish(cluster.queue())).toMatchObject({ counts: { size: 2 } });
  });
});

describe("listers", () => {
  test("one that cannot serve: the other lister does", () => {
    const cluster = new QueueCluster();
    cluster.add(A, 1, 2, 3);
    cluster.add(B, 3, 2, 1);
    cluster.fetchAll();
    cluster.boot(A, newDisk());
    const queue = cluster.queue();
    expect(cluster.finish(queue)).toMatchObject({ counts: { sequenced: 3, held: 0 } });
    expect(queue.marks).toContain("queue.absent");
    checkLog(cluster);
  });

  test("nobody can serve: held and named, blocks nothing, and sequenced when it is back", () => {
    const cluster = new QueueCluster("a");
    cluster.add(A, 1, 2, 3);
    const whole = cluster.storage(A).disk.image;
    cluster.fetchAll();
    const pending = { op: "del", key: logKeys.pending(cluster.config.log, 0) } as const;
    const disk = cluster.storage(A).disk;
    disk.image = applyFlush(disk.image, { change: "commit", db: "log", batch: [pending] });
    cluster.add(A, 4, 5);
    const held = cluster.round();
    expect(held).toMatchObject({ counts: { sequenced: 2, held: 3, size: 2 } });
    expect(held.notes[0]).toContain(`the first as seq 0: ${hex(1)[0]}`);
    expect(cluster.order()).toEqual(hex(4, 5));
    expect(readCovered(cluster.snap, cluster.config.log, 2)).toEqual([{ storage: "a", born: "a.1", seq: 0 }]); // not to be settled
    expect(cluster.round()).toMatchObject({ changed: false, counts: { held: 3 } });
    const row = applyFlush(disk.image, {
      change: "commit",
      db: "log",
      batch: [{ op: "put", key: pending.key, value: new DiskSnapshot(whole, "test").get("log", pending.key)! }],
    });
    disk.image = row;
    expect(cluster.round()).toMatchObject({ changed: true, counts: { sequenced: 3, held: 0 }, notes: [] });
    expect(cluster.order()).toEqual(hex(4, 5, 1, 2, 3));
    expect(readCovered(cluster.snap, cluster.config.log, 5)).toEqual([{ storage: "a", born: "a.1", seq: 5 }]);
    checkLog(cluster);
  });

  test("what a lost disk held is given up when its node is listed on another one, and holds back no number of that", () => {
    const cluster = new QueueCluster("a");
    cluster.add(A, 1, 2, 3);
    cluster.fetchAll();
    cluster.boot(A, newDisk(), "a.2");
    expect(cluster.finish(cluster.queue())).toMatchObject({ counts: { held: 3 } });
    cluster.add(A, 7, 8);
    cluster.fetchAll();
    const moved = cluster.queue();
    const result = cluster.finish(moved);
    expect(result).toMatchObject({ counts: { sequenced: 2, held: 0 } });
    expect([moved.marks.includes("queue.given-up"), result.notes.at(-1)?.endsWith(hex(1)[0] as string)]).toEqual([true, true]);
    expect(readCovered(cluster.snap, cluster.config.log, 2)).toEqual([{ storage: "a", born: "a.2", seq: 2 }]);
    checkLog(cluster);
  });

  test("the same number on another disk is another entry", () => {
    const cluster = new QueueCluster("a");
    cluster.add(A, 1, 2);
    cluster.fetchAll();
    cluster.boot(A, newDisk(), "a.2");
    cluster.finish(cluster.queue()); // 1 and 2 are held as the numbers 0 and 1
    cluster.add(A, 7, 8);
    const disk = cluster.storage(A).disk;
    cluster.fetchAll();
    const pending = { op: "del", key: logKeys.pending(cluster.config.log, 0) } as const;
    disk.image = applyFlush(disk.image, { change: "commit", db: "log", batch: [pending] });
    expect(cluster.finish(cluster.queue())).toMatchObject({ counts: { held: 2 } });
    const { held } = readCursor(cluster.snap, cluster.config.log, "a") as Cursor;
    expect(hexes(held.hashes)).toEqual(hex(7, 8));
    cluster.add(A, 8, 7); // stored anew under the numbers 2 and 3
    expect(cluster.round()).toMatchObject({ counts: { sequenced: 2, held: 0 } });
    checkLog(cluster);
  });

  test("a silent one keeps its cursor; what others listed too is pulled from them; the next run goes on", () => {
    const cluster = new QueueCluster("a,b,c");
    cluster.add(A, ...range(0, 600));
    cluster.add(B, ...range(300, 700));
    cluster.fetchAll();
    cluster.silent.add(A);
    const first = cluster.finish(cluster.queue());
    expect(first).toMatchObject({ counts: { sequenced: 400, held: 0 } });
    expect(first.notes[0]).toContain("a: no answer in 10000 ms");
    expect(readCursor(cluster.snap, cluster.config.log, "a")?.seq).toBe(0);
    checkLog(cluster);
    cluster.silent.clear();
    expect(cluster.round()).toMatchObject({ counts: { sequenced: 300, size: 700 } });
    checkLog(cluster);
  });

  test("a lost link and a refusal are treated alike; a newer epoch ends the run", () => {
    for (const end of ["lost", "refused", "nonsense"]) {
      const cluster = new QueueCluster();
      cluster.add(A, 1, 2);
      cluster.add(B, 2);
      cluster.fetchAll();
      const queue = cluster.queue();
      queue.storeNext();
      const asked = queue.takeSent();
      const toA = asked.find((each) => each.to === A)!;
      if (end === "lost") queue.lost(A);
      if (end === "refused") queue.message(A, toA.requestId, refused("NOT_READY", "starting"));
      if (end === "nonsense") queue.message(A, toA.requestId, { kind: "storage.entries", bundle: Uint8Array.of(0, 9, 1), served: 1, absent: [] });
      for (const { to, requestId, body } of asked) {
        const answer = cluster.storage(to).answers.get(cluster.storage(to).request(cluster.config.primary, body));
        queue.message(to, requestId, answer as never); // a's comes too late
      }
      expect(cluster.finish(queue)).toMatchObject({ counts: { sequenced: 1 } });
      expect(queue.marks).toEqual(expect.arrayContaining(["queue.left-out", "queue.late-answer"]));
      expect(cluster.round()).toMatchObject({ counts: { size: 2 } });
    }
    const cluster = new QueueCluster("a");
    cluster.add(A, 1);
    cluster.fetchAll();
    const queue = cluster.queue();
    queue.storeNext();
    queue.message(A, queue.takeSent()[0]!.requestId, refused("MERGE_FENCED", "epoch 2 of s1"));
    expect(queue.done).toMatchObject({ error: { code: "MERGE_FENCED" } });
  });

  test("an entry with other bytes than its hash says is not taken", () => {
    const cluster = new QueueCluster("a,b");
    cluster.add(A, 1, 2);
    cluster.add(B, 2);
    cluster.fetchAll();
    const queue = cluster.queue();
    queue.storeNext();
    for (let round = 0; queue.done === null && round < 20; round++) {
      for (const { to, requestId, body } of queue.takeSent()) {
        const answer = cluster.storage(to).answers.get(cluster.storage(to).request(cluster.config.primary, body));
        if (to === A && answer?.kind === "storage.entries") {
          const bundle = answer.bundle.slice();
          bundle[bundle.length - 1]! ^= 1;
          queue.message(to, requestId, { ...answer, bundle });
        } else queue.message(to, requestId, answer as never);
      }
      queue.storeNext();
    }
    const order = cluster.order();
    expect(order).toContain(hex(2)[0]!);
    checkLog(cluster);
  });
});

describe("what is found at the start", () => {
  const filled = (): QueueCluster => {
    const cluster = new QueueCluster("a");
    cluster.add(A, ...range(0, 20));
    cluster.round();
    return cluster;
  };
  const put = (cluster: QueueCluster, name: string, bytes: Uint8Array | null): void => {
    cluster.primary.image = setFile(cluster.primary.image, `merge/${name}`, bytes);
  };
  const lines = (cluster: QueueCluster): Uint8Array => fileOf(cluster.primary.image, "merge/logorder") as Uint8Array;

  test("currentsize missing, torn or behind; logorder missing, short, torn: written again from LMDB", () => {
    const damages: ((cluster: QueueCluster) => void)[] = [
      (cluster) => put(cluster, "currentsize", null),
      (cluster) => put(cluster, "currentsize", utf8(fileText(cluster, "currentsize").slice(0, 50))),
      (cluster) => put(cluster, "logorder", null),
      (cluster) => put(cluster, "logorder", lines(cluster).slice(0, 96 * 7)),
      (cluster) => put(cluster, "logorder", lines(cluster).slice(0, 96 * 7 + 50)),
      (cluster) => put(cluster, "logorder", lines(cluster).fill(0, 96 * 18)),
    ];
    for (const damage of damages) {
      const cluster = filled();
      damage(cluster);
      const queue = cluster.queue();
      expect(cluster.finish(queue)).toMatchObject({ changed: true, counts: { size: 20, sequenced: 0 } });
      expect(queue.marks).toContain("queue.recovered");
      checkLog(cluster);
    }
  });

  test("a currentsize behind is moved up; an order grown in another epoch is said in ours", () => {
    const cluster = filled();
    const old = fileText(cluster, "currentsize");
    cluster.add(A, 50);
    cluster.round();
    put(cluster, "currentsize", utf8(old));
    cluster.finish(cluster.queue());
    checkLog(cluster);
  });

  test("what says more than LMDB, or another thing, is foreign: exit, nothing overwritten", () => {
    const other = new QueueCluster("a");
    other.add(A, ...range(100, 125));
    other.round();
    const foreign: ((cluster: QueueCluster) => void)[] = [
      (cluster) => put(cluster, "currentsize", utf8(fileText(other, "currentsize"))),
      (cluster) => put(cluster, "logorder", lines(other)),
      (cluster) => put(cluster, "logorder", lines(other).slice(0, 96 * 20)),
      (cluster) => put(cluster, "logorder", lines(other).slice(0, 96 * 5)),
      (cluster) => {
        const current = readCurrentSize(cluster.snap, cluster.config);
        if (current.kind !== "ok") throw new Error(current.why);
        const change = currentSizeFile(cluster.config, { ...current.value, root: new Uint8Array(32) });
        put(cluster, "currentsize", change.change === "replace" ? change.bytes : null);
      },
      (cluster) => put(cluster, "currentsize", utf8(fileText(cluster, "currentsize").replace("example.org/log", "example.org/two"))),
    ];
    for (const damage of foreign) {
      const cluster = filled();
      damage(cluster);
      const before = cluster.primary.image;
      expect(cluster.finish(cluster.queue())).toMatchObject({ error: { code: "MERGE_FILE_FOREIGN" } });
      expect(cluster.primary.image).toBe(before);
    }
  });

  test("a latch, also an unreadable one, ends the run with nothing done", () => {
    const cluster = filled();
    cluster.add(A, 77);
    cluster.fetchAll();
    const change = latchFile(cluster.config, { code: "LOG_ROOT_MISMATCH", detail: "index 4", timeMs: 1 });
    for (const bytes of [change.change === "replace" ? change.bytes : null, utf8("x")]) {
      put(cluster, "latch", bytes);
      expect(cluster.finish(cluster.queue())).toMatchObject({ changed: false, error: { code: "MERGE_LATCHED" } });
    }
    put(cluster, "latch", null);
    expect(cluster.finish(cluster.queue())).toMatchObject({ counts: { size: 21 } });
  });

  test("a bad line stops that file, the others go on; the fetcher's new generation loses nothing", () => {
    const cluster = new QueueCluster();
    cluster.add(A, 1, 2, 3);
    cluster.add(B, 4);
    cluster.fetchAll();
    const bytes = (fileOf(cluster.primary.image, "merge/queue.a") as Uint8Array).slice();
    bytes[bytes.length - 100]! ^= 1;
    put(cluster, "queue.a", bytes);
    const queue = cluster.queue();
    const result = cluster.finish(queue);
    expect(cluster.order()).toEqual(hex(1, 2, 4));
    expect([result.notes[0], queue.marks.includes("queue.bad-line")]).toEqual([expect.stringContaining("queue.a: bad line at byte"), true]);
    cluster.round();
    expect(cluster.order()).toEqual(hex(1, 2, 4, 3));
    checkLog(cluster);
  });

  test("a full disk ends the run and leaves the order as it was", () => {
    const cluster = filled();
    cluster.add(A, 60);
    cluster.fetchAll();
    const queue = cluster.queue();
    while (cluster.deliver(queue));
    queue.refuseNext();
    expect(queue.done).toMatchObject({ error: { code: "STORE_FULL" } });
    checkLog(cluster);
    expect(cluster.round()).toMatchObject({ counts: { size: 21 } });
  });
});

describe("crashes", () => {
  /** Runs the step until its n-th flush, and dies there with `torn` bytes of the next one written. */
  function dieAt(cluster: QueueCluster, step: StepBench, flushCount: number, torn: number): boolean {
    let left = flushCount;
    while (step.done === null) {
      if (cluster.deliver(step)) continue;
      const count = step.writes[0]?.flushes.length ?? 0;
      if (count > left || (count === left && torn > 0)) {
        step.crash(left, torn);
        return true;
      }
      left -= count;
      if (!step.storeNext()) step.fire([...step.timers.keys()][0] ?? "");
    }
    return false;
  }

  test("at every flush, whole or torn: the next run completes the same log", () => {
    const cluster = new QueueCluster();
    cluster.add(A, ...range(0, 4_200));
    cluster.add(B, ...range(4_000, 4_400));
    cluster.fetchAll();
    const before = cluster.primary.image;
    for (const torn of [0, 1, 96]) {
      let died = true;
      for (let n = 0; died; n++) {
        cluster.primary.image = before;
        died = dieAt(cluster, cluster.queue(), n, torn);
        if (n === 0) expect(died).toBe(true);
        cluster.round();
        expect(cluster.order().length).toBe(4_400);
        if (n % 3 === 0) checkLog(cluster);
      }
    }
  }, 30_000); // a busy machine takes its time

  /** What a planted mistake breaks, at the crash that shows it. */
  function afterCrash(mutant: string, flushCount: number): QueueCluster {
    const cluster = new QueueCluster("a");
    cluster.add(A, ...range(0, 10));
    cluster.round();
    cluster.add(A, ...range(5, 15));
    cluster.fetchAll();
    setMutant(mutant);
    const queue = cluster.queue();
    while (cluster.deliver(queue));
    queue.crash(flushCount);
    setMutant(null);
    return cluster;
  }

  test("planted mistakes are seen", () => {
    const early = afterCrash("merge.currentsize-before-commit", 1);
    expect(early.round()).toMatchObject({ error: { code: "MERGE_FILE_FOREIGN" } });
    const cursor = afterCrash("merge.cursor-before-entries", 1);
    cursor.round();
    expect(cursor.order().length).toBe(10); // 10 to 14 are lost
    const clean = afterCrash("none", 1);
    clean.round();
    expect(clean.order().length).toBe(15);
    const cluster = new QueueCluster();
    cluster.add(A, 1);
    cluster.round();
    cluster.add(B, 1);
    cluster.fetchAll();
    setMutant("merge.dedup-skipped");
    cluster.finish(cluster.queue());
    expect(cluster.order().length).toBe(2);
  });
});

/** The oracle knows only which hashes were accepted: in the end each stands in the order exactly once. */
test("any interleaving of adds, copies, fetches, queue runs and crashes: each accepted entry once", () => {
  const action = fc.record({
    what: fc.constantFrom("add", "add", "copy", "fetch", "queue", "step", "step", "step", "kill", "silent", "reboot"),
    who: fc.nat(2),
    pick: fc.nat(600),
    numbers: fc.array(fc.nat(60), { minLength: 1, maxLength: 12 }),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80, size: "max" }), (actions) => {
      const cluster = new QueueCluster("a,b,c");
      const ids = names("a,b,c");
      const accepted = new Set<string>();
      const running = new Map<string, StepBench>();
      const start = (name: string, make: () => StepBench): void => {
        if ((running.get(name)?.done ?? "ended") !== null) running.set(name, make());
      };
      for (const { what, who, pick, numbers } of actions) {
        const id = ids[who]!;
        const steps = [...running.entries()].filter(([, each]) => each.done === null);
        const [name, step] = steps[pick % Math.max(1, steps.length)] ?? [];
        if (what === "add") {
          cluster.add(id, ...numbers);
          for (const each of hex(...numbers)) accepted.add(each);
        } else if (what === "copy") cluster.add(ids[(who + 1) % 3]!, ...numbers.filter((each) => accepted.has(hex(each)[0]!)));
        else if (what === "fetch") start(`fetch ${id}`, () => cluster.fetcher(id));
        else if (what === "queue") start("queue", () => cluster.queue());
        else if (what === "reboot") cluster.boot(id);
        else if (what === "silent") pick % 2 === 0 ? cluster.silent.clear() : cluster.silent.add(id);
        else if (step !== undefined && name !== undefined) {
          if (what === "kill") {
            step.crash(pick % 4, pick);
            running.delete(name);
          } else if (!cluster.deliver(step) && !step.storeNext()) step.fire([...step.timers.keys()][0] ?? "");
        }
        const order = cluster.order();
        expect(new Set(order).size).toBe(order.length);
      }
      cluster.silent.clear();
      for (let i = 0; i < 3; i++) expect(cluster.round().error).toBeUndefined();
      checkLog(cluster);
      expect(cluster.order().sort()).toEqual([...accepted].sort());
    }),
    { numRuns: 60 },
  );
}, 30_000);
