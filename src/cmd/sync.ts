/**
 * `cairn sync`: nodes that copy another one's store, and the versions that are kept for them (sync.md section 4.7). Asks
 * every node for its own view; what is shown is how it was when each of them answered.
 */
import { EngineError } from "../engine/base/errors.ts";
import { askNodes, mustHaveAnswered, type NodeAnswer, namedNode, resolveCluster } from "./cluster.ts";
import { type Fields, fieldsOf } from "./http-answer.ts";
import { reasonOf } from "./paxos.ts";
import { type Context, command } from "./spec.ts";
import { syncForce, syncTrace } from "./sync-live.ts";
import { syncOffline } from "./sync-offline.ts";
import { formatTable } from "./table.ts";

const status = command({
  name: "sync status",
  summary: "Say which nodes copy another one's store, how far they are, and what is held for them",
  args: [],
  options: [],
  errors: ["UNAVAILABLE", "NOT_FOUND"],
  examples: ["cairn sync status", "cairn sync status --json"],
  async run(ctx) {
    const answers = await askNodes(await resolveCluster(ctx.cluster), "/status", ctx.timeoutMs);
    const rows = answers.map((answer) => ({ id: answer.node.id, ...(answer.error === null ? withoutReasons(syncOf(answer)) : failureOf(answer)) }));
    await ctx.answer(
      rows,
      formatTable([["NODE", "PHASE", "FROM", "VERSION", "CHUNKS", "DONE", "RATE", "LIMIT", "ETA", "FLOOR", "PROVIDES", "HOLDS"], ...answers.map(rowOf)]),
    );
    mustHaveAnswered(answers);
  },
});

const explain = command({
  name: "sync explain",
  summary: "Say why a node copies another one's store, or need not, from whom, and why from nobody else; or what keeps old versions from being trimmed",
  args: [{ name: "node", optional: true, means: "the node in question" }],
  options: [{ name: "trim", form: "flag", means: "instead of a node: who holds trimming, and until when" }],
  errors: ["UNAVAILABLE", "NOT_FOUND", "UNKNOWN_NODE", "PAXOS_NO_QUORUM"],
  examples: ["cairn sync explain c", "cairn sync explain --trim"],
  async run(ctx) {
    const cluster = await resolveCluster(ctx.cluster);
    if ((ctx.args.node === undefined) !== ctx.options.trim) throw new EngineError("USAGE", "want a node, or --trim");
    if (ctx.args.node === undefined) return explainTrim(ctx, await askNodes(cluster, "/status", ctx.timeoutMs));
    const node = namedNode(cluster, ctx.args.node);
    const [answer] = await askNodes({ ...cluster, nodes: [node] }, "/status", ctx.timeoutMs);
    if (answer === undefined || answer.error !== null) throw answer?.error ?? new EngineError("UNAVAILABLE", `${node.id} did not answer`);
    const reasons = syncOf(answer)["explain"];
    const lines = Array.isArray(reasons) ? reasons.map(String) : [`${node.id} does not say why`];
    await ctx.answer({ id: node.id, explain: lines }, lines.join("\n"));
  },
});

/** The leader alone decides it. */
async function explainTrim(ctx: Pick<Context, "answer">, answers: readonly NodeAnswer[]): Promise<void> {
  mustHaveAnswered(answers);
  const leader = answers.find(({ value }) => fieldsOf(fieldsOf(value?.["paxos"])["trim"])["by"] !== undefined)?.value;
  if (leader == null) throw new EngineError("PAXOS_NO_QUORUM", `none of ${answers.map(({ node }) => node.id).join(", ")} leads with a majority's leases`);
  const { trim, last } = fieldsOf(leader["paxos"]);
  const { first, next } = fieldsOf(trim);
  const reason = reasonOf(fieldsOf(trim), leader);
  const due = Number(next) > Number(first) ? `versions ${first} to ${Number(next) - 1} may go` : "nothing may go";
  const { holds } = fieldsOf(leader["sync"]);
  await ctx.answer({ ...fieldsOf(trim), last, holds, reason }, `${due} of ${first} to ${last}: ${reason}`);
}

const syncOf = ({ value }: NodeAnswer): Fields => fieldsOf(value?.["sync"]);
const withoutReasons = ({ explain: _, ...rest }: Fields): Fields => rest;
const failureOf = ({ error }: NodeAnswer): Fields => ({ error: { code: error?.code ?? "FAILED", message: error?.message ?? "" } });
const countOf = (list: unknown): string => (Array.isArray(list) && list.length > 0 ? String(list.length) : "-");

function rowOf(answer: NodeAnswer): string[] {
  if (answer.error !== null) return [answer.node.id, answer.error.code];
  const sync = syncOf(answer);
  const copy = fieldsOf(sync["copy"]);
  const cell = (value: unknown): string => String(value ?? "-");
  const phase = sync["synchronizing"] === true ? cell(sync["phase"]) : "-";
  return [
    answer.node.id,
    phase,
    phase === "-" ? "-" : cell(sync["provider"]),
    cell(copy["version"]),
    cell(copy["chunks"]),
    ...progressCells(fieldsOf(copy["progress"])),
    cell(sync["floor"]),
    countOf(sync["provides"]),
    countOf(sync["holds"]),
  ];
}

/** How much, how fast, what holds it up, and how long still: estimates. */
function progressCells({ percent, bytesDone, bytes, bytesPerS, limitedBy, etaMs }: Fields): string[] {
  if (typeof percent !== "number") return ["-", "-", "-", "-"];
  const done = `${percent} %, ${mebibytes(bytesDone)} of ${mebibytes(bytes)} MiB`;
  return [done, `${mebibytes(bytesPerS)} MiB/s`, String(limitedBy), typeof etaMs === "number" ? `${Math.ceil(etaMs / 1_000)} s` : "-"];
}

const mebibytes = (bytes: unknown): string => (Number(bytes) / 2 ** 20).toFixed(1);

export const syncCommands = [status, explain, syncForce, syncTrace, syncOffline];
