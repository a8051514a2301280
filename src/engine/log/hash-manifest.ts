/**
 * The table of contents of one hash index (merge.md section 6): which sorted runs there are, which merges are under way,
 * which runs are being removed. One row, rewritten with each change in the batch that makes it true.
 */

import { concatBytes, u64be } from "../base/bytes.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { LogId } from "../base/ids.ts";
import { logKeys } from "../store/keys.ts";
import { fixed, type Infer, list, Reader, struct, u8, u32, u53, Writer } from "../wire/codec.ts";
import { type IndexSpace, RECORD_BYTES } from "./hash-record.ts";

/** More than four times what the largest log can need. */
const RUN_COUNT_MAX = 1_024;

const runFields = {
  /** Never used twice in one index. */
  id: u53,
  /** A run of level n has from 1,024 · 4^(n − 1) records up to four times as many. */
  level: u8,
  recordCount: u53,
  filterBlockCount: u32,
  /** Sum of the records' leading 48 bits, modulo 2^48: with id and counts it names what the filter was made of. */
  stamp: u53,
};
const run = struct(runFields);
export type Run = Infer<typeof runFields>;

const mergeFields = {
  /** The runs merged; they answer until the merge is done. */
  sources: list(u53, RUN_COUNT_MAX),
  /** What is written so far; no question is asked of it before it is complete. */
  output: run,
  /** The last record written: all of the sources up to it are in the output. Zeroes before the first. */
  position: fixed(RECORD_BYTES),
};
const merge = struct(mergeFields);
export type Merge = Infer<typeof mergeFields>;

const leavingFields = {
  id: u53,
  recordCount: u53,
  /** Blocks whose first four bytes are below it are gone. */
  from: u53,
};
export type Leaving = Infer<typeof leavingFields>;

const manifest = struct({
  format: u8,
  nextId: u53,
  runs: list(run, RUN_COUNT_MAX),
  merges: list(merge, RUN_COUNT_MAX),
  leaving: list(struct(leavingFields), RUN_COUNT_MAX),
});
export type Manifest = { nextId: number; runs: readonly Run[]; merges: readonly Merge[]; leaving: readonly Leaving[] };

/** Where one index keeps its rows. */
export type IndexAt = { readonly log: LogId; readonly space: IndexSpace };
const rest = (at: IndexAt, tag: number, ...parts: readonly Uint8Array[]): Uint8Array =>
  logKeys.index(at.log, at.space, concatBytes(Uint8Array.of(tag), ...parts));

const manifestKey = (at: IndexAt): Uint8Array => rest(at, 0);
/** Records too few for a run of their own. */
export const youngKey = (at: IndexAt): Uint8Array => rest(at, 1);
/** A block is found by its first record; `from` may be any prefix of one. */
export const blockKey = (at: IndexAt, id: number, from: Uint8Array): Uint8Array => rest(at, 2, u64be(id), from);
export const filterKey = (at: IndexAt, id: number, row: number): Uint8Array => rest(at, 3, u64be(id), u64be(row));

export function readManifest(snap: Snapshot, at: IndexAt): Manifest {
  const raw = snap.get("log", manifestKey(at));
  if (raw === undefined) return { nextId: 0, runs: [], merges: [], leaving: [] };
  try {
    const from = new Reader(raw);
    const { format, ...value } = manifest.read(from, "hash index");
    if (format !== 1) throw new EngineError("STORE_CORRUPT", `hash index: format ${format}, this build reads 1`);
    from.end("hash index");
    return value;
  } catch (cause) {
    if (cause instanceof EngineError && cause.code === "FRAME_CORRUPT") throw new EngineError("STORE_CORRUPT", cause.message, { cause });
    throw cause;
  }
}

export function putManifest(at: IndexAt, value: Manifest): Op {
  const to = new Writer();
  manifest.write(to, { format: 1, ...value });
  return { op: "put", key: manifestKey(at), value: to.done().slice() };
}
