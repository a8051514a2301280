/** Heads and bodies of HTTP requests: what was written is read, however it is cut, and nothing that two readers could take for two things is read at all. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { concatBytes, utf8 } from "../../src/engine/base/bytes.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { BodyReader } from "../../src/engine/gateway/http-body.ts";
import { parseHead } from "../../src/engine/gateway/http-head.ts";

const LIMIT = { bytesMax: 10_000, tooLarge: "HTTP_BODY_TOO_LARGE" } as const;
const piece = fc.uint8Array({ minLength: 1, maxLength: 60 });
const cuts = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 20 });

/** All of it, a few bytes at a time, as long as the reader takes everything; how much it took. */
function feed(reader: BodyReader, bytes: Uint8Array, sizes: readonly number[]): number {
  let at = 0;
  for (let turn = 0; at < bytes.length && !reader.isDone; turn++) {
    const part = bytes.subarray(at, at + (sizes[turn % sizes.length] ?? 1));
    const taken = reader.push(part);
    at += taken;
    if (taken < part.length) break;
  }
  return at;
}

type Chunk = { readonly data: Uint8Array; readonly isUpper: boolean; readonly extension: string };
const chunk: fc.Arbitrary<Chunk> = fc.record({ data: piece, isUpper: fc.boolean(), extension: fc.constantFrom("", ";a=b", " ; x", "\t") });
const sizeOf = ({ data, isUpper }: Chunk): string => (isUpper ? `0${data.length.toString(16).toUpperCase()}` : data.length.toString(16));
const written = (chunks: readonly Chunk[], trailers: readonly string[]): Uint8Array =>
  concatBytes(
    ...chunks.flatMap((each) => [utf8(`${sizeOf(each)}${each.extension}\r\n`), each.data, utf8("\r\n")]),
    utf8(`0\r\n${trailers.map((each) => `${each}\r\n`).join("")}\r\n`),
  );
const trailers = fc.array(fc.constantFrom("x-sum: 7", 'etag: "1"', "x-empty:"), { maxLength: 3 });

describe("a body in chunks", () => {
  test("is its data, wherever it is cut, and leaves what comes behind it", () => {
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 8 }), trailers, cuts, piece, (chunks, ends, sizes, behind) => {
        const bytes = written(chunks, ends);
        const reader = new BodyReader(null, LIMIT);
        expect(feed(reader, concatBytes(bytes, behind), sizes)).toBe(bytes.length);
        expect(reader.isDone).toBe(true);
        expect(reader.whole()).toEqual(concatBytes(...chunks.map(({ data }) => data)));
      }),
    );
  });

  test("is not done before its last byte", () => {
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 4 }), trailers, fc.nat(), (chunks, ends, at) => {
        const bytes = written(chunks, ends);
        const reader = new BodyReader(null, LIMIT);
        reader.push(bytes.subarray(0, at % bytes.length));
        expect(reader.isDone).toBe(false);
      }),
    );
  });

  test("is refused where it is none, and where it is too long before its data came", () => {
    const codeOf = (text: string): string => {
      try {
        new BodyReader(null, { ...LIMIT, bytesMax: 8 }).push(utf8(text));
        return "taken";
      } catch (error) {
        return error instanceof EngineError ? error.code : "thrown";
      }
    };
    for (const text of [
      "zz\r\n",
      "\r\n",
      "3\n",
      "-3\r\n",
      "0x3\r\n",
      "3\r\nabcd\r\n",
      "3 3\r\n",
      `1${";".padEnd(2_000, "x")}`,
      "123456789\r\n",
      `0\r\n${"a: b\r\n".repeat(3_000)}`,
    ])
      expect([text.slice(0, 20), codeOf(text)]).toEqual([text.slice(0, 20), "USAGE"]);
    expect(codeOf("9\r\n")).toBe("HTTP_BODY_TOO_LARGE");
    expect(codeOf("5\r\nabcde\r\n4\r\n")).toBe("HTTP_BODY_TOO_LARGE");
    expect(codeOf("5\r\nabcde\r\n3\r\nabc\r\n0\r\n\r\n")).toBe("taken");
  });
});

test("a body of a known length takes so many bytes and no more", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), piece, cuts, (body, behind, sizes) => {
      const reader = new BodyReader(body.length, LIMIT);
      expect(feed(reader, concatBytes(body, behind), sizes)).toBe(body.length);
      expect(reader.whole()).toEqual(body);
    }),
  );
});

