/**
 * The fsck against logs of the sizes where tiles begin and end, and against damage: every file of a log flipped, cut,
 * lengthened, emptied, removed or swapped must be found, by the right code, naming the place.
 */
import { describe, expect, test } from "bun:test";
import { fromUtf8, utf8 } from "../../src/engine/base/bytes.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { signCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { addCosignature, cosign } from "../../src/engine/log/cosignature.ts";
import { bundleOf } from "../../src/engine/log/entry.ts";
import { leafHashes, rootOf } from "../../src/engine/log/merkle.ts";
import { vkeyOf } from "../../src/engine/log/note.ts";
import { parsePolicy } from "../../src/engine/log/policy.ts";
import { LogReader } from "../../src/engine/log/reader.ts";
import { readerSource } from "../../src/engine/log/reader-source.ts";
import { TILE_WIDTH, tilePath } from "../../src/engine/log/tile.ts";
import { type LogSource, type VerifyOptions, type VerifyReport, verifyLog } from "../../src/engine/log/verify.ts";
import { entriesOf, growTo, LOG } from "./grow.ts";
import { type Files, filesOf, hashesOf, headOf, LOG_KEY } from "./log-files.ts";
import { MapSnapshot } from "./map-snapshot.ts";
import { keyOf, seedOf } from "./note-vectors.ts";

const { origin, vkey } = LOG_KEY;
const seed = seedOf(4);

const sourceOf = (files: Files): LogSource => ({ read: async (path) => files.get(path)?.slice() ?? null });
const verify = (files: Files, options: Partial<VerifyOptions> = {}): Promise<VerifyReport> => verifyLog(sourceOf(files), { vkey, ...options });

async function failureOf(files: Files, options: Partial<VerifyOptions> = {}): Promise<EngineError> {
  try {
    await verify(files, options);
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
  throw new Error("the log was found to be whole");
}
const changed = (files: Files, path: string, bytes: Uint8Array | null): Files => {
  const copy = new Map(files);
  if (bytes === null) copy.delete(path);
  else copy.set(path, bytes);
  return copy;
};
const flipped = (bytes: Uint8Array, bit: number): Uint8Array => bytes.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));

describe("a whole log", () => {
  for (const size of [0, 1, 2, 255, 256, 257, 511, 512, 1_000, 65_536, 70_000]) {
    test(`of ${size} entries is read once and whole`, async () => {
      const files = filesOf(size);
      const told: number[] = [];
      const report = await verify(files, { onProgress: (done) => told.push(done) });
      const [pieces, bytes] = [...files].filter(([path]) => path !== "checkpoint").reduce(([count, sum], [, each]) => [count + 1, sum + each.length], [0, 0]);
      expect(report.checkpoint.size).toBe(size);
      expect([report.bundles + report.tiles, report.bytes]).toEqual([pieces, bytes]);
      expect(told).toEqual(Array.from({ length: report.bundles }, (_, n) => Math.min(size, (n + 1) * TILE_WIDTH)));
    });
  }

  test("of three tile levels is whole, through its upper tiles", async () => {
    expect((await verify(filesOf(TILE_WIDTH * TILE_WIDTH + 300))).tiles).toBe(258 + 2 + 1);
  });
  test("in a node's own packed rows is the same log", async () => {
    const snap = new MapSnapshot();
    growTo(snap, 1_000, [3, 250, 10, 300]);
    for (const size of [0, 1, 256, 700, 1_000]) {
      const source = readerSource(new LogReader(snap, LOG), headOf(size));
      expect((await verifyLog(source, { vkey })).checkpoint.size).toBe(size);
      for (const path of ["tile/0/999", "tile/entries/003.p/233", "tile/0/0", "../checkpoint", "tile/9/000"]) expect(await source.read(path)).toBeNull();
    }
  });
  test("whose partial pieces gave way to full ones is whole up to an older head", async () => {
    const files = filesOf(768);
    for (const width of [1, 2]) files.set(tilePath(1, 0, width), (files.get("tile/1/000.p/3") as Uint8Array).slice(0, width * 32)); // not full yet: kept
    for (const size of [1, 255, 257, 600, 767]) expect((await verify(files, { checkpoint: headOf(size) })).checkpoint.size).toBe(size);
    expect((await failureOf(changed(files, "tile/0/001", null), { checkpoint: headOf(300) })).message).toContain("tile/0/001.p/44: missing");
  });
});

