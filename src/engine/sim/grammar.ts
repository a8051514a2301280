/**
 * The text of stories (style.md section 4), the same in file, REPL, pipe and test: stanzas of comments and verbs, a line
 * `----`, what is expected as the answer. `parse(print(x))` is x, and printing keeps comments and verbs as they were read.
 * Knows no verb: a call is a list of words, and whoever runs it gives them meaning.
 */
import { EngineError } from "../base/errors.ts";

/** `word`, or `key=value`; quotes are already taken off. */
export type Word = { readonly key: string | null; readonly value: string };
/** A verb with its words; the first has no key. */
export type Call = readonly Word[];

export type StoryLine =
  | { readonly kind: "comment"; readonly text: string }
  | { readonly kind: "verbs"; readonly text: string; readonly calls: readonly Call[] };
export type Stanza = {
  /** Number of its first line in the file, from 1. */
  readonly lineNumber: number;
  readonly lines: readonly StoryLine[];
  /** Expected, or given: no line is empty. */
  readonly answer: readonly string[];
};

export const ANSWER_MARK = "----";
/** An empty line would end the answer: this stands for it. */
const EMPTY_ANSWER = ".";
const KEY = /^[A-Za-z][\w.-]*$/;

export function parseStory(text: string): Stanza[] {
  const stanzas: Stanza[] = [];
  const reader = new StanzaReader();
  for (const line of text.split("\n")) {
    const stanza = reader.take(line);
    if (stanza !== null) stanzas.push(stanza);
  }
  const last = reader.end();
  return last === null ? stanzas : [...stanzas, last];
}

/** Takes a story line by line, and gives each stanza when its last line is known: a pipe need not end first. */
export class StanzaReader {
  private lineNumber = 0;
  private firstLine = 0;
  private lines: StoryLine[] = [];
  private answer: string[] | null = null;

  take(raw: string): Stanza | null {
    this.lineNumber++;
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    if (line.trim() === "") return this.end();
    if (this.answer !== null) this.answer.push(line);
    else if (line === ANSWER_MARK) {
      if (this.lines.length === 0) throw parseError(this.lineNumber, `${ANSWER_MARK} with no verb before it`);
      this.answer = [];
    } else {
      if (this.lines.length === 0) this.firstLine = this.lineNumber;
      this.lines.push(parseLine(line, this.lineNumber));
    }
    return null;
  }

  /** The stanza that was begun, if any. */
  end(): Stanza | null {
    const { lines, answer } = this;
    this.lines = [];
    this.answer = null;
    return lines.length === 0 ? null : { lineNumber: this.firstLine, lines, answer: answer ?? [] };
  }
}

export function printStory(stanzas: readonly Stanza[]): string {
  return stanzas.map(printStanza).join("\n");
}

/** One stanza, each line with its LF; stories put an empty line between two. */
export function printStanza({ lines, answer }: Stanza): string {
  return [...lines.map(({ text }) => text), ANSWER_MARK, ...answer.map(answerLine)].map((line) => `${line}\n`).join("");
}

/** An answer as it is printed: one line, never empty. */
export const answerLine = (text: string): string => (text.trim() === "" ? EMPTY_ANSWER : text.replaceAll(/\s*\n\s*/g, " "));

export function parseLine(line: string, lineNumber = 1): StoryLine {
  return line.startsWith("#") ? { kind: "comment", text: line } : { kind: "verbs", text: line, calls: parseCalls(line, lineNumber) };
}

/** Verbs of one line, separated by `; `. */
export function parseCalls(line: string, lineNumber = 1): Call[] {
  const calls: Word[][] = [[]];
  let at = 0;
  while (at < line.length) {
    if (/\s/.test(line[at] as string)) at++;
    else if (line[at] === ";" && endsWord(line, at + 1)) {
      calls.push([]);
      at++;
    } else {
      const { word, end } = readWord(line, at, lineNumber);
      calls.at(-1)?.push(word);
      at = end;
    }
  }
  for (const call of calls) {
    if (call[0] === undefined) throw parseError(lineNumber, "a verb is missing beside `;`");
    if (call[0].key !== null) throw parseError(lineNumber, `${call[0].key}=${call[0].value}: a verb comes first`);
  }
  return calls;
}

export function printCalls(calls: readonly Call[]): string {
  return calls.map((call) => call.map(printWord).join(" ")).join("; ");
}

function printWord({ key, value }: Word): string {
  const plain = /^[^\s";#\\]+$/.test(value) && (key !== null || !value.includes("="));
  const text = plain ? value : `"${value.replaceAll(/["\\]/g, "\\$&")}"`;
  return key === null ? text : `${key}=${text}`;
}

const endsWord = (line: string, at: number): boolean => at >= line.length || /\s/.test(line[at] as string);

/** A word runs to a blank, or to a `;` before one; what is quoted in it hides both, and `=`. */
function readWord(line: string, start: number, lineNumber: number): { word: Word; end: number } {
  let key: string | null = null;
  let value = "";
  let isQuoted = false;
  let at = start;
  while (at < line.length && !endsWord(line, at) && !(line[at] === ";" && endsWord(line, at + 1))) {
    if (line[at] === '"') {
      const quoted = readQuoted(line, at, lineNumber);
      value += quoted.text;
      at = quoted.end;
      isQuoted = true;
    } else if (line[at] === "=" && key === null && !isQuoted && KEY.test(value)) {
      key = value;
      value = "";
      at++;
    } else value += line[at++];
  }
  return { word: { key, value }, end: at };
}

function readQuoted(line: string, start: number, lineNumber: number): { text: string; end: number } {
  let text = "";
  for (let at = start + 1; at < line.length; at++) {
    if (line[at] === '"') return { text, end: at + 1 };
    if (line[at] === "\\" && (line[at + 1] === '"' || line[at + 1] === "\\")) at++;
    text += line[at];
  }
  throw parseError(lineNumber, `a quote that begins at column ${start + 1} does not end`);
}

const parseError = (lineNumber: number, what: string): EngineError => new EngineError("PARSE", `line ${lineNumber}: ${what}`);
