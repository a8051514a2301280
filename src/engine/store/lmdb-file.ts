/**
 * LMDB's data file, looked at from outside (sync.md section 2.2): whether it is as long as its pages need before it is
 * mapped (a page beyond the end kills the process with SIGBUS), and whether a failed commit met a full disk.
 * Layout of data version 2, little-endian: page = 24-byte header (flags u16 at 18, lower u16 at 20), content; pages 0 and
 * 1 are meta pages. The file may end before the last page that the meta page names where nothing refers to what is
 * missing (a page taken and freed in one transaction is never written): only then are the trees walked. Never writes to it.
 */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, statfsSync, unlinkSync, writeSync } from "node:fs";
import { viewOf } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";

const PAGE_HEADER_BYTES = 24;
const PAGE_BYTES_MAX = 65_536;
const META_BYTES = 136;
const META_MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const BRANCH = 0x01;
const LEAF = 0x02;
const META = 0x08;
const NODE_BIG = 0x01;
const NODE_SUB_DATABASE = 0x02;
/** LMDB's own limit: a deeper path is a loop. */
const DEPTH_MAX = 32;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;

type Meta = { readonly pageBytes: number; readonly lastPage: number; readonly transaction: bigint; readonly roots: readonly bigint[] };

/** A writer of another process may commit during a check: a refusal counts only where none did, or after so many. */
const CHECKS_MAX = 16;

/** Throws STORE_TRUNCATED where the file ends before a page in use, STORE_CORRUPT where it is no LMDB file. */
export function checkDataFile(path: string): void {
  const fd = openSync(path, "r");
  try {
    let meta = newestMeta(fd, path);
    for (let left = CHECKS_MAX; ; left--) {
      try {
        checkPages(fd, path, meta);
        return;
      } catch (error) {
        const { transaction } = meta;
        meta = newestMeta(fd, path);
        if (meta.transaction === transaction || left <= 1) throw error;
      }
    }
  } finally {
    closeSync(fd);
  }
}

/** The size is read after the meta page: whoever names a page there has written it before. */
function checkPages(fd: number, path: string, { lastPage, pageBytes, roots }: Meta): void {
  const fileBytes = fstatSync(fd).size;
  const wantBytes = (lastPage + 1) * pageBytes;
  if (fileBytes < wantBytes) for (const root of roots) walk({ fd, path, fileBytes, wantBytes, pageBytes }, root, 0);
}

function newestMeta(fd: number, path: string): Meta {
  const first = readMeta(fd, path, 0);
  const second = readMeta(fd, path, first.pageBytes);
  return second.transaction > first.transaction ? second : first;
}

function readMeta(fd: number, path: string, at: number): Meta {
  const bytes = new Uint8Array(PAGE_HEADER_BYTES + META_BYTES);
  if (readSync(fd, bytes, 0, bytes.length, at) < bytes.length) throw new EngineError("STORE_TRUNCATED", `${path}: ends inside the meta page at ${at}`);
  const page = viewOf(bytes);
  const meta = new DataView(bytes.buffer, PAGE_HEADER_BYTES);
  const version = meta.getUint32(4, true) & 0xffff;
  if ((page.getUint16(18, true) & META) === 0 || meta.getUint32(0, true) !== META_MAGIC || version !== DATA_VERSION)
    throw new EngineError("STORE_CORRUPT", `${path}: no meta page of data version ${DATA_VERSION} at ${at}`);
  const pageBytes = meta.getUint32(24, true);
  if (pageBytes < 256 || pageBytes > PAGE_BYTES_MAX) throw new EngineError("STORE_CORRUPT", `${path}: page size ${pageBytes}`);
  return {
    pageBytes,
    lastPage: Number(meta.getBigUint64(120, true)),
    transaction: meta.getBigUint64(128, true),
    roots: [meta.getBigUint64(64, true), meta.getBigUint64(112, true)], // of the free list and of the table of databases
  };
}

type Walk = { readonly fd: number; readonly path: string; readonly fileBytes: number; readonly wantBytes: number; readonly pageBytes: number };

