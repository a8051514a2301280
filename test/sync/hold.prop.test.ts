/**
 * Holds (sync.md section 4.4) under any order of asks, renewals, releases, elections and time: what is kept from trimming is
 * never above what a live promise needs, and never below it for longer than a lease without one.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { nodeId } from "../../src/engine/base/ids.ts";
import { DiskSnapshot, emptyDisk } from "../../src/engine/sim/disk.ts";
import { heldFrom } from "../../src/engine/sync/hold.ts";
import { DEFAULT_LIMITS, initialSync, type PaxosFacts, SYNC_TIMING, type SyncCall, type SyncEffect } from "../../src/engine/sync/state.ts";
import { stepSync } from "../../src/engine/sync/sync.ts";
import type { Request } from "../../src/engine/wire/messages.ts";

const A = nodeId("a");
const ID = new Uint8Array(8);
const actionArb = fc.record({
  kind: fc.constantFrom("ask", "ask", "renew", "renew", "release", "elect", "depose", "trimming", "leases", "wait", "wait"),
  hold: fc.nat(2),
  lowest: fc.nat(60),
  ending: fc.boolean(),
  ms: fc.nat(40_000),
});

test("what is held is what live promises need, and a lapsed one holds nothing", () => {
  fc.assert(
    fc.property(fc.array(actionArb, { maxLength: 120, size: "max" }), (actions) => {
      const config = {
        cluster: ID,
        self: A,
        birth: ID,
        members: [A, nodeId("b")],
        nonce: ID,
        limits: DEFAULT_LIMITS,
        timing: SYNC_TIMING,
        isResuming: true,
        mode: "full" as const,
        holdsAll: false,
      };
      const state = initialSync(config);
      let facts: PaxosFacts = {
        epoch: 2,
        leader: null,
        first: 10,
        last: 60,
        mustSync: false,
        isSettled: true,
        hasLeases: true,
        isFirstReign: false,
        isTrimming: false,
        isNearlyFull: false,
      };
      let upMs = 0;
      let requests = 0;
      const timers = new Map<string, number>();
      /** By hold: what was promised last, and until when at most. */
      const promised = new Map<number, { lowest: number; untilMs: number }>();
      const ports = {
        facts: () => facts,
        commitP99Us: () => null,
        votes: () => true,
        writtenBytes: () => 0,
        views: {
          open: () => 0,
          read: () => {
            throw new Error("holds read no snapshot");
          },
          close: () => {},
          stat: () => ({ keyCount: 0, liveBytes: 0, fileBytes: 0 }),
        },
      };
      const step = (
        event: { kind: "request"; id: number; from: typeof A; body: Request | SyncCall } | { kind: "timer"; timer: string },
      ): readonly SyncEffect[] => {
        const effects = stepSync(state, { ...event, timeMs: 0, upMs }, new DiskSnapshot(emptyDisk, "a"), ports);
        for (const effect of effects) {
          if (effect.kind === "arm") timers.set(effect.timer, upMs + effect.afterMs);
          if (effect.kind === "disarm") timers.delete(effect.timer);
        }
        return effects;
      };
      const request = (body: Request | SyncCall): readonly SyncEffect[] => step({ kind: "request", id: ++requests, from: nodeId("b"), body });
      const tell = (change: Partial<PaxosFacts>): void => {
        facts = { ...facts, ...change };
        if (facts.leader !== A) promised.clear(); // a successor's to keep, by its wait
        noteAcks(request({ kind: "sync.facts" }));
      };
      /** Questions by request: one may be answered long after it came. */
      const asks = new Map<number, { hold: number; lowest: number; isRenewal: boolean }>();
      const noteAcks = (effects: readonly SyncEffect[]): void => {
        for (const effect of effects) {
          const ask = effect.kind === "answer" && effect.body.kind === "hold.ack" ? asks.get(effect.id) : undefined;
          if (ask === undefined) continue;
          const before = promised.get(ask.hold);
          const kept = before !== undefined && upMs < before.untilMs ? before.lowest : null;
          const lowest = kept === null ? Math.max(10, ask.lowest) : ask.isRenewal ? Math.max(kept, ask.lowest) : kept;
          promised.set(ask.hold, { lowest, untilMs: upMs + SYNC_TIMING.holdLeaseMs });
        }
      };
      for (const { kind, hold, lowest, ending, ms } of actions) {
        const scope = { cluster: ID, epoch: facts.epoch, birth: ID, hold: new Uint8Array(8).fill(hold), leaseMs: SYNC_TIMING.holdLeaseMs };
        if (kind === "ask" || kind === "renew") {
          asks.set(requests + 1, { hold, lowest, isRenewal: kind === "renew" });
          noteAcks(request(kind === "ask" ? { kind: "hold.req", ...scope, lowest } : { kind: "hold.renew", ...scope, lowest, bytes: 0, ending }));
        } else if (kind === "release") {
          request({ kind: "hold.release", cluster: ID, epoch: facts.epoch, birth: ID, hold: scope.hold, reason: "drained" });
          promised.delete(hold);
        } else if (kind === "elect") tell({ leader: A, epoch: facts.epoch + (facts.leader === A ? 0 : 2) });
        else if (kind === "depose") tell({ leader: nodeId("b"), epoch: facts.epoch + 2 });
        else if (kind === "trimming") tell({ isTrimming: !facts.isTrimming });
        else if (kind === "leases") tell({ hasLeases: !facts.hasLeases });
        else {
          upMs += ms;
          for (const [timer, atMs] of [...timers]) {
            if (atMs > upMs || !timer.startsWith("h.")) continue;
            timers.delete(timer);
            step({ kind: "timer", timer });
          }
        }
        const held = heldFrom(state, upMs);
        for (const { lowest: needs, untilMs } of promised.values())
          if (upMs < untilMs && facts.leader === A) expect(held === null ? Number.POSITIVE_INFINITY : held).toBeLessThanOrEqual(needs);
        for (const { renewedMs } of state.holds.values()) expect(upMs - renewedMs).toBeLessThan(SYNC_TIMING.holdLeaseMs);
        if (facts.leader === A && state.leading !== null && upMs < state.leading.waitUntilMs) expect(held).toBe(0);
        expect(state.holds.size).toBeLessThanOrEqual(8);
      }
    }),
    { numRuns: 150 },
  );
});
