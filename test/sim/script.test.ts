/** Stories on a toy area: every verb of the world, errors as answers, undo, and what a check reports. */
import { describe, expect, test } from "bun:test";
import { parseCalls } from "../../src/engine/sim/grammar.ts";
import { checkScript, runScript, runToBreak, Story, titleOf } from "../../src/engine/sim/script.ts";
import { toyArea } from "./toy-area.ts";

const areas = [toyArea];
/** Answers to each line, on one world. */
function tell(...lines: string[]): string[][] {
  const story = new Story(areas);
  return lines.map((line) => story.answer(parseCalls(line)));
}
const last = (...lines: string[]): string[] => tell("world toy nodes=a,b", ...lines).at(-1) ?? [];

describe("stories", () => {
  test("a transcript is what its own check accepts, and running it twice gives the same bytes", () => {
    const text = "# Two nodes talk.\nworld toy nodes=a,b\n\nrun 25ms; status\n\ncrash b keep=torn\nrun 300ms show=marks\n----\nold\n";
    const transcript = runScript(text, areas);
    expect(runScript(transcript, areas)).toBe(transcript);
    expect(checkScript("x", transcript, areas).differences).toEqual([]);
    expect(titleOf(transcript)).toBe("Two nodes talk.");
  });

  test("a check names file, line, verb and both answers", () => {
    const text = "# t\nworld toy nodes=a,b\n----\na up: b=0\nb up: a=0\n\nask a\n----\nb=7\n";
    expect(checkScript("f.txt", text, areas).differences).toEqual([
      "f.txt:2: world toy nodes=a,b",
      "  - a up: b=0",
      "  - b up: a=0",
      "  + a up: b=1",
      "  + b up: a=1",
      "f.txt:7: ask a",
      "  - b=7",
      "  + b=1",
    ]);
  });

  test.each([
    ["ask a", "error[PARSE]: ask: no world yet; begin with `world toy nodes=a,b`"],
    ["world sea", "error[PARSE]: world sea: want one of toy"],
    ["world toy nodes=a,B", 'error[BAD_NODE_NAME]: node name "B": want /^[a-z0-9-]{1,32}$/, and none of objects, register, client'],
    ["world toy noodles=3", "error[PARSE]: world toy: noodles= is not one of its words"],
  ])("before there is a world: %s", (line, answer) => {
    expect(new Story(areas).answer(parseCalls(line))).toEqual([answer]);
  });

  test.each([
    ["fly", "error[PARSE]: fly is no verb: `help` lists them"],
    ["world toy", "error[PARSE]: world: there is one already; it is made by the first verb"],
    ["run fast", "error[PARSE]: run: fast is one word too many"],
    ["run untill=x", "error[PARSE]: run: want `run [50ms] [until=COND] [show=all|marks|none|WHAT,…]`"],
    ["run until=x(1)", "error[PARSE]: condition x(1): there are heard"],
    ["run 5ms until=heard(a,b,99)", "error[TIMEOUT]: heard(a,b,99) does not hold: 5 ms have passed"],
    ["run until=heard(a,b,99)", "error[TIMEOUT]: heard(a,b,99) does not hold: nothing is left to happen"],
    ["deliver storage.ready a→b", "error[NOT_FOUND]: no message storage.ready a→b is in flight or held"],
    ["crash z", "error[UNKNOWN_NODE]: node z: there are a, b"],
    ["crash a at=lunch", "error[PARSE]: crash: at=lunch: want one of send, answer, arm, disarm, done, halt, mark, commit, append, replace, rename"],
    ["crash a process=queue", "error[NOT_FOUND]: queue does not run on a: there are daemon"],
    ["toy shout a loud=very", "error[PARSE]: toy shout: loud is very, want yes, no"],
    ["undo 9", "error[PARSE]: undo 9: 0 verbs can be taken back"],
  ])("an error is an answer: %s", (line, answer) => {
    expect(last(line).at(-1)).toBe(answer);
  });

  test("two-word verbs, an area's form of a world verb, and an empty answer line", () => {
    expect(last("toy shout a loud=yes")).toEqual(["a shouts LOUD", "."]);
    expect(last("hold 1.1 on a")).toEqual(["holding 1.1 on a"]);
    expect(last("hold storage.ready a→b")).toEqual(["holding storage.ready a→b"]);
  });
});

