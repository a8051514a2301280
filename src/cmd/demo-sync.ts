/**
 * The demo's act about the replicated store (sync.md section 1): a node is killed, the others write on until what it needs
 * next is trimmed away, and once started it is brought back by a copy of another one's store, nobody typing anything. At
 * the end every node lists the same keys, versions and values. Not a command itself.
 */
import { setTimeout } from "node:timers/promises";
import { EngineError } from "../engine/base/errors.ts";
import type { NodeId } from "../engine/base/ids.ts";
import { askNode, type ClientCluster, type ClientNode, namedNode } from "./cluster.ts";
import type { DemoCluster } from "./demo-cluster.ts";
import { type Fields, fieldsOf } from "./http-answer.ts";
import { askKv, keyPath } from "./kv-client.ts";

/** So that the copy takes a moment. */
const VALUE_BYTES = 16 * 1_024;
/** Fewer at once than a proposal takes: what counts is how many versions there are. */
const LANES = 4;
/** Where the leader changed, nothing is trimmed for a minute. */
const TRIM_MS = 120_000;
const BACK_MS = 60_000;
const ASK_MS = 5_000;
const ASK_EVERY_MS = 20;
const PAGE_COUNT = 128;

export type SyncReport = {
  readonly node: string;
  /** Versions that were trimmed away behind its back, and the bytes copied instead. */
  readonly missed: number;
  readonly from: string;
  readonly bytes: number;
  readonly afterMs: number;
  readonly keys: number;
};

type Stage = { readonly cluster: DemoCluster; readonly signal: AbortSignal; act(title: string): void; say(text: string): void };
type Gap = { readonly last: number; readonly first: number; readonly written: number };

export async function showSync(stage: Stage, victim: NodeId): Promise<SyncReport> {
  const { client } = stage.cluster;
  const node = namedNode(client, victim);
  const others = { ...client, nodes: client.nodes.filter(({ id }) => id !== victim) };
  stage.act(`4  kill -9 ${victim} once more; the others write until what it needs next is trimmed away`);
  const { last } = await paxosOf(node);
  stage.cluster.kill(victim);
  const gap = await writePast(stage, others, last);
  stage.say(`   ${gap.written} values written; ${victim} ends at version ${gap.last}, the others begin at ${gap.first}`);
  stage.act(`5  ${await stage.cluster.revive(victim)}`);
  const { from, bytes, afterMs } = await awaitSync(stage, node, others);
  stage.say(`   ${victim} copied ${mebibytes(bytes)} MiB of ${from}'s store and is ready, ${afterMs} ms after its start`);
  const keys = await sameKeys(client);
  stage.say(`   ${client.nodes.map(({ id }) => id).join(", ")} list the same ${keys} keys, versions and values`);
  return { node: victim, missed: gap.first - gap.last - 1, from, bytes, afterMs, keys };
}

/** Until the others' first version is beyond what the dead node could take up. */
async function writePast(stage: Stage, others: ClientCluster, last: number): Promise<Gap> {
  const { signal } = stage;
  const deadline = performance.now() + TRIM_MS;
  let [written, isOver] = [0, false];
  const lane = async (): Promise<void> => {
    while (!isOver && !signal.aborted) {
      const body = crypto.getRandomValues(new Uint8Array(VALUE_BYTES));
      await askKv(others, { method: "PUT", path: keyPath(`demo/${String(written++).padStart(5, "0")}`), body }, ASK_MS);
    }
  };
  const lanes = Promise.all(Array.from({ length: LANES }, lane));
  lanes.catch(() => {}); // awaited below
  try {
    for (let isTold = false; ; await setTimeout(ASK_EVERY_MS, undefined, { signal })) {
      const views = await Promise.all(others.nodes.map(paxosOf));
      const first = Math.max(...views.map((view) => view.first));
      if (first > last + 1) {
        isOver = true;
        await lanes;
        return { last, first, written };
      }
      const waitMs = Math.max(...views.map((view) => view.waitMs));
      if (waitMs > 0 && !isTold) stage.say(`   a new leader trims nothing for ${Math.ceil(waitMs / 1_000)} s: holds of the one before it may live`);
      isTold ||= waitMs > 0;
      if (performance.now() > deadline)
        throw new EngineError("TIMEOUT", `not within ${TRIM_MS} ms: versions up to ${last + 1} trimmed; they begin at ${first}`);
    }
  } finally {
    isOver = true;
  }
}

