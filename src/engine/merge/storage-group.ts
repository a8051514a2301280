/**
 * The storage role's one write in flight (merge.md sections 4 and 6): whatever came while the last write was on its way is
 * deduplicated, numbered, cut into lots with one signature each, and committed together. Group commit needs no timer.
 * Hot path: no object per entry; hashes lie one after the other, entries are copied once, from request to lot.
 */
import { markOf } from "../base/effect-list.ts";
import type { Op, Snapshot } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { joinBundles, LENGTH_BYTES } from "../log/entry.ts";
import { insertOps } from "../log/hash-index.ts";
import { logKeys } from "../store/keys.ts";
import { BUNDLE_BYTES_MAX } from "../wire/messages.ts";
import { emptyTable, pickHashes, tableAdd, tableHashes } from "./hash-table.ts";
import { putReceipts, RECEIPT_COUNT_MAX, receiptsAt, signReceipts } from "./receipt.ts";
import { findKept } from "./storage-reads.ts";
import { encodeCounters, type Group, heldBytes, type Lot, type OpenAdd, type StorageEffect, type StorageState, type Waiting } from "./storage-state.ts";

/** One write takes no more new requests above these: what waits behind it is answered a few milliseconds later. */
const GROUP_BYTES_MAX = 8 * 1_024 * 1_024;
const GROUP_COUNT_MAX = 16_384;
/** While so much waits for other storage nodes, adds wait too; puts never do, or two full nodes would wait for each other. */
const LOT_BYTES_MAX = 32 * 1_024 * 1_024;

type Entries = Exclude<Waiting, { kind: "settle" }>;
/** New entries of one origin: of clients, or of the storage node that has them on disk already. */
type Source = { readonly holder: NodeId | null; readonly requests: Entries[] };

/** Forms and starts the next write, if none is in flight and something waits. */
export function pump(state: StorageState, snap: Snapshot, timeMs: number): StorageEffect[] {
  if (state.writing !== null || state.phase === "failed") return [];
  const taken = take(state);
  const settledSeq = taken.reduce((seq, each) => (each.kind === "settle" ? Math.max(seq, each.seq) : seq), state.settledSeq);
  const forgottenSeq = forgettable(state, snap, timeMs);
  if (taken.length === 0 && forgottenSeq === state.forgottenSeq) return [];
  const ops: Op[] = [];
  if (forgottenSeq > state.forgottenSeq)
    ops.push({ op: "delRange", key: logKeys.pending(state.config.log, state.forgottenSeq), end: logKeys.pending(state.config.log, forgottenSeq) });
  const lostSeqs = new Set<number>();
  const group = number(state, snap, { taken, ops, timeMs, settledSeq, forgottenSeq, lostSeqs });
  const confirmedSeq = Math.min(confirmedBelow(state), group.lots[0]?.firstSeq ?? group.endSeq);
  ops.push({
    op: "put",
    key: logKeys.storage(state.config.log),
    value: encodeCounters({ born: state.born, nextSeq: group.endSeq, settledSeq, forgottenSeq, confirmedSeq }),
  });
  state.writing = group;
  return [...[...lostSeqs].map(unreadable), { kind: "write", ticket: group.ticket, db: "log", batch: ops }];
}

/** An entry that cannot be served does not count as kept: whoever brings it again heals that. */
const unreadable = (seq: number): StorageEffect =>
  markOf("storage.unreadable", `pending row ${seq} does not read: its entries that come again are stored anew`);

/** Everything below is on enough nodes, as far as this process knows. */
function confirmedBelow(state: StorageState): number {
  let seq = state.doubt.from < state.doubt.to ? state.doubt.from : state.storedSeq;
  for (const firstSeq of state.lots.keys()) seq = Math.min(seq, firstSeq);
  return Math.max(seq, state.settledSeq);
}

