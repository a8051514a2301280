/**
 * The signing half of dist, in the order Sunlight made known (merge.md section 5): gate, choose, re-read, stage, swap.
 * A signature leaves this process only inside the swap, and nobody but the register sees it before the register said
 * `swapped`. It signs one size with one root: the body has no time, so a repeat gives the same bytes.
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import type { Snapshot } from "../base/effects.ts";
import { REGISTER } from "../base/ids.ts";
import { mutant } from "../base/mutant.ts";
import { signCheckpoint } from "../log/checkpoint.ts";
import { EMPTY_ROOT, edgeRoot, foldEdge } from "../log/merkle.ts";
import { LogReader } from "../log/reader.ts";
import type { Answer, AnswerOf, Request } from "../wire/messages.ts";
import { choose, formula, gateCount } from "./choose.ts";
import type { Head } from "./config.ts";
import { type DistEffect, type DistState, enter, finish, latch } from "./dist-state.ts";
import { readLatch } from "./files.ts";
import { readEdge, rows, type Stage } from "./records.ts";
import { sameHead } from "./register.ts";
import { release } from "./release.ts";
import { compare, type Failure, scope } from "./sender.ts";

/** The gate waits so long for answers; whoever is silent then counts as not having answered. */
const GATE_MS = 2_000;
/** An outcome of the register not known for so long is asked for. */
const SWAP_MS = 10_000;
const READ_BYTES_MAX = 8 * 1_024 * 1_024;
const READ_COUNT_MAX = 65_536;

// ------------------------------------------------------------------ 1. gate

export function start(state: DistState, snap: Snapshot): DistEffect[] {
  const { config } = state;
  const shut = readLatch(snap, config);
  if (shut.kind !== "missing")
    return finish(state, { code: "MERGE_LATCHED", detail: shut.kind === "ok" ? `${shut.value.code}: ${shut.value.detail}` : shut.why });
  if (config.backupquorum > config.secondaries.length) {
    return finish(state, { code: "MERGE_QUORUM_IMPOSSIBLE", detail: `backupquorum ${config.backupquorum}, secondaries ${config.secondaries.length}` });
  }
  const gate = rows.gate(snap, config.log);
  state.gateNeeded = config.boot === null || gate === null || gate.boot !== config.boot;
  state.floor = state.gateNeeded ? 0 : (gate?.floor ?? 0);
  const effects: DistEffect[] = [askRegister(state, { kind: "register.read", ...scope(config) })];
  if (state.gateNeeded) {
    for (const secondary of config.secondaries) {
      const requestId = ++state.lastRequestId;
      state.gateAsked.set(requestId, secondary);
      effects.push({ kind: "send", to: secondary, requestId, body: { kind: "copy.where", ...scope(config) } });
    }
  }
  return [...effects, { kind: "arm", timer: "gate", afterMs: GATE_MS }];
}

function askRegister(state: DistState, body: Request): DistEffect {
  state.registerAsked = ++state.lastRequestId;
  return { kind: "send", to: REGISTER, requestId: state.registerAsked, body };
}

/** An answer in the gate, or word that a peer is gone; the last one opens or shuts it. */
export function onGate(state: DistState, requestId: number, body: Answer | "lost", snap: Snapshot, timeMs: number): DistEffect[] {
  if (requestId === state.registerAsked) {
    if (body !== "lost" && body.kind === "refused") return finish(state, { code: body.code, detail: `the register: ${body.text}` });
    if (body !== "lost" && body.kind === "register.is") {
      state.registerAnswered = true;
      if (body.epoch !== state.config.epoch || body.primary !== state.config.self) {
        return finish(state, {
          code: "MERGE_FENCED",
          detail: `the register is at epoch ${body.epoch} of ${body.primary}; this folder signs for epoch ${state.config.epoch} of ${state.config.self}`,
        });
      }
      state.head = body.head;
    }
  } else {
    const secondary = state.gateAsked.get(requestId);
    if (secondary === undefined) return [{ kind: "mark", name: "sign.late-answer" }];
    state.gateAnswers.set(secondary, body !== "lost" && body.kind === "copy.at" ? body : "lost");
  }
  const complete = state.registerAnswered && (!state.gateNeeded || state.gateAnswers.size === state.config.secondaries.length);
  return complete ? closeGate(state, snap, timeMs) : [];
}

