/** The handshake without a socket: vectors of a second implementation, and each way to be refused. */
import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import nacl from "tweetnacl";
import { concatBytes } from "../../src/engine/base/bytes.ts";
import { BrokenInvariant } from "../../src/engine/base/invariant.ts";
import {
  type Handshake,
  type HandshakeKeys,
  type HandshakeStep,
  handshakeKeys,
  type Session,
  startClient,
  startServer,
  takeHandshake,
  wantedBytes,
} from "../../src/engine/wire/handshake.ts";
import { exchangeKeyOf } from "../../src/engine/wire/identity.ts";
import { codeOf } from "../thrown.ts";
import { hex, vectors } from "./vectors.ts";

const { valid } = vectors<{ valid: Record<string, string>[] }>("handshake");
const cluster = new Uint8Array(32).fill(9);
const client = handshakeKeys(new Uint8Array(32).fill(1), cluster);
const server = handshakeKeys(new Uint8Array(32).fill(2), cluster);
const clientEphemeral = new Uint8Array(32).fill(3);
const serverEphemeral = new Uint8Array(32).fill(4);
const everybody = () => true;

type Change = (bytes: Uint8Array) => Uint8Array;
type Setting = {
  client?: HandshakeKeys;
  server?: HandshakeKeys;
  expects?: Uint8Array;
  ephemerals?: readonly [Uint8Array, Uint8Array];
  allows?: (key: Uint8Array) => boolean;
  /** What the network does to messages 1 to 4. */
  change?: Partial<Record<1 | 2 | 3 | 4, Change>>;
};

/** Runs all four messages; throws what the side that refuses throws. */
function run(setting: Setting = {}) {
  const [a, b] = setting.ephemerals ?? [clientEphemeral, serverEphemeral];
  const change = (number: 1 | 2 | 3 | 4, bytes: Uint8Array) => (setting.change?.[number] ?? ((same: Uint8Array) => same))(bytes);
  const one = startClient(setting.client ?? client, setting.expects ?? server.identity.publicKey, a);
  const two = takeHandshake(startServer(setting.server ?? server, b), change(1, one.send), everybody);
  const three = takeHandshake(one.next, change(2, two.send), everybody);
  const four = takeHandshake(two.next, change(3, three.send), setting.allows ?? everybody);
  const end = takeHandshake(three.next, change(4, four.send), everybody);
  return { sent: [one.send, two.send, three.send, four.send], states: { one, two, three, four, end }, client: session(end.next), server: session(four.next) };
}
function session(state: Handshake): Session {
  if (state.phase !== "done") throw new Error(`phase is ${state.phase}`);
  return state.session;
}
const codeOfRun = (setting: Setting): string => codeOf(() => run(setting));
const flip =
  (at: number): Change =>
  (bytes) =>
    bytes.with(at, bytes[at]! ^ (1 << (at % 8)));

describe("vectors", () => {
  for (const row of valid)
    test(row["comment"]!, () => {
      const at = (name: string) => hex(row[name]!);
      const keys = { client: handshakeKeys(at("clientSeed"), at("cluster")), server: handshakeKeys(at("serverSeed"), at("cluster")) };
      expect(exchangeKeyOf(keys.client.identity.publicKey)?.toHex()).toBe(row["clientExchangeKey"]!);
      expect(exchangeKeyOf(keys.server.identity.publicKey)?.toHex()).toBe(row["serverExchangeKey"]!);
      const done = run({ ...keys, expects: at("serverPublicKey"), ephemerals: [at("clientEphemeral"), at("serverEphemeral")] });
      expect(done.sent.map((each) => each.toHex())).toEqual([1, 2, 3, 4].map((number) => row[`message${number}`]!));
      expect(done.client.sendKey.toHex()).toBe(row["clientToServerKey"]!);
      expect(done.client.receiveKey.toHex()).toBe(row["serverToClientKey"]!);
    });
});

test("both sides end with the same two keys, and know who the other is", () => {
  const done = run();
  expect(done.client.sendKey).toEqual(done.server.receiveKey);
  expect(done.client.receiveKey).toEqual(done.server.sendKey);
  expect(done.client.sendKey).not.toEqual(done.client.receiveKey);
  expect(done.client.peerKey).toEqual(server.identity.publicKey);
  expect(done.server.peerKey).toEqual(client.identity.publicKey);
});

test("a state is plain data: a copy goes on like the original", () => {
  const { two, three } = run().states;
  const copy = takeHandshake(structuredClone(two.next), three.send, everybody);
  expect(session(copy.next)).toEqual(run().server);
});

