/**
 * The dist step: signs the largest size that `backupquorum` secondaries have verified, and brings the head to the
 * frontends (merge.md sections 1 and 5). Runs once. `log init` is the same step, making the head of size 0.
 */
import type { Event, Snapshot } from "../base/effects.ts";
import { REGISTER } from "../base/ids.ts";
import { unreachable } from "../base/invariant.ts";
import type { Answer } from "../wire/messages.ts";
import { type DistEffect, type DistState, finish } from "./dist-state.ts";
import { isPublishing, onCosign, onCosignEnd, onFrontend, onFrontendSilence, onPublishEnd } from "./release.ts";
import { closeGate, onGate, onStaged, onSwap, onUnknown, start } from "./signer.ts";

export function stepDist(state: DistState, event: Event<never, Answer>, snap: Snapshot): DistEffect[] {
  if (state.phase === "done") return [];
  switch (event.kind) {
    case "start":
      return start(state, snap);
    case "message":
      return onMessage(state, event.requestId, event.body, snap, event.timeMs);
    case "stored":
      return state.phase === "staging" && event.ticket === state.awaited ? onStaged(state) : [];
    case "full":
      return finish(state, { code: "STORE_FULL", detail: "disk full: nothing was signed that is not recorded" });
    case "timer":
      return onTimer(state, event.timer, snap, event.timeMs);
    case "lost":
      return onLost(state, event.peer, snap, event.timeMs);
    case "request":
      return [];
    default:
      return unreachable(event);
  }
}

function onMessage(state: DistState, requestId: number, body: Answer, snap: Snapshot, timeMs: number): DistEffect[] {
  switch (state.phase) {
    case "gating":
      return onGate(state, requestId, body, snap, timeMs);
    case "swapping":
    case "reading":
      return onSwap(state, requestId, body, snap, timeMs);
    case "releasing":
      return state.cosignAsked.has(requestId) ? onCosign(state, requestId, body, snap) : onFrontend(state, requestId, body, snap);
    default:
      return [{ kind: "mark", name: "sign.late-answer" }];
  }
}

function onTimer(state: DistState, timer: string, snap: Snapshot, timeMs: number): DistEffect[] {
  if (timer === "gate") return state.phase === "gating" ? closeGate(state, snap, timeMs) : [];
  if (timer === "swap") return state.phase === "swapping" || state.phase === "reading" ? onUnknown(state) : [];
  if (timer === "cosign") return state.phase === "releasing" ? onCosignEnd(state, snap) : [];
  if (timer === "publish") return state.phase === "releasing" ? onPublishEnd(state) : [];
  return timer.startsWith("peer.") ? onFrontendSilence(state, timer.slice(5), "timer", snap) : [];
}

function onLost(state: DistState, peer: string, snap: Snapshot, timeMs: number): DistEffect[] {
  if (state.phase === "gating") {
    const effects: DistEffect[] = [];
    for (const [requestId, secondary] of state.gateAsked) {
      if (secondary === peer && !state.gateAnswers.has(secondary) && state.phase === "gating") effects.push(...onGate(state, requestId, "lost", snap, timeMs));
    }
    return effects;
  }
  if ((state.phase === "swapping" || state.phase === "reading") && peer === REGISTER) return onUnknown(state);
  if (state.phase !== "releasing") return [];
  for (const [requestId, secondary] of state.cosignAsked) {
    if (secondary === peer && !isPublishing(state)) return onCosign(state, requestId, "lost", snap);
  }
  return onFrontendSilence(state, peer, "lost", snap);
}
