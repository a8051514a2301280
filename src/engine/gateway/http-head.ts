/**
 * The head of an HTTP/1.1 request (RFC 9112 sections 3, 5 and 6), from text to fields. Strict wherever two readers could take
 * one request for two: lines end in CRLF alone, nothing is folded, a name touches its colon, a length is digits and stands
 * once, beside no transfer coding, and the only coding is `chunked`. The target is handed on as it came.
 */

/** Request line and headers, with the empty line. */
export const HEAD_BYTES_MAX = 16 * 1_024;
const HEADERS_MAX = 100;

export type HttpHead = {
  readonly method: string;
  readonly target: string;
  /** By lower-case name; one that stands several times is joined by commas. */
  readonly headers: ReadonlyMap<string, string>;
  /** What follows the head, in bytes; null where it comes in chunks. */
  readonly bodyBytes: number | null;
  readonly wantsContinue: boolean;
  /** Of the client's HTTP/1: 0 knows no chunks. */
  readonly minor: 0 | 1;
  /** The client sends nothing behind this request. */
  readonly isLast: boolean;
};

const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]+) HTTP\/(\d)\.(\d)$/;
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Control characters: a lone CR or LF is among them, since lines were split at CRLF. */
const FORBIDDEN = /[^\t -~\x80-\xff]/;
const LENGTH = /^[0-9]{1,15}$/;
const CLOSE = /(?:^|,)[ \t]*close[ \t]*(?:,|$)/i;
/** A second one would be another request to whoever takes the other. */
const ONCE = new Set(["host", "content-length"]);

/** `text`: everything before the empty line, a byte a character. Where it is no request that can be answered: the status that says so. */
export function parseHead(text: string): HttpHead | number {
  const lines = text.split("\r\n");
  const [, method, target, major, minor] = REQUEST_LINE.exec(lines[0] ?? "") ?? [];
  if (method === undefined || target === undefined) return 400;
  if (major !== "1") return 505;
  if (lines.length > HEADERS_MAX + 1) return 431;
  const headers = parseHeaders(lines);
  if (headers === null) return 400;
  const bodyBytes = bodyBytesOf(headers, minor === "0");
  if (Number.isNaN(bodyBytes) || (minor !== "0" && !headers.has("host"))) return 400;
  const expected = headers.get("expect")?.toLowerCase();
  if (expected !== undefined && expected !== "100-continue") return 417;
  return {
    method,
    target,
    headers,
    bodyBytes,
    wantsContinue: expected !== undefined,
    minor: minor === "0" ? 0 : 1,
    isLast: minor === "0" || CLOSE.test(headers.get("connection") ?? ""),
  };
}

/** Null where a line is no header. */
function parseHeaders(lines: readonly string[]): Map<string, string> | null {
  const headers = new Map<string, string>();
  for (let at = 1; at < lines.length; at++) {
    const line = lines[at] as string;
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(0, colon)).toLowerCase();
    if (!NAME.test(name) || FORBIDDEN.test(line)) return null;
    const value = line.slice(colon + 1).trim();
    const before = headers.get(name);
    if (before !== undefined && ONCE.has(name)) return null;
    headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return headers;
}

/** NaN where nobody can tell where the body ends. */
function bodyBytesOf(headers: ReadonlyMap<string, string>, isOld: boolean): number | null {
  const length = headers.get("content-length");
  const coding = headers.get("transfer-encoding");
  if (coding !== undefined) return length === undefined && !isOld && coding.toLowerCase() === "chunked" ? null : Number.NaN;
  if (length === undefined) return 0;
  return LENGTH.test(length) ? Number(length) : Number.NaN;
}
