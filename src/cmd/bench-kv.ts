/**
 * `cairn bench kv` (sync.md section 7): puts and linearizable reads of a fresh cluster with one client and with 64, and how
 * long writes are away when the leader is killed. With --beside another program brings the clients for both sides, the same
 * code for either, and a store to compare with; the sides take turns, and figures are medians with their spread.
 */
import { EngineError } from "../engine/base/errors.ts";
import { runBeside } from "./bench-beside.ts";
import { BenchCluster } from "./bench-cluster.ts";
import { hundredths, median, type Waits, waitsOf } from "./bench-figures.ts";
import { type KvNumbers, killLeader, leaderOf, loadKv, MEASURED, type Measured, type Rate } from "./bench-kv-load.ts";
import type { Context } from "./spec.ts";
import { formatTable } from "./table.ts";

export type KvOptions = Readonly<Record<"seconds" | "bytes" | "rounds" | "kills", number>> & { readonly via: string; readonly beside: string | undefined };
/** `peer` says what was measured and through which client; `killedMs` the times of the kills. */
type Side = KvNumbers & { readonly peer: string; readonly killedMs: readonly number[] };
type KvContext = Pick<Context, "signal" | "note" | "answer"> & { readonly options: KvOptions };

export async function benchKv(ctx: KvContext): Promise<void> {
  const { rounds, beside, ...settings } = ctx.options;
  if (settings.via !== "leader" && settings.via !== "spread") throw new EngineError("BAD_OPTION", `--via ${settings.via}: want leader or spread`);
  if (settings.seconds < 1 || rounds < 1 || settings.bytes < 1) throw new EngineError("BAD_OPTION", "--seconds, --rounds and --bytes want at least 1");
  const ours: Side[] = [];
  const theirs: Side[] = [];
  for (let round = 1; round <= rounds; round++) {
    const kills = round === rounds ? settings.kills : 0; // they change who leads: after all that is measured
    const tell = async (who: string, side: Side): Promise<void> =>
      ctx.answer({ event: "round", round, who, settings: { ...settings, rounds }, ...side }, `${round} ${who.padEnd(6)} ${sideText(side)}`);
    ctx.note(`round ${round} of ${rounds}: our cluster`);
    ours.push(await ownSide(ctx, kills));
    await tell("cairn", ours.at(-1) as Side);
    if (beside === undefined) continue;
    ctx.note(`round ${round} of ${rounds}: the other program's`);
    theirs.push(await runProgram(ctx, beside, { BENCH_KILLS: String(kills) }));
    await tell("peer", theirs.at(-1) as Side);
  }
  const total = totals(ours, theirs);
  await ctx.answer({ event: "total", settings: { ...settings, rounds }, ...total }, formatTable(totalRows(total)));
}

async function ownSide(ctx: KvContext, kills: number): Promise<Side> {
  const { bytes, seconds, via, beside } = ctx.options;
  await using cluster = await BenchCluster.start("--no-merge", "--restart");
  const leader = await leaderOf(cluster, ctx.signal);
  const others = cluster.nodes.filter(({ id }) => id !== leader.id);
  const urls = [leader, ...(via === "spread" ? others : [])].map(({ admin }) => admin);
  const side =
    beside === undefined
      ? { peer: "cairn, its own client", ...(await loadKv({ urls, bytes, seconds, signal: ctx.signal })) }
      : await runProgram(ctx, beside, { BENCH_NODES: urls.join(" "), BENCH_KILLS: "0" });
  const killedMs: number[] = [];
  while (killedMs.length < kills) {
    killedMs.push(await killLeader(cluster, ctx.signal));
    ctx.note(`leader killed ${killedMs.length} of ${kills}: writes back after ${killedMs.at(-1)} ms`);
  }
  return { ...side, killedMs };
}

// ------------------------------------------------------------------ the other program

/** One run of it: with $BENCH_NODES it loads those, else the store that it brings. */
async function runProgram({ options, signal }: KvContext, command: string, more: Readonly<Record<string, string>>): Promise<Side> {
  const { bytes, seconds, via } = options;
  const env = { BENCH_SECONDS: String(seconds), BENCH_BYTES: String(bytes), BENCH_VIA: via, ...more };
  return runBeside({ command, env, signal, wants: `${MEASURED.join(", ")}, peer and killedMs`, read: readSide });
}

function readSide(value: unknown): Side | null {
  const side = value as Partial<Side> | null; // checked here
  const isWhole = typeof side?.peer === "string" && Array.isArray(side.killedMs) && MEASURED.every((key) => Number.isFinite(side[key]?.perSecond));
  return isWhole ? (side as Side) : null;
}

// ------------------------------------------------------------------ what it comes to

type Spread = { readonly median: number; readonly least: number; readonly most: number };
type Killed = Waits & { readonly times: number };
type Summary = Readonly<Record<Measured, Spread>> & { readonly peer: string; readonly killed: Killed | null };
/** Ours ÷ theirs, of medians. */
type Totals = { readonly cairn: Summary; readonly peer?: Summary; readonly ratios?: Readonly<Record<Measured, number>> };

function totals(ours: readonly Side[], theirs: readonly Side[]): Totals {
  const cairn = summary(ours);
  if (theirs.length === 0) return { cairn };
  const peer = summary(theirs);
  return { cairn, peer, ratios: byKey((key) => hundredths(cairn[key].median / peer[key].median)) };
}

function summary(sides: readonly Side[]): Summary {
  const killedMs = sides.flatMap((side) => side.killedMs);
  const spreadOf = (key: Measured): Spread => {
    const rates = sides.map((side) => side[key].perSecond);
    return { median: Math.round(median(rates)), least: Math.round(Math.min(...rates)), most: Math.round(Math.max(...rates)) };
  };
  const killed = killedMs.length === 0 ? null : { times: killedMs.length, ...waitsOf(killedMs) };
  return { peer: sides[0]?.peer ?? "", ...byKey(spreadOf), killed };
}

const byKey = <T>(make: (key: Measured) => T): Readonly<Record<Measured, T>> =>
  Object.fromEntries(MEASURED.map((key) => [key, make(key)])) as Readonly<Record<Measured, T>>;

const rateText = ({ perSecond, p50Ms, p99Ms }: Rate): string => `${Math.round(perSecond)}/s (p50 ${p50Ms} ms, p99 ${p99Ms} ms)`;
const sideText = (side: Side): string => MEASURED.map((key) => `${key} ${rateText(side[key])}`).join("  ");

function totalRows({ cairn, peer, ratios }: Totals): unknown[][] {
  const rowsOf = (name: string, side: Summary): unknown[][] => [
    [`${name} median`, ...MEASURED.map((key) => side[key].median), side.killed?.p99Ms ?? ""],
    [`${name} spread`, ...MEASURED.map((key) => `${side[key].least}..${side[key].most}`), side.killed === null ? "" : `p50 ${side.killed.p50Ms}`],
  ];
  return [
    ["", "put/s, 1 client", "64 clients", "read/s, 1 client", "64 clients", "leader killed: ms to a write, p99"],
    ...rowsOf("cairn", cairn),
    ...(peer === undefined ? [] : rowsOf("peer", peer)),
    ...(ratios === undefined ? [] : [["ratio", ...MEASURED.map((key) => ratios[key]), ""]]),
  ];
}
