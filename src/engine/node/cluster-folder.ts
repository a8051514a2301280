/**
 * The data folder of `cairn up`: one folder a node, and `cluster.json` beside them, which says who and where they are.
 * Everything is made once and kept: identities, ports, the log's key. Creation may be broken off anywhere and run again;
 * `cluster.json` is written last and says that it is whole. Folders are named relative to it, so the whole may be moved.
 */
import { mkdir, readFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { fromHex, toHex } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { type NodeId, nodeId } from "../base/ids.ts";
import { vkeyOf } from "../log/note.ts";
import { derivedSeed, keyPairOf } from "../wire/identity.ts";
import { defaultOrigin, IDENTITY_FILE, LOG_KEY_FILE, type Member, type Role } from "./config.ts";
import { type Endpoint, endpointText, LOOPBACK_HOST, parseEndpoint } from "./endpoint.ts";
import { createSeedFile, readSeedFile } from "./identity-file.ts";
import { createStore } from "./init-node.ts";
import { replaceFile } from "./replace-file.ts";
import { writeConfig } from "./write-config.ts";

export const CLUSTER_FILE = "cluster.json";
/** Nodes are named a to z. */
export const CLUSTER_NODES_MAX = 26;
/** Above the last that browsers refuse, below those that systems give to outgoing connections, which could take a node's port while it is down. */
const PORT_FIRST = 10_100;
const PORT_LAST = 32_000;
const PORT_TRIES = 100;

export type ClusterNode = { readonly id: NodeId; readonly dir: string; readonly peer: Endpoint; readonly admin: Endpoint; readonly log: Endpoint };
export type Cluster = {
  readonly dir: string;
  readonly id: Uint8Array;
  readonly origin: string;
  readonly vkey: string;
  readonly nodes: readonly ClusterNode[];
};

export type ClusterDraft = { readonly nodeCount: number; readonly knobs: Readonly<Record<string, number | string>> };

/** The cluster of a data folder, or null where there is none. Throws BAD_CONFIG where `cluster.json` is not ours. */
export async function readCluster(dir: string): Promise<Cluster | null> {
  const path = join(dir, CLUSTER_FILE);
  const text = await readFile(path, "utf8").catch(() => null);
  if (text === null) return null;
  const cluster = parseCluster(dir, text);
  if (cluster === null) throw new EngineError("BAD_CONFIG", `${path} is no cluster file of format 1`);
  return cluster;
}

/** Makes all that a cluster is; nothing runs yet. */
export async function createCluster(dir: string, draft: ClusterDraft): Promise<Cluster> {
  const names = Array.from({ length: draft.nodeCount }, (_, at) => nodeId(String.fromCharCode(97 + at)));
  const id = crypto.getRandomValues(new Uint8Array(32));
  const origin = defaultOrigin(id);
  const ports = await freePorts(names.length * 3);
  const members: Member[] = [];
  for (const [at, name] of names.entries()) {
    await mkdir(join(dir, name), { recursive: true, mode: 0o700 });
    const birth = await createStore(join(dir, name));
    const seed = keptSeed(join(dir, name, IDENTITY_FILE));
    members.push(memberOf(name, seed, at === 0 ? "primary" : "secondary", ports.slice(at * 3, at * 3 + 3), { number: at + 1, birth }));
  }
  const logKey = keyPairOf(keptSeed(join(dir, names[0] ?? "a", LOG_KEY_FILE))).publicKey;
  for (const { name, peer, admin, log } of members)
    await writeConfig(join(dir, name), { clusterId: id, origin, logKey, self: name, listen: { peer, admin, log }, members, knobs: draft.knobs });
  const nodes = members.map(({ name, peer, admin, log }) => ({ id: name, dir: join(dir, name), peer, admin, log }));
  const cluster = { dir, id, origin, vkey: vkeyOf(origin, 1, logKey), nodes };
  await replaceFile(join(dir, CLUSTER_FILE), clusterText(cluster), 0o644);
  return cluster;
}

function memberOf(
  name: NodeId,
  seed: Uint8Array,
  role: Role,
  [peer = 0, admin = 0, log = 0]: readonly number[],
  voter: Pick<Member, "number" | "birth">,
): Member {
  const at = (port: number): Endpoint => ({ host: LOOPBACK_HOST, port });
  const publicKey = (purpose: "cosigner" | "receipt"): Uint8Array => keyPairOf(derivedSeed(seed, purpose)).publicKey;
  return {
    name,
    roles: [role, "storage", "frontend"],
    peer: at(peer),
    admin: at(admin),
    log: at(log),
    key: keyPairOf(seed).publicKey,
    cosignerKey: publicKey("cosigner"),
    receiptKey: publicKey("receipt"),
    ...voter,
  };
}

/** The seed of the file; a new one where there is no file. */
function keptSeed(path: string): Uint8Array {
  try {
    return createSeedFile(path);
  } catch (error) {
    if (error instanceof EngineError && error.code === "NODE_EXISTS") return readSeedFile(path);
    throw error;
  }
}

/** Ports that were free together a moment ago. */
async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  for (let tries = 0; servers.length < count; tries++) {
    if (tries === count * PORT_TRIES) throw new EngineError("UNAVAILABLE", `no ${count} free ports on ${LOOPBACK_HOST} from ${PORT_FIRST} to ${PORT_LAST}`);
    const server = await listenOn(randomPort());
    if (server !== null) servers.push(server);
  }
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

const randomPort = (): number => PORT_FIRST + Math.floor(Math.random() * (PORT_LAST - PORT_FIRST + 1));

/** Null where the port is taken. */
function listenOn(port: number): Promise<Server | null> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(null));
    server.listen(port, LOOPBACK_HOST, () => resolve(server));
  });
}

function clusterText({ id, origin, vkey, nodes }: Cluster): string {
  const rows = nodes.map((node) => ({
    id: node.id,
    dir: node.id,
    peer: endpointText(node.peer),
    admin: endpointText(node.admin),
    log: endpointText(node.log),
  }));
  return `${JSON.stringify({ format: 1, id: toHex(id), origin, vkey, nodes: rows }, null, 2)}\n`;
}

function parseCluster(dir: string, text: string): Cluster | null {
  try {
    const { format, id, origin, vkey, nodes } = JSON.parse(text) as Record<string, unknown>;
    const clusterId = typeof id === "string" ? fromHex(id) : null;
    if (format !== 1 || clusterId?.length !== 32 || typeof origin !== "string" || typeof vkey !== "string" || !Array.isArray(nodes)) return null;
    const parsed = nodes.map((each: unknown) => parseNode(dir, each));
    return { dir, id: clusterId, origin, vkey, nodes: parsed };
  } catch {
    return null; // the caller names the file
  }
}

/** Throws where it is none: `parseCluster` answers null then. */
function parseNode(dir: string, value: unknown): ClusterNode {
  const fields = value as Readonly<Record<string, unknown>>;
  const at = (name: string): Endpoint => {
    const endpoint = parseEndpoint(String(fields[name]));
    if (endpoint === null) throw new TypeError(name);
    return endpoint;
  };
  return { id: nodeId(String(fields["id"])), dir: join(dir, String(fields["dir"])), peer: at("peer"), admin: at("admin"), log: at("log") };
}
