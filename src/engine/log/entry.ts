/**
 * Entry bundles (C2SP tlog-tiles, merge.md section 4): per entry a uint16 big-endian length and its bytes, nothing
 * before, between or after. The same bytes on the wire, on disk and over HTTP, so joining bundles is concatenation.
 * Never copies an entry: offsets are into the bundle, and what is returned is a view of it.
 */
import { concatBytes } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";

/** What two bytes of length can say. */
export const ENTRY_BYTES_MAX = 65_535;
/** Entries of a full bundle: as many as a tile has hashes. */
export const BUNDLE_COUNT = 256;
/** Bytes of the length before each entry. */
export const LENGTH_BYTES = 2;
/** Room made for offsets at once: an empty first entry says nothing of the others. */
const GUESS_COUNT_MAX = 16_384;

/** The bundle of these entries; throws LOG_ENTRY_TOO_LARGE. */
export function bundleOf(entries: readonly Uint8Array[]): Uint8Array {
  let total = 0;
  for (const entry of entries) {
    if (entry.length > ENTRY_BYTES_MAX) throw new EngineError("LOG_ENTRY_TOO_LARGE", `an entry of ${entry.length} bytes, at most ${ENTRY_BYTES_MAX}`);
    total += LENGTH_BYTES + entry.length;
  }
  const bundle = new Uint8Array(total);
  let at = 0;
  for (const entry of entries) {
    bundle[at] = entry.length >> 8;
    bundle[at + 1] = entry.length;
    bundle.set(entry, at + LENGTH_BYTES);
    at += LENGTH_BYTES + entry.length;
  }
  return bundle;
}

/** Where the record at `at` ends; throws LOG_ENCODING where it is cut short. */
function recordEnd(bundle: Uint8Array, at: number): number {
  const end = at + LENGTH_BYTES > bundle.length ? Number.POSITIVE_INFINITY : at + LENGTH_BYTES + (bundle[at] as number) * 256 + (bundle[at + 1] as number);
  if (end > bundle.length) throw new EngineError("LOG_ENCODING", `bundle of ${bundle.length} bytes: the entry at byte ${at} is cut short`);
  return end;
}

/** Number of entries; throws LOG_ENCODING where the bytes are no bundle. */
export function bundleCount(bundle: Uint8Array): number {
  let count = 0;
  for (let at = 0; at < bundle.length; at = recordEnd(bundle, at)) count++;
  return count;
}

/** Where each record (length and bytes) begins, and at last the bundle's length: count + 1 numbers. Throws LOG_ENCODING. */
export function bundleOffsets(bundle: Uint8Array): Uint32Array {
  // most bundles hold entries of one length: room for as many as there would be of the first one's
  const guess = bundle.length === 0 ? 0 : Math.ceil(bundle.length / recordEnd(bundle, 0));
  let offsets = new Uint32Array(1 + Math.min(guess, GUESS_COUNT_MAX));
  let count = 0;
  for (let at = 0; at < bundle.length; ) {
    at = recordEnd(bundle, at);
    if (++count === offsets.length) offsets = larger(offsets);
    offsets[count] = at;
  }
  return count + 1 === offsets.length ? offsets : offsets.slice(0, count + 1);
}

function larger(offsets: Uint32Array): Uint32Array<ArrayBuffer> {
  const next = new Uint32Array(offsets.length * 2);
  next.set(offsets);
  return next;
}

/** A view of entry i, without its length. */
export function entryAt(bundle: Uint8Array, offsets: Uint32Array, i: number): Uint8Array {
  return bundle.subarray((offsets[i] as number) + LENGTH_BYTES, offsets[i + 1]);
}

/** A view of entries `[from, to)` as a bundle of their own. */
export function sliceBundle(bundle: Uint8Array, offsets: Uint32Array, range: { readonly from: number; readonly to: number }): Uint8Array {
  return bundle.subarray(offsets[range.from], offsets[range.to]);
}

/** One bundle with the entries of all parts in order; one part is returned as it is. */
export function joinBundles(parts: readonly Uint8Array[]): Uint8Array {
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : concatBytes(...parts);
}
