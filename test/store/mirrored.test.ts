/** The mirrored store (sync.md section 2.4): the contract, states that are under way, and what it does at a difference. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { utf8 } from "../../src/engine/base/bytes.ts";
import { BrokenInvariant } from "../../src/engine/base/invariant.ts";
import { openDisk } from "../../src/engine/node/disk.ts";
import { type Environment, openEnvironment } from "../../src/engine/store/lmdb.ts";
import { mirrorEnvironment } from "../../src/engine/store/mirrored.ts";
import { del, delRange, put, storeContract } from "../contract/store.ts";

const folders: string[] = [];
const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), "cairn-mirrored-"));
  folders.push(made);
  return made;
};
afterAll(() => {
  for (const each of folders) rmSync(each, { recursive: true });
});

const open = (dir: string): Promise<Environment<"a" | "b">> => openEnvironment(dir, ["a", "b"], { create: true });

storeContract("mirrored", async () => {
  const dir = folder();
  return { open: async () => mirrorEnvironment(await open(dir), ["a"]).stores.a, async [Symbol.asyncDispose]() {} };
});

describe("mirrored store", () => {
  test("a snapshot taken while commits are under way fits one of the states", async () => {
    const real = await open(folder());
    const env = mirrorEnvironment(real, ["a"]);
    const commits: Promise<void>[] = [];
    for (let n = 0; n < 40; n++) {
      commits.push(env.commit({ a: [put("n", String(n)), n % 5 === 4 ? delRange("k", "l") : put(`k${n}`, "x")], b: [put("n", String(n))] }, n));
      if (n % 3 === 0) await Bun.sleep(0);
      using snap = env.snapshot();
      const rows = [...snap.stores.a.iterate()].length;
      expect(rows).toBeLessThan(8);
    }
    await Promise.all(commits);
    using snap = env.snapshot();
    expect(new TextDecoder().decode(snap.stores.a.get(utf8("n")))).toBe("39");
    await env.close();
  });

  /** Writes past the twin, as a flaw of the adapter or of the disk would. */
  const differing = async (): Promise<{ real: Environment<"a" | "b">; env: Environment<"a" | "b"> }> => {
    const real = await open(folder());
    await real.stores.a.commit([put("kv/a", "1"), put("kv/b", "2")], 4);
    const env = mirrorEnvironment(real, ["a"]);
    await real.stores.a.commit([put("kv/a", "9")], 4);
    return { real, env };
  };

  test("the first difference names operation, key and both values", async () => {
    const { env } = await differing();
    using snap = env.stores.a.snapshot();
    expect(() => snap.get(utf8("kv/a"))).toThrow(
      new BrokenInvariant(`broken invariant: ${snapName(env)}: get kv/a: 39 (1 bytes) on disk, 31 (1 bytes) in memory`),
    );
    expect(snap.get(utf8("kv/b"))).toEqual(utf8("2"));
    expect(() => [...snap.iterate()]).toThrow("iterate kv/a");
  });

  test("a row too many or too few is seen by an iterator, a wrong version by the commit that touches it", async () => {
    const { real, env } = await differing();
    await real.stores.a.commit([put("kv/a", "1"), put("kv/c", "3")], 4);
    {
      using snap = env.stores.a.snapshot();
      expect(() => [...snap.stored()]).toThrow("stored kv/c");
    }
    await real.stores.a.commit([del("kv/c"), del("kv/b")]);
    {
      using snap = env.stores.a.snapshot();
      expect(() => [...snap.stored()]).toThrow("stored kv/b");
    }
    await real.stores.a.commit([put("kv/b", "2")], 4);
    await env.stores.a.commit([put("kv/d", "4")], 5);
    const rogue: Environment<"a" | "b"> = { ...real, commit: (batches) => real.commit(batches, 77) };
    const second = mirrorEnvironment(rogue, ["a"]);
    await expect(second.stores.a.commit([put("kv/a", "1")], 6)).rejects.toThrow("wroteAt kv/a");
  });

  test("every thousand commits the digest kept up is compared with the disk", async () => {
    const { real, env } = await differing();
    for (let n = 0; n < 999; n++) await env.stores.a.commit([put("other", "x")], n);
    await expect(env.stores.a.commit([put("other", "y")], 1_000)).rejects.toThrow("kept up beside it");
    await real.close();
  });

  test("a store that is too large is refused, databases of others are left alone", async () => {
    const { real } = await differing();
    expect(() => mirrorEnvironment(real, ["a"], 100)).toThrow(expect.objectContaining({ code: "BAD_CONFIG" }));
    const env = mirrorEnvironment(real, ["a"]);
    await real.stores.b.commit([put("foreign", "1")]);
    using snap = env.snapshot();
    expect(snap.stores.b.get(utf8("foreign"))).toEqual(utf8("1"));
  });

  test("a node's disk can be opened so, local rows beside replicated ones", async () => {
    const disk = await openDisk(folder(), { paranoid: true });
    await disk.write({ db: "replicated", batch: [put("kv/a", "1")], local: [put("sync/cursor", "c")], wroteAt: 3 });
    using snap = disk.snapshot();
    expect([snap.get("replicated", utf8("kv/a")), snap.get("local", utf8("sync/cursor"))]).toEqual([utf8("1"), utf8("c")]);
    snap[Symbol.dispose]();
    await disk.close();
  });
});

const snapName = (env: Environment<"a" | "b">): string => env.stores.a.name;
