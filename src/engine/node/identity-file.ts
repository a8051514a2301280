/**
 * The seed of an Ed25519 key on disk: two lines, the seed as 64 hex digits and the public key that it makes, so that
 * a damaged file is refused instead of being another node. Nobody but its owner may read it.
 * Never overwrites a file, and never repairs a mode: a key that others could read is to be replaced.
 */
import { closeSync, constants, fchmodSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { fromHex, fromUtf8, toHex, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { keyPairOf, publicKeyText, SEED_BYTES } from "../wire/identity.ts";

const OTHERS_MODE = 0o077;

const fileText = (seed: Uint8Array): string => `${toHex(seed)}\n${publicKeyText(keyPairOf(seed).publicKey)}\n`;
const FILE_BYTES = fileText(new Uint8Array(SEED_BYTES)).length;

/** Throws NOT_FOUND, IDENTITY_MODE where group or others have any right, IDENTITY_CORRUPT where it is not what `createSeedFile` wrote. */
export function readSeedFile(path: string): Uint8Array {
  const file = openFile(path);
  try {
    const stat = fstatSync(file);
    const mode = stat.mode & 0o777;
    if (!stat.isFile()) throw new EngineError("IDENTITY_CORRUPT", `${path} is no plain file`);
    if ((mode & OTHERS_MODE) !== 0) throw new EngineError("IDENTITY_MODE", `${path} has mode ${octal(mode)}, want 0600`);
    const raw = new Uint8Array(FILE_BYTES + 1);
    const length = readSync(file, raw, 0, raw.length, 0);
    return seedOf(path, raw.subarray(0, length));
  } finally {
    closeSync(file);
  }
}

/** A new random seed in a new file of mode 0600, durable when this returns. Throws NODE_EXISTS where there is a file. */
export function createSeedFile(path: string): Uint8Array {
  const seed = crypto.getRandomValues(new Uint8Array(SEED_BYTES));
  const file = createFile(path);
  try {
    fchmodSync(file, 0o600);
    const raw = utf8(fileText(seed));
    for (let at = 0; at < raw.length; ) at += writeSync(file, raw, at);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  const folder = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(folder); // the name is as durable as the bytes
  } finally {
    closeSync(folder);
  }
  return seed;
}

function seedOf(path: string, raw: Uint8Array): Uint8Array {
  const damaged = (cause?: unknown) =>
    new EngineError("IDENTITY_CORRUPT", `${path}: want a seed of 64 hex digits and, on a second line, the public key it makes`, { cause });
  let text: string;
  try {
    text = fromUtf8(raw);
  } catch (cause) {
    throw damaged(cause);
  }
  const seed = fromHex(text.slice(0, 2 * SEED_BYTES));
  if (seed === null || seed.length !== SEED_BYTES || text !== fileText(seed)) throw damaged();
  return seed;
}

function openFile(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    const code = codeOf(cause);
    if (code === "ENOENT") throw new EngineError("NOT_FOUND", `there is no identity file ${path}`, { cause });
    if (code === "ELOOP") throw new EngineError("IDENTITY_CORRUPT", `${path} is a symbolic link, want a plain file`, { cause });
    throw new EngineError("FAILED", `${path} cannot be opened: ${code}`, { cause });
  }
}

function createFile(path: string): number {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (cause) {
    const code = codeOf(cause);
    if (code === "EEXIST") throw new EngineError("NODE_EXISTS", `${path} is there already; an identity is never overwritten`, { cause });
    throw new EngineError("FAILED", `${path} cannot be created: ${code}`, { cause });
  }
}

const codeOf = (cause: unknown): string => (cause instanceof Error && "code" in cause ? String(cause.code) : String(cause));
const octal = (mode: number): string => `0${mode.toString(8).padStart(3, "0")}`;
