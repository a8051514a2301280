/**
 * Watching keys (sync.md 3.8): on real nodes what many clients wrote is told once, in order and with each value, also where
 * the watched node dies; on the rows alone, against a list of what was done, page by page and behind every version.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { u64be, utf8 } from "../../src/engine/base/bytes.ts";
import type { Snapshot } from "../../src/engine/base/effects.ts";
import type { NodeId } from "../../src/engine/base/ids.ts";
import { changesAfter } from "../../src/engine/gateway/kv-watch.ts";
import { kvService } from "../../src/engine/paxos/service-kv.ts";
import { evaluate } from "../../src/engine/paxos/services.ts";
import type { Command } from "../../src/engine/paxos/state.ts";
import type { View } from "../../src/engine/paxos/view.ts";
import { encodeBatch } from "../../src/engine/store/batch.ts";
import { replicatedKeys } from "../../src/engine/store/keys.ts";
import { lastOp, versionOps } from "../../src/engine/store/versions.ts";
import type { Request } from "../../src/engine/wire/messages.ts";
import { liveCluster } from "./live-cluster.ts";
import { eventually } from "./up-bench.ts";

setDefaultTimeout(60_000);
const live = liveCluster();

type Change = { readonly key: string; readonly version: number; readonly value?: string; readonly deleted?: boolean };
const admin = (at: number): string => live.ready.nodes[at]?.admin ?? "";

/** What lines of a stream were read so far, until it is told to stop. */
async function follow(url: string, lines: Record<string, unknown>[], signal: AbortSignal): Promise<Response> {
  const answer = await fetch(url, { signal });
  const read = async (): Promise<void> => {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of answer.body ?? []) {
      const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts.map((line) => JSON.parse(line) as Record<string, unknown>));
    }
  };
  if (answer.ok) read().catch(() => {}); // ended by the test
  return answer;
}
const changesOf = (lines: readonly Record<string, unknown>[]): Change[] => lines.filter((line) => "key" in line) as Change[];

test("what clients of all nodes wrote is told on every node: each change once, in order, with its value", async () => {
  const stop = new AbortController();
  const seen = live.ready.nodes.map(() => [] as Record<string, unknown>[]);
  for (const [at, lines] of seen.entries()) expect((await follow(`${admin(at)}/kv/?prefix=w/&watch=0`, lines, stop.signal)).status).toBe(200);
  const done: Change[] = [];
  await Promise.all(
    Array.from({ length: 60 }, async (_, at) => {
      const key = `w/${at % 7}`;
      const isDelete = at % 5 === 4;
      const init = isDelete ? { method: "DELETE", headers: { "if-match": "*" } } : { method: "PUT", body: `value ${at}` };
      const answer = await fetch(`${admin(at % 3)}/kv/${encodeURIComponent(key)}`, init);
      if (!answer.ok) return expect(answer.status).toBe(412); // deleted before
      const version = Number(answer.headers.get("x-cairn-version"));
      done.push(isDelete ? { key, version, deleted: true } : { key, version, value: `value ${at}` });
    }),
  );
  await fetch(`${admin(0)}/kv/other`, { method: "PUT", body: "not watched" });
  const byKey = (rows: readonly Change[]): Change[] => [...rows].sort((a, b) => a.version - b.version || (a.key < b.key ? -1 : 1));
  for (const lines of seen) {
    await eventually(
      () => changesOf(lines).length,
      (count) => count >= done.length,
    );
    const told = changesOf(lines);
    expect(byKey(told)).toEqual(byKey(done));
    expect(told.map(({ version }) => version)).toEqual(told.map(({ version }) => version).sort((a, b) => a - b));
  }
  expect(changesOf(seen[1] ?? [])).toEqual(changesOf(seen[0] ?? [])); // also within a version
  // behind a version: exactly the rest
  const told = changesOf(seen[0] ?? []);
  const middle = told[Math.floor(told.length / 2)]?.version ?? 0;
  const rest: Record<string, unknown>[] = [];
  await follow(`${admin(2)}/kv/?prefix=w/&watch=${middle}`, rest, stop.signal);
  const wanted = told.filter(({ version }) => version > middle);
  await eventually(
    () => changesOf(rest).length,
    (count) => count >= wanted.length,
  );
  expect(changesOf(rest)).toEqual(wanted);
  stop.abort();
});

test("a watch asks for a prefix and a version, and for nothing else", async () => {
  for (const query of ["watch=x", "watch=-1", "watch=0&limit=2", "watch=0&after=a"]) {
    const answer = await fetch(`${admin(0)}/kv/?${query}`);
    expect([query, answer.status]).toEqual([query, 400]);
  }
});

