/**
 * Running stories: the verbs of a stanza in order, one answer for all, the same for file, REPL, pipe and test. A story's
 * world is made by its first verb. Errors are answers, and the story goes on; only a line that cannot be read stops it.
 */
import { EngineError } from "../base/errors.ts";
import { BrokenInvariant } from "../base/invariant.ts";
import { type Area, keysOf, type OpenScene, runVerb, type VerbInfo } from "./area.ts";
import { BREAK_FORMS, breakOf } from "./breaks.ts";
import { answerLine, type Call, parseCalls, parseStory, printStory, type Stanza } from "./grammar.ts";
import { errorLine, type StoryScene, worldVerbs } from "./verbs.ts";
import { Words } from "./words.ts";

/** Verbs of the story itself. */
const storyVerbs: readonly VerbInfo[] = [
  { name: "world", forms: ["AREA key=value…"], example: "world merge storage=a primary=p", summary: "make the world: only as the first verb" },
  {
    name: "break",
    forms: BREAK_FORMS,
    example: "break message sync.chunk b→c",
    summary: "`run` stops when a condition turns true, before a message arrives, at a mark, after a commit (of a key, or KEY*); off forgets all",
  },
  { name: "undo", forms: ["[COUNT]"], example: "undo", summary: "take the last verb back, or so many: the rest is played again from the start" },
  {
    name: "help",
    forms: ["[VERB]", "states", "conditions"],
    example: "help run",
    summary: "the verbs, one verb, the phases of every core, or what `until=` knows",
  },
];
/** Verbs that change nothing: `undo` does not count them. */
const READING_VERBS: readonly string[] = ["status", "queue", "diff", "help"];

/** One world and what was done to it. */
export class Story {
  private readonly areas: readonly Area[];
  private area: Area | null = null;
  private scene: StoryScene | null = null;
  /** What `undo` plays again. */
  private done: Call[] = [];

  constructor(areas: readonly Area[]) {
    this.areas = areas;
  }

  /** The answer to all verbs of a stanza, as lines that are never empty. */
  answer(calls: readonly Call[]): string[] {
    return calls.flatMap((call) => this.answerOne(call)).map(answerLine);
  }

  answerStanza(stanza: Stanza): string[] {
    return this.answer(callsOf([stanza]));
  }

  get open(): OpenScene | null {
    return this.scene?.open ?? null;
  }

  /** Every verb that can be called now. */
  verbs(): readonly VerbInfo[] {
    return [...storyVerbs, ...worldVerbs, ...(this.area?.verbs ?? [])];
  }

  /** What may follow these words: names of verbs, keys of one, nodes, areas. */
  completions(words: readonly string[]): string[] {
    const typed = words.at(-1) ?? "";
    const starts = (texts: readonly string[]): string[] => [...new Set(texts)].filter((text) => text.startsWith(typed)).sort();
    if (words.length <= 1) return starts(this.verbs().map(({ name }) => name.split(" ")[0] ?? name));
    const [first = "", second = ""] = words;
    if (first === "world") return starts(words.length === 2 ? this.areas.map(({ name }) => name) : this.worldKeys(second));
    const named = this.verbs().filter(({ name }) => name === first || name === `${first} ${second}`);
    const seconds = words.length === 2 ? this.verbs().flatMap(({ name }) => (name.startsWith(`${first} `) ? [name.slice(first.length + 1)] : [])) : [];
    const nodes = this.scene?.world.nodeIds() ?? [];
    return starts([...seconds, ...named.flatMap((verb) => keysOf(verb).map((key) => `${key}=`)), ...nodes]);
  }

  private worldKeys(area: string): string[] {
    const found = this.areas.find(({ name }) => name === area);
    return found === undefined ? [] : keysOf(found).map((key) => `${key}=`);
  }

  private answerOne(call: Call): readonly string[] {
    try {
      const answer = this.perform(call);
      if (!READING_VERBS.includes(call[0]?.value ?? "") && call[0]?.value !== "undo") this.done.push(call);
      return answer;
    } catch (error) {
      if (error instanceof EngineError) return [errorLine(error.code, error.message)];
      if (error instanceof BrokenInvariant) return [errorLine("VIOLATION", error.message)];
      throw error;
    }
  }

