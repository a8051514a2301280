/**
 * The client of `bench merge`: submits entries over HTTP as anybody would, on several connections, spread over all storage
 * nodes; and single entries at a low rate, to see how long one takes. Every entry is different; a node that is busy is
 * asked again. Entries that are not yet published are bounded, so that a slow merge slows the client down.
 * Hot path: one buffer a connection, refilled in place.
 */
import { viewOf, writeU64be } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { LENGTH_BYTES } from "../engine/log/entry.ts";
import type { BenchNode } from "./bench-cluster.ts";

/** Where the number of an entry stands in it. */
const NUMBER_BYTES = 8;
/** Bytes and entries of one `add-many`. */
const ADD_BYTES_MAX = 1_024 * 1_024;
const ADD_COUNT_MAX = 2_048;
const CONNECTIONS_PER_NODE = 2;
/** Submitted and not yet published by everybody: some seconds of work. */
export const WINDOW_COUNT = 131_072;
const BUSY_MS = 50;
/** A storage node that stays busy for longer is not going to be measured. */
const REQUEST_MS = 60_000;
const SINGLE_EVERY_MS = 100;

export const ENTRY_BYTES_MIN = NUMBER_BYTES;

export type Load = {
  readonly nodes: readonly BenchNode[];
  /** Entries `[from, to)` of the bench: each number is an entry of its own. */
  readonly from: number;
  readonly to: number;
  readonly entryBytes: number;
  readonly signal: AbortSignal;
  /** Number of the first entry that is not yet published by all frontends, as far as is known. */
  published(): number;
};

/** Resolves when every entry has its receipt. */
export async function submitAll(load: Load): Promise<void> {
  let next = load.from;
  const perAdd = Math.max(1, Math.min(ADD_COUNT_MAX, Math.floor(ADD_BYTES_MAX / (LENGTH_BYTES + load.entryBytes))));
  const connection = async (node: BenchNode): Promise<void> => {
    const bundle = emptyBundle(perAdd, load.entryBytes);
    while (next < load.to) {
      load.signal.throwIfAborted();
      if (next - load.published() >= WINDOW_COUNT) {
        await Bun.sleep(BUSY_MS);
        continue;
      }
      const from = next;
      next = Math.min(load.to, from + perAdd);
      await post(`${node.log}/add-many?receipts=batch`, numbered(bundle, load.entryBytes, from, next), next - from, load.signal);
    }
  };
  await Promise.all(load.nodes.flatMap((node) => Array.from({ length: CONNECTIONS_PER_NODE }, () => connection(node))));
}

/** Milliseconds from submit to receipt, and from submit to a proof in a signed head, of single entries, ten of each a second. */
export async function timeSingles(load: Omit<Load, "to" | "published">, count: number): Promise<{ readonly addMs: number[]; readonly signedMs: number[] }> {
  const pairs: Promise<[addMs: number, signedMs: number]>[] = [];
  for (let i = 0; i < count; i++) {
    load.signal.throwIfAborted();
    const { log } = load.nodes[i % load.nodes.length] as BenchNode;
    const number = load.from + 2 * i;
    const [first, second] = [single(number, load.entryBytes), single(number + 1, load.entryBytes)];
    pairs.push(Promise.all([timed(`${log}/add`, first, load.signal), timed(`${log}/add?wait=signed&timeoutMs=30000`, second, load.signal)]));
    await Bun.sleep(SINGLE_EVERY_MS);
  }
  const times = await Promise.all(pairs);
  return { addMs: times.map(([addMs]) => addMs), signedMs: times.map(([, signedMs]) => signedMs) };
}

async function timed(url: string, entry: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<number> {
  const startedMs = performance.now();
  await post(url, entry, 1, signal);
  return performance.now() - startedMs;
}

async function post(url: string, body: Uint8Array<ArrayBuffer>, count: number, stop: AbortSignal): Promise<void> {
  const signal = AbortSignal.any([stop, AbortSignal.timeout(REQUEST_MS)]);
  for (;;) {
    const answer = await fetch(url, { method: "POST", body, signal });
    const got = new Uint8Array(await answer.arrayBuffer());
    if (answer.status === 503) {
      await Bun.sleep(BUSY_MS);
      continue;
    }
    if (!answer.ok) throw new EngineError("UNAVAILABLE", `${url} answered ${answer.status}: ${new TextDecoder().decode(got.subarray(0, 500))}`);
    const receipts = url.endsWith("receipts=batch") ? batchReceiptCount(got) : lineCount(got);
    if (receipts !== count) throw new EngineError("UNAVAILABLE", `${url} answered ${receipts} receipts for ${count} entries`);
    return;
  }
}

/** Entries that the lines of `receipts=batch` speak of. */
function batchReceiptCount(bytes: Uint8Array): number {
  let count = 0;
  for (const line of new TextDecoder().decode(bytes).trimEnd().split("\n")) {
    const { indexes } = JSON.parse(line) as { readonly indexes?: readonly number[] };
    count += indexes?.length ?? 0;
  }
  return count;
}

function lineCount(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) count++;
  return count;
}

function single(number: number, entryBytes: number): Uint8Array<ArrayBuffer> {
  return numbered(emptyBundle(1, entryBytes), entryBytes, number, number + 1).slice(LENGTH_BYTES);
}

function emptyBundle(count: number, entryBytes: number): Uint8Array<ArrayBuffer> {
  const bundle = new Uint8Array(count * (LENGTH_BYTES + entryBytes)).fill(0x2e);
  const view = viewOf(bundle);
  for (let at = 0; at < bundle.length; at += LENGTH_BYTES + entryBytes) view.setUint16(at, entryBytes);
  return bundle;
}

/** Entries `[from, to)` in a buffer made for as many or more. */
function numbered(bundle: Uint8Array<ArrayBuffer>, entryBytes: number, from: number, to: number): Uint8Array<ArrayBuffer> {
  let at = 0;
  for (let number = from; number < to; number++, at += LENGTH_BYTES + entryBytes) writeU64be(bundle, at + LENGTH_BYTES, number);
  return bundle.subarray(0, at);
}
