/**
 * The body of one HTTP/1.1 request as it comes, in pieces of any size: of a length told before, or in chunks (RFC 9112
 * section 7.1), whose extensions and trailers are passed over. Nothing is allocated for what was only announced, and what
 * belongs to the next request is left. What is longer than the path takes is refused when a chunk announces it.
 */
import { concatBytes } from "../base/bytes.ts";
import { EngineError, type ErrorCode } from "../base/errors.ts";

/** A line that announces a chunk, or one trailer. */
const LINE_BYTES_MAX = 1_024;
const TRAILERS_BYTES_MAX = 8 * 1_024;
const CHUNK_LINE = /^([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t -~]*)?$/;
const LF = 0x0a;
const decoder = new TextDecoder("latin1");

export type BodyLimit = { readonly bytesMax: number; readonly tooLarge: ErrorCode };

export class BodyReader {
  private readonly isChunked: boolean;
  private readonly limit: BodyLimit;
  private readonly parts: Uint8Array[] = [];
  /** Of the body, or of the chunk under way. */
  private leftBytes: number;
  private takenBytes = 0;
  private phase: "data" | "size" | "data-end" | "trailers" | "done";
  private line: Uint8Array = new Uint8Array(0);
  private trailerBytes = 0;

  /** `bodyBytes`: null where it comes in chunks. */
  constructor(bodyBytes: number | null, limit: BodyLimit) {
    this.isChunked = bodyBytes === null;
    this.limit = limit;
    this.leftBytes = bodyBytes ?? 0;
    this.phase = this.isChunked ? "size" : this.leftBytes === 0 ? "done" : "data";
  }

  get isDone(): boolean {
    return this.phase === "done";
  }

  /** Of the body itself. */
  get bytesSoFar(): number {
    return this.takenBytes;
  }

  /** Takes what is the body's and returns how much that was. The bytes are kept, not copied. Throws where they make no body. */
  push(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length && this.phase !== "done") at = this.phase === "data" ? this.takeData(bytes, at) : this.takeLine(bytes, at);
    return at;
  }

  /** Once it is done. Not a copy where the body came in one piece. */
  whole(): Uint8Array {
    const [only] = this.parts;
    return this.parts.length === 1 && only !== undefined ? only : concatBytes(...this.parts);
  }

  private takeData(bytes: Uint8Array, at: number): number {
    const end = Math.min(bytes.length, at + this.leftBytes);
    this.parts.push(new Uint8Array(bytes.buffer, bytes.byteOffset + at, end - at)); // plain, whatever came: a Buffer's slice is no copy
    this.takenBytes += end - at;
    this.leftBytes -= end - at;
    if (this.leftBytes === 0) this.phase = this.isChunked ? "data-end" : "done";
    return end;
  }

  private takeLine(bytes: Uint8Array, at: number): number {
    const found = bytes.indexOf(LF, at);
    const end = found < 0 ? bytes.length : found + 1;
    if (this.line.length + end - at > LINE_BYTES_MAX) throw malformed(`a line of more than ${LINE_BYTES_MAX} bytes`);
    this.line = concatBytes(this.line, bytes.subarray(at, end));
    if (found < 0) return end;
    const text = decoder.decode(this.line);
    this.line = new Uint8Array(0);
    if (!text.endsWith("\r\n")) throw malformed("a line that does not end in CRLF");
    this.onLine(text.slice(0, -2));
    return end;
  }

  private onLine(text: string): void {
    if (this.phase === "size") this.onSize(text);
    else if (this.phase === "data-end") {
      if (text !== "") throw malformed("a chunk is longer than it says");
      this.phase = "size";
    } else if (text === "") this.phase = "done";
    else {
      this.trailerBytes += text.length;
      if (this.trailerBytes > TRAILERS_BYTES_MAX) throw malformed(`trailers of more than ${TRAILERS_BYTES_MAX} bytes`);
    }
  }

  private onSize(text: string): void {
    const [, digits] = CHUNK_LINE.exec(text) ?? [];
    if (digits === undefined) throw malformed("a chunk without a size");
    this.leftBytes = Number.parseInt(digits, 16);
    this.phase = this.leftBytes === 0 ? "trailers" : "data";
    const { bytesMax, tooLarge } = this.limit;
    if (this.takenBytes + this.leftBytes > bytesMax) throw new EngineError(tooLarge, `the body has more than ${bytesMax} bytes`);
  }
}

const malformed = (what: string): EngineError => new EngineError("USAGE", `the body's chunks: ${what}`);
