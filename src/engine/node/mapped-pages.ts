/**
 * Keeps a process's resident memory from growing with its store. LMDB maps the whole data file, and every page ever read
 * stays resident until the system is short of memory. Letting go of a page costs nothing but a soft fault when it is read
 * again: it stays in the system's cache, and the mapping is read-only, so no byte can be lost. Linux only; elsewhere nothing
 * is done. Only ever called on a mapping that is known to stand: while its environment is open and far from being regrown.
 */
import { dlopen, FFIType } from "bun:ffi";
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";

/** A mapping of a whole file. */
export type Mapping = { readonly path: string; readonly start: number; readonly bytes: number };

const MAPS = "/proc/self/maps";
const MADV_DONTNEED = 4;
const PAGE_BYTES = 4_096;
/** LMDB maps anew only when a file outgrows its mapping: beyond this share of it nothing is let go any more. */
const REGROWN_SHARE = 0.5;

/** The process's mappings of this file. */
export function mappingsOf(file: string): Mapping[] {
  if (process.platform !== "linux" || !existsSync(file)) return [];
  const path = realpathSync(file);
  return readFileSync(MAPS, "utf8")
    .split("\n")
    .filter((line) => line.endsWith(` ${path}`))
    .flatMap((line) => {
      const [start, end] = (line.split(" ", 1)[0] ?? "").split("-").map((each) => Number.parseInt(each, 16));
      return start === undefined || end === undefined ? [] : [{ path, start, bytes: end - start }];
    });
}

/** Makes the pages of the mapping that were read so far no longer resident in this process. */
export function releasePages({ path, start, bytes }: Mapping): void {
  const fileBytes = statSync(path, { throwIfNoEntry: false })?.size ?? Number.POSITIVE_INFINITY;
  if (fileBytes > bytes * REGROWN_SHARE) return;
  const length = Math.ceil(fileBytes / PAGE_BYTES) * PAGE_BYTES;
  madvise ??= openMadvise();
  madvise(start, length, MADV_DONTNEED); // advice: where it is not taken, memory stays as it was
}

type Madvise = (start: number, length: number, advice: number) => number;
let madvise: Madvise | null = null;

function openMadvise(): Madvise {
  const shape = { madvise: { args: [FFIType.u64, FFIType.u64, FFIType.i32], returns: FFIType.i32 } } as const;
  for (const library of ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`]) {
    try {
      return dlopen(library, shape).symbols.madvise;
    } catch {
      // the other C library, or none: then nothing is let go
    }
  }
  return () => -1;
}
