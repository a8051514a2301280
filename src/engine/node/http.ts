/**
 * An HTTP/1.1 server that a hostile client cannot hold: raw targets, deadlines of its own for headers, bodies and slow
 * readers (the platform's are reset by every byte), caps for one client and overall, a budget for all bodies in memory.
 * A body is refused by its announced length before a byte of it is read, also on `Expect: 100-continue`.
 * It knows no path: `handle` answers.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { concatBytes } from "../base/bytes.ts";
import { EngineError, type ErrorCode } from "../base/errors.ts";
import { failureAnswer, type HttpAnswer, type HttpHandler, type HttpRequest } from "../gateway/http-types.ts";
import type { Endpoint } from "./endpoint.ts";

export type HttpLimits = {
  /** From the connection, or from the end of the last answer, to the end of the next request's headers. */
  readonly headersMs: number;
  /** For a whole body, from the first read. */
  readonly bodyMs: number;
  /** From the end of the request to the last byte of the answer taken by the client, beside what the handler itself waits. */
  readonly answerMs: number;
  readonly connectionsMax: number;
  readonly connectionsPerClientMax: number;
  /** All bodies being read or handled at once. */
  readonly bodyBytesMax: number;
};

export const HTTP_LIMITS: HttpLimits = {
  headersMs: 10_000,
  bodyMs: 30_000,
  answerMs: 60_000, // above the longest `timeoutMs` of a waiting request, 30 s
  connectionsMax: 1_024,
  connectionsPerClientMax: 512, // every local client has the same address
  bodyBytesMax: 64 * 1_024 * 1_024,
};

/** A client that still sends has this long to read why it is refused; cut off at once it might see a reset instead. */
const LINGER_MS = 200;

export type HttpServer = {
  readonly port: number;
  /** Takes no new connection, lets open requests end for `graceMs`, then cuts them. */
  close(graceMs: number): Promise<void>;
};

export async function listenHttp(at: Endpoint, handle: HttpHandler, limits: HttpLimits = HTTP_LIMITS): Promise<HttpServer> {
  const service = new HttpService(handle, limits);
  const port = await service.listen(at);
  return { port, close: (graceMs) => service.close(graceMs) };
}

class HttpService {
  private readonly handle: HttpHandler;
  private readonly limits: HttpLimits;
  private readonly server: Server;
  /** Deadline of each connection, whatever it waits for just now. */
  private readonly deadlines = new Map<Socket, ReturnType<typeof setTimeout>>();
  private readonly perClient = new Map<string, number>();
  private bodyBytes = 0;
  private openCount = 0;
  /** Of answers that go on until their client leaves, or the server does. */
  private readonly streams = new Set<AbortController>();
  private closing = false;
  private whenIdle: (() => void) | null = null;

  constructor(handle: HttpHandler, limits: HttpLimits) {
    this.handle = handle;
    this.limits = limits;
    this.server = createServer((request, response) => void this.serve(request, response, null));
    this.server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => void this.serve(request, response, () => response.writeContinue()));
    this.server.on("connection", (socket) => this.admit(socket));
    this.server.on("clientError", (_error, socket) => socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
  }