describe("refused", () => {
  test("another cluster, before either side has told anything", () => {
    const other = handshakeKeys(new Uint8Array(32).fill(1), new Uint8Array(32).fill(8));
    const hello = startClient(other, server.identity.publicKey, clientEphemeral).send;
    expect(codeOf(() => takeHandshake(startServer(server, serverEphemeral), hello, everybody))).toBe("HANDSHAKE_FAILED");
  });
  test("a server of another cluster", () => {
    const other = handshakeKeys(new Uint8Array(32).fill(2), new Uint8Array(32).fill(8));
    const stranger = takeHandshake(startServer(other, serverEphemeral), startClient(other, server.identity.publicKey, clientEphemeral).send, everybody).send;
    expect(codeOfRun({ change: { 2: () => stranger } })).toBe("HANDSHAKE_FAILED");
  });
  test("a key that is not in the allow list", () => {
    const asked: string[] = [];
    const allows = (key: Uint8Array) => asked.push(key.toHex()) < 0;
    expect(codeOfRun({ allows })).toBe("PEER_UNKNOWN");
    expect(asked).toEqual([client.identity.publicKey.toHex()]);
  });
  test("a server that is not the one expected cannot open the client's proof", () => {
    const other = handshakeKeys(new Uint8Array(32).fill(7), cluster);
    expect(codeOfRun({ server: other, expects: server.identity.publicKey })).toBe("HANDSHAKE_FAILED");
  });
  test("a server whose key was replaced: the client still expects the old one", () => {
    const old = handshakeKeys(new Uint8Array(32).fill(2), cluster);
    const renewed = handshakeKeys(new Uint8Array(32).fill(22), cluster);
    expect(codeOfRun({ server: renewed, expects: old.identity.publicKey })).toBe("HANDSHAKE_FAILED");
  });
  test("a client whose key was replaced: the old one is no longer allowed", () => {
    const renewed = handshakeKeys(new Uint8Array(32).fill(11), cluster);
    const allows = (key: Uint8Array) => key.toHex() === renewed.identity.publicKey.toHex();
    expect(codeOfRun({ allows })).toBe("PEER_UNKNOWN");
    expect(session(run({ client: renewed, allows }).states.end.next).peerKey).toEqual(server.identity.publicKey);
  });
  for (const [number, length] of [
    [1, 64],
    [2, 64],
    [3, 112],
    [4, 80],
  ] as const)
    test(`message ${number} with a flipped bit, at every seventh byte`, () => {
      for (let at = 0; at < length; at += 7) expect([at, codeOfRun({ change: { [number]: flip(at) } })]).toEqual([at, "HANDSHAKE_FAILED"]);
    });
  test("a recorded client, played back to a server with a fresh one-time key", () => {
    const recorded = run();
    const fresh = takeHandshake(startServer(server, new Uint8Array(32).fill(44)), recorded.sent[0]!, everybody);
    expect(codeOf(() => takeHandshake(fresh.next, recorded.sent[2]!, everybody))).toBe("HANDSHAKE_FAILED");
  });
  test("a recorded server, played back to a client with a fresh one-time key", () => {
    const recorded = run();
    const fresh = startClient(client, server.identity.publicKey, new Uint8Array(32).fill(33));
    const three = takeHandshake(fresh.next, recorded.sent[1]!, everybody);
    expect(codeOf(() => takeHandshake(three.next, recorded.sent[3]!, everybody))).toBe("HANDSHAKE_FAILED");
  });
  test("a client that gets its own hello back", () => {
    expect(
      codeOf(() => {
        const one = startClient(client, server.identity.publicKey, clientEphemeral);
        const three = takeHandshake(one.next, one.send, everybody);
        takeHandshake(three.next, three.send.subarray(0, 80), everybody);
      }),
    ).toBe("HANDSHAKE_FAILED");
  });
  test("a member in the middle that swaps the one-time keys", () => {
    const mine = new Uint8Array(32).fill(66);
    const helloOf = (keys: HandshakeKeys) => startClient(keys, server.identity.publicKey, mine).send;
    expect(codeOfRun({ change: { 1: () => helloOf(client) } })).toBe("HANDSHAKE_FAILED");
    expect(codeOfRun({ change: { 2: () => helloOf(client) } })).toBe("HANDSHAKE_FAILED");
  });
  const other = handshakeKeys(new Uint8Array(32).fill(5), cluster).identity;
  test("a client that cannot sign for the key it names, though it holds the X25519 side of it", () => {
    const liar: HandshakeKeys = { ...client, identity: { ...client.identity, secretKey: other.secretKey } };
    expect(() => run({ client: liar })).toThrow("the client does not hold the key");
    expect(codeOfRun({ client: liar })).toBe("HANDSHAKE_FAILED");
  });
  test("a server that cannot sign for its key, though it holds the X25519 side of it", () => {
    const liar: HandshakeKeys = { ...server, identity: { ...server.identity, secretKey: other.secretKey } };
    expect(() => run({ server: liar })).toThrow("did not prove that it holds");
    expect(codeOfRun({ server: liar })).toBe("HANDSHAKE_FAILED");
  });
  test("a one-time key of small order, from a holder of the cluster id", () => {
    const zero = new Uint8Array(32);
    const order8 = hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
    for (const point of [zero, zero.with(0, 1), order8]) {
      const hello = concatBytes(mac(point), point);
      expect(codeOf(() => takeHandshake(startServer(server, serverEphemeral), hello, everybody))).toBe("HANDSHAKE_FAILED");
      expect(codeOfRun({ change: { 2: () => hello } })).toBe("HANDSHAKE_FAILED");
    }
  });
  test("an expected key that is a point of small order, or none", () => {
    for (const key of [new Uint8Array(32), new Uint8Array(32).with(0, 1), new Uint8Array(32).fill(255)])
      expect(codeOfRun({ expects: key })).toBe("HANDSHAKE_FAILED");
  });
  test("a message of another length is the caller's mistake", () => {
    const state = startServer(server, serverEphemeral);
    expect(() => takeHandshake(state, new Uint8Array(63), everybody)).toThrow(BrokenInvariant);
    expect(() => handshakeKeys(new Uint8Array(31), cluster)).toThrow(BrokenInvariant);
    expect(() => handshakeKeys(new Uint8Array(32), new Uint8Array(16))).toThrow(BrokenInvariant);
    expect(() => startServer(server, new Uint8Array(16))).toThrow(BrokenInvariant);
  });
});

