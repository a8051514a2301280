/**
 * Every mark in the sources of the merge is met by a story, a seed run or, where no cluster brings it about, one core
 * alone (style.md section 1): from a guard one finds the story that shows why it exists. The lists are exact: a mark
 * that a story meets may not stay on them.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { NO_HELD, putCursor } from "../src/engine/merge/cursor.ts";
import { initialFetch, stepFetch } from "../src/engine/merge/fetch.ts";
import { initialQueue, stepQueue } from "../src/engine/merge/queue.ts";
import { QUEUE_BYTES_MAX, queueHeader, queueLines } from "../src/engine/merge/queue-file.ts";
import { areas } from "../src/engine/sim/areas.ts";
import { applyFlush, setFile } from "../src/engine/sim/disk.ts";
import { parseStory } from "../src/engine/sim/grammar.ts";
import { runMergeSeed } from "../src/engine/sim/merge-seed.ts";
import { Story } from "../src/engine/sim/script.ts";
import { CoreBench, newDisk } from "./merge/core-bench.ts";
import { A, configOf, hashesOf, P } from "./merge/fixture.ts";

const root = join(import.meta.dir, "..");
const config = configOf(P);
const read = (path: string): string => readFileSync(join(root, path), "utf8");

/** Met by these seeds only: chance finds the order of events, and a story would have to spell it out. None now. */
const BY_SEED: Readonly<Record<string, number>> = {};

/** What one core has to be brought to by hand: nobody in a cluster does such a thing, or not at the size of a story. */
const BY_CORE: Readonly<Record<string, () => readonly string[]>> = {
  "fetch.nonsense"() {
    const bench = new CoreBench(stepFetch, initialFetch(config, A)).start();
    const items = { hashes: hashesOf(1), bytes: [7, 7], born: "a.1", nextSeq: 1, lastSeq: 1, oldestPendingSeq: 0 };
    bench.message(A, bench.sent[0]?.requestId ?? 0, { kind: "storage.listed", ...items });
    return bench.marks;
  },
  "fetch.rotated"() {
    const header = queueHeader(config, { storage: A, born: "a.1", generation: 1, firstSeq: 0 });
    const line = queueLines(A, { firstSeq: 0, hashes: hashesOf(1), bytes: [7] });
    const bytes = new Uint8Array(header.length + line.length * Math.ceil(QUEUE_BYTES_MAX / line.length));
    bytes.set(header);
    for (let at = header.length; at < bytes.length; at += line.length) bytes.set(line, at);
    const passed = putCursor(config.log, A, { born: "a.1", generation: 1, offset: bytes.length, seq: 1, held: NO_HELD });
    const image = applyFlush(setFile(newDisk().image, "merge/queue.a", bytes), { change: "commit", db: "log", batch: [passed] });
    return new CoreBench(stepFetch, initialFetch(config, A), { image }).start().marks;
  },
  "queue.late"() {
    const bench = new CoreBench(stepQueue, initialQueue(config)).start();
    bench.storeAll();
    return stepQueue(bench.state, { kind: "lost", peer: A, timeMs: 1, upMs: 1 }, bench.snap).flatMap((effect) => (effect.kind === "mark" ? [effect.name] : []));
  },
};

/** `"area.name"` in the sources of the merge, less names of messages and of planted mistakes. */
function marksInSources(): string[] {
  const messages = new Set([...read("src/engine/wire/messages.ts").matchAll(/"([a-z]+\.[a-z]+)": \[/g)].map(([, kind]) => kind));
  const marks = new Set<string>();
  for (const file of new Bun.Glob("src/engine/merge/*.ts").scanSync(root)) {
    const text = read(file);
    for (const [, name = ""] of text.matchAll(/"([a-z]+\.[a-z][a-z-]*)"/g)) if (!messages.has(name) && !name.startsWith("merge.")) marks.add(name);
    for (const [, name = ""] of text.matchAll(/kind: "mark", name: "([a-z.-]+)"/g)) marks.add(name); // one may be called like a message
    if (/`storage\.\$\{next\}`/.test(text)) for (const phase of ["open", "full"]) marks.add(`storage.${phase}`);
  }
  return [...marks].sort();
}

/** Marks of every story, by the first one that meets it. */
function marksOfStories(): ReadonlyMap<string, string> {
  const met = new Map<string, string>();
  for (const file of [...new Bun.Glob("fixtures/scenarios/{merge,log}/*.txt").scanSync(root)].sort()) {
    const story = new Story(areas);
    for (const stanza of parseStory(read(file))) story.answerStanza(stanza);
    for (const name of story.open?.world.trace.marks.keys() ?? []) if (!met.has(name)) met.set(name, file);
  }
  return met;
}

describe("marks", () => {
  const inSources = marksInSources();
  const inStories = marksOfStories();

  test("every mark is met by a story, or is on one of the lists", () => {
    expect(inSources.length).toBeGreaterThan(40);
    expect(inSources.filter((name) => !inStories.has(name))).toEqual([...Object.keys(BY_SEED), ...Object.keys(BY_CORE)].sort());
  });

  test("stories meet no mark that the sources do not have", () => {
    expect([...inStories.keys()].filter((name) => !inSources.includes(name))).toEqual([]);
  });

  for (const [name, seed] of Object.entries(BY_SEED))
    test(`${name} is met by seed ${seed}`, () => {
      expect(runMergeSeed(seed).marks.get(name) ?? 0).toBeGreaterThan(0);
    });

  for (const [name, bring] of Object.entries(BY_CORE))
    test(`${name} is met by a core alone`, () => {
      expect(bring()).toContain(name);
    });
});