describe("heads", () => {
  const name = fc.constantFrom("x-a", "X-A", "If-Match", "Accept", "authorization", "x-cairn-min-version");
  const value = fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/);
  const field = fc.tuple(name, value, fc.constantFrom("", " ", "\t ", "  "));

  test("say what was written: method and target as they were, names in lower case, values without what surrounds them", () => {
    const target = fc.stringMatching(/^\/[!-~]{0,40}$/);
    fc.assert(
      fc.property(fc.constantFrom("GET", "PUT", "M-SEARCH", "get"), target, fc.array(field, { maxLength: 8 }), (method, path, fields) => {
        const text = [`${method} ${path} HTTP/1.1`, "Host: a", ...fields.map(([key, said, space]) => `${key}:${space}${said}${space}`)].join("\r\n");
        const head = parseHead(text);
        if (typeof head === "number") throw new Error(`refused with ${head}`);
        const wanted = new Map<string, string[]>([["host", ["a"]]]);
        for (const [key, said] of fields) wanted.set(key.toLowerCase(), [...(wanted.get(key.toLowerCase()) ?? []), said]);
        expect([head.method, head.target]).toEqual([method, path]);
        expect([...head.headers].sort()).toEqual([...wanted].map(([key, all]) => [key, all.join(", ")] as [string, string]).sort());
      }),
    );
  });

  const refused: readonly (readonly [status: number, lines: readonly string[]])[] = [
    [400, [""]],
    [400, ["GET /"]],
    [400, ["GET  / HTTP/1.1", "Host: a"]],
    [400, ["GET / HTTP/1.1 ", "Host: a"]],
    [400, ["GET /a b HTTP/1.1", "Host: a"]],
    [400, ["GET /\x7f HTTP/1.1", "Host: a"]],
    [400, ["GET /\xfc HTTP/1.1", "Host: a"]],
    [400, ["GE\x00T / HTTP/1.1", "Host: a"]],
    [400, ["GET / http/1.1", "Host: a"]],
    [505, ["GET / HTTP/2.0", "Host: a"]],
    [400, ["GET / HTTP/1.1"]],
    [400, ["GET / HTTP/1.1", "Host: a", "Host: a"]],
    [400, ["GET / HTTP/1.1", "Host: a", "x-a : 1"]],
    [400, ["GET / HTTP/1.1", "Host: a", " folded"]],
    [400, ["GET / HTTP/1.1", "Host: a", "x-a: 1\n2"]],
    [400, ["GET / HTTP/1.1", "Host: a", "x-a: 1\r2"]],
    [400, ["GET / HTTP/1.1", "Host: a", "no colon"]],
    [400, ["GET / HTTP/1.1", "Host: a", ": no name"]],
    [400, ["POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Content-Length: 3"]],
    [400, ["POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Transfer-Encoding: chunked"]],
    [400, ["POST / HTTP/1.1", "Host: a", "Content-Length: +3"]],
    [400, ["POST / HTTP/1.1", "Host: a", "Content-Length: 3, 3"]],
    [400, ["POST / HTTP/1.1", "Host: a", "Content-Length: 0x3"]],
    [400, ["POST / HTTP/1.1", "Host: a", "Content-Length:"]],
    [400, ["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked"]],
    [400, ["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]],
    [400, ["POST / HTTP/1.0", "Transfer-Encoding: chunked"]],
    [417, ["POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Expect: miracles"]],
    [431, ["GET / HTTP/1.1", "Host: a", ...Array.from({ length: 100 }, (_, at) => `x-${at}: 1`)]],
  ];
  test("that are none, or could be two, have no fields but a status", () => {
    for (const [status, lines] of refused) expect([lines, parseHead(lines.join("\r\n"))]).toEqual([lines, status]);
  });

  test("tell where the body ends and whether another request may follow", () => {
    const seen = (...lines: string[]): unknown => {
      const head = parseHead(lines.join("\r\n"));
      return typeof head === "number" ? head : [head.bodyBytes, head.wantsContinue, head.isLast];
    };
    expect(seen("GET / HTTP/1.1", "Host: a")).toEqual([0, false, false]);
    expect(seen("PUT / HTTP/1.1", "Host: a", "Content-Length: 12", "Expect: 100-Continue")).toEqual([12, true, false]);
    expect(seen("PUT / HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked")).toEqual([null, false, false]);
    expect(seen("GET / HTTP/1.1", "Host: a", "Connection: x, Close")).toEqual([0, false, true]);
    expect(seen("GET / HTTP/1.1", "Host: a", "Connection: closed")).toEqual([0, false, false]);
    expect(seen("GET / HTTP/1.0")).toEqual([0, false, true]);
  });
});
