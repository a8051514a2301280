/**
 * The small hand-over files of the merge (merge.md section 3): `currentsize`, `position.<secondary>`, `sth` and
 * `latch`, each one JSON object on one line that a shell script can read. LMDB stays the truth; each file can be rebuilt.
 * A reader never throws on what it finds and never guesses: a line is what our writer would have written, or it is torn.
 * The two appended files are in `queue-file.ts` and `order-file.ts`.
 */
import { fromHex, fromUtf8, toHex, utf8 } from "../base/bytes.ts";
import type { FileChange, Snapshot } from "../base/effects.ts";
import type { Hash } from "../base/ids.ts";
import type { MergeConfig } from "./config.ts";

/** The longest of these files is `sth` with its note: at most 64 KiB of note, escaped. Longer files are not ours. */
const FILE_BYTES_MAX = 256 * 1_024;

/** What was found in place of a value; `why` is one line for people. */
type Absent<Kind extends string> = { readonly kind: Kind; readonly why: string };
/** The value, or: no such file, not a whole line of ours, a line of another log. */
export type FileRead<T> = { readonly kind: "ok"; readonly value: T } | Absent<"missing"> | Absent<"torn"> | Absent<"foreign">;

/** Index and leaf hash of the last sequenced entry: each reader checks it against the order. */
export type LastEntry = { readonly index: number; readonly hash: Hash };
export type CurrentSize = { readonly epoch: number; readonly size: number; readonly last: LastEntry | null; readonly root: Hash; readonly timeMs: number };
export type Position = { readonly epoch: number; readonly secondary: string; readonly size: number; readonly root: Hash; readonly timeMs: number };
export type Sth = {
  readonly epoch: number;
  readonly size: number;
  readonly root: Hash;
  /** Secondaries that had verified this size. */
  readonly counted: readonly string[];
  readonly timeMs: number;
  /** The signed checkpoint. */
  readonly note: string;
};
export type Latch = { readonly code: string; readonly detail: string; readonly timeMs: number };

/** Path of a hand-over file, relative to the node's folder. */
export const filePath = (config: Pick<MergeConfig, "folder">, name: string): string => `${config.folder}/${name}`;

export function currentSizeFile(config: MergeConfig, { epoch, size, last, root, timeMs }: CurrentSize): FileChange {
  const lastLine = last === null ? null : { index: last.index, hash: toHex(last.hash) };
  return replace(config, "currentsize", { format: 1, log: config.origin, epoch, size, last: lastLine, root: toHex(root), timeMs });
}

export function positionFile(config: MergeConfig, { epoch, secondary, size, root, timeMs }: Position): FileChange {
  return replace(config, `position.${secondary}`, { format: 1, log: config.origin, epoch, secondary, size, root: toHex(root), timeMs });
}

export function sthFile(config: MergeConfig, { epoch, size, root, counted, timeMs, note }: Sth): FileChange {
  return replace(config, "sth", { format: 1, log: config.origin, epoch, size, root: toHex(root), counted, timeMs, note });
}

export function latchFile(config: MergeConfig, { code, detail, timeMs }: Latch): FileChange {
  return replace(config, "latch", { format: 1, code, detail, timeMs });
}

export function readCurrentSize(snap: Snapshot, config: MergeConfig): FileRead<CurrentSize> {
  return read(snap, config, "currentsize", (fields) => {
    const { epoch, size, last, root, timeMs } = fields;
    const lastEntry = last === null ? null : parseLast(last);
    const rootHash = hashOf(root);
    const whole = isCount(epoch) && isCount(size) && lastEntry !== undefined && rootHash !== null && isCount(timeMs);
    if (!whole || (lastEntry === null ? 0 : lastEntry.index + 1) !== size) return null;
    return { epoch, size, last: lastEntry, root: rootHash, timeMs };
  });
}

export function readPosition(snap: Snapshot, config: MergeConfig, secondary: string): FileRead<Position> {
  return read(snap, config, `position.${secondary}`, (fields) => {
    const { epoch, size, root, timeMs } = fields;
    const rootHash = hashOf(root);
    if (!isCount(epoch) || fields["secondary"] !== secondary || !isCount(size) || rootHash === null || !isCount(timeMs)) return null;
    return { epoch, secondary, size, root: rootHash, timeMs };
  });
}

export function readSth(snap: Snapshot, config: MergeConfig): FileRead<Sth> {
  return read(snap, config, "sth", (fields) => {
    const { epoch, size, root, counted, timeMs, note } = fields;
    const rootHash = hashOf(root);
    if (!isCount(epoch) || !isCount(size) || rootHash === null || !isCount(timeMs) || typeof note !== "string" || !isTextList(counted)) return null;
    return { epoch, size, root: rootHash, counted, timeMs, note };
  });
}

/** While there is a latch, readable or not, `queue` and `dist` do nothing: a torn one is told as such, not as absent. */
export function readLatch(snap: Snapshot, config: MergeConfig): FileRead<Latch> {
  return read(snap, config, "latch", ({ code, detail, timeMs }) => {
    if (typeof code !== "string" || typeof detail !== "string" || !isCount(timeMs)) return null;
    return { code, detail, timeMs };
  });
}

type Fields = { readonly [name: string]: unknown };

const replace = (config: MergeConfig, name: string, fields: Fields): FileChange => ({
  change: "replace",
  file: filePath(config, name),
  bytes: utf8(`${JSON.stringify(fields)}\n`),
});

/** The line must be byte for byte what `JSON.stringify` makes of it: so nothing hides in repeated keys, blanks or escapes. */
function read<T>(snap: Snapshot, config: MergeConfig, name: string, parse: (fields: Fields) => T | null): FileRead<T> {
  const raw = snap.fileRead(filePath(config, name), 0, FILE_BYTES_MAX);
  if (raw === null) return { kind: "missing", why: `${name} is missing` };
  const fields = parseLine(raw);
  if (fields === null || fields["format"] !== 1) return { kind: "torn", why: `${name} is not one whole line of format 1` };
  if (fields["log"] !== undefined && fields["log"] !== config.origin)
    return { kind: "foreign", why: `${name} is of log ${JSON.stringify(fields["log"])}, ours is ${JSON.stringify(config.origin)}` };
  const value = parse(fields);
  return value === null ? { kind: "torn", why: `${name} has a field that is missing or not of its form` } : { kind: "ok", value };
}

/** The one JSON object of a whole canonical line, or null. */
export function parseLine(raw: Uint8Array): Fields | null {
  try {
    const text = fromUtf8(raw);
    const value: unknown = JSON.parse(text);
    return isFields(value) && `${JSON.stringify(value)}\n` === text ? value : null;
  } catch {
    return null; // neither UTF-8 nor JSON: not a line of ours, which is what null says
  }
}

const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);
const isTextList = (value: unknown): value is string[] => Array.isArray(value) && value.every((each) => typeof each === "string");

export const isCount = (value: unknown): value is number => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

function hashOf(value: unknown): Hash | null {
  return typeof value === "string" && value.length === 64 ? fromHex(value) : null;
}

/** Undefined where it is no entry at all: null means an empty log. */
function parseLast(value: unknown): LastEntry | undefined {
  if (!isFields(value) || !isCount(value["index"])) return undefined;
  const hash = hashOf(value["hash"]);
  return hash === null ? undefined : { index: value["index"], hash };
}
