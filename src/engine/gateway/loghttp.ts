/**
 * The read side of a log over HTTP (C2SP tlog-tiles; merge.md section 4): checkpoint, tiles, bundles, proofs, and what the
 * log is. Pure: a target and a snapshot give the answer. Served is what this frontend published, never a byte beyond it;
 * every tile has one path, so a cache never holds one twice. Entries are hashed against the order before they leave.
 */
import { fromHex, fromUtf8 } from "../base/bytes.ts";
import type { Snapshot } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES } from "../base/ids.ts";
import { cosignerName } from "../log/cosignature.ts";
import { leafHashes } from "../log/merkle.ts";
import { vkeyOf } from "../log/note.ts";
import { encodeProof } from "../log/proof-file.ts";
import { LogReader } from "../log/reader.ts";
import { parseTilePath, type TileAddress, tileWidth } from "../log/tile.ts";
import type { Head, MergeConfig } from "../merge/config.ts";
import { findEntries } from "../merge/find.ts";
import { rows } from "../merge/records.ts";
import { errorAnswer, type HttpAnswer, type HttpRequest, jsonAnswer, methodRefused, NO_STORE, splitTarget, textAnswer } from "./http-types.ts";

const TEXT = "text/plain; charset=utf-8";
const IMMUTABLE = { "cache-control": "public, max-age=31536000, immutable" } as const;
/** Long enough for a burst of readers to share one answer, short against the time a new head takes. */
const FRESH = { "cache-control": "max-age=2" } as const;
const DECIMAL = /^(?:0|[1-9][0-9]{0,15})$/;

export const logVkey = (config: Pick<MergeConfig, "origin" | "logPublicKey">): string => vkeyOf(config.origin, 1, config.logPublicKey);

/** `path` is what follows the log's own address: `checkpoint`, `tile/0/000`, `` for the log itself. */
export function answerLogRead(request: Pick<HttpRequest, "method" | "target">, path: string, snap: Snapshot, config: MergeConfig): HttpAnswer {
  if (request.method !== "GET" && request.method !== "HEAD") return methodRefused(request.method, "GET, HEAD");
  const published = rows.published(snap, config.log);
  if (path === "") return jsonAnswer(200, logInfo(config, published));
  if (published === null) throw new EngineError("LOG_UNINITIALISED", `${config.self} has published no head of ${config.origin}`);
  if (path === "checkpoint") return { status: 200, headers: { "content-type": TEXT, ...FRESH }, body: published.note };
  if (path === "proof") return proofAnswer(splitTarget(request.target).query, snap, config, published);
  const tile = parseTilePath(path);
  return tile === null ? notThere(`${path} is no path of this log`) : tileAnswer(tile, path, snap, config, published);
}

function logInfo(config: MergeConfig, published: Head | null): object {
  return {
    origin: config.origin,
    vkey: logVkey(config),
    cosigners: config.secondaries.map((name) => vkeyOf(cosignerName(config.origin, name), 4, config.cosignerKeys[name] ?? new Uint8Array(HASH_BYTES))),
    publishedSize: published?.size ?? null,
    backupquorum: config.backupquorum,
  };
}

function tileAnswer({ level, n, width }: TileAddress, path: string, snap: Snapshot, config: MergeConfig, published: Head): HttpAnswer {
  const there = tileWidth(level, n, published.size);
  if (width > there) return notThere(`${path}: this tile has ${there} of ${width} at the published size, ${published.size}`);
  const reader = new LogReader(snap, config.log);
  const body = level === "entries" ? provenBundle(reader, n, width) : reader.tile(level, n, width);
  return { status: 200, headers: { "content-type": "application/octet-stream", ...IMMUTABLE }, body };
}

/** A bundle whose entries hash to the order: a flipped bit is an error, never an answer. */
function provenBundle(reader: LogReader, n: number, width: number): Uint8Array {
  const bundle = reader.entryBundle(n, width);
  const order = reader.orderHashes(n * 256, n * 256 + width);
  const hashes = leafHashes(bundle);
  for (let at = 0; at < order.length; at++)
    if (hashes[at] !== order[at])
      throw new EngineError("STORE_CORRUPT", `entry ${n * 256 + Math.floor(at / HASH_BYTES)} does not hash to its place in the order`);
  return bundle;
}

function proofAnswer(query: URLSearchParams, snap: Snapshot, config: MergeConfig, published: Head): HttpAnswer {
  const head = proofHead(query, snap, config, published);
  const index = proofIndex(query, snap, config);
  if (index >= head.size) throw new EngineError("LOG_RANGE", `index ${index} is not below size ${head.size}`);
  return textAnswer(200, TEXT, proofText(snap, config, index, head), NO_STORE);
}

/** A `.tlog-proof` of one entry in one published head. */
export function proofText(snap: Snapshot, config: Pick<MergeConfig, "log">, index: number, head: Head): string {
  const path = new LogReader(snap, config.log).inclusion(index, head.size);
  return encodeProof({ extra: null, index, path, checkpoint: fromUtf8(head.note) });
}

function proofHead(query: URLSearchParams, snap: Snapshot, config: MergeConfig, published: Head): Head {
  const text = query.get("size");
  if (text === null) return published;
  const size = decimal("size", text);
  const head = size === published.size ? published : size < published.size ? rows.head(snap, config.log, size) : null;
  if (head === null) throw new EngineError("LOG_RANGE", `no head of size ${size} was published here; the newest has ${published.size}`);
  return head;
}

function proofIndex(query: URLSearchParams, snap: Snapshot, config: MergeConfig): number {
  const [indexText, hashText] = [query.get("index"), query.get("hash")];
  if ((indexText === null) === (hashText === null)) throw new EngineError("USAGE", "a proof is asked for with either index=N or hash=HEX");
  if (indexText !== null) return decimal("index", indexText);
  const hash = hashText?.length === 2 * HASH_BYTES ? fromHex(hashText) : null;
  if (hash === null) throw new EngineError("USAGE", `hash=${JSON.stringify(hashText)}: want ${2 * HASH_BYTES} lower-case hex digits`);
  const index = findEntries(snap, config, hash).indexes[0] ?? null;
  if (index === null) throw new EngineError("NOT_FOUND", `no entry with hash ${hashText} is in the log`);
  return index;
}

function decimal(name: string, text: string): number {
  const value = DECIMAL.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new EngineError("USAGE", `${name}=${JSON.stringify(text)}: want a decimal number`);
  return value;
}

/** A cache must never remember that something is not there yet. */
const notThere = (detail: string): HttpAnswer => errorAnswer("NOT_FOUND", detail);
