/**
 * Makes a node's identity and its empty store in a folder, and gives the lines that other nodes need of it for their
 * `[[member]]`. The rest of config.toml is the administrator's: who the members are is nobody else's decision. No other
 * part of the program makes a store, so that one which is lost later is missed instead of replaced by an empty one.
 */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { toHex } from "../base/bytes.ts";
import { derivedSeed, keyPairOf, publicKeyText } from "../wire/identity.ts";
import { keptBirth } from "./birth.ts";
import { IDENTITY_FILE } from "./config.ts";
import { openDisk } from "./disk.ts";
import { createSeedFile } from "./identity-file.ts";

/** Public keys and the disk's birth, under their names in config.toml. */
export type NodeKeys = { readonly key: string; readonly cosignerKey: string; readonly receiptKey: string; readonly birth: string };

/** Throws NODE_EXISTS. */
export async function initNode(dir: string): Promise<NodeKeys> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const path = join(dir, IDENTITY_FILE);
  if (existsSync(path)) createSeedFile(path); // which refuses
  const birth = await createStore(dir); // the identity comes last: a folder that has one is whole
  const seed = createSeedFile(path);
  const textOf = (each: Uint8Array): string => publicKeyText(keyPairOf(each).publicKey);
  return { key: textOf(seed), cosignerKey: textOf(derivedSeed(seed, "cosigner")), receiptKey: textOf(derivedSeed(seed, "receipt")), birth: toHex(birth) };
}

/** The folder's store, with its birth; the one that is there stays as it is. */
export async function createStore(dir: string): Promise<Uint8Array> {
  const disk = await openDisk(dir, { create: true });
  try {
    return await keptBirth(disk);
  } finally {
    await disk.close();
  }
}
