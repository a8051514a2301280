/**
 * The handshake of a link: Secret Handshake version 1, byte for byte, as a state machine without a socket. K is the
 * cluster id; A and B are the identities of client and server, a and b one-time X25519 keys; · is X25519.
 *   1  client → server   hmac(K, a) ‖ a                        knows the cluster; a stranger learns nothing
 *   2  server → client   hmac(K, b) ‖ b                        the same; only a holder of K is ever answered
 *   3  client → server   box(K, a·b, a·B: sign_A(K ‖ B ‖ h) ‖ A)   is A, and means B: only B can open it
 *   4  server → client   box(K, a·b, a·B, A·b: sign_B(K ‖ 3 ‖ h)) is B, and accepts A, who is on its allow list
 * h = SHA-256(a·b). Both then hold one key a direction, lost with a and b: later theft of A and B opens nothing old.
 * Differs from it after message 4 only: AES-256-GCM with counters (sealed.ts) in place of its box stream, and a shared
 * secret of zeros (a point of small order) is refused. Never keeps a socket, a clock, or randomness of its own.
 */
import { createHash, createHmac } from "node:crypto";
import nacl from "tweetnacl";
import { concatBytes } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { invariant, unreachable } from "../base/invariant.ts";
import { exchangeKeyOf, exchangeSecretOf, type KeyPair, keyPairOf, publicKeyText, SIGNATURE_BYTES } from "./identity.ts";

export const CLUSTER_ID_BYTES = 32;
export const EPHEMERAL_SEED_BYTES = 32;
const HELLO_BYTES = 64;
const PROOF_BYTES = 112;
const ACCEPT_BYTES = 80;
/** Boxes 3 and 4 are each the only one under their key, so a nonce of zeros repeats nothing. */
const NONCE = new Uint8Array(24);

/** What a node keeps for all its handshakes. */
export type HandshakeKeys = { readonly identity: KeyPair; readonly exchangeSecret: Uint8Array; readonly cluster: Uint8Array };

export function handshakeKeys(seed: Uint8Array, cluster: Uint8Array): HandshakeKeys {
  invariant(cluster.length === CLUSTER_ID_BYTES, `a cluster id has ${CLUSTER_ID_BYTES} bytes, this one ${cluster.length}`);
  return { identity: keyPairOf(seed), exchangeSecret: exchangeSecretOf(seed), cluster };
}

/** The fruit of a handshake: who the other side is, and one 32-byte key for each direction. */
export type Session = { readonly peerKey: Uint8Array; readonly sendKey: Uint8Array; readonly receiveKey: Uint8Array };

type Secrets = { readonly ab: Uint8Array; readonly aB: Uint8Array };
export type Handshake =
  | { readonly phase: "awaiting-server-hello"; readonly keys: HandshakeKeys; readonly ephemeral: Uint8Array; readonly peerKey: Uint8Array }
  | {
      readonly phase: "awaiting-accept";
      readonly keys: HandshakeKeys;
      readonly peerKey: Uint8Array;
      readonly secrets: Secrets;
      readonly serverHello: Uint8Array;
      /** Message 3 as the client signed and named itself, which message 4 signs. */
      readonly proof: Uint8Array;
    }
  | { readonly phase: "awaiting-client-hello"; readonly keys: HandshakeKeys; readonly ephemeral: Uint8Array }
  | { readonly phase: "awaiting-proof"; readonly keys: HandshakeKeys; readonly ephemeral: Uint8Array; readonly secrets: Secrets }
  | { readonly phase: "done"; readonly session: Session };

/** Bytes to send now (none: empty), and the state that takes the next message. */
export type HandshakeStep = { readonly send: Uint8Array; readonly next: Handshake };

/** `ephemeral`: 32 random bytes, used for this handshake only. */
export function startClient(keys: HandshakeKeys, peerKey: Uint8Array, ephemeral: Uint8Array): HandshakeStep {
  return { send: hello(keys.cluster, ephemeral), next: { phase: "awaiting-server-hello", keys, ephemeral, peerKey } };
}

export function startServer(keys: HandshakeKeys, ephemeral: Uint8Array): Handshake {
  invariant(ephemeral.length === EPHEMERAL_SEED_BYTES, "a one-time key has 32 bytes");
  return { phase: "awaiting-client-hello", keys, ephemeral };
}

/** Length of the one message that each phase takes: a socket never has to believe a length. */
export function wantedBytes(state: Handshake): number {
  switch (state.phase) {
    case "awaiting-server-hello":
    case "awaiting-client-hello":
      return HELLO_BYTES;
    case "awaiting-proof":
      return PROOF_BYTES;
    case "awaiting-accept":
      return ACCEPT_BYTES;
    case "done":
      return 0;
    default:
      return unreachable(state);
  }
}

/** Takes one message of `wantedBytes`. Throws HANDSHAKE_FAILED, or PEER_UNKNOWN for a proven key that `allows` refuses; nothing is to be sent then. */
export function takeHandshake(state: Handshake, message: Uint8Array, allows: (publicKey: Uint8Array) => boolean): HandshakeStep {
  invariant(message.length === wantedBytes(state), `phase ${state.phase} takes ${wantedBytes(state)} bytes`);
  switch (state.phase) {
    case "awaiting-client-hello":
      return takeClientHello(state, message);
    case "awaiting-server-hello":
      return takeServerHello(state, message);
    case "awaiting-proof":
      return takeProof(state, message, allows);
    case "awaiting-accept":
      return takeAccept(state, message);
    case "done":
      return unreachable(state as never);
    default:
      return unreachable(state);
  }
}

