/**
 * `cairn demo`, which is what `npm start` runs: a real cluster of three nodes, real entries, the merge in parallel; one
 * secondary is killed while entries go on, and brought back; it is killed again until the replicated store has left it
 * behind, and is synchronised; at the end everything is verified from the outside. Progress goes to stderr, as a live
 * picture on a terminal and as lines elsewhere; the summary is the answer. Leaves nothing behind.
 */
import { setTimeout } from "node:timers/promises";
import { EngineError } from "../engine/base/errors.ts";
import type { NodeId } from "../engine/base/ids.ts";
import { checkReceipt } from "../engine/merge/check-receipt.ts";
import { type DemoCluster, keyOf, nodeOf, startDemoCluster } from "./demo-cluster.ts";
import { type DemoEntries, demoEntries } from "./demo-entries.ts";
import { type SyncReport, showSync } from "./demo-sync.ts";
import { cosignersOf, keepCheckpoint, proveEntries, verifyFrontends } from "./demo-verify.ts";
import { LiveBlock } from "./live-block.ts";
import { askLog } from "./log-client.ts";
import { askMerge, type MergeView, type PrimaryView } from "./merge-view.ts";
import { colours, drawMerge, plain } from "./picture.ts";
import { readingOf } from "./quorum.ts";
import { repl } from "./repl.ts";
import { command } from "./spec.ts";

/** Nothing here takes a second on a quiet machine; on a busy one it may take many. */
const WAIT_MS = 30_000;
/** A node that takes longer to say how it is counts as silent. */
const STATUS_MS = 5_000;
const ASK_EVERY_MS = 50;
const DRAW_EVERY_MS = 100;
const RETRY_MS = 100;
/** On a terminal the entries come one after the other, so that there is something to see. */
const PACE_MS = 40;
/** A node whose peer just died answers an add only after it has turned to another one: the next entries do not wait for that. */
const ADDS_IN_FLIGHT = 48;
/** Every so many entries one goes to a second storage node too: the merge must take it once. */
const REPEAT_EVERY = 4;
const PIPE_COLUMNS = 80;

export const demo = command({
  name: "demo",
  summary: "Run three nodes, log this machine's CA certificates, kill a node and bring it back, synchronise its store, verify everything",
  args: [],
  options: [
    { name: "pem", form: "string", value: "FILE", means: "log the certificates of this file instead" },
    { name: "no-repl", form: "flag", means: "on a terminal: end, instead of going on in the REPL" },
  ],
  errors: ["NOT_FOUND", "BAD_OPTION", "UNAVAILABLE", "TIMEOUT", "LOG_ROOT_MISMATCH", "LOG_SIGNATURE", "LOG_PROOF", "LOG_HEAD_FORK", "DIFFERENCES"],
  examples: ["cairn demo", "cairn demo --no-repl --json"],
  async run(ctx) {
    const { signal } = ctx;
    const report = await runDemo(await demoEntries(ctx.options.pem), signal).catch((error: unknown) => {
      if (signal.aborted) return null; // stopped half-way: whatever that broke is no news
      throw error;
    });
    if (report === null) return;
    await ctx.answer(report, reportText(report));
    if (ctx.options["no-repl"] || ctx.json || process.stdin.isTTY !== true || process.stdout.isTTY !== true) return;
    ctx.note("\nNow the same protocol by hand, on a simulated cluster. Try: round adds=n1:20");
    signal.addEventListener("abort", () => process.stdin.destroy(), { once: true });
    await repl.run({ ...ctx, options: {}, args: { fixture: "merge-three" } });
  },
});

type Report = {
  readonly event: "demo";
  readonly source: string;
  readonly entries: number;
  /** Receipts checked; those beyond one an entry are of repeats, which the merge took once. */
  readonly receipts: number;
  readonly killed: { readonly node: string; readonly position: number; readonly signedWithout: number; readonly heldBy: readonly string[] };
  readonly revived: { readonly node: string; readonly verifiedMore: number; readonly afterMs: number };
  readonly synchronized: SyncReport;
  readonly verified: {
    readonly frontends: number;
    readonly size: number;
    readonly tiles: number;
    readonly inclusionProofs: number;
    readonly consistentSince: readonly number[];
    readonly cosigned: readonly string[];
  };
  readonly elapsedMs: number;
};

/** Null where the signal came before the cluster was up. */
async function runDemo(input: DemoEntries, signal: AbortSignal): Promise<Report | null> {
  const startedMs = performance.now();
  const block = new LiveBlock(process.stderr);
  await using closers = new AsyncDisposableStack();
  closers.defer(() => block.end());
  block.say("Starting three nodes …");
  const say = (text: string): void => {
    if (!signal.aborted) block.say(`  ${text}`);
  };
  const cluster = await startDemoCluster(closers, say, signal);
  if (cluster === null) return null;
  const show = new Show(cluster, block, signal);
  closers.defer(() => show.end());
  const report = await perform(show, input);
  show.say("");
  return { ...report, elapsedMs: Math.round(performance.now() - startedMs) };
}