  private perform(call: Call): readonly string[] {
    const [{ value: name = "" } = { value: "" }, ...rest] = call;
    if (name === "help") return this.help(rest.map(({ value }) => value).join(" "));
    if (name === "world") return this.makeWorld(rest);
    if (this.scene === null) throw new EngineError("PARSE", `${name}: no world yet; begin with \`${this.areas[0]?.example ?? "world AREA"}\``);
    if (name === "undo") return this.undo(rest);
    if (name === "break") return this.setBreak(this.scene, rest);
    return this.runInWorld(this.scene, call);
  }

  private makeWorld([area, ...words]: Call): readonly string[] {
    if (this.scene !== null) throw new EngineError("PARSE", "world: there is one already; it is made by the first verb");
    const found = this.areas.find(({ name }) => name === area?.value);
    if (found === undefined) throw new EngineError("PARSE", `world ${area?.value ?? ""}: want one of ${this.areas.map(({ name }) => name).join(", ")}`);
    const open = found.open(words);
    this.area = found;
    this.scene = { world: open.world, open, breaks: [] };
    return open.status();
  }

  /** Two words name an area's verb before one does; an area may add forms to a verb of the world. */
  private runInWorld(scene: StoryScene, call: Call): readonly string[] {
    const [first, second, ...rest] = call;
    const name = first?.value ?? "";
    const before = scene.world.violations.length;
    const long = second === undefined || second.key !== null ? null : scene.open.run(`${name} ${second.value}`, rest);
    const answer = long ?? scene.open.run(name, call.slice(1)) ?? runVerb(worldVerbs, scene, name, call.slice(1));
    if (answer === null) throw new EngineError("PARSE", this.whatIsWrong(name, second?.value));
    return [...answer, ...scene.world.violations.slice(before).map(({ invariant }) => errorLine("VIOLATION", invariant))];
  }

  private whatIsWrong(name: string, second: string | undefined): string {
    const known = this.verbs().filter((verb) => verb.name === name || verb.name === `${name} ${second}`);
    if (known.length > 0)
      return `${known[0]?.name}: want ${known.flatMap((verb) => verb.forms.map((form) => `\`${`${verb.name} ${form}`.trim()}\``)).join(" or ")}`;
    return `${name} is no verb: \`help\` lists them`;
  }

  private setBreak({ breaks, open, world }: StoryScene, call: Call): readonly string[] {
    if (call.length === 0) return breaks.length === 0 ? ["no breaks"] : breaks.map(({ text }) => `break ${text}`);
    const words = new Words("break", call);
    if (words.flag("off")) {
      words.done();
      breaks.length = 0;
      return ["no breaks"];
    }
    const added = breakOf(world, words, (text) => open.condition(text));
    words.done();
    breaks.push(added);
    return [`break ${added.text}`];
  }

  /** A run is a function of its verbs, so the past is played again without the last ones. */
  private undo([word]: Call): readonly string[] {
    const count = Number(word?.value ?? "1");
    if (!Number.isSafeInteger(count) || count < 1 || count >= this.done.length)
      throw new EngineError("PARSE", `undo ${word?.value ?? ""}: ${this.done.length - 1} verbs can be taken back`);
    const kept = this.done.slice(0, -count);
    const undone = this.done.slice(-count);
    this.scene = null;
    this.done = [];
    this.answer(kept);
    return [
      `took back ${undone.map(([name, ...words]) => [name, ...words].map((each) => (each?.key === null ? each.value : `${each?.key}=${each?.value}`)).join(" ")).join("; ")}`,
    ];
  }

  private help(topic: string): readonly string[] {
    const line = ({ name, summary }: Pick<VerbInfo, "name" | "summary">): string => `${name.padEnd(16)} ${summary}`;
    if (topic === "states") {
      const cores = Object.entries(this.area?.transitions ?? {});
      return cores.flatMap(([core, phases]) => Object.entries(phases).map(([phase, next]) => `${core.padEnd(16)} ${phase} → ${next.join(" | ") || "(ends)"}`));
    }
    if (topic === "conditions") return (this.area?.conditions ?? []).map(line);
    if (topic === "") return this.verbs().map(line);
    const found = this.verbs().filter(({ name }) => name === topic);
    if (found.length === 0) throw new EngineError("NOT_FOUND", `no verb ${topic}: \`help\` lists them`);
    return found.flatMap((verb) => [verb.summary, ...verb.forms.map((form) => `  ${`${verb.name} ${form}`.trim()}`), `example: ${verb.example}`]);
  }
}

