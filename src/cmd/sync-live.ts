/**
 * `cairn sync trace` and `cairn sync force`: one running node, followed as it synchronises (sync.md, table B rows 10 and 12),
 * and told to. What is forced is followed until it ended, so that the answer says how; following changes nothing.
 */
import { EngineError } from "../engine/base/errors.ts";
import { TRACE_PATH, TRACE_WHATS } from "../engine/gateway/trace.ts";
import { askNode, type ClientNode, namedNode, resolveCluster } from "./cluster.ts";
import { type Fields, fieldsOf } from "./http-answer.ts";
import { streamLines } from "./line-stream.ts";
import { postNode } from "./operate.ts";
import { command } from "./spec.ts";

const nodeArg = { name: "node", means: "the node in question" } as const;

export const syncTrace = command({
  name: "sync trace",
  summary: "Follow what a running node hears, says and does while it synchronises, until interrupted",
  args: [nodeArg],
  options: [
    { name: "what", form: TRACE_WHATS, value: "WHAT", many: true, means: "only these; may be given several times" },
    { name: "kind", form: "string", value: "KIND", means: "only messages whose kind begins so: `hold.`, `paxos.lease`" },
    { name: "peer", form: "string", value: "NODE", means: "only messages from or to this node" },
    { name: "all", form: "flag", means: "also what is Paxos's alone" },
    { name: "limit", form: "count", value: "N", means: "end after so many lines" },
  ],
  errors: ["UNAVAILABLE", "TIMEOUT", "NOT_READY", "NOT_FOUND", "UNKNOWN_NODE", "LOG_BUSY"],
  examples: ["cairn sync trace c", "cairn sync trace a --what message --kind hold. --json"],
  async run(ctx) {
    const { what, kind, peer, all, limit = Number.POSITIVE_INFINITY } = ctx.options;
    const node = namedNode(await resolveCluster(ctx.cluster), ctx.args.node);
    const query = new URLSearchParams(Object.entries({ what: what.join(","), kind, peer, all: all ? "1" : undefined }).filter(isGiven));
    let count = -1;
    for await (const line of streamLines(node, { path: `${TRACE_PATH}?${query}`, timeoutMs: ctx.timeoutMs, signal: ctx.signal })) {
      if (count < 0) {
        ctx.note(`follows ${node.id} from here on`);
        count = 0;
      }
      if (line["what"] === "alive") continue;
      await ctx.answer(line, traceText(line));
      if (++count >= limit) return;
    }
    if (!ctx.signal.aborted) throw new EngineError("UNAVAILABLE", `${node.id} at ${node.admin} is not there any more`);
  },
});

const isGiven = (entry: [string, string | undefined]): entry is [string, string] => entry[1] !== undefined;

function traceText({ timeMs, what, isSync: _, ...fields }: Fields): string {
  const time = typeof timeMs === "number" ? new Date(timeMs).toISOString().slice(11, 23) : "-";
  return `${time} ${whatText(String(what), fields)}`;
}

function whatText(what: string, fields: Fields): string {
  switch (what) {
    case "message": {
      const { way, peer, kind, ...rest } = fields;
      return `${way === "in" ? "<-" : way === "out" ? "->" : "--"} ${peer ?? "."}  ${kind} ${pairs(rest)}`.trimEnd();
    }
    case "state":
      return `${fields["part"]}: ${fields["from"]} -> ${fields["to"]}`;
    case "mark":
      return `${fields["text"] ?? "."}  [${fields["mark"]}]`;
    default:
      return `${what} ${pairs(fields)}`;
  }
}

const pairs = (fields: Fields): string =>
  Object.entries(fields)
    .map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : String(value)}`)
    .join(" ");

// ------------------------------------------------------------------ force

/** Marks with which a sync that was wished for ends, and whether as wished. */
const ENDS: Readonly<Record<string, boolean>> = { "sync.flag-off": true, "sync.force-refused": false, "sync.withdrawn": false };

export const syncForce = command({
  name: "sync force",
  summary: "Have a running node replace its store by another one's, and wait until it did",
  args: [nodeArg],
  options: [],
  errors: ["SYNC_REFUSED", "NEEDS_ANSWER", "UNAVAILABLE", "TIMEOUT", "NOT_READY", "NOT_FOUND", "UNKNOWN_NODE"],
  examples: ["cairn sync force c", "cairn sync force c --yes --timeout 5m"],
  async run(ctx) {
    const cluster = await resolveCluster(ctx.cluster);
    const node = namedNode(cluster, ctx.args.node);
    const { first, last } = fieldsOf((await askNode(node, "/status", ctx.timeoutMs))["paxos"]);
    const plan = `${node.id} stops voting and serving, clears its store (versions ${first} to ${last}) and copies another one's; it keeps its identity and promises. It clears nothing before a majority of the others shows that it has version ${last}.`;
    if (!(await ctx.confirm(plan))) return;
    const untilMs = performance.now() + ctx.timeoutMs;
    const over = AbortSignal.any([ctx.signal, AbortSignal.timeout(ctx.timeoutMs)]);
    let isAsked = false;
    for await (const line of streamLines(node, { path: `${TRACE_PATH}?what=mark`, timeoutMs: ctx.timeoutMs, signal: over })) {
      if (!isAsked) {
        isAsked = true; // from here on everything is told
        await postNode(node, "/sync/force", {}, Math.max(1, untilMs - performance.now()));
      }
      const mark = String(line["mark"]);
      if (mark.startsWith("sync.")) ctx.note(String(line["text"] ?? mark));
      if (ENDS[mark] === false) throw new EngineError("SYNC_REFUSED", `${node.id}: ${line["text"]}`);
      if (ENDS[mark] === true) {
        const { paxos, sync } = await askNode(node, "/status", ctx.timeoutMs);
        const now = fieldsOf(paxos);
        return ctx.answer({ id: node.id, first: now["first"], last: now["last"], floor: fieldsOf(sync)["floor"] }, `${node.id} has a whole new store`);
      }
    }
    if (!ctx.signal.aborted) throw new EngineError("TIMEOUT", `${node.id} is not done after ${ctx.timeoutMs} ms and goes on: ${await whatFor(node)}`);
  },
});

/** What a node waits for that is not done; a node that says nothing any more says that. */
async function whatFor(node: ClientNode): Promise<string> {
  try {
    const { explain } = fieldsOf((await askNode(node, "/status", STATUS_MS))["sync"]);
    return Array.isArray(explain) && explain.length > 1 ? explain.slice(1).join("; ") : "`cairn sync status` says how far it is";
  } catch (error) {
    if (error instanceof EngineError) return error.message;
    throw error;
  }
}

const STATUS_MS = 500;
