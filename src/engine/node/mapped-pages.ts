/**
 * Keeps a process's resident memory from growing with its store. LMDB maps the whole data file, and every page ever read
 * stays resident until the system is short of memory. Letting go of a page costs nothing but a soft fault when it is read
 * again: it stays in the system's cache, and the mapping is read-only, so no byte can be lost. Linux only; elsewhere nothing
 * is done. Only ever called on a mapping that is known to stand: while its environment is open and far from being regrown.
 */
import { dlopen, FFIType } from "bun:ffi";
import { existsSync, openSync, readFileSync, readSync, realpathSync, statSync } from "node:fs";

/** A mapping of a whole file. */
export type Mapping = { readonly path: string; readonly start: number; readonly bytes: number };

const MAPS = "/proc/self/maps";
const MADV_DONTNEED = 4;
const PAGE_BYTES = 4_096;
/** LMDB maps anew only when a file outgrows its mapping: beyond this share of it nothing is let go any more. */
const REGROWN_SHARE = 0.5;

/** How much of its mappings a process keeps: what is read again and again stays, a walk through the store does not pile up. */
const KEPT_BYTES = 8 * 1_024 * 1_024;
/** It is looked after so long … */
const LOOK_MS = 10;
/** … and within one long step after so many reads: a read needs a few pages, and the system maps sixteen around each. */
const READS_MAX = 32;

/** The mappings of one disk, and how much was read of them since somebody looked. */
export class MappedPages {
  private readonly mappings: Mapping[] = [];
  /** Of all files, the program's own among them, when the mappings were last let go. */
  private lowBytes = 0;
  private readCount = 0;
  private writingCount = 0;
  private timer: NodeJS.Timeout | null = null;

  /** Runs `open`, and keeps watch over the mappings of the file that it makes. */
  opening<T>(file: string, open: () => T): T {
    const others = mappingsOf(file).map(({ start }) => start);
    const opened = open();
    this.mappings.push(...mappingsOf(file).filter(({ start }) => !others.includes(start)));
    return opened;
  }

  /** So many more values are about to be read. */
  reading(count: number): void {
    this.readCount += count;
    if (this.readCount >= READS_MAX) this.look();
    else this.lookSoon();
  }

  /** A commit reads pages too, on a thread of its own: what it changes, and what it frees. */
  async whileWriting<T>(write: () => Promise<T>): Promise<T> {
    this.writingCount++;
    this.lookSoon();
    try {
      return await write();
    } finally {
      this.writingCount--;
    }
  }

  /** Before the environments are closed: their addresses may then be anybody's. */
  close(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    this.mappings.length = 0;
  }

  private lookSoon(): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.look();
      if (this.writingCount > 0) this.lookSoon();
    }, LOOK_MS).unref();
  }

  private look(): void {
    this.readCount = 0;
    if (residentFileBytes() < this.lowBytes + KEPT_BYTES) return;
    for (const mapping of this.mappings) releasePages(mapping);
    this.lowBytes = residentFileBytes();
  }
}

/** Of this process, from the third number of statm (proc(5)), in pages; 0 where there is no such file. */
function residentFileBytes(): number {
  if (process.platform !== "linux") return 0;
  statm ??= { file: openSync("/proc/self/statm", "r"), text: Buffer.alloc(128) };
  const length = readSync(statm.file, statm.text, 0, statm.text.length, 0);
  return Number(statm.text.toString("latin1", 0, length).split(" ")[2]) * PAGE_BYTES;
}
let statm: { readonly file: number; readonly text: Buffer } | null = null;

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
