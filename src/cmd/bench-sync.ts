/**
 * `cairn bench sync` (sync.md section 7): a node of a fresh cluster copies a whole store while clients write. Counted from the
 * wish to the moment when it has what the others had decided by then: payload a second, by how much its provider grows, and
 * what the writes of others wait meanwhile beside what they wait without. The copy is verified by the node itself, as ever.
 * With --beside another program does the same after each round.
 */
import { readFileSync } from "node:fs";
import { EngineError } from "../engine/base/errors.ts";
import { runBeside } from "./bench-beside.ts";
import { BenchCluster, type BenchNode } from "./bench-cluster.ts";
import { hundredths, median, type Waits, waitsOf } from "./bench-figures.ts";
import { leaderOf } from "./bench-kv-load.ts";
import { type Fields, fieldsOf } from "./http-answer.ts";
import type { Context } from "./spec.ts";
import { formatTable } from "./table.ts";

export type SyncOptions = Readonly<Record<"keys" | "bytes" | "rounds" | "seconds", number>> & { readonly beside: string | undefined };
type SyncContext = Pick<Context, "signal" | "note" | "answer"> & { readonly options: SyncOptions };

export type SyncRound = {
  readonly seconds: number;
  /** Of keys and values that clients wrote, not of what else the store holds. */
  readonly payloadMiBPerSecond: number;
  readonly provider: string;
  /** Resident memory of the provider at its largest, above what it was before. */
  readonly providerGrowthMiB: number;
  readonly idle: Waits;
  readonly during: Waits;
};

const FILL_CLIENTS = 64;
/** Small writes beside the copy: enough that commits follow each other, far from what fills the disk. */
const WRITERS = 4;
const WRITER_BYTES = 256;
const REQUEST_MS = 30_000;
const SYNC_MS = 600_000;
const POLL_MS = 20;
const MIB = 2 ** 20;

export async function benchSync(ctx: SyncContext): Promise<void> {
  const { keys, bytes, rounds, seconds, beside } = ctx.options;
  if ([keys, bytes, rounds, seconds].some((each) => each < 1)) throw new EngineError("BAD_OPTION", "--keys, --bytes, --rounds and --seconds want at least 1");
  const settings = { keys, bytes, rounds, seconds };
  const done: SyncRound[] = [];
  const theirs: PeerRound[] = [];
  for (let round = 1; round <= rounds; round++) {
    ctx.note(`round ${round} of ${rounds}: ${keys} values of ${bytes} bytes are written`);
    const result = await oneRound(ctx);
    done.push(result);
    await ctx.answer({ event: "round", round, who: "cairn", settings, ...result }, `${round} cairn  ${roundText(result)}`);
    if (beside === undefined) continue;
    ctx.note(`round ${round} of ${rounds}: the other program's`);
    const peer = await runPeer(beside, settings, ctx.signal);
    theirs.push(peer);
    await ctx.answer({ event: "round", round, who: "peer", ...peer }, `${round} peer   ${peerText(peer)}`);
  }
  const middle = (pick: (round: SyncRound) => number): number => hundredths(median(done.map(pick)));
  const total = {
    payloadMiBPerSecond: middle((each) => each.payloadMiBPerSecond),
    providerGrowthMiB: middle((each) => each.providerGrowthMiB),
    idleP99Ms: middle(({ idle }) => idle.p99Ms),
    duringP99Ms: middle(({ during }) => during.p99Ms),
    p99Ratio: middle(p99Ratio),
  };
  const rows = [Object.keys(total), Object.values(total)];
  const peer = theirs.length === 0 ? null : peerTotal(theirs);
  const payloadRatio = peer === null ? null : hundredths(total.payloadMiBPerSecond / peer.payloadMiBPerSecond);
  const beyond =
    peer === null
      ? ""
      : `\n${peer.peer}: ${peer.payloadMiBPerSecond} MiB/s of payload, p99 ${peer.p99Ratio} times what it is idle; ours is ${payloadRatio} of it`;
  await ctx.answer({ event: "total", settings, ...total, peer, payloadRatio }, `${formatTable(rows)}${beyond}`);
}

