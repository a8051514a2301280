/**
 * Exclusive locks between processes: the kernel's flock on a file that holds the owner's process id. The lock goes with
 * its process, however that dies; the file itself is never deleted, since a second locker may already have it open.
 * flock is reached through the C library; a waiting locker asks again at intervals, so that the event loop never blocks.
 */
import { dlopen, FFIType } from "bun:ffi";
import { mkdirSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { EngineError, type ErrorCode } from "../base/errors.ts";

export type Lock = {
  readonly path: string;
  /** Lets the next one in. Harmless when repeated. */
  release(): Promise<void>;
} & AsyncDisposable;

export type LockOptions = {
  /** Wait for the owner instead of refusing. */
  readonly wait?: boolean;
  /** The longest wait, after which it is refused as well. */
  readonly waitMs?: number;
  /** What a refusal says: a code, to which path and owner are added, or the whole error. */
  readonly busy: ErrorCode | (() => EngineError);
};

const LOCK_EXCLUSIVE_NOW = 2 | 4; // LOCK_EX | LOCK_NB
/** A step of a loop ends within this; a person who waits longer asks again. */
const WAIT_MS = 10 * 60_000;
/** Short enough that a waiter is not noticed, long enough to cost nothing. */
const RETRY_MS = 25;
/** A process id and its line end. */
const OWNER_BYTES_MAX = 32;

export async function lockFile(path: string, options: LockOptions): Promise<Lock> {
  mkdirSync(dirname(path), { recursive: true });
  const file = await open(path, "a+", 0o644);
  try {
    const untilMs = performance.now() + (options.wait === true ? (options.waitMs ?? WAIT_MS) : 0);
    while (!tryLock(file.fd)) {
      if (performance.now() >= untilMs) throw await busy(path, file, options.busy);
      await Bun.sleep(RETRY_MS);
    }
    await file.truncate(0);
    await file.write(`${process.pid}\n`);
  } catch (error) {
    await file.close();
    throw error;
  }
  return held(path, file);
}

function held(path: string, file: FileHandle): Lock {
  let released: Promise<void> | null = null;
  const release = (): Promise<void> => {
    released ??= file.close();
    return released;
  };
  return { path, release, [Symbol.asyncDispose]: release };
}

async function busy(path: string, file: FileHandle, say: LockOptions["busy"]): Promise<EngineError> {
  if (typeof say === "function") return say();
  const { bytesRead, buffer } = await file.read(new Uint8Array(OWNER_BYTES_MAX), 0, OWNER_BYTES_MAX, 0);
  const owner = new TextDecoder().decode(buffer.subarray(0, bytesRead)).trim();
  return new EngineError(say, `${path} is locked by process ${owner === "" ? "unknown" : owner}`);
}

type Flock = (fd: number, operation: number) => number;
let flock: Flock | null = null;

/** False where another process, or another open of the file in this one, holds it. */
function tryLock(fd: number): boolean {
  flock ??= openFlock();
  return flock(fd, LOCK_EXCLUSIVE_NOW) === 0;
}

function openFlock(): Flock {
  const libraries = process.platform === "darwin" ? ["libSystem.B.dylib"] : ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`];
  for (const library of libraries) {
    try {
      return dlopen(library, { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } }).symbols.flock;
    } catch (cause) {
      if (library === libraries.at(-1)) throw new EngineError("FAILED", `no C library with flock among ${libraries.join(", ")}`, { cause });
    }
  }
  throw new EngineError("FAILED", "no C library is known for this system");
}
