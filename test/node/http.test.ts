/** The HTTP server against clients that mean no good: paths, slowness, size, framing. Raw sockets, so that nothing is tidied on the way. */
import { afterEach, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { type HttpHandler, textAnswer } from "../../src/engine/gateway/http-types.ts";
import { HTTP_LIMITS, type HttpLimits, type HttpServer, listenHttp } from "../../src/engine/node/http.ts";

const BODY_MAX = 1_000;
const QUICK: HttpLimits = { ...HTTP_LIMITS, headersMs: 150, bodyMs: 150, answerMs: 2_000 };

/** Answers with what it saw: method, raw target, length of the body. */
const echo: HttpHandler = async (request) => {
  const body = request.method === "POST" ? await request.body(BODY_MAX, "HTTP_BODY_TOO_LARGE") : utf8("");
  return textAnswer(200, "text/plain", `${request.method} ${request.target} ${body.length}`);
};

const open: HttpServer[] = [];
async function serve(handle: HttpHandler, limits: HttpLimits = QUICK): Promise<number> {
  const server = await listenHttp({ host: "127.0.0.1", port: 0 }, handle, limits);
  open.push(server);
  return server.port;
}
afterEach(async () => {
  for (const server of open.splice(0)) await server.close(0);
});

type Said = { readonly text: string; readonly closedAfterMs: number };
/** Sends the parts with a pause between them; resolves with all that came when the server closed, or after `holdMs`. */
function talk(port: number, parts: readonly (string | Uint8Array)[], { gapMs = 0, holdMs = 1_500 } = {}): Promise<Said> {
  const started = performance.now();
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let text = "";
    let isOver = false;
    const end = (): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      socket.destroy();
      resolve({ text, closedAfterMs: performance.now() - started });
    };
    const timer = setTimeout(end, holdMs);
    socket.on("data", (chunk: Uint8Array) => {
      text += Buffer.from(chunk).toString("latin1");
    });
    socket.on("close", end).on("error", () => {});
    socket.on("connect", async () => {
      for (const part of parts) {
        if (isOver) return;
        socket.write(part);
        if (gapMs > 0) await Bun.sleep(gapMs);
      }
    });
  });
}
const statusOf = (said: Said): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(said.text)?.[1] ?? 0);

describe("targets", () => {
  test("a target arrives as it was sent: no dots resolved, nothing decoded", async () => {
    const port = await serve(echo);
    for (const target of ["/log/../../etc/passwd", "/log/%2e%2e/x", "//log//checkpoint", "/log/tile/0/000%2Fp", "/a?b=c?d=%00"]) {
      const said = await talk(port, [`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`]);
      expect(said.text).toContain(`GET ${target} 0`);
    }
  });
});