/** Visits each page of a tree and refuses one that the file does not hold. */
function walk(file: Walk, page: bigint, depth: number): void {
  if (page === NO_PAGE) return;
  const view = readPage(file, page, depth);
  const flags = view.getUint16(18, true);
  const nodeCount = Math.min(view.getUint16(20, true) >> 1, (file.pageBytes - PAGE_HEADER_BYTES) >> 1);
  for (let i = 0; i < nodeCount; i++) {
    const at = PAGE_HEADER_BYTES + view.getUint16(PAGE_HEADER_BYTES + 2 * i, true);
    if (at + 8 > file.pageBytes) throw corrupt(file, page);
    if ((flags & BRANCH) !== 0) walk(file, childPage(view, at), depth + 1);
    else if ((flags & LEAF) !== 0) visitLeafNode(file, page, view, at, depth);
  }
}

function visitLeafNode(file: Walk, page: bigint, view: DataView, at: number, depth: number): void {
  const flags = view.getUint16(at + 4, true);
  if ((flags & (NODE_BIG | NODE_SUB_DATABASE)) === 0) return;
  const data = at + 8 + view.getUint16(at + 6, true);
  if (data + ((flags & NODE_BIG) !== 0 ? 24 : 48) > file.pageBytes) throw corrupt(file, page);
  if ((flags & NODE_SUB_DATABASE) !== 0) walk(file, view.getBigUint64(data + 40, true), depth + 1);
  else requirePage(file, view.getBigUint64(data, true) + view.getBigUint64(data + 16, true) - 1n); // the last page of a large value
}

/** A branch node keeps its 48-bit page number where a leaf node has the data's length and flags. */
const childPage = (view: DataView, at: number): bigint => BigInt(view.getUint32(at, true)) | (BigInt(view.getUint16(at + 4, true)) << 32n);

function readPage(file: Walk, page: bigint, depth: number): DataView {
  if (depth > DEPTH_MAX) throw corrupt(file, page);
  requirePage(file, page);
  const bytes = new Uint8Array(file.pageBytes);
  readSync(file.fd, bytes, 0, bytes.length, Number(page) * file.pageBytes);
  return viewOf(bytes);
}

function requirePage(file: Walk, page: bigint): void {
  if ((page + 1n) * BigInt(file.pageBytes) > file.fileBytes)
    throw new EngineError("STORE_TRUNCATED", `${file.path}: ${file.fileBytes} bytes, page ${page} is in use and its header says ${file.wantBytes}`);
}

const corrupt = (file: Walk, page: bigint): EngineError => new EngineError("STORE_CORRUPT", `${file.path}: page ${page} is damaged`);

const NO_SPACE = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
const NO_SPACE_NUMBERS = new Set([28, 122, 27]);
const EIO_NUMBER = 5;
const PROBE_BYTES = 1_024 * 1_024;

/** Whether a system call failed for want of space: disk, quota or limit of file size. */
export const isNoSpace = (error: unknown): boolean => error instanceof Error && "code" in error && NO_SPACE.has(String(error.code));

/**
 * Whether a failed commit met a full disk. LMDB reports a short write as EIO, and a full disk begins with one: then a
 * second file is written at the data file's end, as long as the commit was. Where that fits, the EIO was the disk's own.
 */
export function commitMetFullDisk(dataPath: string, code: unknown, commitBytes: number): boolean {
  if (typeof code !== "number") return false;
  if (NO_SPACE_NUMBERS.has(code)) return true;
  if (code !== EIO_NUMBER) return false;
  const probePath = `${dataPath}.space`;
  try {
    const probe = openSync(probePath, "w");
    try {
      return !fits(probe, fileBytesOf(dataPath), commitBytes + PROBE_BYTES);
    } finally {
      closeSync(probe);
      unlinkSync(probePath);
    }
  } catch (error) {
    return isNoSpace(error);
  }
}

function fits(fd: number, start: number, length: number): boolean {
  const block = new Uint8Array(PROBE_BYTES);
  for (let at = 0; at < length; at += block.length) if (writeSync(fd, block, 0, block.length, start + at) < block.length) return false;
  return true;
}

/** Bytes that this user may still write to the file system of a folder. */
export function roomBytesOf(dir: string): number {
  const { bavail, bsize } = statfsSync(dir);
  return bavail * bsize;
}

export function fileBytesOf(path: string): number {
  const fd = openSync(path, "r");
  try {
    return fstatSync(fd).size;
  } finally {
    closeSync(fd);
  }
}

/** Makes the names in a folder durable. */
export function syncFolder(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
