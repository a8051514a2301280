/**
 * A story from a pipe: prints the transcript, stanza by stanza as each is read (style.md section 4): comments and verbs
 * as they came, `----`, what was answered now, an empty line between. No prompt, banner or colour. Expected text in the
 * input is skipped. Ends with PARSE at a line that cannot be read, after everything before it was answered.
 */
import { printStanza, type Stanza, StanzaReader } from "../engine/sim/grammar.ts";
import type { Session } from "./session.ts";

export type Answered = Stanza & { readonly text: string };

/** Stanzas with their answers, and the text of each as it is printed. */
export async function* answerPipe(input: AsyncIterable<Uint8Array>, session: Session): AsyncIterable<Answered> {
  const reader = new StanzaReader();
  let isFirst = true;
  const answered = (stanza: Stanza): Answered => {
    const calls = stanza.lines.flatMap((line) => (line.kind === "verbs" ? line.calls : []));
    const told = { ...stanza, answer: session.answer(calls) };
    const text = `${isFirst ? "" : "\n"}${printStanza(told)}`;
    isFirst = false;
    return { ...told, text };
  };
  for await (const line of linesOf(input)) {
    const stanza = reader.take(line);
    if (stanza !== null) yield answered(stanza);
  }
  const last = reader.end();
  if (last !== null) yield answered(last);
}

async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of input) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  if (rest !== "") yield rest;
}
