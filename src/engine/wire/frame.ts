/**
 * Frames on a byte stream: four bytes of length, big-endian, then that many bytes. The decoder takes chunks as the
 * socket cuts them and copies each byte at most twice, however finely they are cut. A length is held against the cap
 * before anything is allocated, and what is allocated follows what has arrived, not what was announced.
 * Frames know nothing of keys: `sealed.ts` says what is inside.
 */
import { readU32be, writeU32be } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";

/** Everything behind the length: the largest message is a bundle a little above 1 MiB, a stored value is up to 4 MiB. */
export const FRAME_BYTES_MAX = 16 * 1_024 * 1_024;
export const FRAME_HEADER_BYTES = 4;
/** A frame in pieces is gathered in a buffer of four times what has arrived, or of its whole length where that is less. */
const GROWTH = 4;
const GATHER_BYTES_MIN = 1_024;

/** Writes the length that leads a frame: `length` counts what follows it. */
export const setFrameLength = (frame: Uint8Array, length: number): void => writeU32be(frame, 0, length);

export class FrameDecoder {
  private readonly bytesMax: number;
  /** Chunks not yet read; `at` is the position in the first. */
  private chunks: Uint8Array[] = [];
  private at = 0;
  private readonly header = new Uint8Array(FRAME_HEADER_BYTES);
  private headerUsed = 0;
  /** The frame under assembly: what came so far, and how long it will be once its header is complete. */
  private body: Uint8Array = new Uint8Array(0);
  private bodyUsed = 0;
  private wanted: number | null = null;

  constructor(bytesMax: number = FRAME_BYTES_MAX) {
    this.bytesMax = bytesMax;
  }

  /** Hands over a chunk: the caller does not touch its bytes again. */
  push(chunk: Uint8Array): void {
    if (chunk.length > 0) this.chunks.push(chunk);
  }

  /** The next whole frame, without its length, or null. It may be a view of a chunk. Throws FRAME_CORRUPT, and is then finished. */
  next(): Uint8Array | null {
    for (let chunk = this.chunks[0]; chunk !== undefined; chunk = this.chunks[0]) {
      const frame = this.wanted === null ? this.readHeader(chunk) : this.readBody(chunk, this.wanted);
      if (this.at === chunk.length) {
        this.chunks.shift();
        this.at = 0;
      }
      if (frame !== null) return frame;
    }
    return null;
  }

  /** Whether the stream stopped inside a frame. */
  get isInside(): boolean {
    return this.headerUsed > 0 || this.wanted !== null || this.chunks.length > 0;
  }

  private readHeader(chunk: Uint8Array): Uint8Array | null {
    const taken = Math.min(FRAME_HEADER_BYTES - this.headerUsed, chunk.length - this.at);
    this.header.set(chunk.subarray(this.at, this.at + taken), this.headerUsed);
    this.headerUsed += taken;
    this.at += taken;
    if (this.headerUsed < FRAME_HEADER_BYTES) return null;
    const length = readU32be(this.header, 0);
    if (length > this.bytesMax) throw new EngineError("FRAME_CORRUPT", `a frame of ${length} bytes is announced, at most ${this.bytesMax}`);
    this.headerUsed = 0;
    this.wanted = length;
    return length === 0 ? this.finish(new Uint8Array(0)) : null;
  }

  private readBody(chunk: Uint8Array, wanted: number): Uint8Array | null {
    const left = chunk.length - this.at;
    const taken = Math.min(wanted - this.bodyUsed, left);
    const piece = chunk.subarray(this.at, this.at + taken);
    this.at += taken;
    if (taken === wanted) return this.finish(piece);
    this.grow(this.bodyUsed + taken, wanted);
    this.body.set(piece, this.bodyUsed);
    this.bodyUsed += taken;
    return this.bodyUsed === wanted ? this.finish(this.body.subarray(0, wanted)) : null;
  }

  private grow(needed: number, wanted: number): void {
    if (needed <= this.body.length) return;
    const grown = new Uint8Array(Math.min(wanted, Math.max(needed * GROWTH, GATHER_BYTES_MIN)));
    grown.set(this.body.subarray(0, this.bodyUsed));
    this.body = grown;
  }

  private finish(frame: Uint8Array): Uint8Array {
    this.body = new Uint8Array(0);
    this.bodyUsed = 0;
    this.wanted = null;
    return frame;
  }
}