// ------------------------------------------------------------------ the other program

type PeerRound = Pick<SyncRound, "seconds" | "payloadMiBPerSecond" | "idle" | "during"> & { readonly peer: string };

function runPeer(command: string, { keys, bytes, seconds }: Omit<SyncOptions, "rounds" | "beside">, signal: AbortSignal): Promise<PeerRound> {
  const env = { BENCH_KEYS: String(keys), BENCH_BYTES: String(bytes), BENCH_SECONDS: String(seconds) };
  return runBeside({ command, env, signal, wants: "peer, seconds, payloadMiBPerSecond, idle and during", read: readPeer });
}

function readPeer(value: unknown): PeerRound | null {
  const peer = value as Partial<PeerRound> | null; // checked here
  const figures = [peer?.seconds, peer?.payloadMiBPerSecond, peer?.idle?.p99Ms, peer?.during?.p99Ms];
  return typeof peer?.peer === "string" && figures.every(Number.isFinite) ? (peer as PeerRound) : null;
}

const peerTotal = (rounds: readonly PeerRound[]): { readonly peer: string; readonly payloadMiBPerSecond: number; readonly p99Ratio: number } => ({
  peer: rounds[0]?.peer ?? "",
  payloadMiBPerSecond: hundredths(median(rounds.map((each) => each.payloadMiBPerSecond))),
  p99Ratio: hundredths(median(rounds.map(p99Ratio))),
});

const p99Ratio = ({ idle, during }: Pick<SyncRound, "idle" | "during">): number => during.p99Ms / Math.max(idle.p99Ms, 0.001);

// ------------------------------------------------------------------ our side

async function oneRound({ options, signal }: SyncContext): Promise<SyncRound> {
  await using cluster = await BenchCluster.start("--no-merge");
  const leader = await leaderOf(cluster, signal);
  const laggard = cluster.nodes.findLast(({ id }) => id !== leader.id);
  if (laggard === undefined) throw new EngineError("UNAVAILABLE", "a cluster of one has nobody to copy from");
  await fill(leader, options, signal);
  const others = cluster.nodes.filter(({ id }) => id !== laggard.id);
  const idle = await whileWriting(leader, signal, () => Bun.sleep(options.seconds * 1_000));
  using memory = new MemoryWatch(others);
  let seconds = 0;
  let provider = "-";
  const during = await whileWriting(leader, signal, async () => {
    ({ seconds, provider } = await synced(laggard, leader, signal));
  });
  const payloadMiB = (options.keys * (options.bytes + keyOf(0).length)) / MIB;
  return {
    ...{ seconds: hundredths(seconds), payloadMiBPerSecond: hundredths(payloadMiB / seconds), provider },
    ...{ providerGrowthMiB: hundredths(memory.growthBytes(provider) / MIB), idle, during },
  };
}

const keyOf = (number: number): string => `sync/${String(number).padStart(9, "0")}`;

async function fill({ admin }: BenchNode, { keys, bytes }: SyncOptions, signal: AbortSignal): Promise<void> {
  let next = 0;
  const client = async (): Promise<void> => {
    const value = crypto.getRandomValues(new Uint8Array(Math.min(bytes, 65_536)));
    const body = bytes <= value.length ? value : new Uint8Array(bytes);
    while (next < keys) await put(`${admin}/kv/${encodeURIComponent(keyOf(next++))}`, body, signal);
  };
  await Promise.all(Array.from({ length: FILL_CLIENTS }, client));
}

async function put(url: string, body: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const answer = await fetch(url, { method: "PUT", body, signal: AbortSignal.timeout(REQUEST_MS) });
  const said = await answer.text();
  if (!answer.ok) throw new EngineError("UNAVAILABLE", `PUT ${url} answered ${answer.status}: ${said.slice(0, 300)}`);
}

