/**
 * Plain files in a node's folder: the three changes of base/effects.ts, each durable when it returns, and reading.
 * An append cuts the file to where it starts, so a tail torn by a crash goes; a replacement is seen whole or not at all.
 * Paths are relative to the folder; one that leaves it, or enters a store, is refused.
 */
import { closeSync, fstatSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { type FileHandle, mkdir, open, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { FileChange } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import { invariant, unreachable } from "../base/invariant.ts";
import { isNoSpace } from "../store/lmdb-file.ts";

/** What of the node's folder is not a plain file of a core. */
const RESERVED = new Set(["store", "log", "small", "accepts.0", "accepts.1", "identity"]);
const FILE_MODE = 0o644;

/** The system calls that may fail; a test stands in for them. */
export type FileCalls = {
  open(path: string, flags: string, mode: number): Promise<FileHandle>;
  write(file: FileHandle, bytes: Uint8Array, at: number): Promise<void>;
  truncate(file: FileHandle, length: number): Promise<void>;
  /** Data and what is needed to read it back. */
  datasync(file: FileHandle): Promise<void>;
  sync(file: FileHandle): Promise<void>;
  rename(from: string, to: string): Promise<void>;
};

export const fileCalls: FileCalls = {
  open,
  async write(file, bytes, at) {
    for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  },
  truncate: (file, length) => file.truncate(length),
  datasync: (file) => file.datasync(),
  sync: (file) => file.sync(),
  rename,
};

/** The absolute path of a core's file. */
export function insidePath(dir: string, file: string): string {
  const parts = file.split("/");
  const plain = parts.every((part) => part !== "" && part !== "." && part !== ".." && !part.includes("\0"));
  invariant(plain && !RESERVED.has(parts[0] as string), `a file's path stays inside the node's folder and outside its stores, unlike ${JSON.stringify(file)}`);
  return join(dir, file);
}

/** Throws STORE_FULL where only space was missing (nothing of this change is left), the system's own error otherwise. */
export async function changeFile(dir: string, change: FileChange, calls: FileCalls): Promise<void> {
  try {
    switch (change.change) {
      case "append":
        return await append(dir, change.file, change.at, change.bytes, calls);
      case "replace":
        return await replace(dir, change.file, change.bytes, calls);
      case "rename":
        await calls.rename(insidePath(dir, change.file), insidePath(dir, change.to));
        return await syncFolders(dir, [change.file, change.to], calls);
      default:
        return unreachable(change);
    }
  } catch (error) {
    if (isNoSpace(error)) throw new EngineError("STORE_FULL", `${join(dir, change.file)}: no room for ${change.change}`, { cause: error });
    throw error;
  }
}

async function append(dir: string, name: string, at: number, bytes: Uint8Array, calls: FileCalls): Promise<void> {
  const path = insidePath(dir, name);
  const [file, isNew] = await openForAppend(dir, path, calls);
  try {
    const { size } = await file.stat();
    if (size < at) throw new EngineError("STORE_TRUNCATED", `${path}: ${size} bytes, an append starts at ${at}`);
    if (size > at) await calls.truncate(file, at);
    try {
      await calls.write(file, bytes, at);
    } catch (error) {
      if (isNoSpace(error)) await calls.truncate(file, at);
      throw error;
    }
    await calls.datasync(file);
  } finally {
    await file.close();
  }
  if (isNew) await syncFolders(dir, [name], calls);
}

async function openForAppend(dir: string, path: string, calls: FileCalls): Promise<[file: FileHandle, isNew: boolean]> {
  try {
    return [await calls.open(path, "r+", FILE_MODE), false];
  } catch (error) {
    if (!isMissing(error)) throw error;
    await makeFolder(dir, path, calls);
    return [await calls.open(path, "wx+", FILE_MODE), true];
  }
}

async function replace(dir: string, name: string, bytes: Uint8Array, calls: FileCalls): Promise<void> {
  const path = insidePath(dir, name);
  const temp = join(dirname(path), `.${basename(path)}.tmp`);
  await makeFolder(dir, path, calls);
  const file = await calls.open(temp, "w", FILE_MODE);
  try {
    await calls.write(file, bytes, 0);
    await calls.sync(file);
  } catch (error) {
    if (isNoSpace(error)) await unlink(temp);
    throw error;
  } finally {
    await file.close();
  }
  await calls.rename(temp, path);
  await syncFolders(dir, [name], calls);
}

/** The folder of a file, durable up to the node's own. */
async function makeFolder(dir: string, path: string, calls: FileCalls): Promise<void> {
  const made = await mkdir(dirname(path), { recursive: true });
  if (made === undefined) return;
  for (let folder = dirname(path); folder.length >= dir.length; folder = dirname(folder)) await syncFolder(folder, calls);
}

async function syncFolders(dir: string, files: readonly string[], calls: FileCalls): Promise<void> {
  for (const folder of new Set(files.map((file) => dirname(join(dir, file))))) await syncFolder(folder, calls);
}

async function syncFolder(folder: string, calls: FileCalls): Promise<void> {
  const file = await calls.open(folder, "r", FILE_MODE);
  try {
    await calls.sync(file);
  } finally {
    await file.close();
  }
}

export function fileSize(dir: string, file: string): number | null {
  return statSync(insidePath(dir, file), { throwIfNoEntry: false })?.size ?? null;
}

/** Bytes `[from, to)`, cut at the file's end; null where there is no such file. */
export function fileRead(dir: string, file: string, from: number, to: number): Uint8Array | null {
  const path = insidePath(dir, file);
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
  try {
    const bytes = new Uint8Array(Math.max(0, Math.min(to, fstatSync(fd).size) - from));
    let done = 0;
    while (done < bytes.length) {
      const count = readSync(fd, bytes, done, bytes.length - done, from + done);
      if (count === 0) return bytes.slice(0, done); // cut by another process since its size was read
      done += count;
    }
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/** Names of the plain files in a folder, sorted; `""` is the node's own. */
export function fileList(dir: string, folder: string): readonly string[] {
  try {
    const entries = readdirSync(folder === "" ? dir : insidePath(dir, folder), { withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => entry.name)
      .sort();
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

const isMissing = (error: unknown): boolean => error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