/** The story with what is answered now: what `--rewrite` writes, and what a pipe prints. */
export function runScript(text: string, areas: readonly Area[]): string {
  const story = new Story(areas);
  return printStory(parseStory(text).map((stanza) => ({ ...stanza, answer: story.answerStanza(stanza) })));
}

export type ScriptResult = {
  readonly transcript: string;
  /** Lines for people: where, what was expected (-) and what was answered (+). Empty when all is as written. */
  readonly differences: readonly string[];
};

/**
 * A story up to the first place where a run meets the break, and what is under way there; null where none does. `what` is
 * said as the verb `break` wants it.
 */
export function runToBreak(text: string, areas: readonly Area[], what: string): string | null {
  const story = new Story(areas);
  const [set = []] = parseCalls(`break ${what}`);
  const played: Stanza[] = [];
  for (const stanza of parseStory(text)) {
    const answer: string[] = [];
    for (const call of callsOf([stanza])) {
      const said = story.answer([call]);
      answer.push(...said);
      if (call[0]?.value === "world") mustBeSet(what, story.answer([set]));
      if (!said.some((line) => line.startsWith("break: "))) continue;
      answer.push(...story.answer([[{ key: null, value: "queue" }]]));
      return printStory([...played, { ...stanza, answer }]);
    }
    played.push({ ...stanza, answer });
  }
  return null;
}

const callsOf = (stanzas: readonly Stanza[]): readonly Call[] =>
  stanzas.flatMap(({ lines }) => lines.flatMap((line) => (line.kind === "verbs" ? line.calls : [])));

/** A break that cannot be read would never be met. */
function mustBeSet(what: string, [said = ""]: readonly string[]): void {
  const [, detail] = /^error\[\w+\]: (?:break: )?(.*)$/.exec(said) ?? [];
  if (detail !== undefined) throw new EngineError("BAD_OPTION", `--break ${JSON.stringify(what)}: ${detail}`);
}

/** Runs a story and compares each answer with the one that is written. */
export function checkScript(name: string, text: string, areas: readonly Area[]): ScriptResult {
  const story = new Story(areas);
  const stanzas = parseStory(text);
  const differences: string[] = [];
  const answered = stanzas.map((stanza): Stanza => {
    const answer = story.answerStanza(stanza);
    if (answer.join("\n") !== stanza.answer.join("\n")) differences.push(...difference(name, stanza, answer));
    return { ...stanza, answer };
  });
  const transcript = printStory(answered);
  if (differences.length === 0 && transcript !== text) differences.push(`${name}: not in the form that --rewrite gives it (empty lines, line ends)`);
  return { transcript, differences };
}

function difference(name: string, stanza: Stanza, answer: readonly string[]): string[] {
  const lineNumber = stanza.lineNumber + stanza.lines.findIndex(({ kind }) => kind === "verbs");
  const head = stanza.lines.filter(({ kind }) => kind === "verbs").map(({ text }) => text);
  const gone = stanza.answer.filter((line) => !answer.includes(line)).map((line) => `  - ${line}`);
  const come = answer.filter((line) => !stanza.answer.includes(line)).map((line) => `  + ${line}`);
  const order = gone.length + come.length === 0 ? ["  the same lines, in another order or number"] : [];
  return [`${name}:${lineNumber}: ${head.join("; ")}`, ...gone, ...come, ...order];
}

/** The first comment names a story. */
export function titleOf(text: string): string | null {
  const first = text.split("\n").find((line) => line.startsWith("#"));
  return first === undefined ? null : first.slice(1).trim();
}