async function perform(show: Show, { source, entries }: DemoEntries): Promise<Omit<Report, "elapsedMs">> {
  const { cluster, signal } = show;
  const { secondaries, backupquorum, primary } = cluster.keys;
  const [first] = cluster.nodes;
  const victim = secondaries.at(-1);
  if (first === undefined || victim === undefined) throw new EngineError("UNKNOWN_NODE", "the cluster has no secondary to kill");
  const half = Math.ceil(entries.length / 2);
  const empty = await keepCheckpoint(first, cluster.vkey, signal);
  show.say(`  ${primary} is the primary, ${secondaries.join(" and ")} are secondaries; each takes entries and serves the log.`);
  show.say(`  backupquorum ${backupquorum}: so many secondaries verify an entry before it is signed.`);
  show.say(`  From another terminal: cairn merge status --watch --cluster ${cluster.dir}`);

  show.act(`1  add ${half} of ${entries.length} certificates at all three, and check every receipt`);
  show.say(`   (from ${source})`);
  let receipts = await show.add(entries.slice(0, half), cluster.nodes);
  const before = await show.until(`${half} entries signed everywhere`, (view, { signedSize }) => signedSize === half && serves(view, half));
  const early = await keepCheckpoint(first, cluster.vkey, signal);
  show.picture(before);

  show.act(`2  kill -9 ${victim} while the other ${entries.length - half} are added`);
  const others = cluster.nodes.filter(({ id }) => id !== victim);
  const killedAt = half + Math.ceil((entries.length - half) / 4); // the rest is added after it is dead, whatever the machine's speed
  receipts += await show.add(entries.slice(half, killedAt), others);
  cluster.kill(victim);
  receipts += await show.add(entries.slice(killedAt), others);
  const without = await show.until(`${entries.length} entries signed without ${victim}`, (view, merge) => {
    const isDead = view.nodes.some(({ id, error }) => id === victim && error !== null);
    return isDead && merge.signedSize === entries.length && serves(view, entries.length, victim);
  });
  const killed = heldBy(without, victim, entries.length);
  show.picture(without);
  show.say(`   ${killed.heldBy.join(" and ")} alone held backupquorum ${backupquorum}; with ${secondaries.length} the head would still be ${killed.position}`);

  const revivedMs = performance.now();
  show.act(`3  ${await cluster.revive(victim)}`);
  const after = await show.until(
    `${victim} caught up`,
    (view, { standings }) => standings.every(({ size }) => size === entries.length) && serves(view, entries.length),
  );
  const revived = { node: victim, verifiedMore: entries.length - killed.position, afterMs: Math.round(performance.now() - revivedMs) };
  show.picture(after);
  show.say(`   ${victim} copied and verified ${revived.verifiedMore} entries, ${revived.afterMs} ms after its start`);

  const synchronized = await showSync(show, victim);

  show.act("6  verify everything from the outside, with the log's key alone");
  const reports = await verifyFrontends(cluster.nodes, { ...cluster, backupquorum }, [empty.note, early.note], signal);
  const head = await keepCheckpoint(first, cluster.vkey, signal);
  if (head.size !== entries.length) throw new EngineError("DIFFERENCES", `${entries.length} different entries were added, the signed head has ${head.size}`);
  const verified = {
    frontends: reports.length,
    size: head.size,
    tiles: reports.reduce((sum, { tiles }) => sum + tiles, 0),
    inclusionProofs: await proveEntries(entries, cluster.nodes, { vkey: cluster.vkey, head, signal }),
    consistentSince: [empty.size, early.size],
    cosigned: cosignersOf(head.note, { ...cluster, backupquorum }),
  };
  return { event: "demo", source, entries: entries.length, receipts, killed, revived, synchronized, verified };
}

/** Whether each frontend serves exactly this size, but the one that is dead. */
const serves = ({ nodes }: MergeView, size: number, dead?: string): boolean => nodes.every(({ id, publishedSize }) => id === dead || publishedSize === size);

/** The head was signed on the word of the others: what the formula itself says. */
function heldBy({ merge }: MergeView, victim: NodeId, signedWithout: number): Report["killed"] {
  const position = merge?.standings.find(({ secondary }) => secondary === victim)?.size ?? 0;
  const counted = merge === null ? [] : readingOf({ currentSize: merge.currentSize, positions: merge.standings }, merge.k).counted;
  if (position >= signedWithout || counted.length === 0 || counted.includes(victim))
    throw new EngineError("FAILED", `${victim} was dead at ${position}, and ${signedWithout} was signed on the word of ${counted.join(", ") || "nobody"}`);
  return { node: victim, position, signedWithout, heldBy: counted };
}

/** The cluster on stage: what is done to it, and what is seen of it. */
class Show {
  readonly cluster: DemoCluster;
  readonly signal: AbortSignal;
  private readonly block: LiveBlock;
  private readonly stop = new AbortController();
  private readonly drawing: Promise<void>;

