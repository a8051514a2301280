/**
 * Entries out of files and stdin for `cairn log add`: each file whole, each line, the DER of each certificate of a PEM
 * text, or the records of a bundle. Streams what has no bound, so a file may be larger than memory. What is no entry
 * (too long, cut short, not base64) is an error that names file and place: nothing is skipped.
 */
import { createReadStream } from "node:fs";
import { concatBytes } from "../engine/base/bytes.ts";
import { EngineError, errorCodeOf } from "../engine/base/errors.ts";
import { ENTRY_BYTES_MAX, LENGTH_BYTES } from "../engine/log/entry.ts";
import { certificatesOf } from "../engine/log/pem.ts";

export type EntryForm = "whole" | "lines" | "pem" | "bundle";

/** A CA bundle is some hundred kilobytes; it is read at once, so that nothing of a damaged one is added. */
const PEM_BYTES_MAX = 64 * 1_024 * 1_024;
const LF = 0x0a;

export async function* readEntries(files: readonly string[], form: EntryForm): AsyncGenerator<Uint8Array> {
  for (const file of files) yield* readers[form](file === "-" ? "stdin" : file, bytesOf(file));
}

/** `1 entry`, `2 entries`. */
export const countedEntries = (count: number): string => `${count} ${count === 1 ? "entry" : "entries"}`;

type Bytes = AsyncIterable<Uint8Array>;
const readers: Readonly<Record<EntryForm, (name: string, bytes: Bytes) => AsyncGenerator<Uint8Array>>> = {
  whole: readWhole,
  lines: readLines,
  pem: readPem,
  bundle: readBundle,
};

async function* readWhole(name: string, bytes: Bytes): AsyncGenerator<Uint8Array> {
  const entry = await upTo(bytes, ENTRY_BYTES_MAX, () => tooLarge(name, `more than ${ENTRY_BYTES_MAX} bytes`));
  // A closed stdin reads as an empty one: that is rather a mistake than an entry.
  if (entry.length === 0 && name === "stdin") throw new EngineError("USAGE", "stdin is closed or empty; an entry of no bytes is added from an empty file");
  yield entry;
}

async function* readLines(name: string, bytes: Bytes): AsyncGenerator<Uint8Array> {
  let number = 1;
  let rest: Uint8Array = new Uint8Array(0);
  for await (const part of bytes) {
    const text = rest.length === 0 ? part : concatBytes(rest, part);
    let from = 0;
    for (let end = text.indexOf(LF); end >= 0; end = text.indexOf(LF, from)) {
      yield checked(text.slice(from, end), () => `${name} line ${number}`);
      from = end + 1;
      number++;
    }
    rest = checked(text.slice(from), () => `${name} line ${number}`);
  }
  if (rest.length > 0) yield rest;
}

async function* readPem(name: string, bytes: Bytes): AsyncGenerator<Uint8Array> {
  const text = await upTo(bytes, PEM_BYTES_MAX, () => new EngineError("LOG_ENCODING", `${name}: more than ${PEM_BYTES_MAX} bytes of PEM`));
  const certificates: Uint8Array[] = [];
  try {
    for (const der of certificatesOf(new TextDecoder("latin1").decode(text)))
      certificates.push(checked(der, () => `${name} certificate ${certificates.length + 1}`));
  } catch (cause) {
    throw cause instanceof EngineError && cause.code === "LOG_ENCODING" ? new EngineError(cause.code, `${name} ${cause.message}`, { cause }) : cause;
  }
  if (certificates.length === 0) throw new EngineError("LOG_ENCODING", `${name}: no CERTIFICATE block in ${text.length} bytes`);
  yield* certificates;
}

async function* readBundle(name: string, bytes: Bytes): AsyncGenerator<Uint8Array> {
  let offset = 0; // of the record that `rest` begins with
  let rest: Uint8Array = new Uint8Array(0);
  for await (const part of bytes) {
    const text = rest.length === 0 ? part : concatBytes(rest, part);
    let from = 0;
    for (let end = recordEnd(text, from); end <= text.length; end = recordEnd(text, from)) {
      yield text.slice(from + LENGTH_BYTES, end);
      from = end;
    }
    rest = text.slice(from);
    offset += from;
  }
  if (rest.length > 0) throw new EngineError("LOG_ENCODING", `${name}: the entry at byte ${offset} is cut short, ${rest.length} bytes are left`);
}

/** Beyond the end where the record's length itself is not there yet. */
function recordEnd(bytes: Uint8Array, at: number): number {
  const [high, low] = [bytes[at], bytes[at + 1]];
  return high === undefined || low === undefined ? Number.POSITIVE_INFINITY : at + LENGTH_BYTES + high * 256 + low;
}

function checked(entry: Uint8Array, where: () => string): Uint8Array {
  if (entry.length > ENTRY_BYTES_MAX) throw tooLarge(where(), `${entry.length} bytes or more`);
  return entry;
}

const tooLarge = (where: string, size: string): EngineError => new EngineError("LOG_ENTRY_TOO_LARGE", `${where}: ${size}, at most ${ENTRY_BYTES_MAX}`);

// ------------------------------------------------------------------ bytes

/** One file whole: never more than its bound in memory. */
export const readFileUpTo = (file: string, bytesMax: number): Promise<Uint8Array> =>
  upTo(bytesOf(file), bytesMax, () => new EngineError("LOG_ENCODING", `${file}: more than ${bytesMax} bytes`));

/** The leaf that a file is: LOG_ENTRY_TOO_LARGE where it cannot be one. */
export const readEntryFile = (file: string): Promise<Uint8Array> =>
  upTo(bytesOf(file), ENTRY_BYTES_MAX, () => tooLarge(file, `more than ${ENTRY_BYTES_MAX} bytes`));

async function upTo(bytes: Bytes, bytesMax: number, refuse: () => EngineError): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let total = 0;
  for await (const part of bytes) {
    total += part.length;
    if (total > bytesMax) throw refuse();
    parts.push(part);
  }
  return concatBytes(...parts);
}

async function* bytesOf(file: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const part of file === "-" ? process.stdin : createReadStream(file)) yield part as Uint8Array; // no encoding is set: a stream of bytes
  } catch (cause) {
    if (cause instanceof EngineError) throw cause;
    throw fileError(file, cause);
  }
}

const FILE_CODES: Readonly<Record<string, string>> = {
  ENOENT: "NOT_FOUND",
  ENOTDIR: "NOT_FOUND",
  EACCES: "NOT_ALLOWED",
  EPERM: "NOT_ALLOWED",
  EISDIR: "USAGE",
  EEXIST: "USAGE",
};

/** A failed call on a file that the user named. */
export function fileError(file: string, cause: unknown): EngineError {
  const code = cause instanceof Error && "code" in cause ? (FILE_CODES[String(cause.code)] ?? "FAILED") : "FAILED";
  return new EngineError(errorCodeOf(code), `${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
}