/** Everybody answered, or the time is over. */
export function closeGate(state: DistState, snap: Snapshot, timeMs: number): DistEffect[] {
  const { config, head } = state;
  const edgeSize = readEdge(snap, config.log).size;
  if (!state.registerAnswered) return finish(state, { code: "UNAVAILABLE", detail: `the register did not answer within ${GATE_MS} ms` });
  const no = headObjection(state, head, edgeSize, snap);
  if (no !== null) return [{ kind: "mark", name: "gate.behind", text: `gate shut: ${no.detail}` }, ...finish(state, no)];
  if (!state.gateNeeded) return choosing(state, snap, timeMs);
  const reader = new LogReader(snap, config.log);
  const answered = config.secondaries.flatMap((secondary) => {
    const at = state.gateAnswers.get(secondary);
    return at === undefined || at === "lost" ? [] : [{ secondary, at }];
  });
  for (const { secondary, at } of answered) {
    const size = Math.max(at.verifiedSize, at.headSize);
    const root = at.headSize > at.verifiedSize ? at.headRoot : at.verifiedRoot;
    const wrong = mutant("merge.gate-by-size") && size <= edgeSize ? null : compare(secondary, size, root, reader, edgeSize);
    if (wrong !== null) return [{ kind: "mark", name: "gate.behind", text: `gate shut: ${wrong.detail}` }, ...finish(state, wrong)];
    if (!mutant("merge.gate-without-floor")) state.floor = Math.max(state.floor, at.verifiedSize);
  }
  const needed = gateCount(config.secondaries.length, config.backupquorum);
  if (answered.length < needed) {
    const silent = config.secondaries.filter((secondary) => !answered.some((each) => each.secondary === secondary));
    return finish(state, {
      code: "MERGE_GATE",
      detail: `${needed} secondaries must answer after a start, ${answered.length} did; silent: ${silent.join(", ")}`,
    });
  }
  const opened: DistEffect[] =
    config.boot === null
      ? []
      : [{ kind: "write", ticket: ++state.lastTicket, db: "log", batch: [rows.putGate(config.log, { boot: config.boot, floor: state.floor })] }];
  return [...opened, ...choosing(state, snap, timeMs)];
}

/** Why the register's head forbids to sign from this folder, or null. */
function headObjection(state: DistState, head: Head | null, edgeSize: number, snap: Snapshot): Failure | null {
  const { config } = state;
  if (head === null) {
    if (!state.init && edgeSize === 0) return { code: "LOG_UNINITIALISED", detail: `log ${config.origin}: the register holds no head` };
    if (edgeSize > 0) return { code: "REGISTER_CONFLICT", detail: `the register holds no head, the order has ${edgeSize} entries: the register was lost` };
    return null;
  }
  if (state.init) return { code: "LOG_EXISTS", detail: `log ${config.origin} has a head of size ${head.size}` };
  return compare(REGISTER, head.size, head.root, new LogReader(snap, config.log), edgeSize);
}

// ------------------------------------------------------------------ 2. choose

function choosing(state: DistState, snap: Snapshot, timeMs: number): DistEffect[] {
  const { config, head } = state;
  enter(state, "choosing");
  if (head === null) return stageIt(state, { epoch: config.epoch, size: 0, root: EMPTY_ROOT, timeMs, counted: [] });
  const stage = rows.stage(snap, config.log);
  if (stage !== null) {
    state.stage = stage;
    if (stage.size > head.size) return rehash(state, head, stage, snap, timeMs, "sign.stage-resumed");
    const root = stage.size === head.size ? head.root : new LogReader(snap, config.log).rootAt(stage.size);
    if (!equalBytes(root, stage.root))
      return latch(
        state,
        { code: "LOG_HEAD_FORK", detail: `staged size ${stage.size} with root ${toHex(stage.root)}, the register's head has ${toHex(root)}` },
        timeMs,
      );
    return [{ kind: "mark", name: "sign.stage-was-swapped" }, ...release(state, head, snap)];
  }
  const choice = choose(snap, config);
  if (choice.currentWhy !== null) state.notes.push(choice.currentWhy);
  for (const each of choice.standings) if (each.why !== null) state.notes.push(each.why);
  const size = choice.size;
  if (size <= head.size || size < state.floor) {
    const waits = choice.currentSize > head.size;
    const forWhom = choice.behind.map(
      (name) => `${name} (${choice.currentSize - (choice.standings.find((each) => each.secondary === name)?.size ?? 0)} to go)`,
    );
    const why = size > head.size ? `${size} is below ${state.floor}, the longest a secondary verified` : `waits for ${forWhom.join(" or ")}`;
    if (waits) state.notes.push(`${formula(choice)}, nothing to sign, ${why}`);
    const mark: DistEffect[] = waits ? [{ kind: "mark", name: "sign.quorum-waits", text: `${formula(choice)}, nothing to sign, ${why}` }] : [];
    return [...mark, ...release(state, head, snap)];
  }
  const root = new LogReader(snap, config.log).rootAt(size);
  return rehash(state, head, { epoch: config.epoch, size, root, timeMs, counted: choice.counted }, snap, timeMs, "sign.chosen", formula(choice));
}