type In<Phase extends Handshake["phase"]> = Extract<Handshake, { phase: Phase }>;

function takeClientHello(state: In<"awaiting-client-hello">, message: Uint8Array): HandshakeStep {
  const { keys, ephemeral } = state;
  const a = checkedHello(keys.cluster, message);
  const secrets = { ab: exchange(ephemeral, a), aB: exchange(keys.exchangeSecret, a) };
  return { send: hello(keys.cluster, ephemeral), next: { phase: "awaiting-proof", keys, ephemeral, secrets } };
}

function takeServerHello(state: In<"awaiting-server-hello">, message: Uint8Array): HandshakeStep {
  const { keys, ephemeral, peerKey } = state;
  const b = checkedHello(keys.cluster, message);
  const secrets = { ab: exchange(ephemeral, b), aB: exchange(ephemeral, exchangeKey(peerKey)) };
  const signature = nacl.sign.detached(concatBytes(keys.cluster, peerKey, sha256(secrets.ab)), keys.identity.secretKey);
  const proof = concatBytes(signature, keys.identity.publicKey);
  const send = nacl.secretbox(proof, NONCE, sha256(keys.cluster, secrets.ab, secrets.aB));
  return { send, next: { phase: "awaiting-accept", keys, peerKey, secrets, serverHello: b, proof } };
}

function takeProof(state: In<"awaiting-proof">, message: Uint8Array, allows: (publicKey: Uint8Array) => boolean): HandshakeStep {
  const { keys, ephemeral, secrets } = state;
  const me = keys.identity.publicKey;
  const proof = nacl.secretbox.open(message, NONCE, sha256(keys.cluster, secrets.ab, secrets.aB));
  if (proof === null) throw failed(`the client's proof does not open: it expected another key than ${publicKeyText(me)}`);
  const peerKey = proof.subarray(SIGNATURE_BYTES);
  const signed = concatBytes(keys.cluster, me, sha256(secrets.ab));
  if (!nacl.sign.detached.verify(signed, proof.subarray(0, SIGNATURE_BYTES), peerKey))
    throw failed(`the client does not hold the key ${publicKeyText(peerKey)}`);
  if (!allows(peerKey)) throw new EngineError("PEER_UNKNOWN", `the client's key ${publicKeyText(peerKey)} is not in the allow list`);
  const master = sha256(keys.cluster, secrets.ab, secrets.aB, exchange(ephemeral, exchangeKey(peerKey)));
  const signature = nacl.sign.detached(concatBytes(keys.cluster, proof, sha256(secrets.ab)), keys.identity.secretKey);
  return { send: nacl.secretbox(signature, NONCE, master), next: { phase: "done", session: sessionOf(master, peerKey, me) } };
}

function takeAccept(state: In<"awaiting-accept">, message: Uint8Array): HandshakeStep {
  const { keys, secrets, peerKey, proof } = state;
  const master = sha256(keys.cluster, secrets.ab, secrets.aB, exchange(keys.exchangeSecret, state.serverHello));
  const signature = nacl.secretbox.open(message, NONCE, master);
  const signed = concatBytes(keys.cluster, proof, sha256(secrets.ab));
  if (signature === null || !nacl.sign.detached.verify(signed, signature, peerKey))
    throw failed(`the server did not prove that it holds ${publicKeyText(peerKey)}`);
  return { send: new Uint8Array(0), next: { phase: "done", session: sessionOf(master, peerKey, keys.identity.publicKey) } };
}

/** A direction's key is bound to its receiver, so what one side sends never opens as what it receives. */
function sessionOf(master: Uint8Array, peerKey: Uint8Array, me: Uint8Array): Session {
  const shared = sha256(master);
  return { peerKey, sendKey: sha256(shared, peerKey), receiveKey: sha256(shared, me) };
}

function hello(cluster: Uint8Array, ephemeral: Uint8Array): Uint8Array {
  invariant(ephemeral.length === EPHEMERAL_SEED_BYTES, "a one-time key has 32 bytes");
  const publicKey = nacl.scalarMult.base(ephemeral);
  return concatBytes(clusterMac(cluster, publicKey), publicKey);
}

/** The one-time key of a hello made by a holder of the cluster id. */
function checkedHello(cluster: Uint8Array, message: Uint8Array): Uint8Array {
  const publicKey = message.slice(32);
  if (!nacl.verify(clusterMac(cluster, publicKey), message.subarray(0, 32))) throw failed("the hello is not of this cluster");
  return publicKey;
}

/** HMAC-SHA-512 cut to 32 bytes, as `crypto_auth` of NaCl's family has it. */
const clusterMac = (cluster: Uint8Array, publicKey: Uint8Array): Uint8Array =>
  new Uint8Array(createHmac("sha512", cluster).update(publicKey).digest()).subarray(0, 32);

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

/** X25519; a point of small order would give a secret that everybody knows. */
function exchange(secret: Uint8Array, publicKey: Uint8Array): Uint8Array {
  const shared = nacl.scalarMult(secret, publicKey);
  if (shared.every((byte) => byte === 0)) throw failed("the other side's key is a point of small order");
  return shared;
}

function exchangeKey(publicKey: Uint8Array): Uint8Array {
  const key = exchangeKeyOf(publicKey);
  if (key === null) throw failed(`${publicKeyText(publicKey)} is not an Ed25519 key`);
  return key;
}

const failed = (detail: string): EngineError => new EngineError("HANDSHAKE_FAILED", detail);
