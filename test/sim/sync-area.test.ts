/** The area `sync`: its verbs, its worlds, every mark of Paxos, and seeds that are the same runs every time. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { areas } from "../../src/engine/sim/areas.ts";
import { parseCalls, parseStory } from "../../src/engine/sim/grammar.ts";
import { runPaxosSeed } from "../../src/engine/sim/paxos-seed.ts";
import { Story } from "../../src/engine/sim/script.ts";
import { seedToBreak } from "../../src/engine/sim/seeds.ts";
import { syncArea } from "../../src/engine/sim/sync-area.ts";

const root = join(import.meta.dir, "../..");
const WORLD = "world sync nodes=3 spares=1 seed=7";
/** The last ones meet marks that the others do not: a member that is not heard, one that is full, a late word, one that is behind. */
const SEEDS = [1, 2, 3, 16, 19, 36, 45];

function last(...lines: string[]): string[] {
  const story = new Story(areas);
  return lines.map((line) => story.answer(parseCalls(line))).at(-1) ?? [];
}

describe("verbs", () => {
  for (const verb of syncArea.verbs)
    test(`the example of ${verb.name} runs: ${verb.example}`, () => {
      const answer = last(WORLD, "kv put k v", verb.example);
      expect(answer.length).toBeGreaterThan(0);
      expect(answer.filter((line) => /^error\[(PARSE|FAILED|VIOLATION)\]/.test(line))).toEqual([]);
    });

  test.each([
    ["kv put k", "error[PARSE]: kv put: value is missing"],
    ["kv put k v if=old", "error[PARSE]: kv put: if=old: want a version, * or absent"],
    ["kv put k v at=z", "error[UNKNOWN_NODE]: node z: there are a, b, c, d"],
    ["write 0", "error[PARSE]: write: count is 0, want 1 to 10000"],
    ["paxos status z", "error[UNKNOWN_NODE]: node z: there are a, b, c, d"],
    ["member retire c", "error[USAGE]: member retire c: retire is no change of members: add, remove, replace"],
    ["member remove d", "error[UNKNOWN_NODE]: member remove d: d is no member: there are a, b, c"],
    ["member add c", "error[NODE_EXISTS]: member add c: c is a member: number 3"],
    ["trace maybe", "error[PARSE]: trace: want on or off"],
  ])("%s is refused by name", (line, answer) => {
    expect(last(WORLD, line)).toEqual([answer]);
  });

  test.each([
    ["world sync nodes=0", "error[PARSE]: world sync: nodes is 0, want 1 to 9"],
    ["world sync nodes=9 spares=1", "error[PARSE]: world sync: 10 nodes, at most 9"],
    ["world sync last=0", "error[PARSE]: world sync: last is 0, want 1 to 10000"],
    ["world sync keep=0", "error[PARSE]: world sync: keep is 0, want 1 or more"],
  ])("%s is refused", (line, answer) => {
    expect(last(line)).toEqual([answer]);
  });

  test("one node alone is a majority of itself", () => {
    expect(last("world sync nodes=1 seed=3", "kv put k v", "kv get k")).toEqual(["kv get k: v of version 2, read at 2"]);
  });

  test("help lists the phases, and what may be waited for", () => {
    expect(last(WORLD, "help states").filter((line) => line.startsWith("paxos"))).toHaveLength(6);
    expect(last(WORLD, "help conditions")).toHaveLength(7);
  });
});

