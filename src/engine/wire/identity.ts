/**
 * Who a node is: an Ed25519 key pair (RFC 8032) made from a seed of 32 bytes, its text form, the seeds derived from it
 * for other duties, and the X25519 keys that the handshake needs of it (RFC 7748: u = (1 + y) / (1 − y)).
 * Never reads a file: `node/identity-file.ts` does, and refuses one that others may read.
 */
import { createHmac } from "node:crypto";
import nacl from "tweetnacl";
import { fromBase64, toBase64, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";

export const SEED_BYTES = 32;
export const PUBLIC_KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;

/** `secretKey` is the seed followed by the public key, as tweetnacl keeps it. */
export type KeyPair = { readonly publicKey: Uint8Array; readonly secretKey: Uint8Array };

/** Duties with a key of their own, so that a signature made for one is worth nothing to another. */
export type KeyPurpose = "cosigner" | "receipt";

export function keyPairOf(seed: Uint8Array): KeyPair {
  invariant(seed.length === SEED_BYTES, `a seed has ${SEED_BYTES} bytes, this one ${seed.length}`);
  return nacl.sign.keyPair.fromSeed(seed);
}

/** The seed of a key for one duty: HMAC-SHA256 keyed by the identity's seed, which it does not give away. */
export function derivedSeed(identitySeed: Uint8Array, purpose: KeyPurpose): Uint8Array {
  invariant(identitySeed.length === SEED_BYTES, `a seed has ${SEED_BYTES} bytes, this one ${identitySeed.length}`);
  return new Uint8Array(
    createHmac("sha256", identitySeed)
      .update(utf8(`cairn ${purpose}`))
      .digest(),
  );
}

const PREFIX = "ed25519:";

/** `ed25519:` and base64: the form of public keys in config.toml and messages. */
export const publicKeyText = (publicKey: Uint8Array): string => PREFIX + toBase64(publicKey);

/** Throws BAD_CONFIG where the text is not exactly what `publicKeyText` makes of 32 bytes. */
export function parsePublicKey(text: string): Uint8Array {
  const publicKey = text.startsWith(PREFIX) ? fromBase64(text.slice(PREFIX.length)) : null;
  if (publicKey === null || publicKey.length !== PUBLIC_KEY_BYTES)
    throw new EngineError("BAD_CONFIG", `public key ${JSON.stringify(text)}: want ${PREFIX} and base64 of ${PUBLIC_KEY_BYTES} bytes`);
  return publicKey;
}

/** The X25519 secret of an identity: the scalar that Ed25519 signs with (RFC 8032 section 5.1.5); `scalarMult` clamps it. */
export const exchangeSecretOf = (seed: Uint8Array): Uint8Array => nacl.hash(seed).subarray(0, 32);

const P = 2n ** 255n - 19n;

/** The X25519 key of an Ed25519 public key, or null where its y is not a reduced field element. Public input: time may vary. */
export function exchangeKeyOf(publicKey: Uint8Array): Uint8Array | null {
  const bigEndian = publicKey.toReversed();
  bigEndian[0] = (bigEndian[0] ?? 0) & 0x7f; // the top bit is the sign of x, which u does not need
  const y = BigInt(`0x${bigEndian.toHex()}`);
  if (y >= P) return null;
  // y = 1 has no image; its inverse below comes out as 0, and u = 0 is a point that the handshake refuses
  const u = ((1n + y) * inverse(P + 1n - y)) % P;
  return Uint8Array.fromHex(u.toString(16).padStart(64, "0")).reverse();
}

/** x^(p − 2) mod p. */
function inverse(x: bigint): bigint {
  let result = 1n;
  let base = x % P;
  for (let e = P - 2n; e > 0n; e >>= 1n) {
    if (e & 1n) result = (result * base) % P;
    base = (base * base) % P;
  }
  return result;
}
