/**
 * The driver's duties of `base/effects.ts`, by number, as one suite: the simulated world and the real driver both run
 * it. A bench is two nodes, `a` and `b`, each with a toy core as its daemon, linked to each other; the faults are of a's disk.
 */
import { describe, expect, test } from "bun:test";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { nodeId } from "../../src/engine/base/ids.ts";
import { arm, ping, pingsIn, pong, put, say, TOY_FILE, TOY_KEY, type ToyCommand, type ToyEffect, type ToyRecord } from "./toy-core.ts";

export type BenchNode = "a" | "b";

export type DriverBench = AsyncDisposable & {
  /** Hands a command to a node as a local client's request, and returns once the core has had it. Its answer, if any, shows in `replies`. */
  tell(node: BenchNode, command: ToyCommand): Promise<void>;
  /** What the core of a node has seen since the node was last started. */
  record(node: BenchNode): ToyRecord;
  /** Texts that local clients of a node were answered (`said`), in order. */
  replies(node: BenchNode): readonly string[];
  /** How the daemon of a node ended by itself: `done`, a halt's code, or null while it has not. */
  ended(node: BenchNode): string | null;
  /** Node a's disk: writes asked for while paused wait; the next write fails, or is refused for lack of space. */
  readonly storage: { pause(): void; resume(): void; failNext(): void; fullNext(): void };
  /** Returns when everything has happened that does not wait for a timer or a paused disk. */
  settle(): Promise<void>;
  /** Lets at least so much time pass. */
  passMs(ms: number): Promise<void>;
  /** Ends a node without warning: nothing is flushed or said. */
  kill(node: BenchNode): Promise<void>;
  /** Starts a node that is down, on the disk it left. */
  start(node: BenchNode): Promise<void>;
};

const a = nodeId("a");
const b = nodeId("b");
const command = (...effects: ToyEffect[]): ToyCommand => ({ kind: "do", effects });

