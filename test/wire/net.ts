/**
 * Real sockets on loopback for the link tests: a listener and links with fixed identities, a peer that knows the
 * protocol and keeps to none of it, and a wire in the middle that can do what an attacker on the path can.
 */
import { connect, createServer, type Socket } from "node:net";
import type { EngineError } from "../../src/engine/base/errors.ts";
import { nodeId } from "../../src/engine/base/ids.ts";
import { type Link, type LinkIdentity, type LinkLimits, type Listener, type ListenOptions, listenLinks, openLink } from "../../src/engine/node/link.ts";
import { type Handshake, handshakeKeys, startClient, takeHandshake, wantedBytes } from "../../src/engine/wire/handshake.ts";
import { keyPairOf } from "../../src/engine/wire/identity.ts";
import type { Answer, Request } from "../../src/engine/wire/messages.ts";
import { Opener, Sealer } from "../../src/engine/wire/sealed.ts";

export const HOST = "127.0.0.1";
export const cluster = new Uint8Array(32).fill(9);
export const identityOf = (name: string, byte: number, of: Uint8Array = cluster): LinkIdentity => ({
  node: nodeId(name),
  seed: new Uint8Array(32).fill(byte),
  cluster: of,
});
export const a = identityOf("a", 1);
export const b = identityOf("b", 2);
export const keyOf = (identity: LinkIdentity): Uint8Array => keyPairOf(identity.seed).publicKey;
export const hexOf = (identity: LinkIdentity): string => keyOf(identity).toHex();

export const log = new Uint8Array(8);
export const ask = (from: number): Request => ({ kind: "copy.missing", log, epoch: 1, from, to: from });
export const kept = (count: number): Answer => ({ kind: "storage.kept", count });
/** Answers `ask(n)` with `kept(n)`. */
export const echo = async (_: unknown, body: Request): Promise<Answer> => kept(body.kind === "copy.missing" ? body.from : 0);

const cleanups: (() => Promise<void> | void)[] = [];
/** For `afterEach`: closes all that the test opened. */
export async function cleanUp(): Promise<void> {
  for (const each of cleanups.splice(0).reverse()) await each();
}

/** Waits for a fact; fails after 5 s. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  for (const end = performance.now() + 5_000; !holds(); await Bun.sleep(2)) if (performance.now() > end) throw new Error(`never came: ${what}`);
}

export type Server = Listener & { requests: Request[]; refused: EngineError[] };
export async function listen(options: Partial<ListenOptions> = {}): Promise<Server> {
  const seen: Request[] = [];
  const ended: EngineError[] = [];
  const onRequest = options.onRequest ?? echo;
  const onlyA = new Map([[hexOf(a), a.node]]);
  const listener = await listenLinks({
    host: HOST,
    port: 0,
    identity: b,
    allow: () => onlyA,
    onRefused: (reason) => ended.push(reason),
    ...options,
    onRequest: (from, body) => {
      seen.push(body);
      return onRequest(from, body);
    },
  });
  cleanups.push(() => listener.close());
  return Object.assign(listener, { requests: seen, refused: ended });
}

export type Client = Link & { answers: [requestId: number, body: Answer][]; lost: EngineError[] };
export function dial(port: number, options: { identity?: LinkIdentity; peerKey?: Uint8Array; limits?: Partial<LinkLimits> } = {}): Client {
  const answered: [number, Answer][] = [];
  const lost: EngineError[] = [];
  const link = openLink({
    to: b.node,
    host: HOST,
    port,
    identity: a,
    peerKey: keyOf(b),
    onAnswer: (requestId, body) => answered.push([requestId, body]),
    onLost: (reason) => lost.push(reason),
    ...options,
  });
  cleanups.push(() => link.close());
  return { send: (id, body) => link.send(id, body), queuedBytes: () => link.queuedBytes(), close: () => link.close(), answers: answered, lost };
}

/** Sends one request and waits for its answer: the link works. */
export async function works(client: Client, requestId = 1): Promise<void> {
  client.send(requestId, ask(requestId));
  await until(() => client.answers.some(([id]) => id === requestId) || client.lost.length > 0, "an answer");
  if (client.lost.length > 0) throw client.lost[0];
}

