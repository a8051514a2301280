/** A merge cluster's config and entries for tests of one core at a time. */
import { utf8 } from "../../src/engine/base/bytes.ts";
import { publicKeyOf } from "../../src/engine/base/ed25519.ts";
import { type NodeId, nodeId } from "../../src/engine/base/ids.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { leafHashes } from "../../src/engine/log/merkle.ts";
import type { MergeConfig } from "../../src/engine/merge/config.ts";

export const names = (text: string): NodeId[] => text.split(",").map(nodeId);
export const A = nodeId("a");
export const B = nodeId("b");
export const C = nodeId("c");
export const P = nodeId("p");

const seedOf = (name: string): Uint8Array => new Uint8Array(32).fill(name.charCodeAt(0));

export function configOf(self: NodeId, change: Partial<MergeConfig> = {}): MergeConfig {
  const storages = change.storages ?? names("a,b,c");
  return {
    log: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
    origin: "example.org/log",
    logName: "main",
    folder: "merge",
    self,
    epoch: 1,
    boot: `${self}.1`,
    primary: P,
    secondaries: [],
    storages,
    frontends: [],
    backupquorum: 0,
    storagequorum: 2,
    promiseMs: 60_000,
    intervalMs: 50,
    cosign: "prefer",
    cosignWaitMs: 200,
    storageKeepMs: 3_600_000,
    logPublicKey: publicKeyOf(seedOf("l")),
    cosignerKeys: {},
    receiptKeys: Object.fromEntries(storages.map((name) => [name, publicKeyOf(seedOf(name))])),
    logSeed: null,
    cosignerSeed: seedOf(self),
    receiptSeed: seedOf(self),
    ...change,
  };
}

/** Entries with these numbers: equal numbers are equal entries. */
export const entries = (...numbers: readonly number[]): Uint8Array[] => numbers.map((number) => utf8(`entry ${number}${"x".repeat(number % 40)}`));
export const bundle = (...numbers: readonly number[]): Uint8Array => bundleOf(entries(...numbers));
export const hashesOf = (...numbers: readonly number[]): Uint8Array => leafHashes(bundle(...numbers));
export const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
/** Each 32-byte hash as hex. */
export const hexes = (hashes: Uint8Array): string[] => range(0, hashes.length / 32).map((i) => hashes.subarray(i * 32, i * 32 + 32).toHex());