  constructor(cluster: DemoCluster, block: LiveBlock, signal: AbortSignal) {
    this.cluster = cluster;
    this.block = block;
    this.signal = signal;
    this.drawing = block.isTerminal ? this.draw(AbortSignal.any([signal, this.stop.signal])) : Promise.resolve();
  }

  async end(): Promise<void> {
    this.stop.abort();
    await this.drawing;
  }

  say(text: string): void {
    this.block.say(text);
  }

  act(title: string): void {
    this.say(`\n${title}`);
  }

  /** What a terminal sees live, a pipe sees at the end of each act. */
  picture(view: MergeView): void {
    if (!this.block.isTerminal) for (const line of drawMerge(view, { columns: PIPE_COLUMNS })) this.say(`   ${line}`);
  }

  /** Adds the entries at these nodes in turn; resolves with the number of receipts, each of them checked. */
  async add(entries: readonly Uint8Array[], nodes: DemoCluster["nodes"]): Promise<number> {
    let receipts = 0;
    let next = 0;
    const startMs = performance.now();
    const lane = async (): Promise<void> => {
      for (let at = next++; at < entries.length; at = next++) {
        if (this.block.isTerminal) await setTimeout(Math.max(0, startMs + at * PACE_MS - performance.now()), undefined, { signal: this.signal });
        const copies = at % REPEAT_EVERY === 0 ? 2 : 1;
        for (let copy = 0; copy < copies; copy++, receipts++) await this.addOne(entries[at] ?? new Uint8Array(0), nodes[(at + copy) % nodes.length]?.id ?? "");
      }
    };
    await Promise.all(Array.from({ length: ADDS_IN_FLIGHT }, lane));
    return receipts;
  }

  private async addOne(entry: Uint8Array, id: string): Promise<void> {
    const { origin, receiptKeys } = this.cluster.keys;
    const node = nodeOf(this.cluster.nodes, id);
    const deadline = performance.now() + WAIT_MS;
    for (;;) {
      try {
        const { body } = await askLog(`${node.log}/add`, { timeoutMs: WAIT_MS, body: entry, signal: this.signal });
        checkReceipt(body, entry, { origin, storage: node.id, publicKey: keyOf(receiptKeys, id) });
        return;
      } catch (error) {
        // Adding again is harmless, and a node that just lost a peer may be short of its storage quorum for a moment.
        if (!(error instanceof EngineError) || !error.row.retryable || performance.now() > deadline) throw error;
        await setTimeout(RETRY_MS, undefined, { signal: this.signal });
      }
    }
  }

  /** Asks all nodes until it is as wanted. */
  async until(what: string, isWanted: (view: MergeView, merge: PrimaryView) => boolean): Promise<MergeView> {
    const deadline = performance.now() + WAIT_MS;
    for (;;) {
      const view = await askMerge(this.cluster.client, STATUS_MS);
      if (view.merge !== null && isWanted(view, view.merge)) return view;
      if (performance.now() > deadline)
        throw new EngineError("TIMEOUT", `not within ${WAIT_MS} ms: ${what}; ${drawMerge(view, { columns: PIPE_COLUMNS }).join("; ")}`);
      await setTimeout(ASK_EVERY_MS, undefined, { signal: this.signal });
    }
  }

  private async draw(signal: AbortSignal): Promise<void> {
    const paint = process.env["NO_COLOR"] ? plain : colours;
    while (!signal.aborted) {
      const view = await askMerge(this.cluster.client, STATUS_MS).catch(() => null); // a picture less; whoever waits says why
      if (view !== null && !signal.aborted) this.block.show(["", ...drawMerge(view, { columns: this.block.columns, paint })]);
      await setTimeout(DRAW_EVERY_MS, undefined, { signal }).catch(() => {});
    }
  }
}

function reportText({ source, entries, receipts, killed, revived, synchronized, verified, elapsedMs }: Report): string {
  const { frontends, size, tiles, inclusionProofs, consistentSince, cosigned } = verified;
  return [
    `logged    ${entries} certificates of ${source};`,
    `          ${receipts} receipts checked, ${receipts - entries} of them for repeats, which were merged once`,
    `killed    ${killed.node} at ${killed.position}; ${killed.heldBy.join(", ")} held backupquorum, ${killed.signedWithout} signed`,
    `revived   ${revived.node}; it verified ${revived.verifiedMore} more, ${revived.afterMs} ms after its start`,
    `synced    ${synchronized.node}, ${synchronized.missed} versions beyond its reach, from ${synchronized.from}, ready after ${synchronized.afterMs} ms;`,
    `          all nodes list the same ${synchronized.keys} keys, versions and values`,
    `verified  ${frontends} frontends, all ${size} entries and ${tiles} tiles; ${inclusionProofs} inclusion proofs;`,
    `          consistent with sizes ${consistentSince.join(" and ")} seen before; cosigned by ${cosigned.join(", ") || "nobody"}`,
    `all of it in ${(elapsedMs / 1_000).toFixed(1)} s, and nothing is left behind`,
  ].join("\n");
}