describe("verbs of the world", () => {
  test("hold, queue, deliver, dup, release", () => {
    const [, , , queue, delivered, dup, , released] = tell(
      "world toy nodes=a,b",
      "hold storage.ready a→b",
      "run 25ms show=none",
      "queue",
      "deliver storage.ready a→b; run 2ms show=none; ask b",
      "dup storage.ready a→b",
      "run 1ms",
      "release storage.ready a→b",
    );
    expect(queue?.filter((line) => line.endsWith("(held)"))).toEqual([
      "a → b  storage.ready epoch=1 lastSeq=2  (held)",
      "a → b  storage.ready epoch=1 lastSeq=3  (held)",
    ]);
    expect(queue).toContain("holding storage.ready a→b");
    expect(delivered).toEqual(["a → b  storage.ready epoch=1 lastSeq=2", "b: local committed, 1 change", "b: chat/a replaced, 8 bytes", "a=2"]);
    expect(dup?.[0]).toBe("a → b  storage.ready epoch=1 lastSeq=3");
    expect(released).toEqual(["released 1 storage.ready a→b"]);
  });

  test("drop takes one message away, or those to come", () => {
    expect(last("hold storage.ready a→b", "run 12ms show=none", "drop storage.ready a→b")).toEqual(["a → b  storage.ready epoch=1 lastSeq=2  (dropped)"]);
    const [, , , asked] = tell("world toy nodes=a,b", "drop storage.ready a→b next=2", "run 40ms show=none", "ask b");
    expect(asked).toEqual(["a=4"]);
    const lost = last("drop storage.ready a→b next=2", "run 40ms");
    expect(lost.filter((line) => line.endsWith("(lost)")).length).toBe(2);
  });

  test("delay moves one message, or a whole link", () => {
    expect(last("delay a→b 30ms", "run 20ms show=none", "ask b")).toEqual(["a=1"]);
    expect(last("delay a→b 30ms", "run 45ms show=none", "ask b")).toEqual(["a=2"]);
    expect(last("run 10ms show=none; step", "delay storage.ready 50ms")[0]).toMatch(/→ [ab] {2}storage.ready epoch=1 lastSeq=2 {2}\(50ms later\)$/);
  });

  test("partition and heal", () => {
    expect(last("partition a b", "run 100ms show=none", "status")).toEqual(["a up: b=1", "b up: a=1"]);
    expect(last("partition a→b", "run 100ms show=none", "queue")).toContain("a→b is cut");
    expect(last("partition a b", "run 100ms show=none; heal", "run until=heard(b,a,8) show=none", "ask b")[0]).toMatch(/^a=([8-9]|1\d)$/);
    expect(last("partition a,b")).toEqual(["error[PARSE]: partition: want two groups or more, `a,b c`, or a route, `b→a`"]);
  });

  test("crash at a point, start, pause, resume, diff", () => {
    expect(last("crash b at=replace:chat/a when=before", "run 30ms show=none", "status")[1]).toMatch(/^b down/);
    expect(last("crash b", "start b")[0]).toBe("b: starts");
    expect(last("pause b", "run 50ms show=none", "resume b; run 2ms show=none; ask b")).toEqual(["b: goes on", "a=5"]);
    expect(last("run 20ms show=none", "diff a b db=local")).toContain("local: unknown count/a: differs");
    expect(last("diff a b db=log")).toEqual(["log: equal"]);
  });

  test("disk, folder, flip, clock, ls and cat", () => {
    expect(last("run 20ms show=none", "disk b fail", "run 30ms", "status")[1]).toMatch(/^b down/);
    expect(last("disk b full", "run 40ms show=none", "ask b")).toEqual(["a=1"]);
    expect(last("disk b pause", "run 40ms show=none; ask b", "disk b resume")[0]).toBe("b: local committed, 1 change");
    expect(last("folder b save=early", "run 40ms show=none; folder b restore=early", "ask b")).toEqual(["a=1"]);
    expect(last("folder b wipe").slice(0, 2)).toEqual(["b: crashed", "b: its folder is empty"]);
    expect(last("run 20ms show=none; flip b db=local key=636f756e742f61 bit=140", "run 20ms").join("\n")).toContain("error[STORE_CORRUPT]");
    expect(last("clock a 5s", "clock a back 2s")).toEqual(["a: its clock is 3000ms off"]);
    expect(last("ls b chat", "cat b chat/b")).toEqual(["b has no chat/b"]);
    expect(last("ls b chat")).toEqual(["a  8 bytes"]);
  });

  test("break stops a run where a condition holds", () => {
    const [, said, stopped, status] = tell("world toy nodes=a,b", "break heard(a,b,3)", "run 500ms show=none", "ask a");
    expect(said).toEqual(["break heard(a,b,3)"]);
    expect(stopped).toEqual(["break: heard(a,b,3)"]);
    expect(status).toEqual(["b=3"]);
    expect(last("break heard(a,b,3); break off", "run 100ms show=none", "ask a")[0]).toMatch(/^b=(8|9|10)$/);
  });

  test("break stops a run before a message, at a mark, after a commit, once for each", () => {
    const [, , stopped, queue, again] = tell(
      "world toy nodes=a,b",
      "break message storage.ready a→b",
      "run 300ms show=none",
      "queue",
      "run 20ms show=none; break",
    );
    expect(stopped).toEqual(["break: message storage.ready a→b"]);
    expect(queue?.filter((line) => line.startsWith("a → b"))).toHaveLength(1); // it has not arrived: it can be dropped
    expect(again?.at(-1)).toBe("break message storage.ready a→b");
    expect(last("break mark chatter.fifth", "run 300ms show=none")).toEqual(["break: mark chatter.fifth"]);
    expect(last("break commit b db=local key=count/*", "run 300ms show=none")).toEqual(["break: commit b db=local key=count/*"]);
    expect(last("break commit b db=log", "run 50ms show=none")).toEqual([]);
    expect(last("break commit b db=sea")).toEqual(["error[PARSE]: break: db=sea: want one of replicated, local, log, small, accepts"]);
    expect(last("break commit z")).toEqual(["error[UNKNOWN_NODE]: node z: there are a, b"]);
  });

  test("a story is played up to a break, with what is under way there", () => {
    const text = "# t\nworld toy nodes=a,b\n\nask a\nrun 300ms show=none\nask b\n";
    const transcript = runToBreak(text, areas, "message storage.ready b→a") ?? "";
    expect(transcript).toContain("break: message storage.ready b→a\nb → a  storage.ready");
    expect(transcript).not.toContain("counted");
    expect(runToBreak(text, areas, "mark nothing.such")).toBeNull();
    expect(() => runToBreak(text, areas, "heard")).not.toThrow();
    expect(() => runToBreak(text, areas, "sea(1)")).toThrow('--break "sea(1)": condition sea(1): there are heard');
  });

  test("undo plays the past again without its last verbs", () => {
    const forward = last("run 50ms show=none", "status");
    const back = last("run 50ms show=none", "crash a", "run 100ms show=none", "undo 2", "status");
    expect(back).toEqual(forward);
    expect(last("run 20ms", "undo")).toEqual(["took back run 20ms"]);
  });
});

