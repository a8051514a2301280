/**
 * `cairn paxos`: how the cluster decides (sync.md section 3): who leads, and which versions each member holds. Asks every
 * node for its own view; where views differ, that is the answer.
 */
import { askNodes, mustHaveAnswered, resolveCluster } from "./cluster.ts";
import { fieldsOf } from "./http-answer.ts";
import { command } from "./spec.ts";
import { formatTable } from "./table.ts";

const status = command({
  name: "paxos status",
  summary: "Say who leads, and which versions each member holds",
  args: [],
  options: [],
  errors: ["UNAVAILABLE", "NOT_FOUND"],
  examples: ["cairn paxos status", "cairn paxos status --json"],
  async run(ctx) {
    const answers = await askNodes(await resolveCluster(ctx.cluster), "/status", ctx.timeoutMs);
    const rows = answers.map(({ node, value, error }) =>
      error === null
        ? { id: String(value["id"]), ...fieldsOf(value["paxos"]), error: null }
        : { id: node.id, error: { code: error.code, message: error.message } },
    );
    const table = rows.map(({ id, error, ...facts }) => [id, ...(error === null ? COLUMNS.map((name) => String(facts[name as never] ?? "-")) : [error.code])]);
    await ctx.answer(rows, formatTable([["NODE", "PHASE", "LEADER", "EPOCH", "FIRST", "LAST", "APPLIED"], ...table]));
    mustHaveAnswered(answers);
  },
});

const COLUMNS = ["phase", "leader", "epoch", "first", "last", "applied"] as const;

export const paxosCommands = [status];
