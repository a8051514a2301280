/** The merge as an area: what its stories cannot show themselves, because it is about verbs, words and worlds. */
import { describe, expect, test } from "bun:test";
import { areas } from "../../src/engine/sim/areas.ts";
import { parseCalls } from "../../src/engine/sim/grammar.ts";
import { logArea, mergeArea } from "../../src/engine/sim/merge-area.ts";
import { runMergeSeed } from "../../src/engine/sim/merge-seed.ts";
import { runScript, Story } from "../../src/engine/sim/script.ts";
import { worldLineOf } from "../../src/repl/fixtures.ts";

const WORLD = "world merge storage=a,b primary=p secondaries=s1,s2,s3 frontends=f quorum=2 seed=7";
/** Answers to each line, on one world. */
function tell(...lines: string[]): { story: Story; answers: string[][] } {
  const story = new Story(areas);
  return { story, answers: lines.map((line) => story.answer(parseCalls(line))) };
}
const last = (...lines: string[]): string[] => tell(WORLD, ...lines).answers.at(-1) ?? [];

describe("verbs", () => {
  /** What each example needs before it can answer anything but an error. */
  const before = ["add a count=30", "merge run", "add a hello", 'latch "to be looked at"'];
  for (const verb of mergeArea.verbs)
    test(`the example of ${verb.name} runs: ${verb.example}`, () => {
      const answer = tell(WORLD, ...before, "folder s1 save=old", verb.example).answers.at(-1) ?? [];
      expect(answer.filter((line) => /^error\[(PARSE|FAILED|VIOLATION)\]/.test(line))).toEqual([]);
      expect(answer.length > 0 || verb.name === "space").toBe(true);
    });

  test("names of the world's own verbs are taken with other forms only", () => {
    expect(mergeArea.verbs.map(({ name }) => name).filter((name) => ["crash", "run", "step", "hold", "drop", "status", "queue"].includes(name))).toEqual([]);
  });

  test.each([
    ["add z x", "error[UNKNOWN_NODE]: z is no storage node: there are a, b"],
    ["add a", "error[PARSE]: add: no entry is given"],
    ["add a count=100001", "error[PARSE]: add: count is 100001, at most 100000"],
    ["round adds=a60", "error[PARSE]: round: adds=a60: want NODE:COUNT"],
    ["round steps=fetch,sleep", "error[PARSE]: round: sleep is none of fetch, fetch:NODE, queue, backup, backup:NODE, dist"],
    ["merge backup s9", "error[UNKNOWN_NODE]: s9 is no secondary: there are s1, s2, s3"],
    ["merge run rounds=0", "error[PARSE]: merge run: rounds is 0, want 1 to 100"],
    ["merge run mode=fast", "error[PARSE]: merge run: mode is fast, want sequence, parallel"],
    ["liar f on", "error[UNKNOWN_NODE]: f is no secondary: there are s1, s2, s3"],
    ["knob", "error[PARSE]: knob: no setting is given"],
    ["trace maybe", "error[PARSE]: trace: want on or off"],
    ["forge p entry=3", "error[NOT_FOUND]: log has no such row"],
    ["flip p tile=x", "error[PARSE]: flip: tile is x, want L/N"],
    ["file p merge/none cut=1", "error[NOT_FOUND]: p has no merge/none"],
    ["file p merge/sth", "error[PARSE]: file: want cut=, find= with put=, text= or remove"],
    ["log proof 0 size=9", "error[NOT_FOUND]: f published no head of size 9"],
    ["log checkpoint q", "error[UNKNOWN_NODE]: q is no node: there are a, b, p, s1, s2, s3, f"],
    ["unlatch", "error[NOT_FOUND]: merge/latch: nothing is latched"],
  ])("%s is refused by name", (line, answer) => {
    expect(last(line)).toEqual([answer]);
  });

  test("every form of damage is undone by doing it twice, and by undo", () => {
    const lines = [WORLD, "add a count=30", "merge run", "log verify p"] as const;
    const clean = tell(...lines).answers.at(-1);
    expect(tell(...lines, "forge p entry=3", "forge p entry=3", "log verify p").answers.at(-1)).toEqual(clean as string[]);
    const { answers } = tell(...lines, "forge p entry=3", "log verify p", "undo 2", "log verify p");
    expect([answers.at(-3)?.[0], answers.at(-1)]).toEqual([expect.stringContaining("error[LOG_ENTRY_MISMATCH]"), clean as string[]]);
  });

  test("with trace on every message is told, and the outcome is the same", () => {
    const quiet = tell(WORLD, "add a count=30", "merge run", "merge status").answers;
    const loud = tell(WORLD, "trace on", "add a count=30", "merge run", "merge status").answers;
    expect(loud.at(-1)).toEqual(quiet.at(-1) as string[]);
    expect(loud.at(-2)?.filter((line) => line.includes("copy.where")).length).toBeGreaterThan(0);
    expect(quiet.at(-2)?.some((line) => line.includes("copy.where"))).toBe(false);
  });
});

