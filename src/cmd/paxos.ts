/**
 * `cairn paxos`: how the cluster decides (sync.md section 3): who leads, and which versions each member holds. Asks every
 * node for its own view; where views differ, that is the answer.
 */
import { askNodes, mustHaveAnswered, resolveCluster } from "./cluster.ts";
import { type Fields, fieldsOf } from "./http-answer.ts";
import { postCluster } from "./operate.ts";
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
    const table = answers.map(({ node, value, error }) => {
      if (error !== null) return [node.id, error.code];
      const facts = fieldsOf(value["paxos"]);
      const votes = typeof facts["voteless"] === "string" ? "no" : "yes";
      return [String(value["id"]), ...COLUMNS.map((name) => String(facts[name] ?? "-")), votes, trimCell(value)];
    });
    await ctx.answer(rows, formatTable([["NODE", "PHASE", "LEADER", "EPOCH", "FIRST", "LAST", "APPLIED", "VOTES", "TRIM"], ...table]));
    mustHaveAnswered(answers);
  },
});

const COLUMNS = ["phase", "leader", "epoch", "first", "last", "applied"] as const;

/** As the leader sees it; nobody else decides it. */
function trimCell(value: Fields): string {
  const trim = fieldsOf(value["paxos"])["trim"];
  return trim === null || trim === undefined ? "-" : `to ${fieldsOf(trim)["next"]}: ${reasonOf(fieldsOf(trim), value)}`;
}

const trim = command({
  name: "paxos trim",
  summary: "Trim old versions now, as far as nothing needs them, and say what keeps the rest",
  args: [],
  options: [],
  errors: ["PAXOS_NO_QUORUM", "PAXOS_OUTCOME_UNKNOWN", "NOT_READY", "UNAVAILABLE", "NOT_FOUND"],
  examples: ["cairn paxos trim", "cairn paxos trim --json"],
  async run(ctx) {
    const cluster = await resolveCluster(ctx.cluster);
    const untilMs = performance.now() + ctx.timeoutMs;
    let done = await postCluster(cluster, "/paxos/trim", {}, ctx.timeoutMs);
    const from = Number(done["first"]);
    let versions = done["version"] === 0 ? [] : [done["version"]];
    // one proposal removes so many at most; what is in flight ends by itself
    while (GOES_ON.includes(String(done["by"])) && performance.now() < untilMs) {
      if (done["version"] === 0) await Bun.sleep(AGAIN_MS);
      done = await postCluster(cluster, "/paxos/trim", {}, Math.max(1, untilMs - performance.now()));
      if (done["version"] !== 0) versions = [...versions, done["version"]];
    }
    const [leader] = (await askNodes(cluster, "/status", ctx.timeoutMs)).filter(({ value }) => fieldsOf(value?.["paxos"])["phase"] === "leading");
    const reason = reasonOf(done, leader?.value ?? {});
    const next = Number(done["next"]);
    const what = next > from ? `trimmed [${from}, ${next}) in version ${versions.join(", ")}` : `nothing was trimmed: versions from ${from} on stay`;
    await ctx.answer({ first: from, next, versions, by: done["by"], waitMs: done["waitMs"], reason }, `${what}: ${reason}`);
  },
});

/** What does not hold trimming back, but only this proposal. */
const GOES_ON: readonly string[] = ["count", "trim", "proposals"];
const AGAIN_MS = 50;

/** Why trimming goes no further, by the leader's status. */
export function reasonOf({ by, waitMs }: Fields, status: Fields): string {
  switch (by) {
    case "keep":
      return "the newest versions stay";
    case "hold":
      return holdsOf(status) || "it is held, and nobody says for whom";
    case "new-leader":
      return `a new leader trims nothing for ${Math.ceil(Number(waitMs) / 1_000)} s, holds of the last one may live`;
    case "count":
      return "one proposal removes no more";
    case "trim":
      return "a trim is under way";
    case "proposals":
      return "proposals are under way";
    default:
      return `member ${by} has not come further`;
  }
}

function holdsOf(status: Fields): string {
  const holds = fieldsOf(status["sync"])["holds"];
  if (!Array.isArray(holds)) return "";
  return holds
    .map(fieldsOf)
    .map((hold) => `held from ${hold["lowest"]} on for ${hold["for"]}, ${hold["phase"]}, ${Math.ceil(Number(hold["leftMs"]) / 1_000)} s left`)
    .join("; ");
}

export const paxosCommands = [status, trim];
