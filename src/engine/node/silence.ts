/**
 * The timer of a stream between processes: it ends what nothing was heard of for too long, begins anew with each word, and
 * never again once it was ended. It decides nothing else; a protocol's own timers belong to its core.
 */
export class Silence {
  waitedMs: number;
  private readonly over: () => void;
  private isOver = false;
  private timer: ReturnType<typeof setTimeout>;

  constructor(withinMs: number, over: () => void) {
    this.waitedMs = withinMs;
    this.over = over;
    this.timer = setTimeout(over, withinMs);
  }

  /** `withinMs`: until the next word, where that is another time than until this one. */
  heard(withinMs = this.waitedMs): void {
    if (this.isOver) return;
    clearTimeout(this.timer);
    this.waitedMs = withinMs;
    this.timer = setTimeout(this.over, withinMs);
  }

  /** What comes late arms nothing any more: the process may be about to end. */
  end(): void {
    this.isOver = true;
    clearTimeout(this.timer);
  }
}
