/**
 * `cairn node recover`: a cluster that lost a majority of its disks goes on with one survivor (sync.md 3.7), which gives up
 * what only the lost ones held. Refused while enough members are there to decide, and where another survivor has come further.
 * The others begin anew afterwards, with `cairn node replace`.
 */
import { readU64be } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import type { RecoveryPlan } from "../engine/node/recover-node.ts";
import { acceptsKeys } from "../engine/store/keys.ts";
import type { StoreSnapshot } from "../engine/store/types.ts";
import { askNodes, type ClientCluster, resolveCluster } from "./cluster.ts";
import { command } from "./spec.ts";
import { nodeFolder, withDatabases } from "./store-open.ts";

export const nodeRecover = command({
  name: "node recover",
  summary: "After a majority of disks is lost: let one stopped survivor go on alone, without what only the others held",
  args: [{ name: "node", means: "the survivor that has come furthest" }],
  options: [],
  errors: ["PAXOS_QUORUM", "SYNC_BEHIND", "NODE_RUNNING", "NEEDS_ANSWER", "NOT_READY", "PAXOS_REGRESSED", "UNKNOWN_NODE", "NOT_FOUND"],
  examples: ["cairn node recover a", "cairn node recover ./cluster/a --yes"],
  async run(ctx) {
    const { loadNode } = await import("../engine/node/config.ts");
    const { openRecovery } = await import("../engine/node/recover-node.ts");
    const dir = await nodeFolder(ctx.args.node, ctx.cluster);
    const node = await loadNode(dir);
    const cluster = await clusterOf(dir, ctx.cluster);
    await using recovery = await openRecovery(node);
    const { plan } = recovery;
    const unseen = await mustBeNewest(cluster, plan, ctx.timeoutMs);
    if (!(await ctx.confirm(planText(plan, dir, unseen)))) return;
    const version = await recovery.run();
    const text = `${plan.id} decides alone from version ${version} on; start it, then let the others begin anew: ${plan.leaving.map((id) => `cairn node replace ${id}`).join(", ")}`;
    await ctx.answer({ ...plan, version }, text);
  },
});

/** The cluster that is addressed, where the folder is of it: it knows the folders of the others. */
async function clusterOf(dir: string, given: string | undefined): Promise<ClientCluster> {
  const found = await resolveCluster(given).catch(() => null); // a folder says enough of its cluster
  return found?.nodes.some((node) => node.dir === dir) === true ? found : resolveCluster(dir);
}

/** Others are asked, and where they do not run, their folders are looked into; returns those whose folder is not known here. */
async function mustBeNewest(cluster: ClientCluster, { id, last, accepted, leaving }: RecoveryPlan, timeoutMs: number): Promise<readonly string[]> {
  const others = { ...cluster, nodes: cluster.nodes.filter((node) => leaving.some((each) => each === node.id)) };
  const answers = await askNodes(others, "/status", timeoutMs);
  const up = answers.filter(({ error }) => error === null).map(({ node }) => node.id);
  const majority = Math.floor((leaving.length + 1) / 2) + 1;
  if (up.length + 1 >= majority)
    throw new EngineError("PAXOS_QUORUM", `${up.join(", ")} and ${id} are ${up.length + 1} of ${leaving.length + 1}: they decide together, start ${id}`);
  if (up.length > 0)
    throw new EngineError("NODE_RUNNING", `${up.join(", ")} ${up.length === 1 ? "runs" : "run"}: stop it, so that what it accepted can be compared`);
  const reached = accepted.at(-1) ?? last;
  for (const { id: other, dir } of others.nodes) {
    const theirs = await topIn(dir);
    if (theirs > reached) throw new EngineError("SYNC_BEHIND", `${other} has version ${theirs}, ${id} only ${reached}: recover that one`);
  }
  return others.nodes.flatMap((node) => (node.dir === null ? [node.id] : []));
}

/** The newest version that a folder holds, chosen or accepted; one that is lost has nothing. */
async function topIn(dir: string | null): Promise<number> {
  if (dir === null) return 0;
  const { historyOf } = await import("../engine/store/versions.ts");
  try {
    return await withDatabases(dir, ["replicated", "accepts"], async (databases) =>
      Math.max(...databases.map(({ db, snapshot }) => (db === "accepts" ? topAccepted(snapshot) : historyOf(snapshot).last))),
    );
  } catch (error) {
    if (error instanceof EngineError) return 0; // missing, cut off or damaged: it is what is given up
    throw error;
  }
}

function topAccepted(accepts: StoreSnapshot): number {
  const [newest] = accepts.iterate(acceptsKeys.accepted(0), acceptsKeys.accepted(Number.MAX_SAFE_INTEGER), { reverse: true, limit: 1 });
  return newest === undefined ? 0 : (readU64be(newest[0], newest[0].length - 8) ?? 0);
}

function planText({ id, last, accepted, leaving }: RecoveryPlan, dir: string, unseen: readonly string[]): string {
  const kept = accepted.length === 0 ? "" : `, and ${accepted.join(", ")}, which it accepted and nobody can ask about any more,`;
  return `${leaving.join(", ")} leave the cluster for good, and ${id} in ${dir} goes on alone. Versions up to ${last}${kept} stay. What was acknowledged by the others alone is lost, and so is what an old disk of theirs may still say: never start one again.${unseen.length === 0 ? "" : ` Not looked into, for their folders are not known here: ${unseen.join(", ")}.`}`;
}