describe("damage", () => {
  const size = 600;
  const files = filesOf(size);
  const paths = [...files.keys()];

  test("a bit flipped in any file is found, in the file it is in or the one it is compared with", async () => {
    for (const path of paths) {
      const bytes = files.get(path) as Uint8Array;
      for (let bit = 0; bit < bytes.length * 8; bit += Math.max(1, Math.floor(bytes.length / 3))) {
        const { code, message, row } = await failureOf(changed(files, path, flipped(bytes, bit)));
        expect([path, row.exit]).toEqual([path, 7]);
        if (path.startsWith("tile/0")) expect([code, message.includes(path.replace(/\.p.*/, ""))]).toEqual(["LOG_ENTRY_MISMATCH", true]);
        if (path.startsWith("tile/1")) expect([code, message.includes(path)]).toEqual(["LOG_ROOT_MISMATCH", true]);
        if (path.startsWith("tile/entries")) expect(["LOG_ENTRY_MISMATCH", "LOG_ENCODING"]).toContain(code);
      }
    }
  });
  test("a file that is cut, lengthened, emptied or gone is found by its length", async () => {
    for (const path of paths) {
      const bytes = files.get(path) as Uint8Array;
      const longer = (extra: number): Uint8Array => Uint8Array.of(...bytes, ...new Uint8Array(extra));
      for (const wrong of [bytes.slice(0, -1), bytes.slice(1), longer(1), longer(2), longer(32), longer(66_000), new Uint8Array(0), null]) {
        const error = await failureOf(changed(files, path, wrong));
        if (path === "checkpoint") expect(["LOG_ENCODING", "LOG_SIGNATURE", "NOT_FOUND"]).toContain(error.code);
        else expect([path, error.code, error.message.includes(path)]).toEqual([path, "LOG_ENCODING", true]);
      }
    }
  });
  test("two pieces that changed places are found", async () => {
    for (const [a, b] of [
      ["tile/0/000", "tile/0/001"],
      ["tile/entries/000", "tile/entries/001"],
    ] as const) {
      const swapped = changed(changed(files, a, files.get(b) as Uint8Array), b, files.get(a) as Uint8Array);
      expect((await failureOf(swapped)).message).toContain("entry 0 hashes to");
    }
  });
  test("an entry replaced together with its leaf hash is found by the tile above", async () => {
    const entries = entriesOf(0, 256).with(9, utf8("forged"));
    const bundle = bundleOf(entries);
    const forged = changed(changed(files, "tile/entries/000", bundle), "tile/0/000", leafHashes(bundle));
    const error = await failureOf(forged);
    expect([error.code, error.message.startsWith("tile/1/000.p/2: hash 0 is ")]).toEqual(["LOG_ROOT_MISMATCH", true]);
    const above = leafHashes(bundle);
    const tile = (files.get("tile/1/000.p/2") as Uint8Array).slice();
    tile.set(rootOf(above));
    const deeper = await failureOf(changed(forged, "tile/1/000.p/2", tile));
    expect([deeper.code, deeper.message]).toEqual(["LOG_ROOT_MISMATCH", expect.stringContaining("the root folded from the leaves is")]);
  });
  test("one partial tile replaced together with its entries is found by the root", async () => {
    const bundle = bundleOf(entriesOf(512, 600).with(80, utf8("forged")));
    const forged = changed(changed(files, "tile/entries/002.p/88", bundle), "tile/0/002.p/88", leafHashes(bundle));
    expect((await failureOf(forged)).message).toContain(rootOf(hashesOf(size)).toHex());
  });
  test("the first of several differences is named, however the reads come in", async () => {
    let broken = files;
    for (const path of ["tile/0/002.p/88", "tile/0/001"]) broken = changed(broken, path, flipped(broken.get(path) as Uint8Array, 8 * 32 * 7));
    const late: LogSource = {
      async read(path) {
        for (let i = 0; i < (path.includes("000") ? 50 : 1); i++) await Promise.resolve();
        return broken.get(path) ?? null;
      },
    };
    const error: unknown = await verifyLog(late, { vkey }).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: "LOG_ENTRY_MISMATCH", message: expect.stringContaining("entry 263 hashes to") });
  });
  test("a read that fails ends the check with that failure, and no other is left unhandled", async () => {
    const failing: LogSource = {
      async read(path) {
        if (path.startsWith("tile/entries")) throw new EngineError("UNAVAILABLE", path);
        return files.get(path) ?? null;
      },
    };
    expect(await verifyLog(failing, { vkey }).catch((cause: unknown) => cause)).toMatchObject({ code: "UNAVAILABLE", message: "tile/entries/000" });
  });
});