/** Until it is ready and has applied what the others have; resolves with what was seen of its copy. */
async function awaitSync(stage: Stage, node: ClientNode, others: ClientCluster): Promise<Pick<SyncReport, "from" | "bytes" | "afterMs">> {
  const startMs = performance.now();
  let [phase, from, bytes] = ["", "", 0];
  for (;;) {
    const status = await askNode(node, "/status", ASK_MS).catch(() => ({}) as Fields);
    const sync = fieldsOf(status["sync"]);
    if (sync["synchronizing"] === true) {
      if (sync["phase"] !== phase) stage.say(`   ${node.id}: ${sync["phase"]}${typeof sync["provider"] === "string" ? `, from ${sync["provider"]}` : ""}`);
      phase = String(sync["phase"]);
      if (typeof sync["provider"] === "string") from = sync["provider"];
      bytes = Math.max(bytes, Number(fieldsOf(fieldsOf(sync["copy"])["progress"])["bytesDone"] ?? 0));
    }
    const isReady = (await askNode(node, "/health", ASK_MS).catch(() => ({}) as Fields))["ready"] === true;
    if (isReady && (await paxosOf(node)).applied >= Math.max(...(await Promise.all(others.nodes.map(paxosOf))).map((view) => view.applied)))
      return { from, bytes, afterMs: Math.round(performance.now() - startMs) };
    if (performance.now() > startMs + BACK_MS)
      throw new EngineError("TIMEOUT", `not within ${BACK_MS} ms: ${node.id} synchronised; it is ${phase || "silent"}`);
    await setTimeout(ASK_EVERY_MS, undefined, { signal: stage.signal });
  }
}

/** Reads every node's own state, page by page; resolves with how many keys there are. Throws DIFFERENCES. */
async function sameKeys({ name, vkey, nodes }: ClientCluster): Promise<number> {
  let keys = 0;
  for (let after: string | null = ""; after !== null; ) {
    const path = `?${new URLSearchParams({ prefix: "demo/", consistency: "local", limit: String(PAGE_COUNT), ...(after === "" ? {} : { after }) })}`;
    const pages = await Promise.all(nodes.map(async (node) => (await askKv({ name, vkey, nodes: [node] }, { method: "GET", path }, ASK_MS)).body));
    const texts = pages.map((page) => new TextDecoder().decode(page));
    const different = texts.findIndex((text) => text !== texts[0]);
    if (different >= 0) throw new EngineError("DIFFERENCES", `${nodes[0]?.id} and ${nodes[different]?.id} differ in the keys behind ${JSON.stringify(after)}`);
    const rows: string[] = (texts[0] ?? "").split("\n").filter((line) => line !== "");
    keys += rows.length;
    after = rows.length < PAGE_COUNT ? null : String((JSON.parse(rows.at(-1) ?? "{}") as Fields)["key"]);
  }
  return keys;
}

async function paxosOf(node: ClientNode): Promise<{ readonly first: number; readonly last: number; readonly applied: number; readonly waitMs: number }> {
  const paxos = fieldsOf((await askNode(node, "/status", ASK_MS))["paxos"]);
  const trim = fieldsOf(paxos["trim"]);
  return { first: Number(paxos["first"]), last: Number(paxos["last"]), applied: Number(paxos["applied"]), waitMs: Number(trim["waitMs"] ?? 0) };
}

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
