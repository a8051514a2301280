/**
 * Which cluster a client command speaks to: `--cluster DIR|FILE|URL,…`, else CAIRN_CLUSTER, else the newest running `up`
 * (architecture.md section 7); and questions to the admin ports of its nodes. Not a command itself.
 * An answer is parsed and bounded here, and never believed further: the node may be newer than we are.
 */
import { readFile, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { EngineError } from "../engine/base/errors.ts";
import { boundedBody, type Fields, fieldsOf, parseObject, toldError } from "./http-answer.ts";

/** A node as a client reaches it; what was not told is null. */
export type ClientNode = {
  /** Its name, or its address where only that is known. */
  readonly id: string;
  /** `http://host:port` */
  readonly admin: string;
  /** `http://host:port/log` */
  readonly log: string | null;
  readonly dir: string | null;
  readonly token: string | null;
};
export type ClientCluster = {
  /** What was addressed, for messages. */
  readonly name: string;
  readonly vkey: string | null;
  readonly nodes: readonly ClientNode[];
};

export type NodeAnswer = { readonly node: ClientNode } & (
  | { readonly value: Fields; readonly error: null }
  | { readonly value: null; readonly error: EngineError }
);

/** A status answer is a few kilobytes; this leaves room for a large cluster. */
const ANSWER_BYTES_MAX = 1_024 * 1_024;

/** Throws NOT_FOUND where nothing is addressed and nothing runs. */
export async function resolveCluster(given: string | undefined): Promise<ClientCluster> {
  if (given !== undefined && given !== "") return /^https?:\/\//.test(given) ? fromUrls(given) : fromPath(resolve(given));
  const { newestCluster } = await import("../engine/node/running-clusters.ts");
  const dir = await newestCluster();
  if (dir === null) throw new EngineError("NOT_FOUND", "no `cairn up` is running here: name a cluster with --cluster or CAIRN_CLUSTER");
  return fromPath(dir);
}

/** Folder of the cluster's primary, which must be on this machine: the steps of the merge work on its files. */
export async function primaryDir(given: string | undefined): Promise<string> {
  const { loadNode } = await import("../engine/node/config.ts");
  const cluster = await resolveCluster(given);
  for (const { dir } of cluster.nodes) {
    if (dir === null) continue;
    const { merge } = await loadNode(dir);
    const primary = cluster.nodes.find(({ id }) => id === merge.primary);
    if (primary?.dir != null) return primary.dir;
  }
  throw new EngineError("NOT_FOUND", `${cluster.name}: the primary's folder is not known here; name it with --dir`);
}

/** Throws UNKNOWN_NODE. */
export function namedNode({ nodes }: ClientCluster, name: string): ClientNode {
  const found = nodes.find(({ id }) => id === name);
  if (found === undefined) throw new EngineError("UNKNOWN_NODE", `${name} is none of ${nodes.map(({ id }) => id).join(", ")}`);
  return found;
}

/** The answers of all nodes to one question, in the order of the nodes; a silent node is an answer with an error. */
export function askNodes(cluster: ClientCluster, path: string, timeoutMs: number): Promise<NodeAnswer[]> {
  return Promise.all(
    cluster.nodes.map(async (node): Promise<NodeAnswer> => {
      try {
        return { node, value: await askNode(node, path, timeoutMs), error: null };
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        return { node, value: null, error };
      }
    }),
  );
}

/** Throws UNAVAILABLE where every answer is an error: the list of them was no answer. */
export function mustHaveAnswered(answers: readonly NodeAnswer[]): void {
  if (answers.every(({ error }) => error !== null)) throw new EngineError("UNAVAILABLE", `none of the ${answers.length} nodes answered`);
}

/** Addresses of the log on the cluster's nodes: those that are known, and for nodes given by URL those that they tell. */
export async function logAddresses(cluster: ClientCluster, timeoutMs: number): Promise<string[]> {
  const known = cluster.nodes.flatMap(({ log }) => log ?? []);
  if (known.length === cluster.nodes.length) return known;
  const answers = await askNodes(cluster, "/status", timeoutMs);
  const told = answers.flatMap(({ node, value }) => node.log ?? logOf(value?.["addresses"]) ?? []);
  if (told.length > 0) return told;
  throw answers.find(({ error }) => error !== null)?.error ?? new EngineError("UNAVAILABLE", `${cluster.name}: no node told where its log is`);
}

function logOf(addresses: unknown): string | null {
  const { log } = fieldsOf(addresses);
  return typeof log === "string" ? log : null;
}

/** The header that an admin port of a node with a token asks for. */
export const tokenOf = ({ token }: ClientNode): Record<string, string> => (token === null ? {} : { authorization: `Bearer ${token}` });

/** One node's answer, also where it is 503 and says what is missing. Throws UNAVAILABLE, TIMEOUT, or the node's own error. */
export async function askNode(node: ClientNode, path: string, timeoutMs: number): Promise<Fields> {
  try {
    const answer = await fetch(`${node.admin}${path}`, { headers: tokenOf(node), signal: AbortSignal.timeout(timeoutMs), redirect: "error" });
    const fields = parseObject(await boundedBody(answer, `${node.id} at ${node.admin}`, ANSWER_BYTES_MAX));
    if (fields === null) throw new SyntaxError(`HTTP ${answer.status} with no JSON object`);
    const told = toldError(fields);
    if (told !== null) throw told;
    return fields;
  } catch (cause) {
    if (cause instanceof EngineError && cause.code !== "FRAME_CORRUPT") throw cause; // too long an answer is no node's
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (cause instanceof Error && cause.name === "TimeoutError")
      throw new EngineError("TIMEOUT", `${node.id} at ${node.admin} did not answer within ${timeoutMs} ms`, { cause });
    throw new EngineError("UNAVAILABLE", `${node.id} at ${node.admin}: ${reason}`, { cause });
  }
}

function fromUrls(text: string): ClientCluster {
  const nodes = text.split(",").map((each) => {
    const url = URL.canParse(each) ? new URL(each) : null;
    if (url === null || !/^https?:$/.test(url.protocol) || (url.pathname !== "/" && url.pathname !== ""))
      throw new EngineError("BAD_OPTION", `--cluster ${JSON.stringify(each)}: want http://HOST:PORT of a node's admin port`);
    return { id: url.host, admin: url.origin, log: null, dir: null, token: url.password === "" ? null : decodeURIComponent(url.password) };
  });
  return { name: text, vkey: null, nodes };
}

async function fromPath(path: string): Promise<ClientCluster> {
  const found = await stat(path).catch(() => null);
  if (found === null) throw new EngineError("NOT_FOUND", `--cluster ${path}: no such file or folder`);
  if (!found.isDirectory()) return fromFile(path);
  return (await fromDataFolder(path)) ?? (await fromNodeFolder(path));
}

async function fromDataFolder(dir: string): Promise<ClientCluster | null> {
  const { readCluster } = await import("../engine/node/cluster-folder.ts");
  const { endpointText } = await import("../engine/node/endpoint.ts");
  const cluster = await readCluster(dir);
  if (cluster === null) return null;
  const nodes = cluster.nodes.map(({ id, dir, admin, log }) => ({
    id,
    admin: `http://${endpointText(admin)}`,
    log: `http://${endpointText(log)}/log`,
    dir,
    token: null,
  }));
  return { name: dir, vkey: cluster.vkey, nodes };
}

/** A node's folder knows all members; its own token is used for all, as a cluster that needs one shares it. */
async function fromNodeFolder(dir: string): Promise<ClientCluster> {
  const { loadNode } = await import("../engine/node/config.ts");
  const { endpointText } = await import("../engine/node/endpoint.ts");
  const { logVkey } = await import("../engine/gateway/loghttp.ts");
  const node = await loadNode(dir);
  const nodes = node.members.map(({ name, admin, log }) => ({
    id: name,
    admin: `http://${endpointText(admin)}`,
    log: `http://${endpointText(log)}/log`,
    dir: name === node.self.name ? dir : null,
    token: node.adminToken,
  }));
  return { name: dir, vkey: logVkey(node.merge), nodes };
}

/** `cluster.json`, or a file that holds the ready line of `up`. */
async function fromFile(path: string): Promise<ClientCluster> {
  const text = await readFile(path, "utf8");
  const ready = parseReady(text);
  if (ready !== null) return { name: path, ...ready };
  const { CLUSTER_FILE } = await import("../engine/node/cluster-folder.ts");
  const cluster = path === join(dirname(path), CLUSTER_FILE) ? await fromDataFolder(dirname(path)) : null;
  if (cluster === null) throw new EngineError("BAD_OPTION", `--cluster ${path}: neither ${CLUSTER_FILE} of a data folder nor a ready line of \`up\``);
  return cluster;
}

function parseReady(text: string): Pick<ClientCluster, "vkey" | "nodes"> | null {
  try {
    const value = JSON.parse(text) as Fields;
    if (value["event"] !== "ready" || !Array.isArray(value["nodes"])) return null;
    const nodes = value["nodes"].map((each: unknown) => readyNode(each as Fields));
    const log = value["log"] as Fields | undefined;
    return { vkey: typeof log?.["vkey"] === "string" ? log["vkey"] : null, nodes };
  } catch {
    return null; // the caller names the file
  }
}

function readyNode(fields: Fields): ClientNode {
  const text = (name: string): string | null => (typeof fields[name] === "string" ? fields[name] : null);
  const admin = text("admin");
  if (admin === null) throw new TypeError("a node without an admin address");
  return { id: text("id") ?? admin, admin, log: text("log"), dir: text("dir"), token: null };
}
