/** Links over real sockets: requests and answers, and what bounds each of them. Refusals are in link-refusals.test.ts. */
import { afterEach, describe, expect, test } from "bun:test";
import { EngineError } from "../../src/engine/base/errors.ts";
import type { Answer, Request } from "../../src/engine/wire/messages.ts";
import { REKEY_LIMITS } from "../../src/engine/wire/sealed.ts";
import { a, ask, b, type Client, cleanUp, dial, echo, HOST, hexOf, identityOf, kept, listen, log, member, until, wire, works } from "./net.ts";

afterEach(cleanUp);

/** Handlers that answer when told to. */
function gate() {
  const waiting: (() => void)[] = [];
  const onRequest = (_: unknown, body: Request): Promise<Answer> => new Promise((resolve) => waiting.push(() => resolve(echo(_, body))));
  const release = (count = waiting.length) => {
    for (const each of waiting.splice(0, count)) each();
  };
  return { waiting, onRequest, release };
}

describe("requests and answers", () => {
  test("the listener knows who asks, the answer comes back under the id of its request", async () => {
    const asked: string[] = [];
    const server = await listen({
      onRequest: async (from, body) => {
        asked.push(from);
        return echo(from, body);
      },
    });
    const client = dial(server.port);
    client.send(Number.MAX_SAFE_INTEGER, ask(7));
    await until(() => client.answers.length === 1, "the answer");
    expect(client.answers).toEqual([[Number.MAX_SAFE_INTEGER, kept(7)]]);
    expect(asked).toEqual(["a"]);
    expect(server.requests).toEqual([ask(7)]);
  });
  test("what is sent before the handshake's end arrives, in order", async () => {
    const server = await listen();
    const client = dial(server.port);
    for (let i = 0; i < 500; i++) client.send(i, ask(i));
    expect(client.queuedBytes()).toBeGreaterThan(500 * 30);
    await until(() => client.answers.length === 500, "500 answers");
    expect(server.requests).toEqual(Array.from({ length: 500 }, (_, i) => ask(i)));
    expect(client.answers).toEqual(Array.from({ length: 500 }, (_, i) => [i, kept(i)]));
    expect(client.queuedBytes()).toBe(0);
  });
  test("answers may come in another order", async () => {
    const { waiting, onRequest } = gate();
    const server = await listen({ onRequest });
    const client = dial(server.port);
    for (const id of [1, 2, 3]) client.send(id, ask(id));
    await until(() => waiting.length === 3, "three requests");
    for (const [place, count] of [2, 0, 1].entries()) {
      waiting[count]?.();
      await until(() => client.answers.length === place + 1, "the next answer");
    }
    expect(client.answers.map(([id]) => id)).toEqual([3, 1, 2]);
  });
  test("messages of 1 MiB, both ways, many at once", async () => {
    const fill = (byte: number) => new Uint8Array(1_024 * 1_024).fill(byte);
    const server = await listen({ onRequest: async (_, body) => ({ kind: "copy.piece", bytes: body.kind === "copy.entries" ? body.bundle : log }) });
    const client = dial(server.port);
    for (let i = 0; i < 24; i++) client.send(i, { kind: "copy.entries", log, epoch: 1, start: i, bundle: fill(i) });
    await until(() => client.answers.length === 24, "24 answers");
    for (const [id, answer] of client.answers) expect(answer.kind === "copy.piece" && Bun.deepEquals(answer.bytes, fill(id))).toBe(true);
  });
  test("an EngineError of the handler becomes a refusal with its code", async () => {
    const server = await listen({ onRequest: () => Promise.reject(new EngineError("LOG_BUSY", "7 entries wait, at most 6")) });
    const client = dial(server.port);
    await works(client);
    expect(client.answers[0]?.[1]).toMatchObject({ kind: "refused", code: "LOG_BUSY", text: "7 entries wait, at most 6", retry: true });
    expect(client.lost).toEqual([]);
  });
  test("any other error of the handler stops the process", async () => {
    const script = `
      import { listen, dial, ask } from "./test/wire/net.ts";
      const server = await listen({ onRequest: async () => { throw new TypeError("a mistake of ours"); } });
      dial(server.port).send(1, ask(1));
      setTimeout(() => process.exit(0), 4000);`;
    const child = Bun.spawn([process.execPath, "-e", script], { cwd: `${import.meta.dir}/../..`, stderr: "pipe", env: { ...process.env, BUN_BE_BUN: "1" } });
    expect(await new Response(child.stderr).text()).toContain("a mistake of ours");
    expect(await child.exited).toBe(1);
  });
  test("a request sent twice under one id is answered twice on the wire, and told once", async () => {
    const { waiting, onRequest, release } = gate();
    const server = await listen({ onRequest });
    const client = dial(server.port);
    client.send(1, ask(1));
    client.send(1, ask(1));
    client.send(2, ask(2));
    await until(() => waiting.length === 3, "all three requests");
    release();
    await until(() => client.answers.length === 2, "both answers");
    expect(client.answers).toEqual([
      [1, kept(1)],
      [2, kept(2)],
    ]);
  });
});

