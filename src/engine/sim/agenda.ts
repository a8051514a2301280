/**
 * Virtual time and what is due in it: a binary heap ordered by (time, sequence number), so equal times keep the order
 * in which they were pushed and a run never depends on anything but its seed. Entries are plain data.
 */
import { invariant } from "../base/invariant.ts";

export type Entry<T> = { readonly atMs: number; readonly seq: number; readonly what: T; cancelled: boolean };

const before = (a: Entry<unknown>, b: Entry<unknown>): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.seq < b.seq);

export class Agenda<T extends { readonly kind: string }> {
  nowMs = 0;
  /** Entries that are no timers: while there are any, the world is not settled. */
  workCount = 0;
  lastSeq = 0;
  private readonly heap: Entry<T>[] = [];

  push(afterMs: number, what: T): Entry<T> {
    return this.pushAt(this.nowMs + afterMs, what);
  }

  pushAt(atMs: number, what: T): Entry<T> {
    const entry = { atMs, seq: ++this.lastSeq, what, cancelled: false };
    if (what.kind !== "timer") this.workCount++;
    this.sift(entry);
    return entry;
  }

  cancel(entry: Entry<T>): void {
    if (entry.cancelled) return;
    entry.cancelled = true;
    if (entry.what.kind !== "timer") this.workCount--;
  }

  /** The earliest entry that is not cancelled, left where it is. */
  peek(): Entry<T> | undefined {
    while (this.heap[0]?.cancelled === true) this.take();
    return this.heap[0];
  }

  /** Takes the earliest entry that is not cancelled; the clock moves when it is performed, not here. */
  pop(): Entry<T> | undefined {
    const entry = this.peek() === undefined ? undefined : this.take();
    if (entry !== undefined && entry.what.kind !== "timer") this.workCount--;
    return entry;
  }

  moveTo(atMs: number): void {
    invariant(atMs >= this.nowMs, `time goes on: at ${this.nowMs}, asked for ${atMs}`);
    this.nowMs = atMs;
  }

  private sift(entry: Entry<T>): void {
    const heap = this.heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Entry<T>;
      if (!before(entry, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = entry;
  }

  private take(): Entry<T> | undefined {
    const heap = this.heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Entry<T>, heap[child] as Entry<T>)) child++;
      if (!before(heap[child] as Entry<T>, last)) break;
      heap[at] = heap[child] as Entry<T>;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}