  async listen({ host, port }: Endpoint): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.server.once("error", reject);
    this.server.listen(port, host, resolve);
    await promise.catch((cause: unknown) => {
      throw new EngineError("UNAVAILABLE", `cannot listen on ${host}:${port}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    });
    const address = this.server.address();
    return address !== null && typeof address === "object" ? address.port : port;
  }

  async close(graceMs: number): Promise<void> {
    this.closing = true;
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const stream of this.streams) stream.abort();
    if (this.openCount > 0) {
      const idle = new Promise<void>((resolve) => {
        this.whenIdle = resolve;
      });
      const timer = setTimeout(() => this.whenIdle?.(), graceMs);
      await idle;
      clearTimeout(timer);
    }
    for (const socket of this.deadlines.keys()) socket.destroy();
    this.server.closeAllConnections();
    await closed;
  }

  private admit(socket: Socket): void {
    const client = socket.remoteAddress ?? "";
    const count = this.perClient.get(client) ?? 0;
    if (this.closing || this.deadlines.size >= this.limits.connectionsMax || count >= this.limits.connectionsPerClientMax) {
      socket.destroy();
      return;
    }
    this.perClient.set(client, count + 1);
    this.expect(socket, this.limits.headersMs);
    socket.once("close", () => this.release(socket, client));
  }

  private release(socket: Socket, client: string): void {
    clearTimeout(this.deadlines.get(socket));
    if (!this.deadlines.delete(socket)) return;
    const left = (this.perClient.get(client) ?? 1) - 1;
    if (left === 0) this.perClient.delete(client);
    else this.perClient.set(client, left);
  }

  /** Gives a connection this long until it is asked for again. */
  private expect(socket: Socket, withinMs: number): void {
    clearTimeout(this.deadlines.get(socket));
    this.deadlines.set(
      socket,
      setTimeout(() => socket.destroy(), withinMs),
    );
  }

  private async serve(request: IncomingMessage, response: ServerResponse, proceed: (() => void) | null): Promise<void> {
    const { socket } = request;
    if (!this.deadlines.has(socket)) {
      socket.destroy(); // refused at its connection; the platform had its first request at hand already
      return;
    }
    this.openCount++;
    this.expect(socket, this.limits.answerMs);
    const body = new Body(request, proceed, this.limits.bodyMs, (bytes) => this.reserve(bytes));
    const gone = new AbortController();
    response.once("close", () => {
      gone.abort();
      this.bodyBytes -= body.reserved;
      if (this.deadlines.has(socket)) this.expect(socket, this.limits.headersMs);
      if (--this.openCount === 0) this.whenIdle?.();
    });
    const answer = await this.answer(request, body, gone.signal);
    // What was not read would be taken for the next request: such a connection ends with its answer.
    if (!body.finished) response.once("finish", () => setTimeout(() => socket.destroy(), LINGER_MS).unref());
    respond(request, response, answer, this.closing || !body.finished);
    if (answer.stream !== undefined && !response.writableEnded) await this.send(response, answer.stream, gone);
  }

  /** One piece after the other, each taken in time. A stream that fails is cut off: its client must not take that for the end. */
  private async send(response: ServerResponse, stream: AsyncIterable<Uint8Array>, gone: AbortController): Promise<void> {
    const { socket } = response.req;
    this.streams.add(gone);
    if (this.closing) gone.abort();
    try {
      for await (const piece of stream) {
        if (response.destroyed) break;
        this.expect(socket, this.limits.answerMs);
        if (!response.write(piece)) await drained(response);
        await new Promise(setImmediate); // others too, where there is always a next piece
      }
      response.end();
    } catch (error) {
      process.stderr.write(`a stream failed: ${error instanceof Error ? error.stack : String(error)}\n`);
      socket.destroy();
    } finally {
      this.streams.delete(gone);
    }
  }

  private async answer(request: IncomingMessage, body: Body, signal: AbortSignal): Promise<HttpAnswer> {
    const seen: HttpRequest = {
      method: request.method ?? "",
      target: request.url ?? "",
      header: (name) => {
        const value = request.headers[name];
        return typeof value === "string" ? value : value?.[0];
      },
      body: (bytesMax, tooLarge) => body.read(bytesMax, tooLarge),
      signal,
    };
    try {
      return await this.handle(seen);
    } catch (error) {
      if (!(error instanceof EngineError)) process.stderr.write(`${seen.method} failed: ${error instanceof Error ? error.stack : String(error)}\n`);
      return failureAnswer(error);
    }
  }

  private reserve(bytes: number): void {
    if (this.bodyBytes + bytes > this.limits.bodyBytesMax)
      throw new EngineError("LOG_BUSY", `bodies of ${this.bodyBytes} bytes are being handled, at most ${this.limits.bodyBytesMax}`);
    this.bodyBytes += bytes;
  }
}

function respond(request: IncomingMessage, response: ServerResponse, answer: HttpAnswer, close: boolean): void {
  if (response.destroyed || response.writableEnded) return;
  const headers: Record<string, string> = { ...answer.headers, "x-content-type-options": "nosniff" };
  if (answer.status !== 304 && answer.stream === undefined) headers["content-length"] = String(answer.body.length);
  if (close) headers["connection"] = "close";
  response.writeHead(answer.status, headers);
  if (request.method === "HEAD" || answer.status === 304) response.end();
  else if (answer.stream === undefined) response.end(answer.body);
  else response.flushHeaders(); // its first piece may be long in coming
}

/** Until the client took what waits, or went away. */
function drained(response: ServerResponse): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  response.once("drain", resolve).once("close", resolve);
  return promise.finally(() => response.off("drain", resolve).off("close", resolve));
}

/** The body of one request: read once, whole, within a length and a time. */
class Body {
  /** Bytes taken from the budget, given back when the answer is out. */
  reserved = 0;
  private readonly request: IncomingMessage;
  private readonly proceed: (() => void) | null;
  private readonly withinMs: number;
  private readonly reserve: (bytes: number) => void;
  private wholeRead = false;

  constructor(request: IncomingMessage, proceed: (() => void) | null, withinMs: number, reserve: (bytes: number) => void) {
    this.request = request;
    this.proceed = proceed;
    this.withinMs = withinMs;
    this.reserve = reserve;
  }

  /** Whether nothing of the body is left on the connection. */
  get finished(): boolean {
    const { headers } = this.request;
    const announced = headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
    return this.wholeRead || !announced;
  }

  async read(bytesMax: number, tooLarge: ErrorCode): Promise<Uint8Array> {
    const announced = this.request.headers["content-length"];
    const length = announced === undefined ? null : Number(announced);
    if (length !== null && length > bytesMax) throw new EngineError(tooLarge, `the body has ${length} bytes, at most ${bytesMax}`);
    const room = length ?? bytesMax;
    this.reserve(room);
    this.reserved += room;
    this.proceed?.();
    const bytes = await collect(this.request, { bytesMax: room, withinMs: this.withinMs, tooLarge });
    this.wholeRead = true;
    return bytes;
  }
}

type CollectLimits = { readonly bytesMax: number; readonly withinMs: number; readonly tooLarge: ErrorCode };

/**
 * All chunks as one array; not even one copy where the body came in one piece. The stream is never destroyed here: the
 * platform would end the answer with a status of its own.
 */
function collect(request: IncomingMessage, { bytesMax, withinMs, tooLarge }: CollectLimits): Promise<Uint8Array> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  const parts: Uint8Array[] = [];
  let total = 0;
  const fail = (code: ErrorCode, detail: string): void => {
    request.pause();
    reject(new EngineError(code, detail));
  };
  const timer = setTimeout(() => fail("HTTP_TOO_SLOW", `${total} bytes of the body came within ${withinMs} ms`), withinMs);
  request.on("data", (part: Uint8Array) => {
    total += part.length;
    if (total > bytesMax) fail(tooLarge, `the body has more than ${bytesMax} bytes`);
    else parts.push(part);
  });
  request.once("end", () => resolve(parts.length === 1 && parts[0] !== undefined ? parts[0] : concatBytes(...parts)));
  request.once("error", () => reject(new EngineError("UNAVAILABLE", "the client went away")));
  request.once("close", () => reject(new EngineError("UNAVAILABLE", "the client went away")));
  return promise.finally(() => clearTimeout(timer));
}
