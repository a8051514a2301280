/**
 * One client's connection to the HTTP server: requests one after the other, each read whole by its handler's wish and answered
 * before the next is looked at, however many were sent ahead. One deadline runs at any time: for a head, a body, an answer
 * being taken. A body that nobody read ends its connection, so that it is never taken for a request.
 * Hot path: a small answer is one write, and a request arms no timer.
 */
import { STATUS_CODES } from "node:http";
import { invariant } from "../base/invariant.ts";
import { HEAD_BYTES_MAX, type HttpHead, parseHead } from "../gateway/http-head.ts";
import type { HttpAnswer, HttpRequest } from "../gateway/http-types.ts";
import { Exchange, type ExchangeHost } from "./http-exchange.ts";

/** What a connection needs of its server. */
export type ConnectionHost = ExchangeHost & {
  readonly isClosing: boolean;
  /** Never rejects. */
  answer(request: HttpRequest): Promise<HttpAnswer>;
  began(): void;
  ended(): void;
};

export type ClientSocket = Pick<Bun.Socket<unknown>, "write" | "end" | "shutdown" | "terminate" | "pause" | "resume">;

/** A client that still sends has this long to read why it is refused; cut off at once it might see a reset instead. */
const LINGER_MS = 200;
/** Sent ahead of its turn: above it the socket is not read. */
const AHEAD_BYTES_MAX = 64 * 1_024;
/** Up to here an answer's body is copied behind its head, and leaves with it. */
const JOINED_BYTES_MAX = 64 * 1_024;
const HEAD_END = "\r\n\r\n";
const NOTHING = Buffer.alloc(0);
const LAST_CHUNK = Buffer.from("0\r\n\r\n");
const NOT_IN_A_FIELD = /[^\t -~]/;

export class HttpConnection {
  /** When it is cut off, on the monotonic clock: whoever owns it looks. */
  private deadlineMs = 0;
  private readonly socket: ClientSocket;
  private readonly host: ConnectionHost;
  private phase: "open" | "lingers" | "over" = "open";
  private inbox: Buffer = NOTHING;
  private isPaused = false;
  /** The request that is being answered. */
  private exchange: Exchange | null = null;
  /** Its answer is written as far as it is known, and the rest is the client's matter. */
  private isAnswered = false;
  private outbox: Uint8Array[] = [];
  private whenTaken: (() => void) | null = null;

  constructor(socket: ClientSocket, host: ConnectionHost) {
    this.socket = socket;
    this.host = host;
    this.expect(host.limits.headersMs);
  }

  // ---------------------------------------------------------------- what the socket tells

  take(bytes: Buffer): void {
    if (this.phase !== "open") return;
    const left = this.exchange?.isReading === true ? bytes.subarray(this.exchange.take(bytes)) : bytes;
    if (left.length === 0) return;
    this.inbox = this.inbox.length === 0 ? left : Buffer.concat([this.inbox, left]);
    if (this.exchange === null) this.next();
    else if (this.inbox.length > AHEAD_BYTES_MAX && !this.isPaused) {
      this.isPaused = true;
      this.socket.pause();
    }
  }

  /** The client took something of what waits for it. */
  drain(): void {
    while (this.phase === "open" && this.outbox.length > 0) {
      const [first] = this.outbox as [Uint8Array];
      const taken = this.socket.write(first);
      if (taken < first.length) {
        if (taken > 0) this.outbox[0] = first.subarray(taken);
        return;
      }
      this.outbox.shift();
    }
    this.whenTaken?.();
    this.whenTaken = null;
    if (this.isAnswered) this.finish();
  }

  /** The socket is gone, or nobody waits for it any more. */
  over(): void {
    if (this.phase === "over") return;
    this.phase = "over";
    this.outbox = [];
    this.inbox = NOTHING;
    this.whenTaken?.();
    this.whenTaken = null;
    this.leave();
  }

  /** Cuts off who took too long. */
  look(nowMs: number): void {
    if (nowMs < this.deadlineMs) return;
    if (this.exchange?.isReading === true) this.exchange.tooSlow();
    else this.cut();
  }

  cut(): void {
    this.socket.terminate();
    this.over();
  }

  /** The server closes: an answer without an end comes to one. */
  stop(): void {
    this.exchange?.stopStream();
  }

  // ---------------------------------------------------------------- requests

  expect(withinMs: number): void {
    this.deadlineMs = performance.now() + withinMs;
  }

  private next(): void {
    let from = 0;
    while (this.inbox[from] === 0x0d && this.inbox[from + 1] === 0x0a) from += 2; // an old client's empty line
    const end = this.inbox.indexOf(HEAD_END, from);
    const head =
      (end < 0 ? this.inbox.length : end) - from > HEAD_BYTES_MAX ? 431 : end < 0 ? this.begun(from) : parseHead(this.inbox.toString("latin1", from, end));
    if (head === null) return;
    if (typeof head === "number") {
      this.refuse(head);
      return;
    }
    this.inbox = this.inbox.subarray(end + HEAD_END.length);
    void this.serve(head);
  }

  /** A head that is not whole: null, or the status of one that will not become one. */
  private begun(from: number): 400 | null {
    const lf = this.inbox.indexOf(0x0a, from);
    return lf >= 0 && this.inbox[lf - 1] !== 0x0d ? 400 : null;
  }

