/** The journal: the store contract, and what a crash or damage leaves of its two files (sync.md section 3.5). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { Batch } from "../../src/engine/base/effects.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { type JournalCalls, journalCalls, journalExists, makeJournal, openJournal } from "../../src/engine/node/journal.ts";
import { encodeBatch } from "../../src/engine/store/batch.ts";
import { decodeRecord, encodeRecord } from "../../src/engine/store/journal-record.ts";
import type { Store } from "../../src/engine/store/types.ts";
import { delRange, hexRows, put, SortedArray, storeContract } from "../contract/store.ts";

let folder = "";
let taken = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "journal-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function fresh(): Promise<string> {
  const path = join(folder, `j${taken++}`);
  await makeJournal(path);
  return path;
}

storeContract("journal", async () => {
  const path = await fresh();
  return { open: async () => openJournal(path), async [Symbol.asyncDispose]() {} };
});

function rowsOf(store: Store): string[] {
  using snap = store.snapshot();
  return hexRows(snap.iterate());
}

async function reopened(path: string): Promise<string[]> {
  const store = openJournal(path);
  const rows = rowsOf(store);
  await store.close();
  return rows;
}

/** Entries come and go as an acceptor's do: the files take turns many times. */
async function churn(store: Store, from: number, to: number, bytes = 40_000): Promise<void> {
  for (let n = from; n < to; n++)
    await store.commit([delRange("v/", `v/${String(n - 3).padStart(6, "0")}`), put(`v/${String(n).padStart(6, "0")}`, new Uint8Array(bytes).fill(n))]);
}

describe("files take turns", () => {
  test("and what is there stays, in bounded files", async () => {
    const path = await fresh();
    const store = openJournal(path);
    await store.commit([put("stays", "here")]);
    await churn(store, 0, 400);
    const rows = rowsOf(store);
    expect(rows.length).toBe(5);
    expect(store.stat().fileBytes).toBeLessThan(12 * 2 ** 20);
    await store.close();
    expect(journalExists(`${path}`)).toBe(true);
    expect(await reopened(path)).toEqual(rows);
  });

  test("a torn first record leaves the other file in force, and commits go on", async () => {
    const path = await fresh();
    const store = openJournal(path);
    await churn(store, 0, 104); // one short of the turn
    const rows = rowsOf(store);
    await store.close();
    writeFileSync(`${path}.1`, new Uint8Array(4_096).fill(0x43));
    expect(await reopened(path)).toEqual(rows);
    const again = openJournal(path);
    await churn(again, 104, 250);
    const later = rowsOf(again);
    await again.close();
    expect(await reopened(path)).toEqual(later);
  });
});

describe("a crash", () => {
  test("in the middle of the last record, at any byte, leaves all before it", async () => {
    const path = await fresh();
    const store = openJournal(path);
    await store.commit([put("a", "1")]);
    const before = rowsOf(store);
    const end = lastEnd(`${path}.0`);
    await store.commit([put("a", "2"), put("b", "3")]);
    const after = rowsOf(store);
    await store.close();
    const whole = new Uint8Array(readFileSync(`${path}.0`));
    const length = lastEnd(`${path}.0`) - end;
    for (let kept = 0; kept <= length; kept++) {
      const torn = whole.slice();
      torn.fill(0, end + kept);
      writeFileSync(`${path}.0`, torn);
      const rows = await reopened(path);
      expect([before.join(), after.join()]).toContain(rows.join());
      if (kept < length - 8) expect(rows).toEqual(before);
    }
    expect(await reopened(path)).toEqual(after);
  });

  test("any bit that flips in an acknowledged record before the last is found, or changes nothing", async () => {
    const path = await fresh();
    const store = openJournal(path);
    for (let n = 0; n < 5; n++) await store.commit([put(`k${n}`, `value ${n}`)]);
    const rows = rowsOf(store);
    const end = lastEnd(`${path}.0`);
    await store.commit([put("last", "one")]);
    await store.close();
    const whole = new Uint8Array(readFileSync(`${path}.0`));
    for (let bit = 24 * 8; bit < end * 8; bit += 7) {
      const damaged = whole.slice();
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      writeFileSync(`${path}.0`, damaged);
      const found = await reopened(path).catch((error: unknown) => (error instanceof EngineError ? error.code : String(error)));
      if (found !== "STORE_CORRUPT") expect((found as string[]).slice(0, rows.length)).toEqual(rows); // what fills up to the next record
    }
  }, 30_000);
});

