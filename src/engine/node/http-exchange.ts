/**
 * One request on a connection, as its handler sees it: the body is read when it is asked for and not before, within its own
 * deadline and out of the budget of all; the signal is made for whoever wants it. It writes nothing but "100 Continue".
 */
import { EngineError, type ErrorCode } from "../base/errors.ts";
import { BodyReader } from "../gateway/http-body.ts";
import type { HttpHead } from "../gateway/http-head.ts";
import type { HttpRequest } from "../gateway/http-types.ts";

export type ConnectionLimits = {
  /** From the connection, or from the end of the last answer, to the end of the next request's headers. */
  readonly headersMs: number;
  /** For a whole body, from the first read. */
  readonly bodyMs: number;
  /** From the end of the request to the last byte of the answer taken by the client, beside what the handler itself waits. */
  readonly answerMs: number;
};

export type ExchangeHost = {
  readonly limits: ConnectionLimits;
  /** Takes room for a body from the budget of all; throws where there is none. */
  reserve(bytes: number): void;
  release(bytes: number): void;
};

/** What a request needs of the connection that it came on. */
type Carrier = {
  write(bytes: Uint8Array): void;
  /** A new deadline. */
  expect(withinMs: number): void;
  /** What was sent behind the head is offered; what is not taken is another request's. */
  takeInbox(into: (bytes: Buffer) => number): void;
};

const CONTINUE = Buffer.from("HTTP/1.1 100 Continue\r\n\r\n");

export class Exchange implements HttpRequest {
  readonly head: HttpHead;
  isLast: boolean;
  isStream = false;
  private readonly connection: Carrier;
  private readonly host: ExchangeHost;
  private reading: { readonly body: BodyReader; resolve(): void; reject(error: unknown): void } | null = null;
  private isRead: boolean;
  private reservedBytes = 0;
  private gone: AbortController | null = null;
  private isStopped = false;
  private isOver = false;

  constructor(head: HttpHead, connection: Carrier, host: ExchangeHost) {
    this.head = head;
    this.connection = connection;
    this.host = host;
    this.isLast = head.isLast;
    this.isRead = head.bodyBytes === 0;
  }

  get method(): string {
    return this.head.method;
  }

  get target(): string {
    return this.head.target;
  }

  header(name: string): string | undefined {
    return this.head.headers.get(name);
  }

  /** Made for whoever asks: most handlers do not. */
  get signal(): AbortSignal {
    this.gone ??= new AbortController();
    if (this.isOver || this.isStopped) this.gone.abort();
    return this.gone.signal;
  }

  get isReading(): boolean {
    return this.reading !== null;
  }

  /** Whether something of the body is, or may be, on the connection. */
  get isUnread(): boolean {
    return !this.isRead;
  }

  async body(bytesMax: number, tooLarge: ErrorCode): Promise<Uint8Array> {
    const { bodyBytes, wantsContinue } = this.head;
    if (bodyBytes !== null && bodyBytes > bytesMax) throw new EngineError(tooLarge, `the body has ${bodyBytes} bytes, at most ${bytesMax}`);
    const room = bodyBytes ?? bytesMax;
    this.host.reserve(room);
    this.reservedBytes += room;
    const body = new BodyReader(bodyBytes, { bytesMax, tooLarge });
    if (wantsContinue && !body.isDone) this.connection.write(CONTINUE);
    this.connection.takeInbox((bytes) => body.push(bytes));
    if (!body.isDone) {
      this.connection.expect(this.host.limits.bodyMs);
      await new Promise<void>((resolve, reject) => {
        this.reading = { body, resolve, reject };
      });
    }
    this.isRead = true;
    return body.whole();
  }

  /** Of bytes that came for the body: how many are its. */
  take(bytes: Uint8Array): number {
    const { reading } = this;
    if (reading === null) return 0;
    try {
      const taken = reading.body.push(bytes);
      if (reading.body.isDone) this.stopReading(({ resolve }) => resolve());
      return taken;
    } catch (error) {
      this.stopReading(({ reject }) => reject(error));
      return 0;
    }
  }

  tooSlow(): void {
    const detail = (bytes: number): string => `${bytes} bytes of the body came within ${this.host.limits.bodyMs} ms`;
    this.stopReading(({ body, reject }) => reject(new EngineError("HTTP_TOO_SLOW", detail(body.bytesSoFar))));
  }

  stopStream(): void {
    if (!this.isStream) return;
    this.isStopped = true;
    this.gone?.abort();
  }

  /** The answer is out, or its client went away. */
  end(): void {
    this.isOver = true;
    this.stopReading(({ reject }) => reject(goneError()));
    this.host.release(this.reservedBytes);
    this.gone?.abort();
  }

  private stopReading(tell: (reading: NonNullable<Exchange["reading"]>) => void): void {
    const { reading } = this;
    if (reading === null) return;
    this.reading = null;
    this.connection.expect(this.host.limits.answerMs);
    tell(reading);
  }
}

const goneError = (): EngineError => new EngineError("UNAVAILABLE", "the client went away");
