/**
 * What a core may ask of the world, and what the world tells it. A core is `step(state, event, snap): Effect[]`:
 * no clock, no dice, no I/O; state is plain data (`structuredClone` works between any two steps).
 *
 * The driver's duties. Both drivers (node/driver.ts, sim/world.ts) pass one contract suite that cites these numbers.
 *  1. One event at a time: `step` is never re-entered; effects of one step are taken in the order listed.
 *  2. A `send`, `answer`, `arm`, `done` or `halt` listed after writes of the same step happens only once they are stored.
 *     If one of them fails, it never happens.
 *  3. A `write` is one atomic batch of one environment (its `local` rows are in the same commit as those of `db`), then its
 *     file changes in the order listed. `stored` is delivered after the last of them is durable. Writes of one core are
 *     performed in the order they were asked for, but for those of `accepts`: they wait for each other and for no other write.
 *  4. A write refused for lack of space left nothing of its batch behind and is answered by `full`; the core goes on. Any
 *     other write error is final: nothing more of this process is sent, written or answered, and it halts with STORE_SYNC_FAILED.
 *  5. A snapshot shows every write whose `stored` was delivered, and no part of a batch that was not committed.
 *     It is valid only during the step it was passed to.
 *  6. `arm` of an armed timer replaces it; a disarmed or replaced timer never fires. Jitter is drawn by the driver.
 *  7. A `send` is best effort: lost, late, repeated or reordered is all possible. A link known to be gone is told by `lost`.
 *  8. Each request is answered at most once; an answer to a client or peer that went away is dropped silently.
 *  9. A crash loses the state, timers and everything not stored. A file `replace` is whole or absent; an `append` may be torn.
 * 10. `upMs` of an event is read when it is stepped, not when it came, and never falls within one process.
 * 11. A request with `more` is followed at once by another one that a core may take together with it; the last has none.
 */
import type { ErrorCode } from "./errors.ts";
import type { NodeId } from "./ids.ts";

/** Named databases; `replicated` and `local` share one environment. `accepts` is one of its own, small and quick to commit. */
export type Db = "replicated" | "local" | "log" | "small" | "accepts";

/**
 * Operations are absolute and applied in list order. `delRange` is `[key, end)`. A put's `wroteAt` is the version kept
 * with the value, where that is not the commit's own: a row copied from another node stays what it was there.
 */
export type Op =
  | { readonly op: "put"; readonly key: Uint8Array; readonly value: Uint8Array; readonly wroteAt?: number }
  | { readonly op: "del"; readonly key: Uint8Array }
  | { readonly op: "delRange"; readonly key: Uint8Array; readonly end: Uint8Array };

export type Batch = readonly Op[];

/** Changes to plain files in the node's folder, by path relative to it (`merge/currentsize`). */
export type FileChange =
  /** Cut the file to `at` bytes (dropping a torn tail), append, fdatasync. */
  | { readonly change: "append"; readonly file: string; readonly at: number; readonly bytes: Uint8Array }
  /** Write a temp file, fsync, rename, fsync the folder. */
  | { readonly change: "replace"; readonly file: string; readonly bytes: Uint8Array }
  /** Rename `file` to `to`, fsync the folder. */
  | { readonly change: "rename"; readonly file: string; readonly to: string };

/** A value and the version kept with it. */
export type Row = { readonly value: Uint8Array; readonly wroteAt: number };

/** Read access for one step: the databases as of one commit, and the files. Returned bytes are copies, but for `peek`. */
export interface Snapshot {
  get(db: Db, key: Uint8Array): Uint8Array | undefined;
  /** As `get`, but lent: not to be changed, and gone with the next read of anything. For values that are looked through once. */
  peek(db: Db, key: Uint8Array): Uint8Array | undefined;
  /** `get` and `wroteAt` in one look. */
  row(db: Db, key: Uint8Array): Row | undefined;
  /** The version kept with the value of this key, or undefined where there is no such key. */
  wroteAt(db: Db, key: Uint8Array): number | undefined;
  /** Rows with `from <= key < to` in key order, or from the high end when `reverse`. */
  range(db: Db, from: Uint8Array, to: Uint8Array, options?: { reverse?: boolean; limit?: number }): Iterable<readonly [key: Uint8Array, value: Uint8Array]>;
  /** Size in bytes, or null where there is no such file. */
  fileSize(file: string): number | null;
  /** Bytes `[from, to)`, cut at the file's end; null where there is no such file. */
  fileRead(file: string, from: number, to: number): Uint8Array | null;
  /** Names in a folder, sorted; empty where there is none. */
  fileList(folder: string): readonly string[];
}

/** Two clocks ride on every event. */
export type Clocks = {
  /** Wall clock: cores put it into records and never compare it for safety. */
  readonly timeMs: number;
  /** Milliseconds since some moment of this process, read when the event is stepped; never falls. Leases are counted in it. */
  readonly upMs: number;
};

/** Clocks of two machines may differ by this share of a lease: who counts on one ends it that much earlier. */
export const CLOCK_MARGIN = 0.1;

export type Happening<Request, Answer> =
  /** First event of every process: the snapshot is what the disk held. */
  | { readonly kind: "start" }
  /**
   * `more`: what would be done after every event may be put off until the next one, which follows at once. `patienceMs`: how
   * long whoever asks waits for an answer, where that was said.
   */
  | { readonly kind: "request"; readonly id: number; readonly from: NodeId; readonly body: Request; readonly more?: boolean; readonly patienceMs?: number }
  | { readonly kind: "message"; readonly from: NodeId; readonly requestId: number; readonly body: Answer }
  | { readonly kind: "timer"; readonly timer: string }
  | { readonly kind: "stored"; readonly ticket: number }
  | { readonly kind: "full"; readonly ticket: number }
  | { readonly kind: "lost"; readonly peer: NodeId };

export type Event<Request, Answer> = Happening<Request, Answer> & Clocks;

export type Effect<Send, Reply> =
  /** To a peer. `requestId` comes back with the answer; the core owns the counter. */
  | { readonly kind: "send"; readonly to: NodeId; readonly requestId: number; readonly body: Send }
  /** `local`: rows of that database in the same commit, beside a batch of `replicated`. */
  | {
      readonly kind: "write";
      readonly ticket: number;
      readonly db: Db;
      readonly batch: Batch;
      readonly local?: Batch;
      readonly files?: readonly FileChange[];
    }
  | { readonly kind: "arm"; readonly timer: string; readonly afterMs: number; readonly jitterMs?: number }
  | { readonly kind: "disarm"; readonly timer: string }
  /** To the request `id`: a peer's, an HTTP client's or the command's. */
  | { readonly kind: "answer"; readonly id: number; readonly body: Reply }
  /** A process that runs once has done its work: it ends with this result. */
  | { readonly kind: "done"; readonly body: Reply }
  /** The process stops: nothing after this is performed. */
  | { readonly kind: "halt"; readonly code: ErrorCode; readonly detail: string }
  /** A guard took a named branch: seen by tests, the trace and the REPL. `text` is one line for people. */
  | { readonly kind: "mark"; readonly name: string; readonly text?: string };

/** A core bound to its state. A driver sees only this. */
export type Core<Request, Answer, Send, Reply> = {
  readonly name: string;
  step(event: Event<Request, Answer>, snap: Snapshot): readonly Effect<Send, Reply>[];
};
