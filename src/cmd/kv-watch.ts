/**
 * `cairn kv watch`: changes of keys as they are decided (sync.md 3.8), each once and in order, from one node after the other:
 * where a node goes away, the next one is asked from the version that everything was told of. A watch ends when its versions
 * were trimmed before they were read, and says so; nothing is skipped silently.
 */
import { EngineError } from "../engine/base/errors.ts";
import { type ClientCluster, resolveCluster } from "./cluster.ts";
import type { Fields } from "./http-answer.ts";
import { askKv } from "./kv-client.ts";
import { streamLines } from "./line-stream.ts";
import { command } from "./spec.ts";

/** Another node may have what this one has not. */
const TRY_NEXT: readonly string[] = ["UNAVAILABLE", "TIMEOUT", "NOT_READY", "LOG_BUSY"];
/** Before a node is asked that was asked before. */
const AGAIN_MS = 200;

export const kvWatch = command({
  name: "kv watch",
  summary: "Print changes of keys as they are decided, until interrupted",
  args: [{ name: "prefix", optional: true, means: "only keys that begin with this" }],
  options: [
    { name: "from", form: "count", value: "V", means: "changes behind this version; else behind the newest there is now" },
    { name: "limit", form: "count", value: "N", means: "end after so many" },
  ],
  errors: ["SYNC_TRIMMED", "PAXOS_NO_QUORUM", "NOT_READY", "UNAVAILABLE", "TIMEOUT", "NOT_FOUND"],
  examples: ["cairn kv watch users/", "cairn kv watch --from 120 --limit 1 --json"],
  async run(ctx) {
    const { prefix = "" } = ctx.args;
    const { limit = Number.POSITIVE_INFINITY } = ctx.options;
    if (limit < 1) throw new EngineError("BAD_OPTION", "--limit 0: want at least 1");
    const cluster = await resolveCluster(ctx.cluster);
    const from = ctx.options.from ?? (await newestVersion(cluster, ctx.timeoutMs));
    let count = 0;
    const watch = { prefix, from, timeoutMs: ctx.timeoutMs, signal: ctx.signal, note: ctx.note };
    for await (const change of changes(cluster, watch)) {
      await ctx.answer(change, changeText(change));
      if (++count >= limit) return;
    }
  },
});

async function newestVersion(cluster: ClientCluster, timeoutMs: number): Promise<number> {
  const reply = await askKv(cluster, { method: "GET", path: "?limit=1" }, timeoutMs);
  return reply.header("x-cairn-read-version") ?? 0;
}

type Watch = { readonly prefix: string; readonly from: number; readonly timeoutMs: number; readonly signal: AbortSignal; note(text: string): void };

/** The lines of one node until it fails, then those of the next, without what was told before. */
async function* changes({ nodes, name }: ClientCluster, { prefix, from, timeoutMs, signal, note }: Watch): AsyncGenerator<Fields> {
  const told = new Told(from);
  let last = new EngineError("UNAVAILABLE", `${name}: it has no nodes`);
  let heardMs = performance.now();
  for (let at = 0; !signal.aborted; at = (at + 1) % nodes.length) {
    const node = nodes[at];
    if (node === undefined) throw last;
    const query = new URLSearchParams({ prefix, watch: String(told.upTo) });
    try {
      told.begin();
      for await (const line of streamLines(node, { path: `/kv/?${query}`, timeoutMs, signal })) {
        heardMs = performance.now();
        if (told.isNew(line)) yield line;
      }
      last = new EngineError("UNAVAILABLE", `${node.id} at ${node.admin}: the connection broke off`);
    } catch (error) {
      if (!(error instanceof EngineError) || !TRY_NEXT.includes(error.code)) throw error;
      last = error;
    }
    if (signal.aborted) return;
    if (performance.now() - heardMs > timeoutMs) throw last;
    note(`${last.message}; goes on behind version ${told.upTo} at another node`);
    await Bun.sleep(AGAIN_MS);
  }
}

/** What was told: everything up to a version, and so many changes of one behind it. Every node tells them in one order. */
class Told {
  upTo: number;
  private version: number;
  private count = 0;
  /** Of that version, in this connection. */
  private seen = 0;

  constructor(from: number) {
    this.upTo = from;
    this.version = from;
  }

  begin(): void {
    this.seen = 0;
  }

  isNew({ upTo, version }: Fields): boolean {
    if (typeof upTo === "number") this.upTo = Math.max(this.upTo, upTo);
    if (typeof version !== "number" || version < this.version) return false;
    if (version > this.version) [this.version, this.count, this.seen] = [version, 0, 0];
    if (++this.seen <= this.count) return false;
    this.count = this.seen;
    return true;
  }
}

function changeText({ key, keyBase64, version, value, valueBase64, deleted }: Fields): string {
  const name = key ?? `base64:${keyBase64}`;
  return deleted === true ? `delete\t${name}\t${version}` : `put\t${name}\t${version}\t${value ?? `base64:${valueBase64}`}`;
}
