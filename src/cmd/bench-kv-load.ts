/**
 * The clients of `bench kv` where no other program brings its own: each asks the leader over HTTP, one operation after the
 * other, values of one size under ten thousand keys. And the kill of a leader, as a power cut would end it, until the nodes
 * that are left acknowledge a write. An operation that fails ends the bench: what failed is never counted as fast.
 */
import { EngineError } from "../engine/base/errors.ts";
import type { BenchCluster, BenchNode } from "./bench-cluster.ts";
import { type Waits, waitsOf } from "./bench-figures.ts";

/** What a number of clients got done. */
export type Rate = Waits & { readonly perSecond: number };
export const MEASURED = ["put1", "put64", "read1", "read64"] as const;
export type Measured = (typeof MEASURED)[number];
export type KvNumbers = Readonly<Record<Measured, Rate>>;

type Load = { readonly urls: readonly string[]; readonly bytes: number; readonly seconds: number; readonly signal: AbortSignal };

const KEYS = 10_000;
const CLIENTS = 64;
/** At most half of what is measured: connections are open then, and code is compiled. */
const WARM_UP_MS_MAX = 1_500;
const REQUEST_MS = 10_000;
/** While nobody leads, a write is tried for so long, and again after a pause. */
const TRY_MS = 500;
const PAUSE_MS = 5;
const BACK_MS = 30_000;
const POLL_MS = 50;

/** Writes and reads, by one client and by many. The first URL is the leader's; several are taken in turn. */
export async function loadKv(load: Load): Promise<KvNumbers> {
  const value = crypto.getRandomValues(new Uint8Array(load.bytes));
  const put = (url: string, key: number): Promise<void> => ask(`${url}/kv/${keyOf(key)}`, { method: "PUT", body: value }, load.signal);
  const read = (url: string, key: number): Promise<void> => ask(`${url}/kv/${keyOf(key)}`, { method: "GET" }, load.signal);
  await fill(load, put);
  const put1 = await measure(load, 1, put);
  const put64 = await measure(load, CLIENTS, put);
  const read1 = await measure(load, 1, read);
  return { put1, put64, read1, read64: await measure(load, CLIENTS, read) };
}

const keyOf = (number: number): string => `bench/${String(number).padStart(6, "0")}`;

type Operation = (url: string, key: number) => Promise<void>;
const urlOf = ({ urls }: Load, client: number): string => urls[client % urls.length] ?? "";

async function fill(load: Load, put: Operation): Promise<void> {
  let next = 0;
  const client = async (_: unknown, at: number): Promise<void> => {
    while (next < KEYS) await put(urlOf(load, at), next++);
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

/** What began after the warm-up and ended within the time counts. */
async function measure(load: Load, clients: number, operation: Operation): Promise<Rate> {
  const fromMs = performance.now() + Math.min(WARM_UP_MS_MAX, load.seconds * 500);
  const toMs = fromMs + load.seconds * 1_000;
  const took: number[] = [];
  const client = async (_: unknown, at: number): Promise<void> => {
    for (let beganMs = performance.now(); beganMs < toMs; beganMs = performance.now()) {
      await operation(urlOf(load, at), Math.floor(Math.random() * KEYS));
      const endedMs = performance.now();
      if (beganMs >= fromMs && endedMs < toMs) took.push(endedMs - beganMs);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return { perSecond: took.length / load.seconds, ...waitsOf(took) };
}

async function ask(
  url: string,
  init: { readonly method: string; readonly body?: Uint8Array<ArrayBuffer> },
  stop: AbortSignal,
  withinMs = REQUEST_MS,
): Promise<void> {
  stop.throwIfAborted();
  const timer = new AbortController();
  const late = setTimeout(() => timer.abort(), withinMs);
  try {
    const answer = await fetch(url, { ...init, signal: timer.signal });
    const body = await answer.arrayBuffer();
    if (!answer.ok) throw new EngineError("UNAVAILABLE", `${init.method} ${url} answered ${answer.status}: ${new TextDecoder().decode(body.slice(0, 300))}`);
  } finally {
    clearTimeout(late);
  }
}

// ------------------------------------------------------------------ the leader, and its end

/** The node that leads, once every node is ready and follows it. */
export async function leaderOf(cluster: BenchCluster, signal: AbortSignal): Promise<BenchNode & { readonly livePid: number }> {
  for (const untilMs = performance.now() + BACK_MS; performance.now() < untilMs; await Bun.sleep(POLL_MS)) {
    signal.throwIfAborted();
    const seen = await Promise.all(cluster.nodes.map(statusOf));
    const leader = cluster.nodes.find(({ id }) => seen.every((status) => status?.leader === id));
    const found = seen.find((status) => status?.id === leader?.id);
    if (leader !== undefined && found !== undefined && found !== null) return { ...leader, livePid: found.pid };
  }
  throw new EngineError("TIMEOUT", `the bench's nodes did not follow one leader within ${BACK_MS} ms`);
}

type Status = { readonly id: string; readonly pid: number; readonly ready: boolean; readonly paxos?: { readonly leader: string | null } };

async function statusOf({ admin }: BenchNode): Promise<{ readonly id: string; readonly pid: number; readonly leader: string | null } | null> {
  try {
    const { id, pid, ready, paxos } = (await (await fetch(`${admin}/status`, { signal: AbortSignal.timeout(TRY_MS) })).json()) as Status; // our own daemon's
    return ready ? { id, pid, leader: paxos?.leader ?? null } : null;
  } catch {
    return null; // it starts, or died
  }
}

/** Milliseconds from the leader's death to the first write that another node acknowledged. `up --restart` brings it back. */
export async function killLeader(cluster: BenchCluster, signal: AbortSignal): Promise<number> {
  const leader = await leaderOf(cluster, signal);
  const left = cluster.nodes.filter(({ id }) => id !== leader.id);
  const write = (node: BenchNode, withinMs = TRY_MS): Promise<void> =>
    ask(`${node.admin}/kv/${keyOf(0)}`, { method: "PUT", body: new Uint8Array(1) }, signal, withinMs);
  await Promise.all(left.map((node) => write(node, REQUEST_MS))); // one of them may just have come back
  const beganMs = performance.now();
  process.kill(leader.livePid, "SIGKILL");
  let wroteMs: number | null = null;
  const client = async (node: BenchNode): Promise<void> => {
    while (wroteMs === null && performance.now() - beganMs < BACK_MS)
      await write(node).then(
        () => {
          wroteMs ??= performance.now() - beganMs;
        },
        () => Bun.sleep(PAUSE_MS),
      );
  };
  await Promise.all(left.map(client));
  signal.throwIfAborted();
  if (wroteMs === null) throw new EngineError("TIMEOUT", `no write was acknowledged within ${BACK_MS} ms of the leader's death`);
  return Math.round(wroteMs);
}
