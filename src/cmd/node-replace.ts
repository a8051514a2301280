/**
 * `cairn node replace`: a member whose disk is lost begins anew with another one (sync.md 3.7). Its folder is made again, the
 * others learn its new keys, and one proposal, decided without its vote, puts the new disk into the cluster map: the old one
 * never votes again, and the new one votes from there on. It gets its store by synchronisation once it is started.
 */
import { resolve } from "node:path";
import { EngineError } from "../engine/base/errors.ts";
import { askNode, askNodes, type ClientCluster, type ClientNode, type NodeAnswer, resolveCluster } from "./cluster.ts";
import { type Fields, fieldsOf } from "./http-answer.ts";
import { postCluster, postNode } from "./operate.ts";
import { command } from "./spec.ts";

export const nodeReplace = command({
  name: "node replace",
  summary: "Let a member whose disk is lost begin anew with an empty one",
  args: [{ name: "node", means: "the member; its process must be stopped" }],
  options: [{ name: "dir", form: "string", value: "DIR", means: "its folder; else the one it had in the cluster's data folder" }],
  errors: ["NODE_EXISTS", "NODE_RUNNING", "NEEDS_ANSWER", "PAXOS_NO_QUORUM", "PAXOS_OUTCOME_UNKNOWN", "UNKNOWN_NODE", "NOT_FOUND", "UNAVAILABLE", "NOT_READY"],
  examples: ["cairn node replace c", "cairn node replace c --dir ./cluster/c --yes"],
  async run(ctx) {
    const { checkReplaceable, hasConfig, replaceNode } = await import("../engine/node/replace-node.ts");
    const { nodeId } = await import("../engine/base/ids.ts");
    const cluster = await resolveCluster(ctx.cluster);
    const id = nodeId(ctx.args.node);
    const known = cluster.nodes.find((node) => node.id === id);
    const dir = ctx.options.dir === undefined ? known?.dir : resolve(ctx.options.dir);
    if (dir === undefined || dir === null) throw new EngineError("NOT_FOUND", `${cluster.name}: the folder of ${id} is not known here; name it with --dir`);
    if (known !== undefined) await mustBeStopped(known, ctx.timeoutMs);
    const others = { ...cluster, nodes: cluster.nodes.filter((node) => node.id !== id) };
    const members = await membersNow(others, ctx.timeoutMs);
    const member = members.find((each) => each["id"] === id);
    if (known === undefined && member === undefined) throw new EngineError("UNKNOWN_NODE", `${id} is no member: there are ${namesOf(members)}`);
    await mustBeMajority(others, members, id, ctx.timeoutMs);
    const siblings = others.nodes.flatMap((node) => node.dir ?? []).filter(hasConfig); // another folder may be lost too
    const { isNewIdentity } = await checkReplaceable(dir, id, siblings);
    if (!(await ctx.confirm(planText(id, dir, member ?? null, isNewIdentity)))) return;

    const { birth, keys, done } = await replaceNode(dir, id, siblings);
    const deaf = await tellKeys(others, ctx.timeoutMs);
    const map = await postCluster(others, "/members/change", { ...changeOf(members, member ?? null), id, birth: birth.toHex() }, ctx.timeoutMs);
    await done();
    for (const { id: other, error } of deaf) ctx.note(`${other} has not taken the new keys: ${error.message}; restart it with them in its config.toml`);
    const text = `${id} votes with disk ${birth.toHex()} from version ${map["version"]} on; start it: cairn node run --dir ${dir}`;
    await ctx.answer({ id, dir, birth: birth.toHex(), was: member?.["birth"] ?? null, version: map["version"], isNewIdentity, ...keys }, text);
  },
});

async function mustBeStopped(node: ClientNode, timeoutMs: number): Promise<void> {
  const status = await askNode(node, "/status", timeoutMs).catch((error: unknown) => {
    if (error instanceof EngineError && (error.code === "UNAVAILABLE" || error.code === "TIMEOUT")) return null;
    throw error;
  });
  if (status !== null && status["id"] === node.id) throw new EngineError("NODE_RUNNING", `${node.id} answers at ${node.admin}: stop it first`);
}

/** The newest map, by a majority's word: without one, nothing can be decided and nothing should be made. */
async function membersNow({ nodes, name }: ClientCluster, timeoutMs: number): Promise<readonly Fields[]> {
  let last = new EngineError("UNAVAILABLE", `${name}: there is no other node`);
  for (const node of nodes) {
    try {
      const { members } = await askNode(node, "/members", timeoutMs);
      return Array.isArray(members) ? members.map(fieldsOf) : [];
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      last = error;
    }
  }
  throw last;
}

const namesOf = (members: readonly Fields[]): string => members.map(({ id }) => id).join(", ");

/** One that left the map when a survivor was recovered comes back as a new member: its number is never used again. */
function changeOf(members: readonly Fields[], member: Fields | null): { readonly what: "add" | "replace"; readonly rank: number } {
  const ranks = members.map(({ rank }) => Number(rank));
  return member === null ? { what: "add", rank: Math.max(0, ...ranks) + 1 } : { what: "replace", rank: Number(member["rank"]) };
}

/** A read may still be answered under leases that are running out: whoever is to decide must be there. */
async function mustBeMajority(others: ClientCluster, members: readonly Fields[], id: string, timeoutMs: number): Promise<void> {
  const voters = { ...others, nodes: others.nodes.filter((node) => members.some((member) => member["id"] === node.id)) };
  const answers = await askNodes(voters, "/status", timeoutMs);
  const isUp = ({ value }: NodeAnswer): boolean => ["leading", "following"].includes(String(fieldsOf(value?.["paxos"])["phase"]));
  const silent = answers.filter((answer) => !isUp(answer)).map(({ node }) => node.id);
  const wanted = Math.floor(members.length / 2) + 1;
  if (answers.length - silent.length >= wanted) return;
  const text = `${wanted} members must decide this without ${id}, and ${silent.join(", ")} ${silent.length === 1 ? "is" : "are"} not there either: what only their disks hold would be lost with them`;
  throw new EngineError("PAXOS_NO_QUORUM", `${text}. Start them; where their disks are lost too, see \`cairn node recover\``);
}

function planText(id: string, dir: string, member: Fields | null, isNewIdentity: boolean): string {
  const who = isNewIdentity ? "its identity is lost too: a new one is made, and written into the config.toml of every member here" : "its identity stays";
  if (member === null) return `${id}, which is no member any more, becomes one again in ${dir} with an empty disk; ${who}.`;
  return `${id}, member ${member["number"]}, begins anew in ${dir} with an empty disk; ${who}. Its disk of birth ${member["birth"]} never votes again, whatever becomes of it. The others decide this without ${id}.`;
}

/** Those that run read the keys again; returns those that could not be told. */
async function tellKeys({ nodes }: ClientCluster, timeoutMs: number): Promise<{ readonly id: string; readonly error: EngineError }[]> {
  const told = nodes.map(async (node) => {
    try {
      await postNode(node, "/members/keys", {}, timeoutMs);
      return [];
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      return [{ id: node.id, error }];
    }
  });
  return (await Promise.all(told)).flat();
}
