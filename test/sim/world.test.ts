/** The simulated world itself: seeds are runs, faults do what they say, and it is fast enough for seed campaigns. */
import { describe, expect, test } from "bun:test";
import { utf8 } from "../../src/engine/base/bytes.ts";
import type { Snapshot } from "../../src/engine/base/effects.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { nodeId } from "../../src/engine/base/ids.ts";
import { BrokenInvariant } from "../../src/engine/base/invariant.ts";
import { applyFlush, diffDisks, emptyDisk, fileOf, flipBit, setFile, tearFlush } from "../../src/engine/sim/disk.ts";
import { runFor, settle } from "../../src/engine/sim/steer.ts";
import { chatterWorld, countOnDisk } from "./chatter.ts";

const [a, b, c] = [nodeId("a"), nodeId("b"), nodeId("c")];
const ROUGH = { link: { delayMs: [0, 30], loss: 0.05, repeat: 0.05, corrupt: 0.01 }, flushMs: [0, 5], keep: "random" } as const;

function roughRun(seed: number, events: number) {
  const world = chatterWorld(["a", "b", "c"], { seed, ...ROUGH });
  for (let count = 0; count < events; count++) {
    if (count % 500 === 250) world.crashNode(b);
    if (count % 500 === 400) world.startNode(b);
    world.step();
  }
  return world;
}

describe("seeds", () => {
  test("one seed is one run", () => {
    const [first, second, other] = [roughRun(7, 3_000), roughRun(7, 3_000), roughRun(8, 3_000)];
    expect(first.trace.hash).toBe(second.trace.hash);
    expect(first.boundaryCount).toBe(second.boundaryCount);
    expect(first.trace.hash).not.toBe(other.trace.hash);
    expect(first.violations).toEqual([]);
  });

  test("recording changes nothing but the lines", () => {
    const world = chatterWorld(["a", "b"], { seed: 3, recording: true, ...ROUGH });
    const silent = chatterWorld(["a", "b"], { seed: 3, ...ROUGH });
    runFor(world, 500);
    runFor(silent, 500);
    expect(world.trace.hash).toBe(silent.trace.hash);
    expect(silent.trace.since(0)).toEqual([]);
    expect(world.trace.since(0).length).toBeGreaterThan(100);
  });

  test("at least 50,000 events a second (printed, not asserted)", () => {
    const world = chatterWorld(["a", "b", "c", "d", "e"], { link: { delayMs: [0, 10], loss: 0.01 }, flushMs: [0, 2] });
    const startedAt = performance.now();
    while (world.eventCount < 100_000) world.step();
    const perSecond = Math.round((world.eventCount / (performance.now() - startedAt)) * 1_000);
    console.log(`simulator: ${perSecond} events/s, ${world.boundaryCount} boundaries, ${world.nowMs} virtual ms`);
    expect(world.violations).toEqual([]);
  });
});

describe("links", () => {
  test("a cut is one-way, silent for a while, then told; heal mends it", () => {
    const world = chatterWorld(["a", "b"], { recording: true });
    world.network.cut(a, b);
    runFor(world, 300);
    expect(countOnDisk(world, b, a)).toBe(0);
    expect(countOnDisk(world, a, b)).toBeGreaterThan(0); // b's requests arrive, only the answers are lost
    expect(world.trace.since(0)).toContain("a: lost the link to b");
    world.network.heal();
    runFor(world, 50);
    expect(countOnDisk(world, b, a)).toBeGreaterThan(20);
  });

  test("a corrupted frame ends the link with everything on it, and is never decoded", () => {
    const world = chatterWorld(["a", "b"], { recording: true });
    world.network.setLink(a, b, { ...world.network.faults, corrupt: 1 });
    runFor(world, 100);
    expect(countOnDisk(world, b, a)).toBe(0);
    expect(world.trace.since(0)).toContain("a: lost the link to b");
    expect(world.violations).toEqual([]);
  });

  test("a held message waits, a released one arrives, a repeated one is late", () => {
    const world = chatterWorld(["a", "b"], { recording: true });
    const match = { kind: "storage.ready", from: "a", to: "b" };
    world.network.hold(match);
    runFor(world, 25);
    expect(countOnDisk(world, b, a)).toBe(0);
    const held = world.network.release(match);
    expect(held.length).toBeGreaterThan(1);
    for (const frame of held) world.courier.launch(frame, 0);
    settle(world);
    expect(countOnDisk(world, b, a)).toBe(held.length);
    const last = world.network.lastDelivered(match);
    if (last === undefined) throw new Error("nothing was delivered");
    world.arrive(world.courier.copyOf(last));
    expect(world.trace.marks.get("chatter.late")).toBe(1);
  });

  test("a paused node answers nothing and loses nothing", () => {
    const world = chatterWorld(["a", "b"]);
    runFor(world, 20);
    world.pauseNode(b);
    const before = countOnDisk(world, b, a);
    runFor(world, 200);
    expect(countOnDisk(world, b, a)).toBe(before);
    world.resumeNode(b);
    runFor(world, 20);
    expect(countOnDisk(world, b, a)).toBeGreaterThan(before + 10);
    world.pauseNode(b);
    world.crashNode(b); // a dead node is not a paused one
    world.startNode(b);
    runFor(world, 20);
    expect(world.node(b).paused).toBe(false);
  });
});

