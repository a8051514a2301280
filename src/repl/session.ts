/**
 * What a REPL talks to: something that answers the verbs of a line and completes words. A simulated world is one;
 * the line loop and the pipe know no more than this face.
 */
import { EngineError } from "../engine/base/errors.ts";
import type { Area } from "../engine/sim/area.ts";
import { type Call, parseCalls } from "../engine/sim/grammar.ts";
import { Story } from "../engine/sim/script.ts";

export type Session = {
  /** Shown before the prompt's mark: what is talked to. */
  readonly name: string;
  /** One answer for all, as lines that are never empty. */
  answer(calls: readonly Call[]): readonly string[];
  /** What the last of these words may become. */
  completions(words: readonly string[]): readonly string[];
};

/** A simulated world; `worldLine` makes it before the first verb, and what that answers is given back as the greeting. */
export function simulatedSession(areas: readonly Area[], worldLine: string | null): { session: Session; greeting: readonly string[] } {
  const story = new Story(areas);
  const session: Session = {
    name: "cairn",
    answer: (calls) => story.answer(calls),
    completions: (words) => story.completions(words),
  };
  const greeting = worldLine === null ? [] : session.answer(parseCalls(worldLine));
  if (worldLine !== null && story.open === null) throw new EngineError("PARSE", `${worldLine}: ${greeting.join(" ")}`);
  return { session, greeting };
}
