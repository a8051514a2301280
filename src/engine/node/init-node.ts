/**
 * Makes a node's identity in a folder and gives the lines that other nodes need of it for their `[[member]]`. The rest of
 * config.toml is the administrator's: who the members are is nobody else's decision.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { derivedSeed, keyPairOf, publicKeyText } from "../wire/identity.ts";
import { IDENTITY_FILE } from "./config.ts";
import { createSeedFile } from "./identity-file.ts";

/** Public keys, under their names in config.toml. */
export type NodeKeys = { readonly key: string; readonly cosignerKey: string; readonly receiptKey: string };

/** Throws NODE_EXISTS. */
export async function initNode(dir: string): Promise<NodeKeys> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const seed = createSeedFile(join(dir, IDENTITY_FILE));
  const textOf = (each: Uint8Array): string => publicKeyText(keyPairOf(each).publicKey);
  return { key: textOf(seed), cosignerKey: textOf(derivedSeed(seed, "cosigner")), receiptKey: textOf(derivedSeed(seed, "receipt")) };
}
