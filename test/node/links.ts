/**
 * The ways between the nodes of a real cluster, each through a relay of ours on loopback, so that a test can cut one and leave
 * the other: a node's config.toml names a relay where it would name the peer. A cut way is silent, as a broken network is: what
 * was on it stays, connections stay open, and new ones are taken and never answered. Healed, it drops them all.
 */
import { readFile, writeFile } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import type { ReadyNode } from "./up-bench.ts";

class Way {
  isCut = false;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  constructor(port: number) {
    this.server = createServer((incoming) => {
      this.keep(incoming);
      if (this.isCut) return;
      const outgoing = connect(port, "127.0.0.1");
      this.keep(outgoing);
      incoming.pipe(outgoing);
      outgoing.pipe(incoming);
      for (const [one, other] of [
        [incoming, outgoing],
        [outgoing, incoming],
      ] as const)
        one.on("close", () => other.destroy());
    });
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return (this.server.address() as { port: number }).port;
  }

  cut(): void {
    this.isCut = true;
    for (const socket of this.sockets) {
      socket.unpipe();
      socket.pause();
    }
  }

  heal(): void {
    this.isCut = false;
    for (const socket of this.sockets) socket.destroy();
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }

  private keep(socket: Socket): void {
    this.sockets.add(socket);
    socket.on("error", () => {}); // its close follows
    socket.on("close", () => this.sockets.delete(socket));
  }
}

export class Links implements Disposable {
  /** By "from to". */
  private readonly ways = new Map<string, Way>();

  /** Puts a relay on the way from each node to each other; the nodes must not run. */
  static async lay(nodes: readonly ReadyNode[]): Promise<Links> {
    const links = new Links();
    for (const from of nodes) {
      const path = join(from.dir, "config.toml");
      let text = await readFile(path, "utf8");
      for (const to of nodes.filter(({ id }) => id !== from.id)) {
        const way = new Way(Number(to.peer.split(":")[1]));
        links.ways.set(`${from.id} ${to.id}`, way);
        text = text.replace(`peer = "${to.peer}"`, `peer = "127.0.0.1:${await way.listen()}"`);
      }
      await writeFile(path, text);
    }
    return links;
  }

  /** Nothing passes between this node and the others, in neither direction, or only what the others began. */
  isolate(id: string, direction: "both" | "outgoing" = "both"): void {
    for (const [name, way] of this.ways) if (name.startsWith(`${id} `) || (direction === "both" && name.endsWith(` ${id}`))) way.cut();
  }

  heal(): void {
    for (const way of this.ways.values()) if (way.isCut) way.heal();
  }

  [Symbol.dispose](): void {
    for (const way of this.ways.values()) way.close();
  }
}