/** Requests for this write, out of `waiting`, in the order they came. */
function take(state: StorageState): Waiting[] {
  const taken: Waiting[] = [];
  const left: Waiting[] = [];
  let bytes = 0;
  let count = 0;
  for (const each of state.waiting) {
    const fits = bytes < GROUP_BYTES_MAX && count < GROUP_COUNT_MAX && (each.kind !== "add" || state.lotBytes < LOT_BYTES_MAX);
    if (each.kind !== "settle" && !fits) {
      left.push(each);
      continue;
    }
    taken.push(each);
    if (each.kind === "settle") continue;
    bytes += each.bundle.length;
    state.waitingBytes -= heldBytes(each);
    count += each.hashes.length / 32;
  }
  state.waiting.splice(0, state.waiting.length, ...left);
  return taken;
}

/** Bytes below may go: signed for `storageKeepMs`, and no lot is cut. */
function forgettable(state: StorageState, snap: Snapshot, timeMs: number): number {
  let seq = state.forgottenSeq;
  while ((state.settled[0]?.timeMs ?? Number.POSITIVE_INFINITY) + state.config.storageKeepMs <= timeMs) seq = Math.max(seq, state.settled.shift()?.seq ?? 0);
  if (seq === state.forgottenSeq) return seq;
  return Math.max(state.forgottenSeq, receiptsAt(snap, state.config.log, seq)?.firstSeq ?? seq);
}

type Draft = {
  readonly taken: readonly Waiting[];
  readonly ops: Op[];
  readonly timeMs: number;
  readonly settledSeq: number;
  readonly forgottenSeq: number;
  readonly lostSeqs: Set<number>;
};

/** Gives each new entry its sequence number, each known one the number it has. */
function number(state: StorageState, snap: Snapshot, draft: Draft): Group {
  const sources = bySource(draft.taken);
  const requests = sources.flatMap((source) => source.requests);
  const table = emptyTable(requests.reduce((sum, each) => sum + each.hashes.length / 32, 0));
  const slots = requests.map((each) => slotsOf(table, each.hashes));
  const known = findKept(state, snap, tableHashes(table), draft.lostSeqs);
  const seqs = new Float64Array(table.count);
  const fresh: number[] = [];
  for (let slot = 0; slot < table.count; slot++) {
    const seq = known[slot] as number;
    seqs[slot] = seq < 0 ? state.storedSeq + fresh.length : seq;
    if (seq < 0) fresh.push(slot);
  }
  const freshHashes = fresh.length === table.count ? tableHashes(table) : pickHashes(tableHashes(table), fresh);
  const lots = cutLots(state, sources, { seqs, slots, freshHashes }, draft);
  if (fresh.length > 0) draft.ops.push(...insertOps(snap, state.config.log, "j", freshHashes, state.storedSeq));
  return {
    ticket: ++state.lastTicket,
    endSeq: state.storedSeq + fresh.length,
    adds: requests.flatMap((each, i) => (each.kind === "add" ? [openAdd(each, slots[i] as Int32Array, seqs)] : [])),
    puts: requests.flatMap((each) => (each.kind === "put" ? [{ id: each.id, count: each.hashes.length / 32 }] : [])),
    settles: draft.taken.flatMap((each) => (each.kind === "settle" ? [each.id] : [])),
    lots,
    settledSeq: draft.settledSeq,
    forgottenSeq: draft.forgottenSeq,
  };
}

/** Clients' entries first, then those of each storage node by name: so that a lot has one origin and lots stay large. */
function bySource(taken: readonly Waiting[]): Source[] {
  const sources = new Map<string, Source>();
  for (const each of taken) {
    if (each.kind === "settle") continue;
    const holder = each.kind === "put" ? each.from : null;
    const source = sources.get(holder ?? "") ?? { holder, requests: [] };
    source.requests.push(each);
    sources.set(holder ?? "", source);
  }
  return [...sources.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, source]) => source);
}