describe("slowness", () => {
  test("headers sent a byte at a time end with the deadline, whatever each byte resets", async () => {
    const port = await serve(echo);
    const said = await talk(port, [..."GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"], { gapMs: 20 });
    expect(said.text).toBe("");
    expect(said.closedAfterMs).toBeLessThan(1_000);
  });

  test("a connection that says nothing is closed", async () => {
    const port = await serve(echo);
    // The kernel itself holds a silent connection back for a second before the server sees it.
    expect((await talk(port, [], { holdMs: 3_000 })).closedAfterMs).toBeLessThan(2_000);
  });

  test("a connection kept alive has the same deadline for its next request", async () => {
    const port = await serve(echo);
    const said = await talk(port, ["GET /one HTTP/1.1\r\nHost: x\r\n\r\n"]);
    expect(said.text).toContain("GET /one 0");
    expect(said.closedAfterMs).toBeLessThan(1_000);
  });

  test("a client that does not take its answer is cut off, and its place comes free", async () => {
    const port = await serve(() => ({ status: 200, headers: {}, body: new Uint8Array(64 * 1_024 * 1_024) }), {
      ...QUICK,
      answerMs: 200,
      connectionsPerClientMax: 1,
    });
    const lazy = connect(port, "127.0.0.1", () => lazy.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    lazy.pause();
    lazy.on("error", () => {});
    await Bun.sleep(100);
    expect((await talk(port, ["GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"], { holdMs: 300 })).text).toBe("");
    await Bun.sleep(300);
    expect(statusOf(await talk(port, ["GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]))).toBe(200);
    lazy.destroy();
  });

  test("a body sent a byte at a time ends with the deadline", async () => {
    const port = await serve(echo);
    const said = await talk(port, ["POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n", ..."x".repeat(60)], { gapMs: 20 });
    expect(statusOf(said)).toBe(408);
    expect(said.closedAfterMs).toBeLessThan(1_000);
  });
});

describe("size", () => {
  test("a body announced too long is refused before a byte of it is read", async () => {
    const port = await serve(echo);
    const said = await talk(port, [`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${BODY_MAX + 1}\r\n\r\n`]);
    expect(statusOf(said)).toBe(413);
    expect(said.text).toContain('"code":"HTTP_BODY_TOO_LARGE"');
    expect(said.closedAfterMs).toBeLessThan(1_000);
  });

  test("with Expect: 100-continue it is refused instead of continued", async () => {
    const port = await serve(echo);
    const head = (length: number): string => `POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: ${length}\r\n\r\n`;
    const refused = await talk(port, [head(BODY_MAX + 1)]);
    expect(refused.text).toStartWith("HTTP/1.1 413");
    const taken = await talk(port, [head(3), "abc"], { gapMs: 30 });
    expect(taken.text).toStartWith("HTTP/1.1 100");
    expect(taken.text).toContain("POST / 3");
  });

  test("a chunked body is cut off where it passes the limit", async () => {
    const port = await serve(echo);
    const chunk = `1f4\r\n${"x".repeat(500)}\r\n`;
    const said = await talk(port, ["POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", chunk, chunk, chunk, chunk], { gapMs: 5 });
    expect(statusOf(said)).toBe(413);
    expect(said.closedAfterMs).toBeLessThan(1_000);
  });

  test("a chunked body with trailers is read whole", async () => {
    const port = await serve(echo);
    const said = await talk(port, [
      "POST /t HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 7\r\n\r\n",
    ]);
    expect(said.text).toContain("POST /t 5");
  });

  test("bodies beyond the budget of all are refused, and the budget comes back", async () => {
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const handle: HttpHandler = async (request) => {
      const body = await request.body(BODY_MAX, "HTTP_BODY_TOO_LARGE");
      if (request.target === "/hold") await held;
      return textAnswer(200, "text/plain", `${body.length}`);
    };
    const port = await serve(handle, { ...QUICK, bodyBytesMax: 1_000 });
    const post = (target: string): Promise<Said> =>
      talk(port, [`POST ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 600\r\n\r\n${"x".repeat(600)}`]);
    const first = post("/hold");
    await Bun.sleep(50);
    expect(statusOf(await post("/"))).toBe(503);
    release();
    expect(statusOf(await first)).toBe(200);
    expect(statusOf(await post("/"))).toBe(200);
  });
});

describe("framing", () => {
  test("two lengths, a bad method and control bytes are refused and the connection ends", async () => {
    const port = await serve(echo);
    for (const request of [
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
      "\x00\x01 / HTTP/1.1\r\n\r\n",
    ]) {
      const said = await talk(port, [request]);
      expect(said.text).not.toContain("200 OK");
      expect(said.closedAfterMs).toBeLessThan(1_000);
    }
  });

  test("a body that no handler read does not become the next request", async () => {
    const port = await serve(echo);
    const hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    const said = await talk(port, [`PUT /one HTTP/1.1\r\nHost: x\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`]);
    expect(said.text).toContain("PUT /one 0");
    expect(said.text).not.toContain("/hidden");
  });
});

describe("one after the other", () => {
  test("requests sent ahead are answered in their order, however they are cut", async () => {
    const handle: HttpHandler = async (request) => {
      const body = request.method === "POST" ? await request.body(BODY_MAX, "HTTP_BODY_TOO_LARGE") : utf8("");
      await Bun.sleep(request.target === "/1" ? 30 : 0);
      return textAnswer(200, "text/plain", `[${request.target} ${body.length}]`);
    };
    const port = await serve(handle);
    const requests = [
      "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
      "POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
      "\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\n",
      "HEAD /4 HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /6 HTTP/1.1\r\nHost: x\r\n\r\n",
    ].join("");
    for (const size of [requests.length, 50, 7]) {
      const parts = Array.from({ length: Math.ceil(requests.length / size) }, (_, at) => requests.slice(at * size, (at + 1) * size));
      const said = await talk(port, parts, { gapMs: size === requests.length ? 0 : 1 });
      expect(said.text.match(/\[[^\]]*\]/g)).toEqual(["[/1 5]", "[/2 3]", "[/3 0]", "[/5 0]"]);
      expect(said.text.match(/HTTP\/1\.1 200/g)).toHaveLength(5);
    }
  });

  test("a client that sends ahead without end is not read without end", async () => {
    const slow: HttpHandler = async () => {
      await Bun.sleep(1_000);
      return textAnswer(200, "text/plain", "done");
    };
    const port = await serve(slow, HTTP_LIMITS);
    const flood = Buffer.alloc(32 * 1_024 * 1_024, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    await new Promise<void>((resolve) => socket.once("connect", resolve));
    const memoryBefore = process.memoryUsage.rss();
    socket.write(flood);
    await Bun.sleep(200);
    expect(socket.writableLength).toBeGreaterThan(flood.length / 2); // the rest waits at the client
    expect(process.memoryUsage.rss() - memoryBefore).toBeLessThan(flood.length);
    socket.destroy();
  });

  test("what is no request has a status and an end", async () => {
    const port = await serve(echo);
    const said = async (request: string): Promise<number> => statusOf(await talk(port, [request]));
    expect(await said("GET / HTTP/1.1\nHost: x\n\n")).toBe(400);
    expect(await said("GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n")).toBe(400);
    expect(await said(`GET / HTTP/1.1\r\nHost: x\r\nx-a: ${"y".repeat(20_000)}`)).toBe(431);
    expect(await said("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")).toBe(400);
    expect(await said("GET / HTTP/1.0\r\n\r\n")).toBe(200);
  });
});

describe("streams", () => {
  const pieces = async function* (count: number, each: Uint8Array): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < count; at++) yield each;
  };
  const streaming =
    (make: (signal: AbortSignal) => AsyncIterable<Uint8Array>): HttpHandler =>
    ({ signal }) => ({ status: 200, headers: {}, body: utf8(""), stream: make(signal) });

  test("a stream comes in chunks and the connection goes on; an old client reads to the end", async () => {
    const port = await serve(streaming(() => pieces(3, utf8("abc"))));
    const kept = await talk(port, ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"], { gapMs: 30 });
    expect(kept.text.match(/3\r\nabc\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n/g)).toHaveLength(2);
    const old = await talk(port, ["GET / HTTP/1.0\r\n\r\n"]);
    expect(old.text.endsWith("\r\n\r\nabcabcabc")).toBe(true);
  });

  test("a client that leaves ends its stream; one that does not read is cut off and holds no more than a few pieces", async () => {
    let ended = 0;
    let made = 0;
    const port = await serve(
      streaming(async function* (signal) {
        try {
          for (; !signal.aborted; made++) yield new Uint8Array(1_024 * 1_024);
        } finally {
          ended++;
        }
      }),
      { ...QUICK, answerMs: 300 },
    );
    for (const isLeaving of [true, false]) {
      const socket = connect(port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
      socket.pause();
      socket.on("error", () => {});
      await Bun.sleep(150);
      if (isLeaving) socket.destroy();
      for (const untilMs = performance.now() + 2_000; performance.now() < untilMs && ended < (isLeaving ? 1 : 2); ) await Bun.sleep(10);
      socket.destroy();
    }
    expect(ended).toBe(2);
    expect(made).toBeLessThan(50);
  });

  test("a stream that fails does not look like one that ended", async () => {
    const port = await serve(
      streaming(async function* () {
        yield utf8("abc");
        throw new Error("planted");
      }),
    );
    const said = await talk(port, ["GET / HTTP/1.1\r\nHost: x\r\n\r\n"]);
    expect(said.text).toContain("abc");
    expect(said.text).not.toContain("0\r\n\r\n");
  });
});

describe("many", () => {
  test("connections beyond the cap of one client are closed at once, and a place comes free again", async () => {
    const port = await serve(echo, { ...QUICK, headersMs: 400, connectionsPerClientMax: 2 });
    const idle = [talk(port, ["GET"]), talk(port, ["GET"])];
    await Bun.sleep(50);
    const refused = await talk(port, ["GET / HTTP/1.1\r\nHost: x\r\n\r\n"]);
    expect(refused.text).toBe("");
    await Promise.all(idle);
    expect(statusOf(await talk(port, ["GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]))).toBe(200);
  });

  test("close lets a request in progress end and takes no new one", async () => {
    const server = await listenHttp({ host: "127.0.0.1", port: 0 }, async () => {
      await Bun.sleep(150);
      return textAnswer(200, "text/plain", "late");
    });
    const asked = talk(server.port, ["GET / HTTP/1.1\r\nHost: x\r\n\r\n"]);
    await Bun.sleep(50);
    const closing = server.close(2_000);
    expect((await talk(server.port, ["GET / HTTP/1.1\r\nHost: x\r\n\r\n"], { holdMs: 300 })).text).toBe("");
    expect((await asked).text).toContain("late");
    await closing;
  });

  test("a handler that throws tells a stranger nothing", async () => {
    const port = await serve(() => {
      throw new Error("secret path /var/lib");
    });
    const said = await talk(port, ["GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]);
    expect(statusOf(said)).toBe(500);
    expect(said.text).not.toContain("secret");
  });
});