/** What small writes wait at the leader while something goes on. */
async function whileWriting({ admin }: BenchNode, signal: AbortSignal, work: () => Promise<void>): Promise<Waits> {
  const took: number[] = [];
  let isOver = false;
  const body = new Uint8Array(WRITER_BYTES);
  const writer = async (_: unknown, at: number): Promise<void> => {
    while (!isOver) {
      const beganMs = performance.now();
      await put(`${admin}/kv/writer%2F${at}`, body, signal);
      took.push(performance.now() - beganMs);
    }
  };
  const writing = Promise.all(Array.from({ length: WRITERS }, writer));
  try {
    await Promise.race([work(), writing]); // a writer that fails ends it
  } finally {
    isOver = true;
  }
  await writing;
  return waitsOf(took);
}

/** From the wish until it has applied what the leader had when its flag fell. */
async function synced(laggard: BenchNode, leader: BenchNode, signal: AbortSignal): Promise<{ readonly seconds: number; readonly provider: string }> {
  const beganMs = performance.now();
  const asked = await fetch(`${laggard.admin}/sync/force`, { method: "POST" });
  if (!asked.ok) throw new EngineError("UNAVAILABLE", `${laggard.id} was not forced: HTTP ${asked.status}`);
  let provider = "-";
  let target: number | null = null;
  while (performance.now() - beganMs < SYNC_MS) {
    signal.throwIfAborted();
    const { paxos, sync } = await statusOf(laggard);
    if (sync["synchronizing"] === true && typeof sync["provider"] === "string") ({ provider } = sync as { provider: string });
    if (provider !== "-" && sync["synchronizing"] === false && sync["phase"] === "joined") {
      target ??= Number((await statusOf(leader)).paxos["last"]);
      if (Number(paxos["applied"]) >= target) return { seconds: (performance.now() - beganMs) / 1_000, provider };
    }
    await Bun.sleep(POLL_MS);
  }
  throw new EngineError("TIMEOUT", `${laggard.id} has not copied the store within ${SYNC_MS} ms`);
}

async function statusOf({ admin }: BenchNode): Promise<{ readonly paxos: Fields; readonly sync: Fields }> {
  const status = fieldsOf(await (await fetch(`${admin}/status`, { signal: AbortSignal.timeout(REQUEST_MS) })).json());
  return { paxos: fieldsOf(status["paxos"]), sync: fieldsOf(status["sync"]) };
}

/** Resident memory of processes, looked at a few times a second: what it was first, and at its largest. */
class MemoryWatch implements Disposable {
  private readonly seen = new Map<string, { readonly pid: number; readonly firstBytes: number; peakBytes: number }>();
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(nodes: readonly BenchNode[]) {
    for (const { id, pid } of nodes) this.seen.set(id, { pid, firstBytes: residentBytes(pid), peakBytes: 0 });
    this.timer = setInterval(() => this.look(), POLL_MS);
  }

  growthBytes(id: string): number {
    this.look();
    const found = this.seen.get(id);
    return found === undefined ? 0 : Math.max(0, found.peakBytes - found.firstBytes);
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
  }

  private look(): void {
    for (const each of this.seen.values()) each.peakBytes = Math.max(each.peakBytes, residentBytes(each.pid));
  }
}

function residentBytes(pid: number): number {
  try {
    const [, kib = "0"] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return Number(kib) * 1_024;
  } catch {
    return 0; // it ended, or this system does not tell
  }
}

const peerText = ({ peer, seconds, payloadMiBPerSecond, idle, during }: PeerRound): string =>
  `${hundredths(seconds)} s, ${hundredths(payloadMiBPerSecond)} MiB/s of payload by ${peer}; writes wait p99 ${during.p99Ms} ms, ${idle.p99Ms} ms without`;
const roundText = ({ seconds, payloadMiBPerSecond, provider, providerGrowthMiB, idle, during }: SyncRound): string =>
  `${seconds} s, ${payloadMiBPerSecond} MiB/s of payload from ${provider}, which grew by ${providerGrowthMiB} MiB; writes wait p99 ${during.p99Ms} ms, ${idle.p99Ms} ms without`;