describe("heads", () => {
  const files = filesOf(600);

  test("every older head is checked on the way", async () => {
    expect((await verify(files, { old: [0, 1, 100, 255, 256, 257, 512, 513, 599, 600].reverse().map(headOf) })).checkpoint.size).toBe(600);
  });
  test("an older head with another root is named with both roots, wherever its size lies", async () => {
    for (const size of [1, 100, 256, 512, 599]) {
      const root = new Uint8Array(32).fill(size);
      const error = await failureOf(files, { old: [headOf(50), signCheckpoint({ origin, size, root }, seed), headOf(600)] });
      expect(error.code).toBe("LOG_ROOT_MISMATCH");
      for (const part of [`size ${size}:`, root.toHex(), rootOf(hashesOf(size)).toHex()]) expect(error.message).toContain(part);
    }
  });
  test("a larger older head is a rollback, one of the same size with another root a fork", async () => {
    expect((await failureOf(files, { old: [headOf(601)] })).code).toBe("LOG_HEAD_ROLLBACK");
    expect((await failureOf(files, { old: [signCheckpoint({ origin, size: 600, root: new Uint8Array(32) }, seed)] })).code).toBe("LOG_HEAD_FORK");
    expect((await failureOf(files, { old: [signCheckpoint({ origin, size: 0, root: new Uint8Array(32) }, seed)] })).code).toBe("LOG_ROOT_MISMATCH");
  });
  test("an older head must be signed too", async () => {
    expect((await failureOf(files, { old: [signCheckpoint({ origin, size: 1, root: new Uint8Array(32) }, seedOf(5))] })).code).toBe("LOG_SIGNATURE");
  });
  test("a head of another key, origin or size is refused", async () => {
    expect((await failureOf(files, { vkey: keyOf(origin, 1, 5) })).code).toBe("LOG_SIGNATURE");
    expect((await failureOf(files, { vkey: keyOf("example.org/two", 1, 4) })).code).toBe("LOG_SIGNATURE");
    expect((await failureOf(changed(files, "checkpoint", headOf(601)))).message).toContain("tile/");
    const wrongRoot = signCheckpoint({ origin, size: 600, root: rootOf(hashesOf(599)) }, seed);
    expect((await failureOf(changed(files, "checkpoint", wrongRoot))).code).toBe("LOG_ROOT_MISMATCH");
    const wrongEmpty = signCheckpoint({ origin, size: 0, root: new Uint8Array(32) }, seed);
    expect((await failureOf(changed(files, "checkpoint", wrongEmpty))).code).toBe("LOG_ROOT_MISMATCH");
  });
});

describe("cosigners", () => {
  const [s1, s2] = [keyOf(`${origin}/s1`, 4, 5), keyOf(`${origin}/s2`, 4, 6)];
  const note = fromUtf8(headOf(300));
  const cosigned = utf8(addCosignature(note, cosign({ name: s1.name, seed: seedOf(5), note, timeSeconds: 77 })));
  const files = changed(filesOf(300), "checkpoint", cosigned);

  test("each one asked for must have signed", async () => {
    expect((await verify(files, { cosigners: [s1] })).cosigned).toEqual([{ name: s1.name, timeSeconds: 77 }]);
    expect((await failureOf(files, { cosigners: [s1, s2] })).message).toContain(s2.name);
    expect((await verify(files)).cosigned).toEqual([]);
  });
  test("a policy's quorum must be reached", async () => {
    const witness = (name: string, key: typeof s1): string => `witness ${name} ${vkeyOf(key.name, 4, key.publicKey)}\n`;
    const policy = (k: number): ReturnType<typeof parsePolicy> => parsePolicy(`${witness("s1", s1)}${witness("s2", s2)}group g ${k} s1 s2\nquorum g\n`);
    expect((await verify(files, { policy: policy(1), cosigners: [s1] })).cosigned).toEqual([{ name: s1.name, timeSeconds: 77 }]);
    expect((await failureOf(files, { policy: policy(2) })).message).toContain("g has 1 of 2, missing s2");
  });
});

test("reads go ahead of the hashing, and no further than is bounded", async () => {
  const files = filesOf(20_000);
  let asked = 0;
  let most = 0;
  const source: LogSource = {
    async read(path) {
      if (path.startsWith("tile/entries")) asked++;
      return files.get(path) ?? null;
    },
  };
  await verifyLog(source, {
    vkey,
    onProgress: (done) => {
      most = Math.max(most, asked - Math.ceil(done / TILE_WIDTH));
    },
  });
  expect(most).toBe(31); // of 32, one was just used
});