describe("help and completion come from the tables", () => {
  test("help", () => {
    const [all, one, states, conditions] = tell("world toy", "help", "help run", "help states", "help conditions").slice(1);
    expect(all?.some((line) => line.startsWith("partition "))).toBe(true);
    expect(one).toContain("example: run 50ms until=signed(100)");
    expect(states).toEqual(["chatter          telling → telling"]);
    expect(conditions?.[0]).toContain("heard");
  });

  test("every example parses, and its verb is in the table", () => {
    const story = new Story(areas);
    story.answer(parseCalls("world toy"));
    const names = story.verbs().map(({ name }) => name);
    for (const { example, name } of story.verbs()) expect([name, names.includes(name), parseCalls(example).length]).toEqual([name, true, 1]);
  });

  test("completion knows verbs, second words, keys and nodes", () => {
    const story = new Story(areas);
    expect(story.completions(["wo"])).toEqual(["world"]);
    expect(story.completions(["world", ""])).toEqual(["toy"]);
    expect(story.completions(["world", "toy", "n"])).toEqual(["nodes="]);
    story.answer(parseCalls("world toy"));
    expect(story.completions(["to"])).toEqual(["toy"]);
    expect(story.completions(["toy", "s"])).toEqual(["shout"]);
    expect(story.completions(["run", "u"])).toEqual(["until="]);
    expect(story.completions(["crash", "a"])).toEqual(["a", "at="]);
  });
});
