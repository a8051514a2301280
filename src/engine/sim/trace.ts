/**
 * What a simulated run leaves behind: lines for people (only while recording), how often each mark was hit, and a
 * running hash of everything that happened. Two runs of one seed must end with the same hash.
 */

/** Older lines are dropped beyond this: a REPL session may run for hours. */
const TRACE_LINES_MAX = 100_000;
const MARK_COLUMN = 34;

/** A trace line that ends with a mark: `a: ignores it                     [hold.late-ask]`. */
export const withMark = (text: string, mark: string): string => `${text.padEnd(MARK_COLUMN - 1)} [${mark}]`;

const MARKED = /^([^:\s]+: .*?) +\[([\w-]+\.[\w-]+)\]$/;
/** So many of one node's same mark among the lines of one answer say no more than the first of them. */
const ALIKE_COUNT = 4;

/** Marks that one node makes again and again: the first, and how many more there were. */
export function foldMarks(lines: readonly string[]): string[] {
  const counts = new Map<string, number>();
  const nameOf = (line: string): string | null => {
    const [, text = "", mark] = MARKED.exec(line) ?? [];
    return mark === undefined ? null : `${text.slice(0, text.indexOf(":"))} ${mark}`;
  };
  for (const line of lines) {
    const name = nameOf(line);
    if (name !== null) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const seen = new Set<string>();
  return lines.flatMap((line) => {
    const name = nameOf(line);
    const count = name === null ? 0 : (counts.get(name) ?? 0);
    if (name === null || count < ALIKE_COUNT) return [line];
    if (seen.has(name)) return [];
    seen.add(name);
    const [, text = "", mark = ""] = MARKED.exec(line) ?? [];
    return [withMark(`${text}, and ${count - 1} more like it`, mark)];
  });
}

export class Trace {
  recording: boolean;
  /** How often each mark was hit. */
  readonly marks = new Map<string, number>();
  private lines: string[] = [];
  private droppedCount = 0;
  private high = 0x243f6a88;
  private low = 0x85a308d3;

  constructor(recording: boolean) {
    this.recording = recording;
  }

  say(line: string): void {
    if (!this.recording) return;
    this.lines.push(line);
    if (this.lines.length > TRACE_LINES_MAX) this.droppedCount += this.lines.splice(0, TRACE_LINES_MAX / 2).length;
  }

  mark(name: string): void {
    this.marks.set(name, (this.marks.get(name) ?? 0) + 1);
  }

  /** Position to give to `since`. */
  get position(): number {
    return this.droppedCount + this.lines.length;
  }

  /** Lines said from a position on. */
  since(position: number): string[] {
    return this.lines.slice(Math.max(0, position - this.droppedCount));
  }

  /** Mixes a 32-bit number into the hash. */
  fold(value: number): void {
    this.high = Math.imul(this.high ^ value, 0x9e3779b1);
    this.high ^= this.high >>> 15;
    this.low = Math.imul(this.low + value, 0x85ebca77) ^ this.high;
    this.low ^= this.low >>> 13;
  }

  foldBytes(bytes: Uint8Array): void {
    this.fold(Bun.hash.xxHash32(bytes, this.low >>> 0));
  }

  foldText(text: string): void {
    this.fold(Bun.hash.xxHash32(text, this.low >>> 0));
  }

  /** 16 hex digits over everything so far. */
  get hash(): string {
    return [this.high, this.low].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
  }
}
