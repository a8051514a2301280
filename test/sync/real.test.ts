/** The cores on real disks with the real driver: a copy over LMDB is the store it was copied from, row for row. */
import { expect, test } from "bun:test";
import { diffSnapshots, digestSnapshot } from "../../src/engine/store/diff.ts";
import { acceptsKeys, localKeys } from "../../src/engine/store/keys.ts";
import { RealPair } from "./real-pair.ts";

for (const paranoid of [false, true])
  test(`a store is copied over LMDB${paranoid ? ", both sides mirrored in memory" : ""}`, async () => {
    await using pair = await RealPair.make(paranoid);
    await pair.fill(12_000, 200);
    await pair.run(20_000);
    const { x, y, close } = pair.views();
    expect([...diffSnapshots("replicated", { a: x, b: y })]).toEqual([]);
    expect(digestSnapshot(x)).toEqual(digestSnapshot(y));
    close();
    using snap = pair.node("x").disk.snapshot();
    expect(snap.get("local", localKeys.synchronizing())).toBeUndefined();
    expect(snap.get("accepts", acceptsKeys.vote())).toBeDefined();
    expect(pair.node("x").marks).toContain("sync.cleared");
  }, 60_000);

test("one row in a hundred is older: at most 3 % of a full copy's bytes cross the wire", async () => {
  const [rows, bytes] = [20_000, 1_024];
  await using pair = await RealPair.make(false, "delta");
  await pair.fillAlike(rows, bytes, 0.01);
  await pair.run(20_000);
  const { x, y, close } = pair.views();
  expect(digestSnapshot(x)).toEqual(digestSnapshot(y));
  close();
  expect(pair.node("x").marks).toContain("sync.walked");
  expect(pair.node("x").marks).not.toContain("sync.cleared");
  expect(pair.wireBytes / (rows * bytes)).toBeLessThan(0.03);
}, 60_000);
