/**
 * Some lines at the end of a terminal that are drawn again in place, with ordinary lines going by above them. Where the
 * stream is no terminal there is no block: only the ordinary lines are written. Never wider than the terminal, since a
 * wrapped line could not be taken back; escapes only ever reach a terminal.
 */
export type LiveStream = { readonly isTTY?: boolean; readonly columns?: number; write(text: string): unknown };

const COLUMNS = 80;
const HIDE_CURSOR = "\u001b[?25l";
const SHOW_CURSOR = "\u001b[?25h";
const CLEAR_BELOW = "\u001b[J";

export class LiveBlock {
  readonly isTerminal: boolean;
  private readonly stream: LiveStream;
  private lines: readonly string[] = [];

  constructor(stream: LiveStream) {
    this.stream = stream;
    this.isTerminal = stream.isTTY === true;
  }

  get columns(): number {
    return this.stream.columns ?? COLUMNS;
  }

  /** Takes the place of the block drawn last. */
  show(lines: readonly string[]): void {
    if (!this.isTerminal) return;
    const back = this.back();
    this.lines = lines.map((line) => Bun.sliceAnsi(line, 0, this.columns - 1));
    this.stream.write(`${back}${HIDE_CURSOR}${this.lines.map((line) => `${line}\n`).join("")}`);
  }

  /** Ordinary lines above the block. */
  say(text: string): void {
    const back = this.back();
    this.stream.write(`${back}${text}\n${this.lines.map((line) => `${line}\n`).join("")}`);
  }

  /** The block stays as it was drawn last, and what follows goes below it. */
  end(): void {
    if (this.isTerminal && this.lines.length > 0) this.stream.write(SHOW_CURSOR);
    this.lines = [];
  }

  private back(): string {
    return this.lines.length === 0 ? "" : `\u001b[${this.lines.length}A\r${CLEAR_BELOW}`;
  }
}