export function driverContract(title: string, open: () => Promise<DriverBench>): void {
  /** One case on a bench of its own, with what is asked most: names of events, pings received. */
  const duty = (what: string, run: (bench: DriverBench, names: (node: BenchNode) => string[], pings: () => number[]) => Promise<void>): void => {
    test(`${title}, duty ${what}`, async () => {
      await using bench = await open();
      await run(
        bench,
        (node) => bench.record(node).seen.map(({ name }) => name),
        () => pingsIn(bench.record("b").seen),
      );
      expect([bench.record("a").reentered, bench.record("b").reentered]).toEqual([false, false]);
    });
  };

  describe(title, () => {
    duty("1: effects are taken in the order listed, and start comes first", async (bench, names, pings) => {
      await bench.tell("a", command(ping(b, 1), ping(b, 2), put(1, "x"), ping(b, 3), put(2, "y"), ping(b, 4), say("end")));
      await bench.settle();
      expect(pings()).toEqual([1, 2, 3, 4]);
      expect(names("a").filter((name) => !name.startsWith("message"))).toEqual(["start", "request do", "stored 1", "stored 2"]);
      expect(bench.replies("a")).toEqual(["end"]);
    });

    duty("2: send, answer and arm wait for the write listed before them, and only those behind it", async (bench, names, pings) => {
      bench.storage.pause();
      await bench.tell("a", command(ping(b, 1), put(1, "x"), ping(b, 2), say("kept"), arm("t", 1)));
      await bench.tell("a", command(ping(b, 3)));
      await bench.passMs(20);
      await bench.settle();
      expect(pings()).toEqual([1, 3]);
      expect(bench.replies("a")).toEqual([]);
      expect(names("a")).not.toContain("timer t");
      bench.storage.resume();
      await bench.settle();
      await bench.passMs(20);
      expect(pings()).toEqual([1, 3, 2]);
      expect(bench.replies("a")).toEqual(["kept"]);
      expect(names("a")).toContain("timer t");
    });

    for (const [last, ended] of [
      [{ kind: "done", body: { kind: "said", text: "result" } }, "done"],
      [{ kind: "halt", code: "FAILED", detail: "as told" }, "FAILED"],
    ] satisfies [ToyEffect, string][]) {
      duty(`2: ${last.kind} waits for the write listed before it, and nothing after it is performed`, async (bench, _names, pings) => {
        bench.storage.pause();
        await bench.tell("a", command(put(1, "x"), last, ping(b, 1)));
        await bench.settle();
        expect(bench.ended("a")).toBeNull();
        bench.storage.resume();
        await bench.settle();
        expect(bench.ended("a")).toBe(ended);
        expect(pings()).toEqual([]);
        await bench.kill("a"); // what is left of the node, so that it can be started again
        await bench.start("a");
        await bench.settle();
        expect(bench.record("a").seen[0]).toMatchObject({ name: "start", value: "x" });
      });
    }

    duty("3: stored comes after the batch and all file changes, writes in the order asked for", async (bench) => {
      await bench.tell("a", command(put(1, "one", "abc"), put(2, "two")));
      await bench.tell("a", {
        kind: "do",
        effects: [{ kind: "write", ticket: 3, db: "local", batch: [], files: [{ change: "append", file: TOY_FILE, at: 2, bytes: utf8("XY") }] }],
      });
      await bench.settle();
      const stored = bench.record("a").seen.filter(({ name }) => name.startsWith("stored"));
      expect(stored.map(({ name }) => name)).toEqual(["stored 1", "stored 2", "stored 3"]);
      expect(stored[0]?.file).toBe("abc");
      expect(stored[1]?.value).toBe("two");
      expect(stored[2]).toMatchObject({ value: "two", file: "abXY" });
    });

    duty("3: local rows are in the same commit as the replicated ones they lie beside", async (bench) => {
      const batch = [{ op: "put", key: TOY_KEY, value: utf8("there") }] as const;
      bench.storage.fullNext();
      await bench.tell("a", command({ kind: "write", ticket: 1, db: "replicated", batch, local: [{ op: "put", key: TOY_KEY, value: utf8("never") }] }));
      await bench.settle();
      expect(bench.record("a").seen.at(-1)).toMatchObject({ name: "full 1", value: null, replicated: null });
      await bench.tell("a", command({ kind: "write", ticket: 2, db: "replicated", batch, local: [{ op: "put", key: TOY_KEY, value: utf8("here") }] }));
      await bench.settle();
      expect(bench.record("a").seen.at(-1)).toMatchObject({ name: "stored 2", value: "here", replicated: "there" });
    });

    duty("3: file changes are done in the order listed", async (bench) => {
      const files = [
        { change: "replace", file: "merge/other", bytes: utf8("first") },
        { change: "rename", file: "merge/other", to: TOY_FILE },
        { change: "append", file: TOY_FILE, at: 5, bytes: utf8(" second") },
      ] as const;
      await bench.tell("a", command({ kind: "write", ticket: 1, db: "local", batch: [], files }));
      await bench.settle();
      expect(bench.record("a").seen.at(-1)).toMatchObject({ name: "stored 1", file: "first second" });
    });

    duty("4: a write refused for lack of space left nothing, and the core goes on", async (bench, names, pings) => {
      bench.storage.fullNext();
      await bench.tell("a", command(put(1, "x", "text"), ping(b, 1), say("never")));
      await bench.settle();
      expect(names("a")).toContain("full 1");
      expect(bench.record("a").seen.at(-1)).toMatchObject({ value: null, file: null });
      await bench.tell("a", command(put(2, "y"), ping(b, 2)));
      await bench.settle();
      expect(names("a")).not.toContain("stored 1");
      expect(bench.record("a").seen.find(({ name }) => name === "stored 2")?.value).toBe("y");
      expect(pings()).toEqual([2]);
      expect(bench.replies("a")).toEqual([]);
    });

    duty("4: what a step lists behind a refused write never happens, also behind its later writes", async (bench, names, pings) => {
      bench.storage.fullNext();
      await bench.tell("a", command(put(1, "x"), ping(b, 1), put(2, "y"), ping(b, 2), say("never")));
      await bench.tell("a", command(ping(b, 3)));
      await bench.settle();
      expect(names("a")).toContain("stored 2");
      expect(pings()).toEqual([3]);
      expect(bench.replies("a")).toEqual([]);
    });

    duty("4: any other failed write is final", async (bench, names, pings) => {
      bench.storage.failNext();
      await bench.tell("a", command(arm("t", 20), put(1, "x"), ping(b, 1), say("never"), put(2, "y"), ping(b, 2)));
      await bench.settle();
      await bench.passMs(40);
      expect(bench.ended("a")).toBe("STORE_SYNC_FAILED");
      expect(pings()).toEqual([]);
      expect(bench.replies("a")).toEqual([]);
      expect(names("a")).toEqual(["start", "request do"]);
    });

    duty("5: a snapshot shows what was stored and no part of what is on its way", async (bench) => {
      await bench.tell("a", command(put(1, "old")));
      await bench.settle();
      bench.storage.pause();
      await bench.tell("a", command(put(2, "new")));
      await bench.tell("a", command());
      await bench.settle();
      expect(bench.record("a").seen.at(-1)).toMatchObject({ name: "request do", value: "old" });
      bench.storage.resume();
      await bench.settle();
      expect(bench.record("a").seen.at(-1)).toMatchObject({ name: "stored 2", value: "new" });
    });

    duty("6: an armed timer fires once; arming replaces, disarming ends it", async (bench, names) => {
      await bench.tell("a", command(arm("once", 5), arm("moved", 5), arm("moved", 10_000), arm("gone", 5), { kind: "disarm", timer: "gone" }));
      await bench.tell("a", command({ kind: "arm", timer: "jitter", afterMs: 5, jitterMs: 5 }, { kind: "arm", timer: "later", afterMs: 10_000, jitterMs: 5 }));
      await bench.passMs(60);
      await bench.settle();
      const fired = names("a").filter((name) => name.startsWith("timer"));
      expect(fired.sort()).toEqual(["timer jitter", "timer once"]);
    });

    duty("6: a disarm also ends an arm that waits for its write", async (bench, names) => {
      bench.storage.pause();
      await bench.tell("a", command(put(1, "x"), arm("t", 1)));
      await bench.tell("a", command({ kind: "disarm", timer: "t" }));
      bench.storage.resume();
      await bench.settle();
      await bench.passMs(20);
      expect(names("a")).toContain("stored 1");
      expect(names("a")).not.toContain("timer t");
    });

    duty("7: a link that is gone is told by lost, and a later send finds the peer again", async (bench, names, pings) => {
      await bench.kill("b");
      await bench.tell("a", command(ping(b, 1)));
      await bench.passMs(300);
      await bench.settle();
      expect(names("a")).toContain("lost b");
      await bench.start("b");
      for (let attempt = 0; attempt < 20 && !pings().includes(2); attempt++) {
        await bench.tell("a", command(ping(b, 2)));
        await bench.passMs(100);
        await bench.settle();
      }
      expect(pings()).toContain(2);
    });

    duty("7: a peer that dies with a question open is told by lost", async (bench, names) => {
      await bench.tell("a", command(ping(b, 1)));
      await bench.settle();
      expect(names("b")).toContain("request storage.ready");
      await bench.kill("b");
      await bench.passMs(300);
      await bench.settle();
      expect(names("a")).toContain("lost b");
    });

    duty("7 and 8: an answer comes back with its request's id, once", async (bench, names) => {
      await bench.tell("b", command(ping(a, 7)));
      await bench.settle();
      const asked = bench.record("a").seen.find(({ name }) => name === "request storage.ready")?.event;
      if (asked?.kind !== "request") throw new Error("a got no request");
      expect(asked.from).toBe(b);
      await bench.tell("a", command(pong(asked.id), pong(asked.id), say("one"), say("two")));
      await bench.settle();
      expect(names("b").filter((name) => name.startsWith("message"))).toEqual(["message storage.noted"]);
      expect(bench.record("b").seen.find(({ name }) => name.startsWith("message"))?.event).toMatchObject({ from: "a", requestId: 7 });
      expect(bench.replies("a")).toEqual(["one"]);
    });

    duty("8: an answer to a peer that went away is dropped silently", async (bench, names) => {
      await bench.tell("b", command(ping(a, 7)));
      await bench.settle();
      const asked = bench.record("a").seen.find(({ name }) => name === "request storage.ready")?.event;
      if (asked?.kind !== "request") throw new Error("a got no request");
      await bench.kill("b");
      await bench.start("b");
      await bench.tell("a", command(pong(asked.id), say("still here")));
      await bench.settle();
      expect(names("b")).toEqual(["start"]);
      expect(bench.replies("a")).toEqual(["still here"]);
      expect(bench.ended("a")).toBeNull();
    });

    duty("9: a crash loses state, timers and what was not stored, and keeps the rest", async (bench, names, pings) => {
      await bench.tell("a", command(put(1, "kept", "kept")));
      await bench.settle();
      bench.storage.pause();
      await bench.tell("a", { kind: "do", effects: [put(2, "lost"), ping(b, 1), say("never")], on: { "timer t": [ping(b, 2)], start: [ping(b, 3)] } });
      await bench.tell("a", command(arm("t", 20)));
      await bench.kill("a");
      bench.storage.resume();
      await bench.start("a");
      await bench.passMs(60);
      await bench.settle();
      expect(names("a")).toEqual(["start"]);
      expect(bench.record("a").seen[0]).toMatchObject({ value: "kept", file: "kept" });
      expect(pings()).toEqual([]);
      expect(bench.replies("a")).toEqual([]);
    });

    duty("10: the clock of the process is read when an event is stepped, and never falls", async (bench) => {
      for (let i = 0; i < 3; i++) {
        await bench.tell("a", command(arm("t", 20), say("armed")));
        await bench.passMs(60);
        await bench.settle();
      }
      const clock = bench.record("a").seen.map(({ event }) => event.upMs);
      expect(clock).toEqual(clock.toSorted((x, y) => x - y));
      expect((clock.at(-1) ?? 0) - (clock[0] ?? 0)).toBeGreaterThanOrEqual(50);
    });
  });
}