// ------------------------------------------------------------------ 3. re-read, re-hash

/** The new head extends the old one by construction: its entries are folded onto the edge that gives the old root. */
function rehash(state: DistState, head: Head, stage: Stage, snap: Snapshot, timeMs: number, mark: string, text?: string): DistEffect[] {
  enter(state, "rehashing");
  const marked: DistEffect = { kind: "mark", name: mark, ...(text === undefined ? {} : { text }) };
  const reader = new LogReader(snap, state.config.log);
  let edge = reader.edgeAt(head.size);
  if (!equalBytes(edgeRoot(edge), head.root)) return latch(state, mismatch(head.size, edgeRoot(edge), head.root, "the head's"), timeMs);
  while (edge.size < stage.size) {
    const { hashes, to } = reader.entryHashes(edge.size, Math.min(stage.size, edge.size + READ_COUNT_MAX), READ_BYTES_MAX);
    const order = reader.orderHashes(edge.size, to);
    for (let i = 0; i < hashes.length; i++) {
      if (hashes[i] !== order[i]) {
        const at = i >> 5;
        const [mine, want] = [hashes.subarray(at * 32, at * 32 + 32), order.subarray(at * 32, at * 32 + 32)];
        return latch(
          state,
          { code: "LOG_ROOT_MISMATCH", detail: `entry ${edge.size + at} on disk hashes to ${toHex(mine)}, the order says ${toHex(want)}` },
          timeMs,
        );
      }
    }
    edge = foldEdge(edge, hashes);
  }
  if (!equalBytes(edgeRoot(edge), stage.root)) return latch(state, mismatch(stage.size, edgeRoot(edge), stage.root, "the tiles'"), timeMs);
  return [marked, ...stageIt(state, stage)];
}

const mismatch = (size: number, mine: Uint8Array, other: Uint8Array, whose: string): Failure => ({
  code: "LOG_ROOT_MISMATCH",
  detail: `size ${size}: re-hashed root ${toHex(mine)}, ${whose} ${toHex(other)}`,
});

// ------------------------------------------------------------------ 4. stage, sign

function stageIt(state: DistState, stage: Stage): DistEffect[] {
  if (state.phase === "choosing") enter(state, "rehashing"); // the empty head has nothing to re-read
  enter(state, "staging");
  state.stage = stage;
  state.awaited = ++state.lastTicket;
  const batch = mutant("merge.sign-unstaged") ? [] : [rows.putStage(state.config.log, stage)];
  return [{ kind: "write", ticket: state.awaited, db: "log", batch }];
}

export function onStaged(state: DistState): DistEffect[] {
  const { config, stage } = state;
  if (stage === null || config.logSeed === null) return finish(state, { code: "NOT_ALLOWED", detail: `${config.self} does not hold the log's key` });
  const note = signCheckpoint({ origin: config.origin, size: stage.size, root: stage.root }, config.logSeed);
  state.candidate = { epoch: config.epoch, size: stage.size, root: stage.root, note, timeMs: stage.timeMs };
  const early = mutant("merge.publish-before-swap") ? publishUnsworn(state, note) : [];
  return [...early, ...swap(state)];
}