describe("disks", () => {
  test("a flipped bit is seen at the next read, and stops the process", () => {
    const world = chatterWorld(["a", "b"]);
    runFor(world, 50);
    world.node(b).disk = flipBit(world.diskOf(b), "local", utf8("count/a"), 100);
    runFor(world, 50);
    const end = [...world.processes.values()].find(({ node }) => node === b)?.end;
    expect(end).toMatchObject({ kind: "halted", code: "STORE_CORRUPT" });
  });

  test("an old folder comes back as it was; a node that runs keeps its own", () => {
    const world = chatterWorld(["a", "b"]);
    runFor(world, 50);
    world.saveFolder(b, "old");
    const old = countOnDisk(world, b, a);
    runFor(world, 50);
    expect(() => world.restoreFolder(b, "old")).toThrow("b runs daemon");
    world.crashNode(b);
    expect(diffDisks(world.diskOf(b), world.node(b).saved.get("old") ?? world.diskOf(a), "local", 10).length).toBeGreaterThan(0);
    world.restoreFolder(b, "old");
    expect(countOnDisk(world, b, a)).toBe(old);
    world.restoreFolder(b, null);
    expect(countOnDisk(world, b, a)).toBe(0);
  });

  test("a torn replace leaves the old file, and part of the new one beside it", () => {
    for (let seed = 0; seed < 40; seed++) {
      const world = chatterWorld(["a", "b"], { seed, flushMs: [1, 3] });
      runFor(world, 60);
      const before = fileOf(world.diskOf(b), "chat/a");
      world.crashAt({ node: b, kind: "replace", what: "chat/a", when: "before", keep: "torn" });
      while (world.running(b, "daemon") !== null) world.step();
      expect(fileOf(world.diskOf(b), "chat/a")).toEqual(before);
      expect(fileOf(world.diskOf(b), "chat/.a.tmp")?.length).toBeLessThanOrEqual(8);
      world.startNode(b);
      runFor(world, 30);
      expect(world.violations).toEqual([]);
    }
  });

  test("a torn append leaves a prefix, and the next one cuts it away", () => {
    const whole = applyFlush(emptyDisk, { change: "append", file: "f", at: 0, bytes: utf8("one\n") });
    const torn = tearFlush(whole, { change: "append", file: "f", at: 4, bytes: utf8("two\n") }, 2);
    expect(fileOf(torn, "f")).toEqual(utf8("one\ntw"));
    expect(fileOf(applyFlush(torn, { change: "append", file: "f", at: 4, bytes: utf8("2\n") }), "f")).toEqual(utf8("one\n2\n"));
    expect(() => applyFlush(whole, { change: "append", file: "f", at: 5, bytes: utf8("x") })).toThrow("the file has 4 bytes");
    expect(fileOf(setFile(whole, "f", null), "f")).toBeUndefined();
  });
});

describe("duty 5", () => {
  test("a snapshot is of no use after its step", () => {
    const world = chatterWorld(["a"]);
    let kept: Snapshot | null = null;
    world.addNode(b, {
      daemon: () => ({
        name: "keeper",
        step(_event, snap) {
          kept = snap;
          return [];
        },
      }),
    });
    world.startNode(b);
    settle(world);
    expect(() => (kept as Snapshot | null)?.fileSize("x")).toThrow("only during the step");
  });

  test("what a core throws halts it; what is no fact about the world is a finding", () => {
    const world = chatterWorld(["a"]);
    for (const [id, error] of [[b, new EngineError("STORE_CORRUPT", "as told")] as const, [c, new BrokenInvariant("as told")] as const]) {
      world.addNode(id, {
        daemon: () => ({
          name: "thrower",
          step() {
            throw error;
          },
        }),
      });
      world.startNode(id);
    }
    settle(world);
    expect(world.violations).toEqual([{ invariant: "as told", at: expect.any(Number) }]);
    expect([...world.processes.values()].flatMap(({ end }) => (end?.kind === "halted" ? [end.code] : []))).toEqual(["STORE_CORRUPT", "BROKEN_INVARIANT"]);
  });
});

describe("crash grid", () => {
  /** The promise of the protocol: a count that was acknowledged is on the disk of the node that did. */
  function acknowledgedIsKept(boundary: number): boolean {
    const world = chatterWorld(["a", "b"], { flushMs: [0, 2], keep: "random", seed: boundary });
    let promised = 0;
    world.crashAt({ node: b, nth: boundary });
    for (let step = 0; step < 400; step++) {
      for (const { frame } of world.courier.frames()) if (frame.kind === "storage.settled" && frame.from === b) promised = Math.max(promised, frame.requestId);
      if (world.running(b, "daemon") === null) {
        expect(countOnDisk(world, b, a)).toBeGreaterThanOrEqual(promised);
        world.startNode(b);
      }
      if (!world.step()) break;
    }
    return world.crashPointCount === 0;
  }

  test("at every boundary of a run, an acknowledged count survives", () => {
    let reached = 0;
    while (reached < 200 && acknowledgedIsKept(reached + 1)) reached++;
    expect(reached).toBeGreaterThan(50);
  });

  test("a named point: before and after the flush of one file", () => {
    for (const [when, kept] of [
      ["before", 0],
      ["after", 1],
    ] as const) {
      const world = chatterWorld(["a", "b", "c"]);
      world.crashAt({ node: c, process: "daemon", kind: "commit", what: "local", when });
      while (world.running(c, "daemon") !== null) world.step();
      expect(Math.max(countOnDisk(world, c, a), countOnDisk(world, c, b))).toBe(kept);
    }
  });
});
