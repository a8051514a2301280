/**
 * Keys of the store for people, and back: `be6cfa06f0ebe200/tile/1/0` for a row of a log, `node/birth` for text, `0x…` where
 * nothing readable stands for the bytes. Names come from the one table of prefixes, store/keys.ts. What `describeKey`
 * writes, `parseKey` reads back to the same bytes, whatever they are.
 */
import { concatBytes, fromHex, readU64be, toHex, u64be, utf8 } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { keyOwner } from "../engine/store/keys.ts";
import { parseCount } from "./units.ts";

const LOG_ID_BYTES = 8;
const NUMBER_BYTES = 8;
const PRINTABLE = /^[\x21-\x7e]*$/;
const HEX = /^0x((?:[0-9a-f]{2})*)$/;
const TILE = "tile";
/** Kinds of rows whose keys end with a node's name, and those that end with parts of hashes. */
const NAMED: readonly string[] = ["queue-cursor"];
const HASHED: readonly string[] = ["hash-index", "storage-hash-index"];

export function describeKey(db: string, key: Uint8Array): string {
  return (db === "log" ? describeLogKey(key) : describeText(key)) ?? hexText(key);
}

/** Throws USAGE, saying which forms there are. */
export function parseKey(db: string, text: string): Uint8Array {
  const key = parseHex(text) ?? (db === "log" ? parseLogKey(text) : parseText(text));
  if (key === null || key.length === 0)
    throw new EngineError("USAGE", `key ${JSON.stringify(text)}: want it as \`store ls ${db}\` writes it, or 0x and an even number of hex digits`);
  return key;
}

const hexText = (bytes: Uint8Array): string => `0x${toHex(bytes)}`;

function parseHex(text: string): Uint8Array | null {
  const digits = HEX.exec(text)?.[1];
  return digits === undefined ? null : fromHex(digits);
}

// ------------------------------------------------------------------ text

/** Text up to the last slash before what is not printable, the rest as hex. */
function describeText(key: Uint8Array): string | null {
  const text = String.fromCharCode(...key);
  if (PRINTABLE.test(text)) return parseHexTail(text) === null ? text : null;
  const printable = /^[\x21-\x7e]*/.exec(text)?.[0] ?? "";
  const prefix = printable.slice(0, printable.lastIndexOf("/") + 1);
  return prefix === "" ? null : prefix + hexText(key.subarray(prefix.length));
}

function parseText(text: string): Uint8Array | null {
  if (!PRINTABLE.test(text)) return null;
  return parseHexTail(text) ?? utf8(text);
}

function parseHexTail(text: string): Uint8Array | null {
  const from = text.lastIndexOf("/") + 1;
  const tail = parseHex(text.slice(from));
  return tail === null ? null : concatBytes(utf8(text.slice(0, from)), tail);
}

// ------------------------------------------------------------------ rows of a log

const nameOf = (tag: number): string | null => {
  const { owner, what } = keyOwner("log", concatBytes(new Uint8Array(LOG_ID_BYTES), Uint8Array.of(tag)));
  return owner === "unknown" ? null : what.replaceAll(" ", "-");
};

function tagOf(name: string): number | null {
  for (let tag = 0x61; tag <= 0x7a; tag++) if (nameOf(tag) === name) return tag;
  return null;
}

function describeLogKey(key: Uint8Array): string | null {
  const name = key.length > LOG_ID_BYTES ? nameOf(key[LOG_ID_BYTES] ?? 0) : null;
  if (name === null) return null;
  const rest = describeRest(name, key.subarray(LOG_ID_BYTES + 1));
  return `${toHex(key.subarray(0, LOG_ID_BYTES))}/${name}${rest === "" ? "" : `/${rest}`}`;
}

function describeRest(name: string, rest: Uint8Array): string {
  const text = String.fromCharCode(...rest);
  if (rest.length === 0) return "";
  if (NAMED.includes(name)) return PRINTABLE.test(text) && parseHex(text) === null ? text : hexText(rest);
  const numbers = HASHED.includes(name) ? null : numbersOf(name, rest);
  return numbers === null ? hexText(rest) : numbers.join("/");
}

/** A number; a tile's level and number; a bundle's number and the part of it that the row is. */
function numbersOf(name: string, rest: Uint8Array): number[] | null {
  if (name === TILE) return rest.length === 1 + NUMBER_BYTES ? whole([rest[0], readU64be(rest, 1)]) : null;
  if (rest.length === NUMBER_BYTES) return whole([readU64be(rest)]);
  return rest.length === NUMBER_BYTES + 1 ? whole([readU64be(rest), rest[NUMBER_BYTES]]) : null;
}

function whole(numbers: readonly (number | null | undefined)[]): number[] | null {
  const known = numbers.filter((each) => typeof each === "number");
  return known.length === numbers.length ? known : null;
}

function parseLogKey(text: string): Uint8Array | null {
  const [, idText, name = "", restText = ""] = /^([0-9a-f]{16})\/([a-z-]+)(?:\/(.+))?$/s.exec(text) ?? [];
  const id = idText === undefined ? null : fromHex(idText);
  const tag = tagOf(name);
  const rest = parseRest(name, restText);
  return id === null || tag === null || rest === null ? null : concatBytes(id, Uint8Array.of(tag), rest);
}

function parseRest(name: string, text: string): Uint8Array | null {
  if (text === "") return new Uint8Array(0);
  const hex = parseHex(text);
  if (hex !== null) return hex;
  if (NAMED.includes(name)) return PRINTABLE.test(text) ? utf8(text) : null;
  const [first, second, ...more] = text.split("/").map(parseCount);
  if (first === undefined || first === null || second === null || more.length > 0) return null;
  if (second === undefined) return name === TILE ? null : u64be(first);
  const [byte, number] = name === TILE ? [first, second] : [second, first];
  if (byte > 255) return null;
  return name === TILE ? concatBytes(Uint8Array.of(byte), u64be(number)) : concatBytes(u64be(number), Uint8Array.of(byte));
}

// ------------------------------------------------------------------ prefixes

/** All keys that begin with these bytes, as `[from, to)`; no end where every byte is 0xff. */
export function prefixRange(prefix: Uint8Array): { readonly from?: Uint8Array; readonly to?: Uint8Array } {
  if (prefix.length === 0) return {};
  const last = prefix.findLastIndex((byte) => byte !== 0xff);
  if (last < 0) return { from: prefix };
  const to = prefix.slice(0, last + 1);
  to[last] = (to[last] ?? 0) + 1;
  return { from: prefix, to };
}