test("both sides change keys under way, and the link goes on", async () => {
  const server = await listen();
  const client = dial(server.port);
  const count = REKEY_LIMITS.framesPerKey + 2_000;
  const step = 2_000; // so that no queue is long
  for (let sent = 0; sent < count; ) {
    for (const end = Math.min(count, sent + step); sent < end; sent++) client.send(sent, ask(sent));
    await until(() => client.answers.length === sent || client.lost.length > 0, "the answers");
  }
  expect(client.lost).toEqual([]);
  expect(client.answers.at(-1)).toEqual([count - 1, kept(count - 1)]);
}, 20_000);

describe("bounds", () => {
  test("a connection has at most so many requests in work; the rest waits, and then is served", async () => {
    const { waiting, onRequest, release } = gate();
    const server = await listen({ onRequest, limits: { inFlightCountMax: 4 } });
    const client = dial(server.port);
    for (let i = 0; i < 50; i++) client.send(i, ask(i));
    await until(() => waiting.length === 4, "four requests");
    await Bun.sleep(50); // more would come now, if it could
    expect(server.requests.length).toBe(4);
    expect(server.stats().inFlightCount).toBe(4);
    while (client.answers.length < 50) {
      expect(waiting.length).toBeLessThanOrEqual(4);
      release(1);
      await Bun.sleep(1);
    }
    expect(client.answers.map(([id]) => id)).toEqual(Array.from({ length: 50 }, (_, i) => i));
  });
  test("a connection holds at most so many bytes of requests: the socket is not read, and the sender sees its queue grow", async () => {
    const { waiting, onRequest, release } = gate();
    const server = await listen({ onRequest, limits: { heldBytesMax: 2_000_000 } });
    const client = dial(server.port);
    const bundle = new Uint8Array(1_000_000);
    for (let i = 0; i < 40; i++) client.send(i, { kind: "copy.entries", log, epoch: 1, start: i, bundle });
    await until(() => waiting.length === 2, "two requests");
    await Bun.sleep(100);
    expect(server.requests.length).toBe(2);
    expect(client.queuedBytes()).toBeGreaterThan(20_000_000); // the kernel took some of 38 MB
    while (client.answers.length < 40) {
      release();
      await Bun.sleep(1);
    }
    expect(client.queuedBytes()).toBe(0);
  });
  test("answers that are not taken count too, and a peer that takes none is cut off", async () => {
    const piece: Answer = { kind: "copy.piece", bytes: new Uint8Array(1_000_000) };
    const server = await listen({ onRequest: async () => piece, limits: { heldBytesMax: 3_000_000, stallMs: 300 } });
    const deaf = await member(server.port);
    deaf.socket.pause();
    const { requests } = await import("../../src/engine/wire/messages.ts");
    for (let i = 0; i < 64; i++) deaf.socket.write(deaf.sealer.seal(new Uint8Array(8).fill(i, 7), requests.encode(ask(i))));
    await until(() => server.refused.length === 1, "the end of the connection");
    expect(server.refused[0]).toMatchObject({ code: "TIMEOUT" });
    expect(server.refused[0]?.message).toContain("took nothing");
    expect(server.requests.length).toBeLessThan(64);
    expect(server.stats().openCount).toBe(0);
  });
  test("a queue above its bound loses the link, once, and not from within send", async () => {
    const server = await listen();
    const client = dial(server.port, { limits: { queueBytesMax: 1_000 } });
    for (let i = 0; i < 100; i++) client.send(i, ask(i));
    expect(client.lost).toEqual([]);
    await until(() => client.lost.length > 0, "the loss");
    await Bun.sleep(20);
    expect(client.lost.map(({ code }) => code)).toEqual(["UNAVAILABLE"]);
    expect(client.lost[0]?.message).toMatch(/bytes wait, at most 1000/);
    expect(server.requests).toEqual([]);
  });
  test("a further connection of a peer replaces its oldest", async () => {
    const server = await listen({ limits: { peerCountMax: 3 } });
    const clients: Client[] = [];
    for (let i = 0; i < 5; i++) {
      const client = dial(server.port);
      await works(client);
      clients.push(client);
    }
    await until(() => server.stats().openCount === 3 && clients[1]?.lost.length === 1, "three connections");
    expect(clients.map(({ lost }) => lost.length)).toEqual([1, 1, 0, 0, 0]);
    expect(server.stats().endedCount).toEqual({ UNAVAILABLE: 2 });
  });
  test("peers do not push each other out: the cap is each one's own", async () => {
    const c = identityOf("c", 3);
    const allow = new Map([
      [hexOf(a), a.node],
      [hexOf(c), c.node],
    ]);
    const server = await listen({ allow: () => allow, limits: { peerCountMax: 1 } });
    const first = dial(server.port);
    const second = dial(server.port, { identity: c });
    await works(first);
    await works(second);
    await works(first, 2);
    expect(server.stats().openCount).toBe(2);
  });
  test("above the cap of all connections a further one is refused", async () => {
    const server = await listen({ limits: { connectionCountMax: 2 } });
    const clients = [dial(server.port), dial(server.port)];
    for (const client of clients) await works(client);
    const third = dial(server.port);
    await until(() => third.lost.length === 1, "the refusal");
    expect(third.lost[0]?.code).toBe("HANDSHAKE_FAILED");
    expect(server.stats().endedCount).toEqual({ UNAVAILABLE: 1 });
    for (const client of clients) await works(client, 2);
    clients[0]?.close();
    await until(() => server.stats().openCount === 1, "room");
    await works(dial(server.port));
  });
});

