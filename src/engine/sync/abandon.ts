/**
 * How a transfer ends at the requester before it is done (sync.md section 4.2, the last row): what belongs to it alone is
 * forgotten, flag and cursor stay, and somebody is asked again after a while that doubles. Only a store that was to be replaced
 * for a wish, and is whole still, goes back into service. It asks nobody itself: `requester.ts` probes.
 */
import { arm, disarm, mark } from "../base/effect-list.ts";
import { syncRows } from "./records.ts";
import { enterRequester, scopeOf, send, type Turn, timingOf, write } from "./state.ts";

/** The transfer ends here: what is durable stays, flag and cursor too, and somebody is asked again. */
export function abandon(turn: Turn, reason: string, avoidMs = 0): void {
  const { state, upMs } = turn;
  const { requester } = state;
  const { provider, transfer } = requester;
  mark(turn, "sync.abandoned", `transfer given up: ${reason}${provider === null ? "" : `, provider ${provider}`}`);
  if (provider !== null && transfer !== null) send(turn, provider, { kind: "sync.abort", ...scopeOf(turn), transfer, reason }, { what: "told" });
  if (provider !== null && avoidMs > 0) requester.avoided.set(provider, upMs + avoidMs);
  forget(turn);
  enterRequester(state, "probing");
  if (!withdraw(turn)) backOff(turn);
}

/** A store that is whole, of a node that was not too far behind, is worth more than a wish: it goes back into service. */
export function withdraw(turn: Turn): boolean {
  const { requester } = turn.state;
  if (requester.flag === null || !requester.flag.isForced || requester.flag.isCleared || requester.awaited !== 0) return false;
  mark(turn, "sync.withdrawn", "nothing was cleared: this store goes back into service");
  write(turn, "withdraw", { db: "local", batch: [syncRows.dropFlag(), syncRows.dropCursor()] });
  return true;
}

/** All that belongs to one transfer. */
export function forget(turn: Turn): void {
  const { requester } = turn.state;
  closeScan(turn);
  closeWalk(turn);
  requester.provider = null;
  requester.transfer = null;
  requester.start = null;
  requester.root = null;
  requester.verify = null;
  requester.newest = 0;
  requester.progress = null;
  requester.waiting.clear();
  disarm(turn, "x.patience", "x.keep", "x.scan", "x.probe");
}

export function closeScan(turn: Turn): void {
  const { requester } = turn.state;
  if (requester.scan !== null) turn.ports.views.close(requester.scan.view);
  requester.scan = null;
}

/** Doubles until something gets durable. */
export function backOff(turn: Turn): void {
  const { requester } = turn.state;
  requester.backoffMs = Math.min(timingOf(turn).backoffMaxMs, Math.max(timingOf(turn).backoffMs, requester.backoffMs * 2));
  arm(turn, "x.retry", requester.backoffMs, requester.backoffMs / 2);
}

export function closeWalk(turn: Turn): void {
  const { requester } = turn.state;
  if (requester.walk !== null) turn.ports.views.close(requester.walk.view);
  requester.walk = null;
  requester.question = null;
  disarm(turn, "x.walk", "x.ask");
}
