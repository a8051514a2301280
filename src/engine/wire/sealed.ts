/**
 * What a link carries after its handshake: frames sealed by AES-256-GCM (NIST SP 800-38D), one key a direction.
 * The nonce is never sent: 4 bytes of key generation and 8 of a counter that both sides keep, so a frame that is
 * changed, repeated, left out or moved does not open. The frame's length is authenticated with it. After so many frames or bytes
 * both sides move to HKDF-SHA256 of the key and forget the old one. Hot path: `test/wire/bench.ts` has the numbers.
 * Never goes on after a frame that did not open.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from "node:crypto";
import { concatBytes, utf8, writeU32be, writeU64be } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { FRAME_BYTES_MAX, FRAME_HEADER_BYTES, setFrameLength } from "./frame.ts";

export const TAG_BYTES = 16;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;

/** Far below where GCM weakens (2^32 frames, 2^36 bytes of one): small enough that a key seen in memory opens little. */
export type RekeyLimits = { readonly framesPerKey: number; readonly bytesPerKey: number };
export const REKEY_LIMITS: RekeyLimits = { framesPerKey: 65_536, bytesPerKey: 1_024 * 1_024 * 1_024 };

/** One direction's key and counter, kept in step by both sides without a message. */
class KeySchedule {
  private readonly limits: RekeyLimits;
  private key: Uint8Array;
  private readonly nonce = new Uint8Array(NONCE_BYTES);
  private generation = 0;
  private frameCount = 0;
  private byteCount = 0;

  constructor(key: Uint8Array, limits: RekeyLimits) {
    invariant(key.length === KEY_BYTES, `a frame key has ${KEY_BYTES} bytes, this one ${key.length}`);
    this.key = key.slice();
    this.limits = limits;
  }

  /** The key and nonce of the next frame, of `length` plain bytes. Each pair is given out once. */
  advance(length: number): { key: Uint8Array; nonce: Uint8Array } {
    if (this.frameCount >= this.limits.framesPerKey || this.byteCount >= this.limits.bytesPerKey) this.rekey();
    writeU32be(this.nonce, 0, this.generation);
    writeU64be(this.nonce, 4, this.frameCount);
    this.frameCount += 1;
    this.byteCount += length;
    return { key: this.key, nonce: this.nonce };
  }

  /** For messages: which frame of the direction was the last. */
  get position(): string {
    return `frame ${this.frameCount} of key ${this.generation}`;
  }

  private rekey(): void {
    invariant(this.generation < 0xffff_ffff, "a link ends before its key generations do");
    const next = new Uint8Array(hkdfSync("sha256", this.key, new Uint8Array(0), utf8("cairn rekey"), KEY_BYTES));
    this.key.fill(0);
    this.key = next;
    this.generation += 1;
    this.frameCount = 0;
    this.byteCount = 0;
  }
}

export class Sealer {
  private readonly schedule: KeySchedule;
  constructor(key: Uint8Array, limits: RekeyLimits = REKEY_LIMITS) {
    this.schedule = new KeySchedule(key, limits);
  }

  /** A whole frame, length included, whose plaintext is the parts one after the other. */
  seal(...parts: readonly Uint8Array[]): Uint8Array {
    return concatBytes(...this.sealPieces(parts));
  }

  /** The same frame in pieces, to be sent one behind the other: a megabyte is not copied only to lie beside its length. */
  sealPieces(parts: readonly Uint8Array[]): Uint8Array[] {
    let length = 0;
    for (const part of parts) length += part.length;
    invariant(length + TAG_BYTES <= FRAME_BYTES_MAX, "a sealed frame fits FRAME_BYTES_MAX");
    const { key, nonce } = this.schedule.advance(length);
    const header = new Uint8Array(FRAME_HEADER_BYTES);
    setFrameLength(header, length + TAG_BYTES);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    cipher.setAAD(header);
    const pieces: Uint8Array[] = [header];
    for (const part of parts) pieces.push(cipher.update(part));
    cipher.final();
    pieces.push(cipher.getAuthTag());
    return pieces;
  }
}

export class Opener {
  private readonly schedule: KeySchedule;
  private readonly header = new Uint8Array(FRAME_HEADER_BYTES);
  private isBroken = false;
  constructor(key: Uint8Array, limits: RekeyLimits = REKEY_LIMITS) {
    this.schedule = new KeySchedule(key, limits);
  }

  /** Plaintext of a frame without its length, as `FrameDecoder` gives it. Throws FRAME_CORRUPT, and from then on always. */
  open(sealed: Uint8Array): Uint8Array {
    const length = sealed.length - TAG_BYTES;
    if (this.isBroken || length < 0) throw this.corrupt(length < 0 ? `${sealed.length} bytes are no sealed frame` : "the stream is broken");
    const { key, nonce } = this.schedule.advance(length);
    setFrameLength(this.header, sealed.length);
    const decipher = createDecipheriv("aes-256-gcm", key, nonce);
    decipher.setAAD(this.header);
    decipher.setAuthTag(sealed.subarray(length));
    const plain = decipher.update(sealed.subarray(0, length));
    try {
      decipher.final();
    } catch (cause) {
      throw this.corrupt("changed, repeated, left out or out of order", cause);
    }
    return new Uint8Array(plain.buffer, plain.byteOffset, plain.byteLength);
  }

  private corrupt(detail: string, cause?: unknown): EngineError {
    this.isBroken = true;
    return new EngineError("FRAME_CORRUPT", `${this.schedule.position}: ${detail}`, { cause });
  }
}
