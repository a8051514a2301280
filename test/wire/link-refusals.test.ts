/**
 * Who is not let in, and what an attacker on the path or inside the cluster cannot do: each refusal over real sockets,
 * with its code where it is seen, and the proof that no request was carried out.
 */
import { afterEach, describe, expect, test } from "bun:test";
import type { EngineError } from "../../src/engine/base/errors.ts";
import { handshakeKeys, startClient } from "../../src/engine/wire/handshake.ts";
import { requests } from "../../src/engine/wire/messages.ts";
import { a, ask, b, cleanUp, cluster, dial, hexOf, identityOf, keyOf, listen, type Meddle, member, rawSocket, until, wire, works } from "./net.ts";

afterEach(cleanUp);
const codes = (list: readonly EngineError[]) => list.map(({ code }) => code);

describe("not let in", () => {
  test("a key that is not in the allow list: PEER_UNKNOWN here, and not a word to the stranger", async () => {
    const server = await listen();
    const client = dial(server.port, { identity: identityOf("a", 77) });
    client.send(1, ask(1));
    await until(() => client.lost.length === 1 && server.refused.length === 1, "both ends to see it");
    expect(codes(server.refused)).toEqual(["PEER_UNKNOWN"]);
    expect(server.stats()).toMatchObject({ openCount: 0, halfOpenCount: 0, endedCount: { PEER_UNKNOWN: 1 } });
    expect(codes(client.lost)).toEqual(["HANDSHAKE_FAILED"]);
    expect(server.requests).toEqual([]);
  });
  test("a client of another cluster", async () => {
    const server = await listen();
    const client = dial(server.port, { identity: identityOf("a", 1, new Uint8Array(32).fill(8)) });
    await until(() => client.lost.length === 1 && server.refused.length === 1, "both ends to see it");
    expect(codes(server.refused)).toEqual(["HANDSHAKE_FAILED"]);
    expect(server.refused[0]?.message).toContain("not of this cluster");
    expect(codes(client.lost)).toEqual(["HANDSHAKE_FAILED"]);
  });
  test("a server with another key than the client expects", async () => {
    const server = await listen({ identity: identityOf("b", 55) });
    const client = dial(server.port);
    client.send(1, ask(1));
    await until(() => client.lost.length === 1 && server.refused.length === 1, "both ends to see it");
    expect(codes(client.lost)).toEqual(["HANDSHAKE_FAILED"]);
    expect(codes(server.refused)).toEqual(["HANDSHAKE_FAILED"]);
    expect(server.requests).toEqual([]);
  });
  test("an old key: taken out of the list, it ends its open link at the next request, and opens no other", async () => {
    const allow = new Map([[hexOf(a), a.node]]);
    const server = await listen({ allow: () => allow });
    const client = dial(server.port);
    await works(client);
    allow.delete(hexOf(a));
    const renewed = identityOf("a", 11);
    allow.set(hexOf(renewed), renewed.node);
    client.send(2, ask(2));
    await until(() => client.lost.length === 1, "the end of the old link");
    const again = dial(server.port);
    await until(() => again.lost.length === 1, "the refusal");
    expect(codes(server.refused)).toEqual(["PEER_UNKNOWN", "PEER_UNKNOWN"]);
    expect(server.requests).toEqual([ask(1)]);
    await works(dial(server.port, { identity: renewed }));
  });
  test("bytes of another protocol", async () => {
    const server = await listen();
    const raw = await rawSocket(server.port);
    raw.socket.write(`GET / HTTP/1.1\r\nhost: ${"x".repeat(100)}\r\n\r\n`);
    await until(() => raw.isClosed, "the end");
    expect(raw.received.length).toBe(0);
    expect(codes(server.refused)).toEqual(["HANDSHAKE_FAILED"]);
  });
  test("a recorded session, played back byte for byte", async () => {
    const server = await listen();
    const sent: Uint8Array[] = [];
    const middle = await wire(server.port, (direction, frame) => {
      if (direction === "to-server") sent.push(frame);
      return [frame];
    });
    await works(dial(middle.port));
    const raw = await rawSocket(server.port);
    raw.socket.write(startClient(handshakeKeys(a.seed, cluster), keyOf(b), new Uint8Array(32).fill(3)).send);
    await until(() => raw.received.length === 64, "the server's hello");
    raw.socket.write(Buffer.concat([new Uint8Array(112), ...sent])); // a proof that fits another one-time key
    await until(() => raw.isClosed, "the end");
    expect(server.requests).toEqual([ask(1)]);
    expect(raw.received.length).toBe(64);
  });
});

