/**
 * What a handler of HTTP sees and says, whatever carries it: the target is the raw one of the request line, never
 * normalised. Errors become one JSON shape, made from the table of base/errors.ts.
 */
import { utf8 } from "../base/bytes.ts";
import { EngineError, type ErrorCode, errorTable } from "../base/errors.ts";

export type HttpRequest = {
  readonly method: string;
  /** As in the request line: `/log/tile/0/000?x=1`. */
  readonly target: string;
  /** Value of a header by lower-case name. */
  header(name: string): string | undefined;
  /** The whole body; refused with the code when longer than `bytesMax`, before reading where the length is announced. */
  body(bytesMax: number, tooLarge: ErrorCode): Promise<Uint8Array>;
  /** Aborted when the client went away or its time is over. */
  readonly signal: AbortSignal;
};

export type HttpAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /**
   * Takes the place of `body`: pieces until it ends or `signal` is aborted. The next one is asked for when the client took the
   * last. It gives a piece more often than a slow client is cut off, and tells by its last one why it ends.
   */
  readonly stream?: AsyncIterable<Uint8Array>;
};

export type HttpHandler = (request: HttpRequest) => Promise<HttpAnswer> | HttpAnswer;

/** Seconds after which a refused client may try again: one merge round and a margin. */
const RETRY_AFTER_S = 1;

export const NO_STORE = { "cache-control": "no-store" } as const;

export const textAnswer = (status: number, type: string, text: string, headers: Readonly<Record<string, string>> = NO_STORE): HttpAnswer => ({
  status,
  headers: { "content-type": type, ...headers },
  body: utf8(text),
});

/** One line of JSON. */
export const jsonAnswer = (status: number, value: unknown, headers: Readonly<Record<string, string>> = NO_STORE): HttpAnswer =>
  textAnswer(status, "application/json", `${JSON.stringify(value)}\n`, headers);

export function errorAnswer(code: ErrorCode, message: string): HttpAnswer {
  const { http, hint, retryable } = errorTable[code];
  const retry = retryable ? { "retry-after": String(RETRY_AFTER_S) } : {};
  return jsonAnswer(http, { error: { code, message, hint, retryable } }, { ...NO_STORE, ...retry });
}

/** The answer to anything a handler threw. What is not of the table tells a stranger nothing. */
export const failureAnswer = (error: unknown): HttpAnswer =>
  error instanceof EngineError ? errorAnswer(error.code, error.message) : errorAnswer("FAILED", "the request failed inside the node; its log says why");

/** Shared: nobody changes a query. */
const NO_QUERY = new URLSearchParams();

/** Path and query of a raw target, split at the first question mark and not decoded. */
export function splitTarget(target: string): { path: string; query: URLSearchParams } {
  const at = target.indexOf("?");
  return at < 0 ? { path: target, query: NO_QUERY } : { path: target.slice(0, at), query: new URLSearchParams(target.slice(at + 1)) };
}

/** A method that the path does not have. */
export function methodRefused(method: string, allowed: string): HttpAnswer {
  const answer = errorAnswer("HTTP_METHOD", `${method} is not for this path: want ${allowed}`);
  return { ...answer, headers: { ...answer.headers, allow: allowed } };
}
