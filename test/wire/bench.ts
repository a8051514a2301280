/**
 * Rates of sealed frames and of links on loopback, printed one line each: `bun test/wire/bench.ts`.
 * Both ends run in this one process and share its core, so a link's number is that of client and server together.
 */
import { nodeId } from "../../src/engine/base/ids.ts";
import { type Link, type LinkIdentity, listenLinks, openLink } from "../../src/engine/node/link.ts";
import { keyPairOf } from "../../src/engine/wire/identity.ts";
import type { Answer, Request } from "../../src/engine/wire/messages.ts";
import { Opener, Sealer } from "../../src/engine/wire/sealed.ts";

const log = new Uint8Array(8);
const small: Request = { kind: "copy.missing", log, epoch: 1, from: 0, to: 10 };
const large: Request = { kind: "copy.entries", log, epoch: 1, start: 0, bundle: new Uint8Array(1_024 * 1_024) };

function identity(name: string, first: number): LinkIdentity {
  return { node: nodeId(name), seed: new Uint8Array(32).fill(first), cluster: new Uint8Array(32).fill(9) };
}

function seals(sizeBytes: number, count: number): void {
  const key = new Uint8Array(32);
  const sealer = new Sealer(key);
  const opener = new Opener(key);
  const plain = new Uint8Array(sizeBytes);
  let sealMs = 0;
  let openMs = 0;
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    const frame = sealer.seal(plain);
    const middle = performance.now();
    opener.open(frame.subarray(4));
    sealMs += middle - start;
    openMs += performance.now() - middle;
  }
  const rate = (ms: number) => `${((sizeBytes * count) / ms / 1e6).toFixed(2)} GB/s, ${Math.round((count / ms) * 1_000)}/s`;
  console.log(`frames of ${sizeBytes} bytes: seal ${rate(sealMs)}; open ${rate(openMs)}`);
}

async function rounds(name: string, body: Request, depth: number, count: number): Promise<void> {
  const server = identity("b", 2);
  const client = identity("a", 1);
  const keys = new Map([[keyPairOf(client.seed).publicKey.toHex(), client.node]]);
  const kept: Answer = { kind: "storage.kept", count: 1 };
  const listener = await listenLinks({ host: "127.0.0.1", port: 0, identity: server, allow: () => keys, onRequest: async () => kept });
  let sent = 0;
  let answered = 0;
  let start = 0;
  await new Promise<void>((resolve, reject) => {
    const link: Link = openLink({
      to: server.node,
      host: "127.0.0.1",
      port: listener.port,
      identity: client,
      peerKey: keyPairOf(server.seed).publicKey,
      onLost: reject,
      onAnswer: () => {
        if (start === 0) {
          start = performance.now(); // the handshake is not counted
          for (let i = 0; i < depth; i++) link.send(++sent, body);
          return;
        }
        answered += 1;
        if (sent < count) link.send(++sent, body);
        if (answered < count) return;
        link.close();
        resolve();
      },
    });
    link.send(0, body);
  });
  const seconds = (performance.now() - start) / 1_000;
  const bytes = body.kind === "copy.entries" ? `, ${Math.round((count * body.bundle.length) / seconds / 1e6)} MB/s` : "";
  console.log(`${name}, depth ${depth}: ${Math.round(count / seconds)} requests/s${bytes}`);
  await listener.close();
}

seals(100, 50_000);
seals(64 * 1_024, 5_000);
seals(1_024 * 1_024, 500);
await rounds("small requests", small, 1, 20_000);
await rounds("small requests", small, 32, 100_000);
await rounds("1 MiB requests", large, 1, 200);
await rounds("1 MiB requests", large, 4, 400);
await rounds("1 MiB requests", large, 32, 400);