describe("ends", () => {
  test("nobody listens: lost once, and what was sent is gone", async () => {
    const server = await listen();
    await server.close();
    const client = dial(server.port);
    client.send(1, ask(1));
    await until(() => client.lost.length > 0, "the loss");
    await Bun.sleep(20);
    expect(client.lost.map(({ code }) => code)).toEqual(["UNAVAILABLE"]);
    client.send(2, ask(2)); // a finished link takes and forgets
    expect(client.queuedBytes()).toBe(0);
    expect(client.lost.length).toBe(1);
  });
  test("a port that is taken", async () => {
    const server = await listen();
    await expect(listen({ port: server.port })).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });
  test("a link that is closed calls nobody, and its peer forgets it without a complaint", async () => {
    const server = await listen();
    const client = dial(server.port);
    await works(client);
    client.send(2, ask(2));
    client.close();
    await until(() => server.stats().openCount === 0, "the end");
    expect(client.lost).toEqual([]);
    expect(client.answers.length).toBe(1);
    expect(server.refused).toEqual([]);
    expect(server.requests).toEqual([ask(1), ask(2)]); // what was queued left before the goodbye
  });
  test("a link closed before its handshake leaves nothing behind", async () => {
    const server = await listen();
    const client = dial(server.port);
    client.close();
    await Bun.sleep(50);
    expect(client.lost).toEqual([]);
    expect(server.stats()).toMatchObject({ openCount: 0, halfOpenCount: 0 });
  });
  test("a listener that closes says goodbye, and answers in work are dropped", async () => {
    const { waiting, onRequest, release } = gate();
    const server = await listen({ onRequest });
    const client = dial(server.port);
    client.send(1, ask(1));
    await until(() => waiting.length === 1, "the request");
    await server.close();
    release();
    await until(() => client.lost.length === 1, "the goodbye");
    expect(client.lost[0]?.message).toBe(`b at ${HOST}:${server.port}: closed the link`);
    expect(client.answers).toEqual([]);
  });
  test("a connection that is cut is told from one that was closed", async () => {
    const server = await listen();
    const middle = await wire(server.port, (_, frame) => [frame]);
    const client = dial(middle.port);
    await works(client);
    middle.cut();
    await until(() => client.lost.length === 1 && server.refused.length === 1, "both ends to see it");
    for (const reason of [client.lost[0], server.refused[0]]) {
      expect(reason?.code).toBe("UNAVAILABLE");
      expect(reason?.message).not.toContain("closed the link");
    }
    expect(server.stats().openCount).toBe(0);
  });
  test("a peer that vanishes, its machine still holding the connection: lost with the first request that is late", async () => {
    let isGone = false;
    const server = await listen();
    const middle = await wire(server.port, (_, frame) => (isGone ? [] : [frame]));
    const client = dial(middle.port, { limits: { answerMs: 2_000 } });
    await works(client);
    isGone = true;
    const start = performance.now();
    client.send(2, ask(2));
    await until(() => client.lost.length === 1, "the loss");
    expect(performance.now() - start).toBeGreaterThan(1_900);
    expect(client.lost[0]).toMatchObject({ code: "TIMEOUT" });
    expect(client.lost[0]?.message).toContain("request 2 was not answered within 2000 ms");
  });
  test("answers that come in time keep a link for longer than one deadline", async () => {
    const server = await listen();
    const client = dial(server.port, { limits: { answerMs: 1_500 } });
    for (let i = 0; i < 12; i++) {
      await works(client, i);
      await Bun.sleep(250);
    }
    expect(client.lost).toEqual([]);
  });
  test("a new link works at once after the old one was lost", async () => {
    const server = await listen();
    const middle = await wire(server.port, (_, frame) => [frame]);
    const first = dial(middle.port);
    await works(first);
    middle.cut();
    await until(() => first.lost.length === 1, "the loss");
    await works(dial(middle.port));
    expect(server.stats().openCount).toBe(1);
    expect(b.node).toBe("b" as typeof b.node);
  });
});
