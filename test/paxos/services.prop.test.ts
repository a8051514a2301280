/**
 * Evaluation against one map and one command at a time (sync.md 3.4 and 3.8): whatever waits, in batches as they come, keys,
 * versions and outcomes are those of a store that does one command after the other in the order they were taken.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { compareBytes, fromUtf8, toHex, utf8 } from "../../src/engine/base/bytes.ts";
import { CLIENT } from "../../src/engine/base/ids.ts";
import { evaluate, PROPOSAL_OPS_MAX } from "../../src/engine/paxos/services.ts";
import type { Command } from "../../src/engine/paxos/state.ts";
import type { Found, View } from "../../src/engine/paxos/view.ts";
import { replicatedKeys } from "../../src/engine/store/keys.ts";
import type { Request } from "../../src/engine/wire/messages.ts";
import { services } from "./replica-bench.ts";

class MapView implements View {
  readonly rows = new Map<string, Found>();
  get(key: Uint8Array): Found | null {
    return this.rows.get(toHex(key)) ?? null;
  }
  range(from: Uint8Array, to: Uint8Array, limit: number): readonly (Found & { readonly key: Uint8Array })[] {
    const rows = [...this.rows].map(([key, found]) => ({ key: Uint8Array.fromHex(key), ...found })).sort((a, b) => compareBytes(a.key, b.key));
    return rows.filter(({ key }) => compareBytes(from, key) <= 0 && compareBytes(key, to) < 0).slice(0, limit);
  }
}

const command = fc.record({
  verb: fc.constantFrom("put", "put", "delete", "boot"),
  key: fc.constantFrom("a", "b", "c"),
  ifMatch: fc.option(fc.integer({ min: 0, max: 6 }), { freq: 3 }),
  ifNoneMatch: fc.boolean(),
});

test("batches do what one command after the other would have done", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 40, size: "max" }), (list) => {
      const view = new MapView();
      const bodies = list.map(({ verb, key, ifMatch, ifNoneMatch }, at): Request => {
        if (verb === "boot") return { kind: "cluster.boot", id: key };
        if (verb === "delete") return { kind: "kv.delete", key: utf8(key), ifMatch };
        return { kind: "kv.put", key: utf8(key), value: utf8(String(at)), ifMatch, ifNoneMatch };
      });
      let queue = bodies.map((body, id): Command => ({ id, isForwarded: false, deadlineMs: 0, from: CLIENT, body }));
      const oracle = new Map<string, { value: string; version: number }>();
      const boots = new Map<string, number>();
      for (let version = 1; queue.length > 0; version++) {
        const { operations, outcomes, left } = evaluate(services, queue, view, version);
        expect(outcomes.length).toBeGreaterThan(0);
        for (const { id, body: outcome } of outcomes) {
          const body = bodies[id]!;
          if (body.kind === "cluster.boot") {
            boots.set(body.id, (boots.get(body.id) ?? 0) + 1);
            expect(outcome).toEqual({ kind: "cluster.booted", boot: boots.get(body.id)!, version });
            continue;
          }
          if (body.kind !== "kv.put" && body.kind !== "kv.delete") throw new Error("only these are asked");
          const known = oracle.get(fromUtf8(body.key));
          const isRefused =
            (body.ifMatch !== null && (known === undefined || (body.ifMatch !== 0 && body.ifMatch !== known.version))) ||
            (body.kind === "kv.put" && body.ifNoneMatch && known !== undefined);
          if (isRefused) expect(outcome).toEqual({ kind: "kv.conflict", version: known?.version ?? 0 });
          else expect(outcome.kind).toBe("kv.written");
          if (isRefused) continue;
          if (body.kind === "kv.put") oracle.set(fromUtf8(body.key), { value: fromUtf8(body.value), version });
          else oracle.delete(fromUtf8(body.key));
        }
        const keys = operations.map((op) => toHex(op.key));
        expect(new Set(keys).size).toBe(keys.length); // one write a key a version
        for (const op of operations) {
          if (op.op === "put") view.rows.set(toHex(op.key), { value: op.value, version });
          else view.rows.delete(toHex(op.key));
        }
        queue = left;
      }
      for (const key of ["a", "b", "c"]) {
        const found = view.get(replicatedKeys.kv(utf8(key)));
        const wanted = oracle.get(key);
        expect(found === null ? undefined : { value: fromUtf8(found.value), version: found.version }).toEqual(wanted as NonNullable<typeof wanted>);
      }
    }),
    { numRuns: 300 },
  );
});

test("a proposal is bounded in operations and bytes, and a change of members travels alone", () => {
  const put = (id: number, bytes: number): Command => ({
    id,
    isForwarded: false,
    deadlineMs: 0,
    from: CLIENT,
    body: { kind: "kv.put", key: utf8(`k${id}`), value: new Uint8Array(bytes), ifMatch: null, ifNoneMatch: false },
  });
  const view = new MapView();
  const many = evaluate(
    services,
    Array.from({ length: 3_000 }, (_, id) => put(id, 1)),
    view,
    1,
  );
  expect(many.operations.length).toBeLessThanOrEqual(PROPOSAL_OPS_MAX);
  expect(many.outcomes.length + many.left.length).toBe(3_000);
  const large = evaluate(services, [put(0, 600_000), put(1, 600_000), put(2, 10)], view, 1);
  expect(large.outcomes.map(({ id }) => id)).toEqual([0, 2]);
  const change: Command = { ...put(9, 0), body: { kind: "cluster.change", what: "remove", id: "x", rank: 0, birth: new Uint8Array(8) } };
  expect(evaluate(services, [put(0, 1), change, put(1, 1)], view, 1).left.map(({ id }) => id)).toEqual([9, 1]);
});
