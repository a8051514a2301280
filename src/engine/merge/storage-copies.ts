/**
 * Gets entries of clients onto `storagequorum` storage nodes before a receipt leaves (merge.md section 4, invariant I6).
 * A `storage.put` leaves only after our own commit, so whoever receives one knows that the sender has it on disk. The next
 * storage nodes by name are asked first; one that is silent for 2 s, gone or unwilling is replaced by another, and asked last from then on. Too few:
 * the add is refused, naming them; the entries stay and will be merged, and adding again is harmless.
 */
import { concatBytes } from "../base/bytes.ts";
import { markOf } from "../base/effect-list.ts";
import type { Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import { bundleCount, joinBundles } from "../log/entry.ts";
import { logKeys } from "../store/keys.ts";
import { type Answer, BUNDLE_BYTES_MAX, refused } from "../wire/messages.ts";
import type { MergeConfig } from "./config.ts";
import { batchReceiptLine, lineBytesMax, putReceiptLine, type ReceiptBatch, type ReceiptPrinter, receiptCount, receiptPrinter, receiptsAt } from "./receipt.ts";
import { answer, type Group, type Lot, type OpenAdd, type StorageEffect, type StorageState } from "./storage-state.ts";

/** A storage node commits in milliseconds: one that needs more is replaced, which leaves time for two more within an answer. */
export const PUT_WAIT_MS = 2_000;

const putTimer = (requestId: number): string => `put.${requestId}`;

/** The group is on our disk: asks others to keep what its adds wait for, answers what waits for nobody. */
export function copyGroup(state: StorageState, group: Group, snap: Snapshot): StorageEffect[] {
  const wanting: Lot[] = [];
  const ready: OpenAdd[] = [];
  for (const add of group.adds) {
    for (const lot of lotsOf(state, group, add, snap, wanting)) {
      lot.waiters.push(add.id);
      add.lots.push(lot.firstSeq);
    }
    add.missingCount = add.lots.length;
    if (add.missingCount === 0 || mutant("merge.receipt-before-quorum")) ready.push(add);
    else state.adds.set(add.id, add);
  }
  // what another node put here is its to copy: in doubt for us until somebody adds it here
  for (const lot of group.lots) if (!isKept(state.config, lot) && !state.lots.has(lot.firstSeq)) doubt(state, lot);
  return [...answerAdds(state, ready, group.lots, snap), ...askOthers(state, wanting)];
}

const isKept = (config: MergeConfig, lot: Lot): boolean => lot.holders.length + 1 >= config.storagequorum;

function open(state: StorageState, lot: Lot, wanting: Lot[]): void {
  state.lots.set(lot.firstSeq, lot);
  state.lotBytes += lot.bundle.length;
  wanting.push(lot);
}

/** The lots that an add has to wait for. One that is in doubt since a restart or a failed copy is copied again. */
function lotsOf(state: StorageState, group: Group, add: OpenAdd, snap: Snapshot, wanting: Lot[]): Set<Lot> {
  const lots = new Set<Lot>();
  if (state.config.storagequorum <= 1) return lots;
  const firstNew = group.lots[0]?.firstSeq ?? group.endSeq;
  let end = 0;
  let first = 0;
  for (const seq of add.seqs) {
    if (seq < state.settledSeq || (seq >= first && seq < end)) continue;
    const found = seq >= firstNew ? lotAt(group.lots, seq) : oldLotAt(state, seq, snap);
    if (found === null) continue;
    first = found.firstSeq;
    end = found.firstSeq + found.count;
    if (isKept(state.config, found)) continue;
    if (!state.lots.has(first)) open(state, found, wanting);
    lots.add(found);
  }
  return lots;
}

/** The one of these lots, in ascending order, that a sequence number is in; null where it is in none. */
function lotAt(lots: readonly Lot[], seq: number): Lot | null {
  let low = 0;
  for (let high = lots.length; high - low > 1; ) {
    const middle = (low + high) >> 1;
    if ((lots[middle] as Lot).firstSeq <= seq) low = middle;
    else high = middle;
  }
  const lot = lots[low];
  return lot !== undefined && seq >= lot.firstSeq && seq < lot.firstSeq + lot.count ? lot : null;
}

/** An older lot that is being copied, or is in doubt and may have to be. */
function oldLotAt(state: StorageState, seq: number, snap: Snapshot): Lot | null {
  const inDoubt = seq >= state.doubt.from && seq < state.doubt.to;
  const [oldest] = state.lots.keys(); // lots are opened in ascending order, but for those in doubt
  if (!inDoubt && (oldest === undefined || seq < oldest)) return null;
  const found = receiptsAt(snap, state.config.log, seq);
  if (found === null) return null;
  const known = state.lots.get(found.firstSeq);
  if (known !== undefined || !inDoubt) return known ?? null;
  const bundle = snap.get("log", logKeys.pending(state.config.log, found.firstSeq));
  if (bundle === undefined) return null;
  return { firstSeq: found.firstSeq, count: bundleCount(bundle), bundle, receipts: found.row, holders: [], asked: [], silent: [], waiters: [] };
}

/** Asks as many more storage nodes as each lot needs; gives up on those for which there are not enough. */
function askOthers(state: StorageState, lots: readonly Lot[]): StorageEffect[] {
  const effects: StorageEffect[] = [];
  const byPeer = new Map<NodeId, Lot[]>();
  for (const lot of lots) {
    for (const peer of others(state)) {
      if (askedFor(lot) + 1 >= state.config.storagequorum) break;
      if (lot.asked.includes(peer) || lot.holders.includes(peer)) continue;
      lot.asked.push(peer);
      byPeer.set(peer, [...(byPeer.get(peer) ?? []), lot]);
    }
    if (askedFor(lot) + 1 < state.config.storagequorum) effects.push(...giveUp(state, lot));
  }
  for (const peer of others(state)) {
    const wanted = (byPeer.get(peer) ?? []).filter((lot) => state.lots.has(lot.firstSeq));
    for (const part of packed(wanted)) effects.push(...sendPut(state, peer, part));
  }
  return effects;
}

/** Other nodes that keep the lot or may still answer that they do. */
function askedFor(lot: Lot): number {
  const before = lot.holders.filter((holder) => !lot.asked.includes(holder)).length;
  return before + lot.asked.length - lot.silent.length;
}

/** The other storage nodes, from the next one by name on; those that failed last come last, or each add would wait for a dead one first. */
function others({ config: { storages, self }, failing }: StorageState): readonly NodeId[] {
  const ring = [...storages.filter((name) => name > self), ...storages.filter((name) => name < self)];
  return [...ring.filter((name) => !failing.has(name)), ...ring.filter((name) => failing.has(name))];
}

/** Runs of lots whose bundles fit one message. */
function packed(lots: readonly Lot[]): Lot[][] {
  const parts: Lot[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const lot of lots) {
    bytes += lot.bundle.length;
    if (bytes > BUNDLE_BYTES_MAX) {
      parts.push([]);
      bytes = lot.bundle.length;
    }
    parts[parts.length - 1]?.push(lot);
  }
  return parts;
}

function sendPut(state: StorageState, to: NodeId, lots: readonly Lot[]): StorageEffect[] {
  const requestId = ++state.lastRequestId;
  const { log, epoch } = state.config;
  state.puts.set(requestId, { to, lots: lots.map((lot) => lot.firstSeq), count: lots.reduce((sum, lot) => sum + lot.count, 0) });
  return [
    { kind: "send", to, requestId, body: { kind: "storage.put", log, epoch, bundle: joinBundles(lots.map((lot) => lot.bundle)) } },
    { kind: "arm", timer: putTimer(requestId), afterMs: PUT_WAIT_MS },
  ];
}

/** A storage node's answer to a put. */
export function onPutAnswer(state: StorageState, from: NodeId, requestId: number, body: Answer, snap: Snapshot): StorageEffect[] {
  if (body.kind === "storage.kept") state.failing.delete(from); // however late
  const put = state.puts.get(requestId);
  if (put === undefined || put.to !== from) return body.kind === "storage.noted" ? [] : [markOf("storage.late-kept", `${from}: answer to a put that is over`)];
  const disarm: StorageEffect = { kind: "disarm", timer: putTimer(requestId) };
  if (body.kind === "storage.kept" && body.count === put.count) return [disarm, ...onKept(state, requestId, snap)];
  const why = body.kind === "refused" ? `${body.code}` : `answered ${body.kind}`;
  return [disarm, markOf("storage.put-refused", `${from}: ${why}`), ...onSilent(state, [requestId], why)];
}

function onKept(state: StorageState, requestId: number, snap: Snapshot): StorageEffect[] {
  const put = state.puts.get(requestId);
  state.puts.delete(requestId);
  const ready: OpenAdd[] = [];
  const kept: Lot[] = [];
  for (const firstSeq of put?.lots ?? []) {
    const lot = state.lots.get(firstSeq);
    if (put === undefined || lot === undefined) continue; // given up meanwhile
    lot.holders.push(put.to);
    if (!isKept(state.config, lot)) continue;
    close(state, lot);
    kept.push(lot);
    for (const id of lot.waiters) {
      const add = state.adds.get(id);
      if (add === undefined || --add.missingCount > 0) continue;
      state.adds.delete(id);
      ready.push(add);
    }
  }
  return answerAdds(state, ready, kept, snap);
}

export function onPutTimer(state: StorageState, timer: string): StorageEffect[] {
  const requestId = Number(timer.slice(putTimer(0).length - 1));
  const to = state.puts.get(requestId)?.to;
  return [markOf("storage.put-silent", `${to}: no answer in ${PUT_WAIT_MS} ms`), ...onSilent(state, [requestId], "silent")];
}

export function onPeerLost(state: StorageState, peer: NodeId): StorageEffect[] {
  const over = [...state.puts.entries()].filter(([, put]) => put.to === peer).map(([requestId]) => requestId);
  if (over.length === 0) return [];
  const disarms = over.map((requestId): StorageEffect => ({ kind: "disarm", timer: putTimer(requestId) }));
  return [...disarms, markOf("storage.put-lost", `${peer}: link lost`), ...onSilent(state, over, "not reachable")];
}

function onSilent(state: StorageState, requestIds: readonly number[], why: string): StorageEffect[] {
  const again: Lot[] = [];
  for (const requestId of requestIds) {
    const put = state.puts.get(requestId);
    state.puts.delete(requestId);
    if (put !== undefined) state.failing.add(put.to);
    for (const firstSeq of put?.lots ?? []) {
      const lot = state.lots.get(firstSeq);
      if (put === undefined || lot === undefined) continue;
      lot.silent.push(`${put.to} (${why})`);
      again.push(lot);
    }
  }
  return askOthers(state, again);
}

/** Too few storage nodes: whoever waits for this lot is refused. Its entries stay, in doubt until they are settled. */
function giveUp(state: StorageState, lot: Lot): StorageEffect[] {
  close(state, lot);
  doubt(state, lot);
  const { self, storagequorum } = state.config;
  const have = [self, ...lot.holders].join(", ");
  const missing = lot.silent.length === 0 ? "there are no others" : lot.silent.join(", ");
  const text = `storagequorum ${storagequorum}: on disk at ${have}; not kept by ${missing}`;
  const effects: StorageEffect[] = [];
  for (const id of lot.waiters)
    if (state.adds.delete(id)) effects.push(markOf("storage.quorum-missed", text), answer(id, refused("LOG_STORAGE_QUORUM", text, { retry: true })));
  return effects;
}

/** One range for all: what is in it without need costs a copy more when it is added again, and nothing else. */
function doubt(state: StorageState, { firstSeq, count }: Lot): void {
  const { from, to } = state.doubt;
  state.doubt = from < to ? { from: Math.min(from, firstSeq), to: Math.max(to, firstSeq + count) } : { from: firstSeq, to: firstSeq + count };
}

function close(state: StorageState, lot: Lot): void {
  state.lots.delete(lot.firstSeq);
  state.lotBytes -= lot.bundle.length;
}

/** Where receipt batches are found: lots at hand, in ascending order, then the stored rows, which are the same. */
type Batches = { readonly config: MergeConfig; readonly lots: readonly Lot[]; readonly snap: Snapshot };

/** Adds that share a batch share its tree. */
function answerAdds({ config }: StorageState, adds: readonly OpenAdd[], lots: readonly Lot[], snap: Snapshot): StorageEffect[] {
  const printers = new Map<number, ReceiptPrinter>();
  const batches = { config, lots: [...lots].sort((a, b) => a.firstSeq - b.firstSeq), snap };
  return adds.map((add) => {
    const lines = add.receipts === "batch" ? batchLines(batches, add) : receiptLines(batches, add, printers);
    return answer(add.id, { kind: "added", lines, hashes: add.hashes });
  });
}

/** A line for each run of entries that lie in one batch. */
function batchLines(batches: Batches, { seqs }: OpenAdd): Uint8Array {
  const lines: Uint8Array[] = [];
  for (let at = 0; at < seqs.length; ) {
    const { firstSeq, row } = batchAt(batches, seqs[at] as number);
    const indexes: number[] = [];
    for (; at < seqs.length; at++) {
      const index = (seqs[at] as number) - firstSeq;
      if (index < 0 || index >= receiptCount(row)) break;
      indexes.push(index);
    }
    lines.push(batchReceiptLine(batches.config, row, indexes));
  }
  return concatBytes(...lines);
}

function batchAt({ config, lots, snap }: Batches, seq: number): ReceiptBatch {
  const lot = lotAt(lots, seq);
  if (lot !== null) return { firstSeq: lot.firstSeq, row: lot.receipts };
  const found = receiptsAt(snap, config.log, seq);
  if (found === null) throw new EngineError("STORE_CORRUPT", `${config.self}: entry ${seq} is known, and no receipt batch holds it`);
  return found;
}

function receiptLines(batches: Batches, add: OpenAdd, printers: Map<number, ReceiptPrinter>): Uint8Array {
  const { seqs } = add;
  const runs: { readonly firstSeq: number; readonly printer: ReceiptPrinter; readonly from: number; readonly to: number }[] = [];
  let bytesMax = 0;
  for (let from = 0, to = 0; from < seqs.length; from = to) {
    const [firstSeq, printer] = printerAt(batches, seqs[from] as number, printers);
    const end = firstSeq + receiptCount(printer.row);
    for (to = from + 1; to < seqs.length && (seqs[to] as number) >= firstSeq && (seqs[to] as number) < end; ) to++;
    runs.push({ firstSeq, printer, from, to });
    bytesMax += (to - from) * lineBytesMax(printer);
  }
  const lines = new Uint8Array(bytesMax);
  let at = 0;
  for (const { firstSeq, printer, from, to } of runs)
    for (let i = from, before = -1; i < to; i++) {
      const index = (seqs[i] as number) - firstSeq;
      at = putReceiptLine(lines, at, printer, index, before);
      before = index;
    }
  return lines.subarray(0, at);
}

function printerAt(batches: Batches, seq: number, printers: Map<number, ReceiptPrinter>): readonly [firstSeq: number, printer: ReceiptPrinter] {
  for (const each of printers) if (seq >= each[0] && seq < each[0] + receiptCount(each[1].row)) return each;
  const { firstSeq, row } = batchAt(batches, seq);
  const printer = receiptPrinter(batches.config, row);
  printers.set(firstSeq, printer);
  return [firstSeq, printer];
}
