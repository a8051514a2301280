/** The text of stories: what is read is what is printed (style.md section 4). */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Call, parseCalls, parseStory, printCalls, printStory, type Stanza } from "../../src/engine/sim/grammar.ts";

const value = fc.oneof(
  fc.constantFrom("b→a", "50ms", "64M", "1.2", "a;b", "x=y", "a:60,b:40", "", "#", ";", "\\", '"', "two words", "tab\there", "ünïcode"),
  fc.string({ maxLength: 8 }).filter((text) => !/[\n\r]/.test(text)),
);
const key = fc.constantFrom("until", "adds", "at.x", "K9");
const verb = fc.constantFrom("run", "deliver", "ask-hold", "world").map((name) => ({ key: null, value: name }));
const call: fc.Arbitrary<Call> = fc.tuple(verb, fc.array(fc.record({ key: fc.option(key), value }), { maxLength: 4 })).map(([first, rest]) => [first, ...rest]);
const calls = fc.array(call, { minLength: 1, maxLength: 3 });
const line = fc.oneof(
  calls.map((each) => ({ kind: "verbs" as const, text: printCalls(each), calls: each })),
  fc.constantFrom("# a comment", "#", "# ---- is no mark here").map((text) => ({ kind: "comment" as const, text })),
);
const stanza = fc.record({
  lines: fc.array(line, { minLength: 1, maxLength: 3 }),
  answer: fc.array(fc.constantFrom("b → a  kind x=1", ".", "----", "# no comment here", "a: text        [area.name]"), { maxLength: 3 }),
});
const story: fc.Arbitrary<Stanza[]> = fc.array(stanza, { maxLength: 4 }).map((stanzas) => {
  let lineNumber = 1;
  return stanzas.map((each) => {
    const numbered = { ...each, lineNumber };
    lineNumber += each.lines.length + 1 + each.answer.length + 1;
    return numbered;
  });
});

describe("round trips", () => {
  test("calls: parse(print(x)) is x", () => {
    fc.assert(
      fc.property(calls, (each) => expect(parseCalls(printCalls(each))).toEqual(each as Call[])),
      { numRuns: 2_000 },
    );
  });

  test("stories: parse(print(x)) is x, and print(parse(text)) is text", () => {
    fc.assert(
      fc.property(story, (each) => {
        const text = printStory(each);
        expect(parseStory(text)).toEqual(each);
        expect(printStory(parseStory(text))).toBe(text);
      }),
      { numRuns: 500 },
    );
  });
});

describe("reading", () => {
  test("verbs, words and keys", () => {
    expect(parseCalls('run 50ms until=verified(s1); say "two words" note="a=b \\"c\\""')).toEqual([
      [
        { key: null, value: "run" },
        { key: null, value: "50ms" },
        { key: "until", value: "verified(s1)" },
      ],
      [
        { key: null, value: "say" },
        { key: null, value: "two words" },
        { key: "note", value: 'a=b "c"' },
      ],
    ]);
  });

  test("verbs without a mark end at an empty line, and after the mark nothing is a verb", () => {
    const read = parseStory("run\n# why\nstep\n\n\nstatus\n----\nrun\n# no comment\n");
    expect(read.map(({ lines, answer, lineNumber }) => [lineNumber, lines.map(({ text }) => text), answer])).toEqual([
      [1, ["run", "# why", "step"], []],
      [6, ["status"], ["run", "# no comment"]],
    ]);
  });

  test.each([
    ["----\nx\n", "line 1: ---- with no verb before it"],
    ['run\n----\n\nsay "x\n', "line 4: a quote that begins at column 5 does not end"],
    ["run; ; step\n", "line 1: a verb is missing beside `;`"],
    ["run;\n", "line 1: a verb is missing beside `;`"],
    ["until=x run\n", "line 1: until=x: a verb comes first"],
  ])("%j is refused", (text, message) => {
    expect(() => parseStory(text)).toThrow(message);
  });
});
