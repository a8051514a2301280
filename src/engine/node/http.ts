/**
 * An HTTP/1.1 server that a hostile client cannot hold: raw targets, deadlines of its own for headers, bodies and slow
 * readers (the platform's are reset by every byte), caps for one client and overall, a budget for all bodies in memory.
 * A body is refused by its announced length before a byte of it is read, also on `Expect: 100-continue`.
 * It stands on plain sockets: a read of the store cost 108 µs of CPU in all over `node:http`, and 56 here.
 * It knows no path: `handle` answers.
 */
import { EngineError } from "../base/errors.ts";
import { failureAnswer, type HttpAnswer, type HttpHandler, type HttpRequest } from "../gateway/http-types.ts";
import type { Endpoint } from "./endpoint.ts";
import { type ConnectionHost, HttpConnection } from "./http-connection.ts";
import type { ConnectionLimits } from "./http-exchange.ts";

export type HttpLimits = ConnectionLimits & {
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

/** Deadlines are looked at so many times within the shortest of them. */
const LOOKS = 10;

export type HttpServer = {
  readonly port: number;
  /** Takes no new connection, lets open requests end for `graceMs`, then cuts them. */
  close(graceMs: number): Promise<void>;
};

export async function listenHttp(at: Endpoint, handle: HttpHandler, limits: HttpLimits = HTTP_LIMITS): Promise<HttpServer> {
  return new HttpService(at, handle, limits);
}

/** A connection that was let in, and whose it is; null where it was not. */
type Admitted = { readonly connection: HttpConnection; readonly client: string } | null;
type Client = Bun.Socket<Admitted>;

class HttpService implements HttpServer, ConnectionHost {
  readonly port: number;
  readonly limits: HttpLimits;
  isClosing = false;
  private readonly handle: HttpHandler;
  private readonly listener: Bun.TCPSocketListener<Admitted>;
  private readonly connections = new Set<HttpConnection>();
  private readonly perClient = new Map<string, number>();
  private readonly looking: NodeJS.Timeout;
  private bodyBytes = 0;
  private openCount = 0;
  private whenIdle: (() => void) | null = null;

  constructor({ host, port }: Endpoint, handle: HttpHandler, limits: HttpLimits) {
    this.handle = handle;
    this.limits = limits;
    this.listener = this.listen(host, port);
    this.port = this.listener.port;
    const { headersMs, bodyMs, answerMs } = limits;
    this.looking = setInterval(() => this.look(), Math.min(headersMs, bodyMs, answerMs) / LOOKS);
  }

  async close(graceMs: number): Promise<void> {
    this.isClosing = true;
    this.listener.stop();
    for (const connection of this.connections) connection.stop();
    if (this.openCount > 0) {
      const idle = new Promise<void>((resolve) => {
        this.whenIdle = resolve;
      });
      const timer = setTimeout(() => this.whenIdle?.(), graceMs);
      await idle;
      clearTimeout(timer);
    }
    clearInterval(this.looking);
    for (const connection of this.connections) connection.cut();
  }

  // ---------------------------------------------------------------- what connections ask

  async answer(request: HttpRequest): Promise<HttpAnswer> {
    try {
      return await this.handle(request);
    } catch (error) {
      if (!(error instanceof EngineError)) process.stderr.write(`${request.method} failed: ${error instanceof Error ? error.stack : String(error)}\n`);
      return failureAnswer(error);
    }
  }

  began(): void {
    this.openCount++;
  }

  ended(): void {
    if (--this.openCount === 0) this.whenIdle?.();
  }

  reserve(bytes: number): void {
    if (this.bodyBytes + bytes > this.limits.bodyBytesMax)
      throw new EngineError("LOG_BUSY", `bodies of ${this.bodyBytes} bytes are being handled, at most ${this.limits.bodyBytesMax}`);
    this.bodyBytes += bytes;
  }

  release(bytes: number): void {
    this.bodyBytes -= bytes;
  }

  // ---------------------------------------------------------------- sockets

  private listen(hostname: string, port: number): Bun.TCPSocketListener<Admitted> {
    try {
      return Bun.listen<Admitted>({
        hostname,
        port,
        socket: {
          open: (socket) => this.admit(socket),
          data: ({ data }, bytes) => data?.connection.take(bytes),
          drain: ({ data }) => data?.connection.drain(),
          close: (socket) => this.forget(socket),
          error: (_, error) => {
            throw error; // of ours: those of a connection close it
          },
        },
      });
    } catch (cause) {
      throw new EngineError("UNAVAILABLE", `cannot listen on ${hostname}:${port}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    }
  }

  private admit(socket: Client): void {
    const client = socket.remoteAddress;
    const count = this.perClient.get(client) ?? 0;
    if (this.isClosing || this.connections.size >= this.limits.connectionsMax || count >= this.limits.connectionsPerClientMax) {
      socket.data = null;
      socket.terminate();
      return;
    }
    socket.setNoDelay(true);
    this.perClient.set(client, count + 1);
    const connection = new HttpConnection(socket, this);
    socket.data = { connection, client };
    this.connections.add(connection);
  }

  private forget({ data }: Client): void {
    if (data === null || !this.connections.delete(data.connection)) return;
    data.connection.over();
    const left = (this.perClient.get(data.client) ?? 1) - 1;
    if (left === 0) this.perClient.delete(data.client);
    else this.perClient.set(data.client, left);
  }

  private look(): void {
    const nowMs = performance.now();
    for (const connection of this.connections) connection.look(nowMs);
  }
}