describe("an attacker on the path", () => {
  const flip = (frame: Uint8Array, at: number): Uint8Array => frame.with(at, frame[at]! ^ 1);
  const announce = (length: number): Uint8Array => new Uint8Array(Buffer.from([length >>> 24, length >>> 16, length >>> 8, length]));
  let held: Uint8Array | null = null;
  /** Each acts on the third frame of one direction. */
  const attacks: Record<string, { act: (frame: Uint8Array) => readonly Uint8Array[]; says: string }> = {
    "a replayed frame": { act: (frame) => [frame, frame], says: "changed, repeated, left out or out of order" },
    "a frame left out": { act: () => [], says: "changed, repeated, left out or out of order" },
    "a flipped bit in the ciphertext": { act: (frame) => [flip(frame, 9)], says: "changed, repeated, left out or out of order" },
    "a flipped bit in the tag": { act: (frame) => [flip(frame, frame.length - 1)], says: "changed, repeated, left out or out of order" },
    "a frame announced shorter": { act: (frame) => [flip(frame, 3).with(3, frame[3]! - 1)], says: "changed, repeated, left out or out of order" },
    "a truncated frame, and the next behind it": { act: (frame) => [frame.subarray(0, frame.length - 1)], says: "changed, repeated, left out or out of order" },
    "an oversize frame announced": { act: () => [announce(16 * 1_024 * 1_024 + 1)], says: "a frame of 16777217 bytes is announced, at most 16777216" },
    "the largest length announced": { act: () => [announce(0xffff_ffff)], says: "a frame of 4294967295 bytes is announced" },
    "a frame too short for a tag": { act: () => [announce(15), new Uint8Array(15)], says: "15 bytes are no sealed frame" },
  };
  const attack =
    (on: "to-server" | "to-client", act: (frame: Uint8Array) => readonly Uint8Array[]): Meddle =>
    (direction, frame, index) =>
      direction === on && index === 2 ? act(frame) : [frame];

  for (const direction of ["to-server", "to-client"] as const)
    for (const [name, { act, says }] of Object.entries(attacks))
      test(`${name}, ${direction}`, async () => {
        const server = await listen();
        const middle = await wire(server.port, attack(direction, act));
        const client = dial(middle.port);
        for (let i = 1; i <= 6; i++) client.send(i, ask(i));
        const seen = () => (direction === "to-server" ? server.refused : client.lost);
        await until(() => client.lost.length === 1 && server.refused.length === 1, "both ends to see it");
        expect(codes(seen())).toEqual(["FRAME_CORRUPT"]);
        expect(seen()[0]?.message).toContain(says);
        expect(server.stats().openCount).toBe(0);
        // nothing passed that was not sent, nothing twice, nothing out of order
        expect(server.requests).toEqual(server.requests.map((_, i) => ask(i + 1)));
        expect(client.answers.map(([id]) => id)).toEqual(client.answers.map((_, i) => i + 1));
        if (direction === "to-server") expect(server.requests.length).toBeLessThanOrEqual(3);
        else expect(client.answers.length).toBeLessThanOrEqual(3);
      });
  test("two frames in the other order", async () => {
    held = null;
    const server = await listen();
    const middle = await wire(server.port, (direction, frame, index) => {
      if (direction === "to-client" || index < 2 || index > 3) return [frame];
      if (index === 3) return [frame, held!];
      held = frame;
      return [];
    });
    const client = dial(middle.port);
    for (let i = 1; i <= 6; i++) client.send(i, ask(i));
    await until(() => server.refused.length === 1, "the end");
    expect(codes(server.refused)).toEqual(["FRAME_CORRUPT"]);
    expect(server.requests).toEqual([ask(1), ask(2)]);
  });
  test("a frame sent back to its sender", async () => {
    const server = await listen();
    let own: Uint8Array | null = null;
    const middle = await wire(server.port, (direction, frame) => {
      if (direction === "to-server") own = frame;
      return direction === "to-client" ? [own!] : [frame];
    });
    const client = dial(middle.port);
    client.send(1, ask(1));
    await until(() => client.lost.length === 1, "the end");
    expect(codes(client.lost)).toEqual(["FRAME_CORRUPT"]);
    expect(client.answers).toEqual([]);
  });
  test("a connection that ends inside a frame", async () => {
    const server = await listen();
    const peer = await member(server.port);
    const frame = peer.sealer.seal(new Uint8Array(8), requests.encode(ask(0)));
    peer.socket.end(frame.subarray(0, frame.length - 3));
    await until(() => server.refused.length === 1, "the end");
    expect(server.refused[0]?.message).toContain("broke off inside a frame");
    expect(server.requests).toEqual([]);
  });
});

