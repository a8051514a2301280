/**
 * What the storage role gives away (merge.md section 2): `storage.list` in the order entries came, `storage.get` by hash.
 * Only what is durable is listed. A row that does not read any more is an entry that this node cannot serve, and said so:
 * another lister can. Hot path: entries are asked for in the order they were listed, so the index is asked once a run.
 */
import type { Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { LogId } from "../base/ids.ts";
import { bundleOffsets, joinBundles } from "../log/entry.ts";
import { logKeys } from "../store/keys.ts";
import { type AnswerOf, BUNDLE_BYTES_MAX, LIST_COUNT_MAX, type RequestOf } from "../wire/messages.ts";
import { equalAt } from "./hash-table.ts";
import { entryLength, findSeqs, receiptCount, receiptRows, receiptsAt } from "./receipt.ts";
import type { StorageState } from "./storage-state.ts";

/** Items are the entries `[nextSeq − n, nextSeq)`; both `lastSeq` and `oldestPendingSeq` say where the next one would be. */
export function readList(state: StorageState, ask: RequestOf<"storage.list">, snap: Snapshot): AnswerOf<"storage.listed"> {
  const from = Math.max(ask.fromSeq, state.forgottenSeq);
  const to = Math.min(state.storedSeq, from + Math.min(ask.limit, LIST_COUNT_MAX));
  const count = Math.max(0, to - from);
  const hashes = new Uint8Array(count * 32);
  const bytes: number[] = [];
  if (count > 0)
    for (const { firstSeq, row } of receiptRows(snap, state.config.log, from, to)) {
      const end = Math.min(to, firstSeq + receiptCount(row));
      const start = Math.max(from, firstSeq);
      if (start < end) hashes.set(row.hashes.subarray((start - firstSeq) * 32, (end - firstSeq) * 32), (start - from) * 32);
      for (let seq = start; seq < end; seq++) bytes.push(entryLength(row, seq - firstSeq));
    }
  if (bytes.length !== count) throw new EngineError("STORE_CORRUPT", `receipt rows hold ${bytes.length} of the entries [${from}, ${to})`);
  const { born, storedSeq: lastSeq, settledSeq: oldestPendingSeq } = state;
  return { kind: "storage.listed", hashes, bytes, born, nextSeq: Math.max(from, to), lastSeq, oldestPendingSeq };
}

/** Entries of the first hashes asked for, until 1 MiB: what is not served is asked again. */
export function readEntries(state: StorageState, ask: RequestOf<"storage.get">, snap: Snapshot): AnswerOf<"storage.entries"> {
  const count = ask.hashes.length / 32;
  const walk = new LotWalk(state, snap);
  const runs: Run[] = [];
  const absent: number[] = [];
  let bytes = 0;
  let served = 0;
  for (; served < count; served++) {
    const seq = walk.find(ask.hashes, served * 32);
    if (seq < 0) {
      absent.push(served);
      continue;
    }
    const { lot } = walk;
    const from = lot.offsets[seq - lot.firstSeq] as number;
    const to = lot.offsets[seq - lot.firstSeq + 1] as number;
    if (bytes > 0 && bytes + to - from > BUNDLE_BYTES_MAX) break;
    bytes += to - from;
    const last = runs[runs.length - 1];
    if (last !== undefined && last.bundle === lot.bundle && last.to === from) last.to = to;
    else runs.push({ bundle: lot.bundle, from, to });
  }
  return { kind: "storage.entries", bundle: joinBundles(runs.map((run) => run.bundle.subarray(run.from, run.to))), served, absent };
}

/** Neighbouring entries of one lot, as bytes of its bundle. */
type Run = { readonly bundle: Uint8Array; readonly from: number; to: number };

/** A receipt batch with its entries. */
type OpenLot = { readonly firstSeq: number; readonly hashes: Uint8Array; readonly bundle: Uint8Array; readonly offsets: Uint32Array };

const NO_LOT: OpenLot = { firstSeq: 0, hashes: new Uint8Array(0), bundle: new Uint8Array(0), offsets: new Uint32Array(1) };

/** Finds entries by hash, expecting each one right behind the last. Lives as long as its snapshot. */
class LotWalk {
  private readonly state: StorageState;
  private readonly snap: Snapshot;
  /** The lot of the entry found last. */
  lot: OpenLot = NO_LOT;
  private nextSeq = 0;

  constructor(state: StorageState, snap: Snapshot) {
    this.state = state;
    this.snap = snap;
  }

  /** Sequence number of the entry, which is in `lot`; -1 where it is unknown, forgotten, or its row does not read. */
  find(hashes: Uint8Array, at: number): number {
    const next = this.nextSeq;
    if (this.open(next) && equalAt(this.lot.hashes, (next - this.lot.firstSeq) * 32, hashes, at)) return this.nextSeq++;
    const { log } = this.state.config;
    const seq = findSeqs(this.snap, log, hashes.subarray(at, at + 32), (_, each) => this.open(each))[0] as number;
    if (seq < 0 || !this.open(seq)) return -1;
    this.nextSeq = seq + 1;
    return seq;
  }

  /** Makes `lot` the one with this sequence number; false where there is none that reads. */
  private open(seq: number): boolean {
    if (seq < this.state.forgottenSeq || seq >= this.state.storedSeq) return false;
    if (seq >= this.lot.firstSeq && seq < this.lot.firstSeq + this.lot.offsets.length - 1) return true;
    const lot = openLot(this.snap, this.state.config.log, seq);
    if (lot !== null) this.lot = lot;
    return lot !== null;
  }
}

/** The lot with that sequence number, or null where a row of it is gone or does not read. */
function openLot(snap: Snapshot, log: LogId, seq: number): OpenLot | null {
  try {
    const receipts = receiptsAt(snap, log, seq);
    const bundle = receipts === null ? undefined : snap.get("log", logKeys.pending(log, receipts.firstSeq));
    if (receipts === null || bundle === undefined) return null;
    const offsets = bundleOffsets(bundle);
    return offsets.length === receiptCount(receipts.row) + 1 ? { firstSeq: receipts.firstSeq, hashes: receipts.row.hashes, bundle, offsets } : null;
  } catch (cause) {
    if (cause instanceof EngineError && (cause.code === "STORE_CORRUPT" || cause.code === "LOG_ENCODING")) return null;
    throw cause;
  }
}

/**
 * Sequence numbers of entries that need not be stored once more: signed ones, whose bytes nobody asks for here, and those
 * that could be served. Each row is looked at once; `lostSeqs` takes the first number of each that is no good.
 */
export function findKept(state: StorageState, snap: Snapshot, hashes: Uint8Array, lostSeqs: Set<number>): Float64Array {
  const goodSeqs = new Set<number>();
  return findSeqs(snap, state.config.log, hashes, ({ firstSeq }, seq) => {
    if (seq < state.settledSeq || goodSeqs.has(firstSeq)) return true;
    if (lostSeqs.has(firstSeq)) return false;
    const isGood = openLot(snap, state.config.log, firstSeq) !== null;
    (isGood ? goodSeqs : lostSeqs).add(firstSeq);
    return isGood;
  });
}
