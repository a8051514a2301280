/**
 * The line loop on a terminal: history, completion, lines that go on, Ctrl-C to clear, Ctrl-D to end. A pasted story
 * reads as in a file: after `----` nothing is a verb until an empty line. Never used in a pipe (pipe.ts).
 */
import { createInterface, type Interface } from "node:readline";
import { EngineError } from "../engine/base/errors.ts";
import { ANSWER_MARK, parseLine } from "../engine/sim/grammar.ts";
import { errorLine } from "../engine/sim/verbs.ts";
import { HISTORY_COUNT_MAX, readHistory, writeHistory } from "./history.ts";
import type { Session } from "./session.ts";

export type ReplOptions = {
  readonly session: Session;
  readonly input: NodeJS.ReadStream;
  readonly output: NodeJS.WriteStream;
  readonly greeting: readonly string[];
  /** Where lines are remembered; null for nowhere. */
  readonly historyFile: string | null;
};

/** Resolves when the input ends. */
export async function repl({ session, input, output, greeting, historyFile }: ReplOptions): Promise<void> {
  const history = historyFile === null ? [] : await readHistory(historyFile);
  let remembered: readonly string[] = history;
  const lines = createInterface({
    input,
    output,
    terminal: true,
    history,
    historySize: HISTORY_COUNT_MAX,
    removeHistoryDuplicates: true,
    completer: (typed: string) => complete(session, typed),
  });
  lines.on("history", (all: string[]) => {
    remembered = [...all];
  });
  for (const line of greeting) output.write(`${line}\n`);
  await new LineLoop(lines, session, output).done;
  if (historyFile !== null) await writeHistory(historyFile, remembered);
}

class LineLoop {
  /** Resolves with the end of the input. */
  readonly done: Promise<void>;
  private readonly lines: Interface;
  private readonly session: Session;
  private readonly output: NodeJS.WriteStream;
  /** Lines of a call that goes on. */
  private begun = "";
  /** Between `----` and an empty line: text that was answered once. */
  private isSkipping = false;

  constructor(lines: Interface, session: Session, output: NodeJS.WriteStream) {
    this.lines = lines;
    this.session = session;
    this.output = output;
    this.done = new Promise((resolve) => {
      lines.on("close", () => {
        output.write("\n");
        resolve();
      });
    });
    lines.on("line", (line) => this.take(line));
    lines.on("SIGINT", () => this.clear());
    this.prompt();
  }

  private prompt(): void {
    this.lines.setPrompt(this.begun === "" ? `${this.session.name}> ` : `${" ".repeat(this.session.name.length)}… `);
    this.lines.prompt();
  }

  /** Ctrl-C: whatever was typed is gone. */
  private clear(): void {
    this.begun = "";
    this.isSkipping = false;
    this.output.write("^C\n");
    this.lines.write(null, { ctrl: true, name: "e" });
    this.lines.write(null, { ctrl: true, name: "u" });
    this.prompt();
  }

  private take(line: string): void {
    const call = this.callOf(line);
    if (call !== null) for (const answer of this.answer(call)) this.output.write(`${answer}\n`);
    this.prompt();
  }

  /** The whole call that ends with this line; null while it goes on, and for lines that call nothing. */
  private callOf(line: string): string | null {
    const typed = line.trim();
    if (typed === ANSWER_MARK) this.isSkipping = true;
    else if (typed === "") this.isSkipping = false;
    if (this.isSkipping || typed === "" || typed.startsWith("#")) return null;
    const text = `${this.begun}${typed}`;
    this.begun = goesOn(text) ? `${text.replace(/\\$/, "")} ` : "";
    return this.begun === "" ? text : null;
  }

  private answer(text: string): readonly string[] {
    try {
      const line = parseLine(text);
      return line.kind === "comment" ? [] : this.session.answer(line.calls);
    } catch (error) {
      if (error instanceof EngineError) return [errorLine(error.code, error.message)];
      throw error;
    }
  }
}

/** A line that ends with `;` or `\` waits for its next verb or word. */
const goesOn = (text: string): boolean => text.endsWith(";") || text.endsWith("\\");

/** Completes the last word of the verb that is being typed. */
function complete(session: Session, typed: string): [string[], string] {
  const call = typed.slice(typed.lastIndexOf(";") + 1).trimStart();
  const words = call.split(/\s+/);
  const word = words.at(-1) ?? "";
  return [session.completions(words).map((each) => (each.endsWith("=") ? each : `${each} `)), word];
}