describe("a member that keeps to no rule", () => {
  const payloads: Record<string, Uint8Array> = {
    "a request of an unknown kind": new Uint8Array([0, 0, 0, 0, 0, 0, 0, 1, 99]),
    "an answer where a request is due": new Uint8Array([0, 0, 0, 0, 0, 0, 0, 1, 105]),
    "a request id of 2^53": new Uint8Array([0, 32, 0, 0, 0, 0, 0, 0, ...requests.encode(ask(1))]),
    "a payload without a message": new Uint8Array(8),
    "a payload of one byte": new Uint8Array(1),
    "a request with a byte too many": new Uint8Array([...new Uint8Array(8), ...requests.encode(ask(1)), 0]),
  };
  for (const [name, payload] of Object.entries(payloads))
    test(name, async () => {
      const server = await listen();
      const peer = await member(server.port);
      peer.socket.write(peer.sealer.seal(payload));
      await until(() => peer.isClosed, "the end");
      expect(codes(server.refused)).toEqual(["FRAME_CORRUPT"]);
      expect(server.requests).toEqual([]);
    });
  test("a good request before a bad one is still carried out, one behind it is not", async () => {
    const server = await listen();
    const peer = await member(server.port);
    const good = (id: number) => peer.sealer.seal(new Uint8Array(8).with(7, id), requests.encode(ask(id)));
    peer.socket.write(Buffer.concat([good(1), peer.sealer.seal(new Uint8Array(3)), good(2)]));
    await until(() => peer.isClosed, "the end");
    expect(server.requests).toEqual([ask(1)]);
  });
});

describe("those who never finish their handshake", () => {
  test("a flood of 200 that never speak: bounded, and a good client gets in", async () => {
    const server = await listen({ limits: { halfOpenCountMax: 32 } });
    const silent = await Promise.all(Array.from({ length: 200 }, () => rawSocket(server.port)));
    await until(() => server.stats().evictedCount === 168, "168 evictions");
    expect(server.stats().halfOpenCount).toBe(32);
    await works(dial(server.port));
    expect(server.stats()).toMatchObject({ openCount: 1 });
    expect(server.stats().halfOpenCount).toBeLessThanOrEqual(32);
    await until(() => silent.filter(({ isClosed }) => isClosed).length >= 168, "the evicted to see it");
  });
  test("a flood that goes on while good clients shake hands", async () => {
    const server = await listen(); // the shipped bounds: 64 arrive before a stranger is evicted, its hello comes long before
    let isOver = false;
    const flood = (async () => {
      while (!isOver) await Promise.all(Array.from({ length: 10 }, () => rawSocket(server.port)));
    })();
    await until(() => server.stats().evictedCount > 100, "the flood to be at its height");
    for (let i = 0; i < 3; i++) await works(dial(server.port));
    isOver = true;
    await flood;
    expect(server.stats().openCount).toBe(3);
    expect(server.stats().halfOpenCount).toBeLessThanOrEqual(64);
  });
  test("strangers are evicted before a half-proven peer that is older than all of them", async () => {
    const server = await listen({ limits: { halfOpenCountMax: 4 } });
    const proven = await rawSocket(server.port);
    proven.socket.write(startClient(handshakeKeys(a.seed, cluster), keyOf(b), new Uint8Array(32).fill(3)).send);
    await until(() => proven.received.length === 64, "the server's hello");
    for (let i = 0; i < 20; i++) await rawSocket(server.port);
    await until(() => server.stats().evictedCount === 17, "17 evictions");
    expect(proven.isClosed).toBe(false);
  });
  test("a byte now and then resets no deadline", async () => {
    const server = await listen({ limits: { handshakeMs: 250 } });
    const raw = await rawSocket(server.port);
    const hello = startClient(handshakeKeys(a.seed, cluster), keyOf(b), new Uint8Array(32).fill(3)).send;
    const start = performance.now();
    for (let at = 0; !raw.isClosed && at < hello.length - 1; at++) {
      raw.socket.write(hello.subarray(at, at + 1));
      await Bun.sleep(20);
    }
    expect(raw.isClosed).toBe(true);
    expect(performance.now() - start).toBeLessThan(1_000); // 63 bytes would have taken 1.3 s
    expect(codes(server.refused)).toEqual(["TIMEOUT"]);
    expect(server.stats().halfOpenCount).toBe(0);
  });
  test("a client that stops after the first message", async () => {
    const server = await listen({ limits: { handshakeMs: 150 } });
    const raw = await rawSocket(server.port);
    raw.socket.write(startClient(handshakeKeys(a.seed, cluster), keyOf(b), new Uint8Array(32).fill(3)).send);
    await until(() => raw.isClosed, "the end");
    expect(codes(server.refused)).toEqual(["TIMEOUT"]);
  });
  test("a server that accepts and never speaks", async () => {
    const quiet = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
    try {
      const client = dial(quiet.port, { limits: { handshakeMs: 150 } });
      client.send(1, ask(1));
      await until(() => client.lost.length === 1, "the loss");
      expect(codes(client.lost)).toEqual(["TIMEOUT"]);
    } finally {
      quiet.stop(true);
    }
  });
  test("more bytes than the handshake has, before its end", async () => {
    const server = await listen();
    const raw = await rawSocket(server.port);
    const hello = startClient(handshakeKeys(a.seed, cluster), keyOf(b), new Uint8Array(32).fill(3)).send;
    raw.socket.write(Buffer.concat([hello, new Uint8Array(1_000_000)]));
    await until(() => raw.isClosed, "the end");
    expect(codes(server.refused)).toEqual(["HANDSHAKE_FAILED"]);
  });
});