/** Number within the group of each of the hashes. */
function slotsOf(table: ReturnType<typeof emptyTable>, hashes: Uint8Array): Int32Array {
  const slots = new Int32Array(hashes.length / 32);
  for (let i = 0; i < slots.length; i++) slots[i] = tableAdd(table, hashes, i * 32);
  return slots;
}

function openAdd(request: Entries & { kind: "add" }, slots: Int32Array, seqOfSlot: Float64Array): OpenAdd {
  const seqs = new Float64Array(slots.length);
  for (let i = 0; i < slots.length; i++) seqs[i] = seqOfSlot[slots[i] as number] as number;
  return { id: request.id, receipts: request.receipts, hashes: request.hashes, seqs, lots: [], missingCount: 0 };
}

type Numbered = { readonly seqs: Float64Array; readonly slots: readonly Int32Array[]; readonly freshHashes: Uint8Array };

/** Lots of up to 256 entries and 1 MiB, each with its rows. Walks the requests in the order the numbers were given. */
function cutLots(state: StorageState, sources: readonly Source[], { seqs, slots, freshHashes }: Numbered, { ops, timeMs }: Draft): Lot[] {
  const lots: Lot[] = [];
  let next = state.storedSeq;
  let request = 0;
  for (const { holder, requests } of sources) {
    let open = newLot(next);
    const close = (): void => {
      if (open.lengths.length > 0) lots.push(closeLot(state, open, holder, freshHashes, ops, timeMs));
      open = newLot(next);
    };
    for (const { bundle, offsets } of requests) {
      const slotOf = slots[request++] as Int32Array;
      for (let i = 0; i < slotOf.length; i++) {
        if (seqs[slotOf[i] as number] !== next) continue; // known, or a repeat of one that has its number
        const from = offsets[i] as number;
        const to = offsets[i + 1] as number;
        if (open.lengths.length === RECEIPT_COUNT_MAX || open.bytes + to - from > BUNDLE_BYTES_MAX) close();
        addPart(open, bundle, from, to);
        next++;
      }
    }
    close();
  }
  return lots;
}

/** `parts` are runs of neighbouring entries of one request. */
type LotDraft = { readonly firstSeq: number; readonly lengths: number[]; bytes: number; readonly parts: { bundle: Uint8Array; from: number; to: number }[] };

const newLot = (firstSeq: number): LotDraft => ({ firstSeq, lengths: [], bytes: 0, parts: [] });

function addPart(lot: LotDraft, bundle: Uint8Array, from: number, to: number): void {
  const last = lot.parts[lot.parts.length - 1];
  if (last !== undefined && last.bundle === bundle && last.to === from) last.to = to;
  else lot.parts.push({ bundle, from, to });
  lot.lengths.push(to - from - LENGTH_BYTES);
  lot.bytes += to - from;
}

function closeLot(state: StorageState, draft: LotDraft, holder: NodeId | null, freshHashes: Uint8Array, ops: Op[], timeMs: number): Lot {
  const { log } = state.config;
  const { firstSeq } = draft;
  const count = draft.lengths.length;
  const bundle = joinBundles(draft.parts.map((part) => part.bundle.subarray(part.from, part.to)));
  const first = (firstSeq - state.storedSeq) * 32;
  const hashes = freshHashes.slice(first, first + count * 32);
  const lengths = new Uint8Array(count * 2);
  for (let i = 0; i < count; i++) {
    lengths[2 * i] = (draft.lengths[i] as number) >> 8;
    lengths[2 * i + 1] = draft.lengths[i] as number;
  }
  ops.push({ op: "put", key: logKeys.pending(log, firstSeq), value: bundle });
  const receipts = signReceipts(state.config, { hashes, lengths, timeMs });
  ops.push(putReceipts(log, firstSeq, receipts));
  return { firstSeq, count, bundle, receipts, holders: holder === null ? [] : [holder], asked: [], silent: [], waiters: [] };
}