function lastEnd(file: string): number {
  const bytes = new Uint8Array(readFileSync(file));
  let end = 0;
  for (let record = decodeRecord(bytes, 0); record !== null; record = decodeRecord(bytes, end)) end = record.end;
  return end;
}

test("a file that was cut off is refused, and one that a crash left half grown is not", async () => {
  const path = await fresh();
  const store = openJournal(path);
  for (let n = 0; n < 6; n++) await store.commit([put(`k${n}`, `value ${n}`)]);
  const rows = rowsOf(store);
  await store.close();
  const whole = new Uint8Array(readFileSync(`${path}.0`));
  for (const size of [lastEnd(`${path}.0`), 4_096, whole.length - 1]) {
    writeFileSync(`${path}.0`, whole.subarray(0, size));
    expect(() => openJournal(path)).toThrow(`${path}.0: ${size} bytes, and it was ${whole.length} at least`);
  }
  writeFileSync(`${path}.0`, whole);
  expect(await reopened(path)).toEqual(rows);

  // a crash while it grew further: what is there already is whole, and the next commit completes the growth
  writeFileSync(`${path}.0`, Buffer.concat([whole, new Uint8Array(5_000)]));
  const again = openJournal(path);
  await again.commit([put("next", "one")]);
  const later = rowsOf(again);
  await again.close();
  expect(readFileSync(`${path}.0`).length).toBe(2 * whole.length);
  expect([later.length, await reopened(path)]).toEqual([rows.length + 1, later]);
});

test("a journal that is gone is never replaced by an empty one", () => {
  expect(() => openJournal(join(folder, "nowhere"))).toThrow(/neither \S+nowhere\.0 nor \S+nowhere\.1 is there/);
});

describe("a call that fails", () => {
  /** The n-th write or flush fails. */
  function failing(n: number, code: string): { calls: JournalCalls; wasHit: () => boolean } {
    let count = 0;
    const next = (): void => {
      if (++count === n) throw Object.assign(new Error(`planted ${code}`), { code });
    };
    return {
      wasHit: () => count >= n,
      calls: {
        write(fd, bytes, at) {
          next();
          journalCalls.write(fd, bytes, at);
        },
        async datasync(fd) {
          next();
          await journalCalls.datasync(fd);
        },
      },
    };
  }

  for (const [code, wanted] of [
    ["EIO", "STORE_SYNC_FAILED"],
    ["ENOSPC", "STORE_FULL"],
  ] as const)
    test(`${code} is ${wanted}: what was acknowledged stays, what was refused is not seen`, async () => {
      for (let n = 1; ; n += n < 3 ? 1 : 89) {
        const path = await fresh();
        const { calls, wasHit } = failing(n, code);
        const store = openJournal(path, calls);
        const acknowledged = new SortedArray();
        let failures = 0;
        for (let i = 0; i < 5; i++) {
          const batch: Batch = [put("turn", String(i)), put(`k${i}`, new Uint8Array(i * 300_000))];
          try {
            await store.commit(batch);
            acknowledged.apply(batch);
          } catch (error) {
            expect((error as EngineError).code).toBe(wanted);
            failures++;
          }
        }
        expect(rowsOf(store)).toEqual(hexRows(acknowledged.rows));
        await store.close();
        if (code === "ENOSPC") expect(await reopened(path)).toEqual(hexRows(acknowledged.rows));
        else expect((await reopened(path)).length).toBeGreaterThanOrEqual(acknowledged.rows.length); // what a failed flush left may be there
        if (!wasHit()) {
          expect([failures, n > 1]).toEqual([0, true]);
          return;
        }
        if (code === "ENOSPC") expect(failures).toBe(1);
        else expect(failures).toBeGreaterThan(0); // and all behind it
      }
    }, 30_000);
});

test("records of any batches are read back, and nothing else is", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 })),
      fc.nat(1_000),
      fc.boolean(),
      fc.uint8Array({ maxLength: 60 }),
      (values, sequence, isWhole, noise) => {
        const batches = values.map((value, at) => [put(`k${at}`, value)]);
        const record = encodeRecord(
          sequence,
          isWhole,
          batches.map((batch) => encodeBatch(batch, null)),
        );
        expect(decodeRecord(record, 0)).toEqual({ sequence, isWhole, batches, end: record.length });
        expect(record.length % 8).toBe(0);
        expect(decodeRecord(noise, 0)).toBeNull();
      },
    ),
  );
});
