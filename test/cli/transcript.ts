/**
 * Transcripts of the compiled binary, `fixtures/scenarios/cli/*.txt`: what is typed, and what the shell shows.
 *
 *   file   = "# " title, then stanzas, one empty line between
 *   stanza = (comment | "$ " line)+ stdout-line* ("! " stderr-line)* ["= " status]
 *
 * The lines of one file run one after the other in one folder of its own. A status of 0 is not written. `…` in an expected
 * line stands for anything; `.` for an empty line. REWRITE=1 writes the answers back and keeps the lines that still fit.
 */
import { type Ended, shell } from "./run-cairn.ts";

type Stanza = { readonly head: readonly string[]; readonly line: string; readonly expected: readonly string[] };

export async function playTranscript(text: string, folder: string): Promise<string> {
  const played: string[] = [];
  for (const stanza of parseTranscript(text)) {
    const answered = formatEnd(await shell(stanza.line, { folder }));
    played.push([...stanza.head, ...keepFitting(stanza.expected, answered)].join("\n"));
  }
  return `${played.join("\n\n")}\n`;
}

function parseTranscript(text: string): Stanza[] {
  return text
    .trimEnd()
    .split("\n\n")
    .map((block) => {
      const lines = block.split("\n");
      const last = lines.findLastIndex((line) => line.startsWith("$ ") || line.startsWith("# "));
      const head = lines.slice(0, last + 1);
      const typed = head.filter((line) => line.startsWith("$ ")).map((line) => line.slice(2));
      return { head, line: typed.join("\n"), expected: lines.slice(last + 1) };
    });
}

export function formatEnd({ stdout, stderr, status }: Ended): string[] {
  const lines = (text: string): string[] => (text === "" ? [] : text.replace(/\n$/, "").split("\n"));
  const shown = lines(stdout).map((line) => (line === "" ? "." : line));
  return [...shown, ...lines(stderr).map((line) => `! ${line}`), ...(status === 0 ? [] : [`= ${status}`])];
}

/** Line by line, an expected line that fits stays as it is written. */
function keepFitting(expected: readonly string[], answered: readonly string[]): string[] {
  return answered.map((line, index) => {
    const wanted = expected[index];
    return wanted?.includes("…") && fits(wanted, line) ? wanted : line;
  });
}

function fits(wanted: string, line: string): boolean {
  const pieces = wanted.split("…").map((piece) => piece.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${pieces.join(".*")}$`, "s").test(line);
}