test("the watched node is killed: the command goes on at the next one, and loses and repeats nothing", async () => {
  const put = async (at: number, key: string, value: string): Promise<number> => {
    for (;;) {
      const answer = await fetch(`${admin(at)}/kv/${encodeURIComponent(key)}`, { method: "PUT", body: value }).catch(() => null);
      if (answer?.ok === true) return Number(answer.headers.get("x-cairn-version"));
      await Bun.sleep(100);
    }
  };
  const from = await put(1, "before", "x");
  const child = live.bench.spawn("kv", "watch", "k/", "--from", String(from), "--limit", "8", "--json", "--timeout", "30s");
  const output = new Response(child.stdout).text();
  const written: Change[] = [];
  for (let at = 0; at < 8; at++) {
    if (at === 4) process.kill(live.ready.nodes[0]?.pid ?? 0, "SIGKILL"); // the first node: the one that is watched
    written.push({ key: `k/${at % 3}`, version: await put(1 + (at % 2), `k/${at % 3}`, String(at)), value: String(at) });
  }
  expect(await child.exited).toBe(0);
  const lines = (await output).trimEnd().split("\n");
  // a write whose outcome was unknown while there was no leader may have happened before it was done again
  const told = lines.map((line) => JSON.parse(line) as Change);
  expect(new Set(told.map(({ version, key }) => `${version} ${key}`)).size).toBe(told.length);
  expect(told.map(({ version }) => version)).toEqual(told.map(({ version }) => version).sort((a, b) => a - b));
  expect(told.slice(0, 4)).toEqual(written.slice(0, 4));
});

// ------------------------------------------------------------------ the rows alone

/** A store as a map, written by the service as a leader would. */
class Rows {
  readonly rows = new Map<string, readonly [key: Uint8Array, value: Uint8Array, version: number]>();
  last = 0;

  readonly view: View = {
    get: (key) => {
      const row = this.rows.get(key.toHex());
      return row === undefined ? null : { value: row[1], version: row[2] };
    },
    range: () => [],
  };
  readonly snapshot = { get: (_: string, key: Uint8Array) => this.rows.get(key.toHex())?.[1] } as Pick<Snapshot, "get"> as Snapshot;

  decide(bodies: readonly Request[]): void {
    const version = this.last + 1;
    const commands = bodies.map((body, id): Command => ({ id, isForwarded: false, deadlineMs: 0, from: "a" as NodeId, body }));
    const { operations } = evaluate([kvService], commands, this.view, version);
    if (operations.length === 0) return;
    this.last = version;
    for (const op of [...versionOps(version, encodeBatch(operations, new Uint8Array(32)), operations), lastOp(version)])
      if (op.op === "put") this.rows.set(op.key.toHex(), [op.key, op.value, version]);
      else this.rows.delete(op.key.toHex());
  }

  /** As a trim does it. */
  trim(first: number): void {
    for (let version = 1; version < first; version++) this.rows.delete(replicatedKeys.version(version).toHex());
    const key = replicatedKeys.first();
    this.rows.set(key.toHex(), [key, u64be(first), this.last]);
  }
}

const write = fc.record({ key: fc.constantFrom("a", "ab", "b", "ÿ"), isDelete: fc.boolean(), bytes: fc.constantFrom(0, 1, 90_000) });
const runs = fc.array(fc.uniqueArray(write, { maxLength: 4, selector: ({ key }) => key }), { maxLength: 40, size: "max" });

test("pages behind any version are the changes that were made behind it", () => {
  fc.assert(
    fc.property(runs, fc.constantFrom("", "a", "b"), fc.nat(60), (batches, prefix, trimmed) => {
      const store = new Rows();
      const done: string[] = [];
      const keys = new Set<string>();
      for (const batch of batches) {
        const version = store.last + 1;
        store.decide(
          batch.map(({ key, isDelete, bytes }) =>
            isDelete
              ? { kind: "kv.delete", key: utf8(key), ifMatch: null }
              : { kind: "kv.put", key: utf8(key), value: new Uint8Array(bytes).fill(version), ifMatch: null, ifNoneMatch: false },
          ),
        );
        for (const { key, isDelete, bytes } of batch) {
          if (key.startsWith(prefix) && !(isDelete && !keys.has(key))) done.push(`${version} ${key} ${isDelete ? "-" : bytes}`);
          isDelete ? keys.delete(key) : keys.add(key);
        }
      }
      const first = Math.max(1, Math.min(trimmed, store.last));
      store.trim(first);
      for (let after = 0; after <= store.last + 1; after++) {
        const watch = { prefix: utf8(prefix), after };
        if (after + 1 < first) {
          expect(() => changesAfter(store.snapshot, watch)).toThrow(`the first version kept is ${first}`);
          continue;
        }
        const told: string[] = [];
        for (let at = after, more = true; more; ) {
          const page = changesAfter(store.snapshot, { ...watch, after: at });
          for (const { key, version, value } of page.changes) told.push(`${version} ${new TextDecoder().decode(key)} ${value?.length ?? "-"}`);
          expect(page.upTo).toBeGreaterThanOrEqual(at);
          ({ upTo: at, more } = page);
          if (!more) expect(at).toBe(Math.max(after, store.last));
        }
        expect(told).toEqual(done.filter((line) => Number.parseInt(line, 10) > after));
      }
    }),
    { numRuns: 60 },
  );
});