describe("seeds", () => {
  const runs = SEEDS.map((seed) => runPaxosSeed(seed));

  test("hold every invariant", () => {
    expect(runs.flatMap(({ seed, violation }) => (violation === null ? [] : [`${seed}: ${violation.invariant}`]))).toEqual([]);
  });

  test("are the same runs every time, whatever is recorded", () => {
    let lines = (): readonly string[] => [];
    const again = runPaxosSeed(SEEDS[0]!, {
      onWorld: ({ trace }) => {
        trace.recording = true;
        lines = () => trace.since(0);
      },
    });
    expect([again.traceHash, again.events]).toEqual([runs[0]!.traceHash, runs[0]!.events]);
    expect(lines().length).toBeGreaterThan(1_000);
  }, 60_000);

  test("a seed stops where it meets a break, and is the same run up to there", () => {
    const stop = seedToBreak(syncArea, 2, "mark hold.active");
    expect(stop?.trace.filter((line) => line.includes("[hold.active]"))).toHaveLength(1);
    expect(stop?.queue.length).toBeGreaterThan(3);
    expect(seedToBreak(syncArea, 2, "mark hold.active")).toEqual(stop);
    expect(seedToBreak(syncArea, 2, "mark nothing.such", { eventsMax: 500 })).toBeNull();
    expect(() => seedToBreak(syncArea, 2, "SYNC(c,joined)", { eventsMax: 500 })).toThrow("conditions are for stories");
  }, 60_000);

  test("a write that another one overtook at its version is not said to be surely undone: seed 1148", () => {
    expect(runPaxosSeed(1_148).violation).toBeNull();
  });

  test("a member that a trim under way leaves behind is not counted on, where nobody can copy to it: seed 4546", () => {
    expect(runPaxosSeed(4_546).violation).toBeNull();
  });

  test("a member that was stopped for long does not write each BEGIN that waited for it: seed 4918", () => {
    expect(runPaxosSeed(4_918).violation).toBeNull();
  });

  test("every mark of Paxos is met by a story or by these seeds, and none is met that the sources do not have", () => {
    const met = new Set([...runs.flatMap(({ marks }) => [...marks.keys()]), ...marksOfStories("paxos")]);
    const inSources = marksInSources();
    expect(inSources.size).toBeGreaterThan(30);
    expect([...inSources].filter((name) => !met.has(name)).sort()).toEqual([...BY_TESTS].sort());
    expect([...met].filter((name) => !inSources.has(name))).toEqual([]);
  }, 60_000);
});

test("every mark of synchronisation is met by a story", () => {
  const met = marksOfStories("sync");
  const inSources = new Set(["sync.expired", "sync.drained"]);
  for (const file of new Bun.Glob("src/engine/sync/*.ts").scanSync(root))
    for (const [, name = ""] of readFileSync(join(root, file), "utf8").matchAll(/mark\(turn, "((?:sync|hold)\.[a-z-]+)"/g)) inSources.add(name);
  expect(inSources.size).toBeGreaterThan(50);
  expect([...inSources].filter((name) => !met.has(name) && !WITHOUT_STORY.includes(name))).toEqual([]);
}, 60_000);

/** Met by tests of the core and by seeds: it takes a coincidence, or somebody who does what no honest node does. */
const WITHOUT_STORY: readonly string[] = [
  "hold.anew",
  "hold.stale-ack",
  "sync.alarm",
  "sync.asked-again",
  "sync.bad-chunk",
  "sync.bad-range",
  "sync.chunk-ahead",
  "sync.chunk-early",
  "sync.floor-rose",
  "sync.late-ack",
  "sync.late-range",
  "sync.late-recent",
  "sync.late-verify",
  "sync.snapshot-old",
  "sync.start-late",
  "sync.throttled",
];

function marksOfStories(folder: string): ReadonlySet<string> {
  const met = new Set<string>();
  for (const file of new Bun.Glob(`fixtures/scenarios/${folder}/*.txt`).scanSync(root)) {
    const story = new Story(areas);
    for (const stanza of parseStory(readFileSync(join(root, file), "utf8"))) story.answerStanza(stanza);
    for (const name of story.open?.world.trace.marks.keys() ?? []) met.add(name);
  }
  return met;
}

/** Met by a test of one replica: no honest node sends such a thing, or it takes a coincidence. */
const BY_TESTS: readonly string[] = [
  "paxos.bad-batch",
  "paxos.foreign",
  "paxos.newer-members",
  "paxos.shows-less",
  "paxos.stale",
  "paxos.synchronizing",
  "paxos.unheard",
];

/** `mark(turn, "paxos.name"` and every reason of a refusal. */
function marksInSources(): ReadonlySet<string> {
  const marks = new Set<string>();
  for (const file of new Bun.Glob("src/engine/paxos/*.ts").scanSync(root)) {
    const text = readFileSync(join(root, file), "utf8");
    for (const [, name = ""] of text.matchAll(/mark\(turn, "(paxos\.[a-z-]+)"/g)) marks.add(name);
    const [, reasons = ""] = /export type Refusal =([^;]+);/.exec(text) ?? [];
    for (const [, reason = ""] of reasons.matchAll(/"([a-z-]+)"/g)) marks.add(`paxos.${reason}`);
  }
  return marks;
}