/** The cluster's authenticator, from an oracle: HMAC-SHA-512 written out with tweetnacl's hash. */
function mac(message: Uint8Array): Uint8Array {
  const padded = (byte: number) => new Uint8Array(128).fill(byte).map((each, at) => each ^ (cluster[at] ?? 0));
  return nacl.hash(concatBytes(padded(0x5c), nacl.hash(concatBytes(padded(0x36), message)))).subarray(0, 32);
}

describe("what a listener learns", () => {
  const contains = (bytes: Uint8Array, part: Uint8Array) => bytes.toHex().includes(part.toHex());
  test("neither public key is on the wire, also not by its X25519 image", () => {
    const wire = concatBytes(...run().sent);
    for (const { identity } of [client, server]) {
      expect(contains(wire, identity.publicKey)).toBe(false);
      expect(contains(wire, exchangeKeyOf(identity.publicKey)!)).toBe(false);
    }
  });
  test("an impostor with the cluster id gets a proof that it cannot open: the client stays unknown", () => {
    const impostor = handshakeKeys(new Uint8Array(32).fill(7), cluster);
    const one = startClient(client, server.identity.publicKey, clientEphemeral);
    const two = takeHandshake(startServer(impostor, serverEphemeral), one.send, everybody);
    const three = takeHandshake(one.next, two.send, everybody);
    expect(() => takeHandshake(two.next, three.send, everybody)).toThrow("does not open");
  });
  test("a server says nothing to a client that does not know its key", () => {
    const step: { taken?: HandshakeStep } = {};
    const guess = handshakeKeys(new Uint8Array(32).fill(7), cluster).identity.publicKey;
    expect(
      codeOf(() => {
        step.taken = run({ expects: guess }).states.four;
      }),
    ).toBe("HANDSHAKE_FAILED");
    expect(step.taken).toBeUndefined();
  });
  test("forward secrecy: the same two nodes never have the same keys twice, and their seeds alone do not give them", () => {
    const first = run();
    const second = run({ ephemerals: [new Uint8Array(32).fill(33), new Uint8Array(32).fill(44)] });
    expect(first.client.sendKey).not.toEqual(second.client.sendKey);
    // with both seeds but neither one-time secret, a listener can compute a·B and A·b, never a·b, which is in every key
    const ab = nacl.scalarMult(clientEphemeral, nacl.scalarMult.base(serverEphemeral));
    const known = [nacl.scalarMult(server.exchangeSecret, first.sent[0]!.subarray(32)), nacl.scalarMult(client.exchangeSecret, first.sent[1]!.subarray(32))];
    expect(known.map((each) => each.toHex())).not.toContain(ab.toHex());
    const withoutAb = nacl.secretbox.open(first.sent[2]!, new Uint8Array(24), new Uint8Array(createHash("sha256").update(cluster).update(known[0]!).digest()));
    expect(withoutAb).toBeNull();
  });
});

test("each phase takes one length, and the last none", () => {
  const { states } = run();
  expect([states.one, states.two, states.three, states.four, states.end].map(({ next }) => [next.phase, wantedBytes(next)])).toEqual([
    ["awaiting-server-hello", 64],
    ["awaiting-proof", 112],
    ["awaiting-accept", 80],
    ["done", 0],
    ["done", 0],
  ]);
});