/** What must never happen: frontends see a signature that the register has not sworn to. Only a planted mistake calls it. */
const publishUnsworn = (state: DistState, checkpoint: Uint8Array): DistEffect[] =>
  state.config.frontends.map((to) => ({
    kind: "send",
    to,
    requestId: ++state.lastRequestId,
    body: { kind: "dist.publish", ...scope(state.config), checkpoint, proof: new Uint8Array(0) },
  }));

// ------------------------------------------------------------------ 5. swap

function swap(state: DistState): DistEffect[] {
  enter(state, "swapping");
  const { head, candidate, config } = state;
  if (candidate === null) return [];
  const expect = head === null ? null : { size: head.size, root: head.root };
  return [askRegister(state, { kind: "register.swap", ...scope(config), expect, next: candidate }), { kind: "arm", timer: "swap", afterMs: SWAP_MS }];
}

/** The register's word on the swap, or on where it stands after an outcome that is not known. */
export function onSwap(state: DistState, requestId: number, body: Answer | "lost", snap: Snapshot, timeMs: number): DistEffect[] {
  if (requestId !== state.registerAsked) return [{ kind: "mark", name: "sign.late-answer" }];
  if (body === "lost" || body.kind === "register.unknown") return onUnknown(state);
  switch (body.kind) {
    case "register.swapped":
      return onSwapped(state, snap);
    case "register.conflict":
      return isCandidate(state, body) ? [{ kind: "mark", name: "sign.swapped-late" }, ...onSwapped(state, snap)] : conflict(state, body, timeMs);
    case "register.is":
      if (isCandidate(state, body)) return [{ kind: "mark", name: "sign.swapped-late" }, ...onSwapped(state, snap)];
      if (isOldHead(state, body.head)) return [{ kind: "mark", name: "sign.swap-again" }, ...swap(state)];
      return conflict(state, body, timeMs);
    case "refused":
      if (body.code === "PAXOS_OUTCOME_UNKNOWN") return onUnknown(state);
      return [{ kind: "disarm", timer: "swap" }, ...finish(state, { code: body.code, detail: body.text })];
    default:
      return conflict(state, body, timeMs);
  }
}

/** The outcome is not known: read before anything else. */
export function onUnknown(state: DistState): DistEffect[] {
  if (mutant("merge.unknown-swap-forgotten")) {
    return [
      { kind: "write", ticket: ++state.lastTicket, db: "log", batch: [rows.delStage(state.config.log)] },
      ...finish(state, { code: "UNAVAILABLE", detail: "the register did not answer" }),
    ];
  }
  if (state.phase === "reading")
    return finish(state, { code: "UNAVAILABLE", detail: "the register does not answer; the staged head is finished by the next run" });
  enter(state, "reading");
  return [
    { kind: "mark", name: "sign.outcome-unknown", text: "swap: outcome not known, reading the register" },
    askRegister(state, { kind: "register.read", ...scope(state.config) }),
    { kind: "arm", timer: "swap", afterMs: SWAP_MS },
  ];
}

function onSwapped(state: DistState, snap: Snapshot): DistEffect[] {
  const { candidate } = state;
  if (candidate === null) return [];
  const from = state.head?.size ?? 0;
  state.signedNow = true;
  state.head = candidate;
  return [
    { kind: "disarm", timer: "swap" },
    { kind: "mark", name: "sign.signed", text: `signed ${from} -> ${candidate.size}` },
    ...release(state, candidate, snap),
  ];
}

function conflict(state: DistState, body: Answer, timeMs: number): DistEffect[] {
  const held = "head" in body ? (body as AnswerOf<"register.conflict">).head : null;
  const holds = held === null ? "no head" : `size ${held.size}, root ${toHex(held.root)}`;
  const mine = state.candidate === null ? "nothing" : `size ${state.candidate.size}, root ${toHex(state.candidate.root)}`;
  return latch(state, { code: "REGISTER_CONFLICT", detail: `swapping to ${mine}: the register holds ${holds}` }, timeMs);
}

const isCandidate = (state: DistState, body: { readonly head: Head | null }): boolean =>
  body.head !== null && state.candidate !== null && sameHead(body.head, state.candidate);

function isOldHead(state: DistState, head: Head | null): boolean {
  if (head === null || state.head === null) return head === state.head;
  return sameHead(head, state.head);
}
