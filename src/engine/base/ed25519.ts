/**
 * Ed25519 (RFC 8032) on the built-in crypto library, for what is signed and verified often: notes, receipts, cosignatures.
 * Raw keys of 32 bytes are wrapped in the fixed DER prefixes of RFC 8410; the wrapped keys are kept in small maps,
 * since making one costs as much as a signature. Deterministic: the same seed and message give the same bytes.
 * Never throws on what a stranger sent: a key or signature of the wrong form does not verify.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { concatBytes, toHex } from "./bytes.ts";
import { invariant } from "./invariant.ts";

export const ED25519_SEED_BYTES = 32;
export const ED25519_PUBLIC_KEY_BYTES = 32;
export const ED25519_SIGNATURE_BYTES = 64;

/** PrivateKeyInfo and SubjectPublicKeyInfo of RFC 8410 up to the 32 bytes of the key. */
const PRIVATE_DER = Uint8Array.fromHex("302e020100300506032b657004220420");
const PUBLIC_DER = Uint8Array.fromHex("302a300506032b6570032100");

/** Keys kept: a cluster has a log key, and a cosigner and a receipt key a node. One more pushes out the oldest. */
const KEYS_KEPT_MAX = 64;
const privateKeys = new Map<string, KeyObject>();
const publicKeys = new Map<string, KeyObject>();

export function publicKeyOf(seed: Uint8Array): Uint8Array {
  const der = createPublicKey(privateKeyOf(seed)).export({ format: "der", type: "spki" });
  return new Uint8Array(der.subarray(PUBLIC_DER.length));
}

export function signEd25519(seed: Uint8Array, message: Uint8Array): Uint8Array {
  return new Uint8Array(sign(null, message, privateKeyOf(seed)));
}

/** Whether this is the key's signature of the message; false also for keys and signatures that are none. */
export function verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify(null, message, publicKeyObject(publicKey), signature);
  } catch {
    return false; // no 32 bytes, or no point of the curve
  }
}

function privateKeyOf(seed: Uint8Array): KeyObject {
  invariant(seed.length === ED25519_SEED_BYTES, `a seed has ${ED25519_SEED_BYTES} bytes, this one ${seed.length}`);
  return kept(privateKeys, seed, () => createPrivateKey({ key: concatBytes(PRIVATE_DER, seed), format: "der", type: "pkcs8" }));
}

function publicKeyObject(publicKey: Uint8Array): KeyObject {
  return kept(publicKeys, publicKey, () => createPublicKey({ key: concatBytes(PUBLIC_DER, publicKey), format: "der", type: "spki" }));
}

function kept(keys: Map<string, KeyObject>, raw: Uint8Array, make: () => KeyObject): KeyObject {
  const name = toHex(raw);
  const known = keys.get(name);
  if (known !== undefined) return known;
  const made = make();
  if (keys.size >= KEYS_KEPT_MAX) for (const oldest of keys.keys()) if (keys.delete(oldest)) break;
  keys.set(name, made);
  return made;
}
