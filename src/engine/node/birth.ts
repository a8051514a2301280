/**
 * The birth of a data folder (sync.md 3.7): 8 random bytes in its store, made with it. The cluster map names the birth that
 * each member votes with, so a disk that was lost and replaced has no vote until the map says so.
 */
import { EngineError } from "../base/errors.ts";
import { localKeys } from "../store/keys.ts";
import type { Disk } from "./disk.ts";

export const BIRTH_BYTES = 8;

/** The store's birth; a store without one is given one. */
export async function keptBirth(disk: Disk): Promise<Uint8Array> {
  const known = storedBirth(disk);
  if (known !== null) return known;
  const birth = crypto.getRandomValues(new Uint8Array(BIRTH_BYTES));
  await disk.write({ db: "local", batch: [{ op: "put", key: localKeys.birth(), value: birth }] });
  return birth;
}

/** Throws STORE_CORRUPT where there is none: every store was made with one. */
export function birthOf(disk: Disk, dir: string): Uint8Array {
  const birth = storedBirth(disk);
  if (birth === null) throw new EngineError("STORE_CORRUPT", `${dir}: its store has no node/birth`);
  return birth;
}

function storedBirth(disk: Disk): Uint8Array | null {
  using snap = disk.snapshot();
  return snap.get("local", localKeys.birth()) ?? null;
}