describe("worlds", () => {
  test.each([
    ["world merge quorum=3", "error[MERGE_QUORUM_IMPOSSIBLE]: backupquorum 3, secondaries 2"],
    ["world merge primary=p,q", "error[PARSE]: world merge: primary: want one node"],
    ["world merge storage=", "error[PARSE]: world merge: storage: want one node or more"],
    ["world merge size=100001", "error[PARSE]: world merge: size is 100001, at most 100000"],
    ["world merge register=paxos", "error[PARSE]: world merge: register is paxos, want local"],
    ["world merge storage=register", "error[BAD_NODE_NAME]"],
  ])("%s is refused", (line, answer) => {
    expect(tell(line).answers[0]?.[0]).toStartWith(answer);
  });

  test("one of a given size is signed, served and verified up to it, and goes on from there", () => {
    const { answers } = tell("world merge storage=a,b secondaries=s1 size=777 seed=3", "log verify", "round adds=a:3", "log proof 779");
    expect(answers[0]).toEqual(["a b p s1 f up, signed 777, epoch 1"]);
    expect(answers[1]).toEqual(["p", "s1", "f"].map((id) => expect.stringMatching(new RegExp(`^${id}: 777 entries, [12] heads?: everything derives$`))));
    expect(answers[3]?.[0]).toContain("of signed size 780");
  });

  test.each(["merge-lone", "merge-three", "merge-wide"])("the fixture %s is a cluster that merges", async (fixture) => {
    const line = await worldLineOf(fixture);
    const storage = /storage="?([a-z0-9]+)/.exec(line)?.[1] ?? "";
    const { story, answers } = tell(line, `add ${storage} count=20`, "merge run rounds=2", "merge status");
    expect(answers[0]?.[0]).toContain("up, signed 0, epoch 1");
    expect(answers.at(-1)?.[0]).toContain("order 20, currentsize 20, signed 20");
    expect(story.open?.world.violations).toEqual([]);
  });

  test("a story is a function of its text", () => {
    const text = `# t\n${WORLD}\n\nadd a count=20; add b count=20 from=10\nmerge run rounds=3 mode=parallel\n\ncrash s1\nround adds=a:5\n`;
    expect(runScript(text, areas)).toBe(runScript(text, areas));
  });

  test("help lists the phases of every core, and what may be waited for", () => {
    const cores = new Set(last("help states").map((line) => line.split(" ")[0]));
    expect([...cores]).toEqual(["storage", "fetch", "queue", "sender", "receiver", "dist"]);
    expect(last("help conditions").length).toBe(mergeArea.conditions.length);
  });

  test("each condition holds when it has come true, and not before", () => {
    const lines = [WORLD, "add a count=30", "merge run"];
    for (const condition of ["signed(30)", "ordered(30)", "position(s1,30)", "published(f,30)", "ended(dist)"]) {
      expect(tell(...lines, `run 10ms until=${condition} show=none`).answers.at(-1)).toEqual([]);
      if (condition !== "ended(dist)") expect(tell(WORLD, `run 10ms until=${condition} show=none`).answers.at(-1)?.[0]).toStartWith("error[TIMEOUT]");
    }
  });
});

describe("seeds", () => {
  test("run through the area are those of the merge", () => {
    const direct = runMergeSeed(5, { eventsMax: 400 });
    expect(mergeArea.runSeed?.(5, { eventsMax: 400 })).toEqual(direct);
    expect(logArea.runSeed).toBeUndefined();
  });
});