/** A plain socket to a port. `received` grows with what comes; `isClosed` when the other side has hung up. */
export type Raw = { socket: Socket; received: Uint8Array; isClosed: boolean };
export async function rawSocket(port: number): Promise<Raw> {
  const socket = connect({ host: HOST, port });
  const raw: Raw = { socket, received: new Uint8Array(0), isClosed: false };
  socket.on("error", () => undefined);
  socket.on("close", () => {
    raw.isClosed = true;
  });
  socket.on("data", (chunk: Uint8Array) => {
    raw.received = new Uint8Array(Buffer.concat([raw.received, chunk]));
  });
  cleanups.push(() => {
    socket.destroy();
  });
  await until(() => !socket.connecting, "a connection");
  return raw;
}

/** A member of the cluster that has proven itself and now may send whatever it likes. */
export type Member = Raw & { sealer: Sealer; opener: Opener };
export async function member(port: number, identity: LinkIdentity = a): Promise<Member> {
  const raw = await rawSocket(port);
  const first = startClient(handshakeKeys(identity.seed, identity.cluster), keyOf(b), crypto.getRandomValues(new Uint8Array(32)));
  raw.socket.write(first.send);
  let state: Handshake = first.next;
  while (state.phase !== "done") {
    const wanted = wantedBytes(state);
    await until(() => raw.received.length >= wanted || raw.isClosed, "a handshake message");
    const step = takeHandshake(state, raw.received.slice(0, wanted), () => true);
    raw.received = raw.received.slice(wanted);
    if (step.send.length > 0) raw.socket.write(step.send);
    state = step.next;
  }
  const { sendKey, receiveKey } = state.session;
  return Object.assign(raw, { sealer: new Sealer(sendKey), opener: new Opener(receiveKey) });
}

/** What passes a wire: `to-server` and `to-client`, after the handshake cut into frames. */
export type Meddle = (direction: "to-server" | "to-client", frame: Uint8Array, index: number) => readonly Uint8Array[];
/** A wire to `port` that hands each sealed frame to `meddle` and passes on what it returns. */
export async function wire(port: number, meddle: Meddle): Promise<{ port: number; cut(): void }> {
  const sockets: Socket[] = [];
  const server = createServer((near) => {
    const far = connect({ host: HOST, port });
    sockets.push(near, far);
    forward(near, far, 64 + 112, (frame, index) => meddle("to-server", frame, index));
    forward(far, near, 64 + 80, (frame, index) => meddle("to-client", frame, index));
  });
  await new Promise<void>((resolve) => server.listen({ host: HOST, port: 0 }, () => resolve()));
  const address = server.address();
  const cut = () => {
    for (const each of sockets) each.destroy();
  };
  cleanups.push(() => {
    cut();
    server.close();
  });
  return { port: address !== null && typeof address === "object" ? address.port : 0, cut };
}

function forward(from: Socket, to: Socket, handshakeBytes: number, meddle: (frame: Uint8Array, index: number) => readonly Uint8Array[]): void {
  let waiting = Buffer.alloc(0);
  let clear = handshakeBytes;
  let index = 0;
  from.on("error", () => undefined);
  from.on("close", () => to.destroy());
  from.on("data", (chunk: Uint8Array) => {
    waiting = Buffer.concat([waiting, chunk]);
    const plain = waiting.subarray(0, clear);
    clear -= plain.length;
    waiting = waiting.subarray(plain.length);
    if (plain.length > 0) to.write(plain);
    while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32BE(0)) {
      const length = 4 + waiting.readUInt32BE(0);
      for (const each of meddle(new Uint8Array(waiting.subarray(0, length)), index)) to.write(each);
      index += 1;
      waiting = waiting.subarray(length);
    }
  });
}