  /** What is no request has no answer but its status, and nothing behind it can be trusted. */
  private refuse(status: number): void {
    this.write(Buffer.from(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`));
    this.linger();
  }

  private async serve(head: HttpHead): Promise<void> {
    const { host } = this;
    const exchange = new Exchange(head, this, host);
    this.exchange = exchange;
    this.isAnswered = false;
    host.began();
    this.expect(host.limits.answerMs);
    const answer = await host.answer(exchange);
    if (this.exchange !== exchange) return; // the client is gone
    exchange.isLast = exchange.isLast || host.isClosing || exchange.isUnread;
    if (answer.stream !== undefined && head.method !== "HEAD") return this.stream(exchange, answer, answer.stream);
    this.respond(exchange, answer);
    this.answered();
  }

  private respond({ head, isLast }: Exchange, answer: HttpAnswer): void {
    const { status, body, stream } = answer;
    const hasBody = head.method !== "HEAD" && status !== 204 && status !== 304;
    const length = status === 204 || status === 304 || stream !== undefined ? "" : `content-length: ${body.length}\r\n`;
    const text = headText(answer, length, isLast);
    const bodyBytes = hasBody ? body.length : 0;
    if (bodyBytes > JOINED_BYTES_MAX) {
      this.write(Buffer.from(text, "latin1"));
      this.write(body);
      return;
    }
    const bytes = Buffer.allocUnsafe(text.length + bodyBytes);
    bytes.write(text, 0, "latin1");
    if (bodyBytes > 0) bytes.set(body, text.length);
    this.write(bytes);
  }

  /** One piece after the other, each taken in time. A stream that fails is cut off: its client must not take that for the end. */
  private async stream(exchange: Exchange, answer: HttpAnswer, pieces: AsyncIterable<Uint8Array>): Promise<void> {
    const isChunked = exchange.head.minor === 1;
    exchange.isLast ||= !isChunked;
    exchange.isStream = true;
    if (this.host.isClosing) exchange.stopStream();
    this.write(Buffer.from(headText(answer, isChunked ? "transfer-encoding: chunked\r\n" : "", exchange.isLast), "latin1"));
    try {
      for await (const bytes of pieces) {
        if (this.exchange !== exchange) break;
        this.expect(this.host.limits.answerMs);
        if (bytes.length > 0) this.write(isChunked ? chunkOf(bytes) : bytes);
        if (this.outbox.length > 0) await this.taken();
        await new Promise(setImmediate); // others too, where there is always a next piece
      }
    } catch (error) {
      process.stderr.write(`a stream failed: ${error instanceof Error ? error.stack : String(error)}\n`);
      this.cut();
    }
    if (this.exchange !== exchange) return;
    if (isChunked) this.write(LAST_CHUNK);
    this.answered();
  }

  private answered(): void {
    this.isAnswered = true;
    if (this.outbox.length === 0) this.finish();
  }

  /** The answer is out: on to the next request, where there may be one. */
  private finish(): void {
    const { exchange } = this;
    if (exchange === null || this.phase !== "open") return;
    this.leave();
    if (exchange.isUnread) this.linger();
    else if (exchange.isLast) {
      this.socket.end();
      this.over();
    } else {
      this.expect(this.host.limits.headersMs);
      this.read();
      if (this.inbox.length > 0) this.next();
    }
  }

  private leave(): void {
    const { exchange } = this;
    if (exchange === null) return;
    this.exchange = null;
    this.isAnswered = false;
    exchange.end();
    this.host.ended();
  }

  /** Says no more, and reads nothing of what still comes. */
  private linger(): void {
    if (this.phase !== "open") return;
    this.phase = "lingers";
    this.inbox = NOTHING;
    this.socket.shutdown();
    this.read();
    this.expect(LINGER_MS);
  }

  private read(): void {
    if (this.isPaused) this.socket.resume();
    this.isPaused = false;
  }

  // ---------------------------------------------------------------- output

  write(bytes: Uint8Array): void {
    if (this.phase !== "open") return;
    const taken = this.outbox.length > 0 ? 0 : this.socket.write(bytes);
    if (taken < bytes.length) this.outbox.push(taken > 0 ? bytes.subarray(taken) : bytes);
  }

  /** Until the client took what waits, or went away. */
  private taken(): Promise<void> {
    return new Promise((resolve) => {
      this.whenTaken = resolve;
    });
  }

  /** What was sent behind a head before its handler asked for the body. */
  takeInbox(into: (bytes: Buffer) => number): void {
    this.inbox = this.inbox.subarray(into(this.inbox));
    this.read();
  }
}

// ------------------------------------------------------------------ text

/** `framing`: how the client knows where the body ends. */
function headText({ status, headers }: HttpAnswer, framing: string, isLast: boolean): string {
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;
  for (const name in headers) {
    const value = headers[name] as string;
    invariant(!NOT_IN_A_FIELD.test(value), "a header of an answer is one line of ASCII");
    text += `${name}: ${value}\r\n`;
  }
  return `${text}x-content-type-options: nosniff\r\n${framing}date: ${dateText()}\r\n${isLast ? "connection: close\r\n" : ""}\r\n`;
}

let dateSecond = 0;
let date = "";
function dateText(): string {
  const second = Math.floor(Date.now() / 1_000);
  if (second !== dateSecond) {
    dateSecond = second;
    date = new Date(second * 1_000).toUTCString();
  }
  return date;
}

function chunkOf(bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]);
}
