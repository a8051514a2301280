/** The hand-over files of merge.md section 3: bytes as documented, strict readers, bad and torn lines told apart. */
import { describe, expect, test } from "bun:test";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { fromUtf8, utf8 } from "../../src/engine/base/bytes.ts";
import type { FileChange } from "../../src/engine/base/effects.ts";
import { setMutant } from "../../src/engine/base/mutant.ts";
import {
  currentSizeFile,
  type FileRead,
  latchFile,
  positionFile,
  readCurrentSize,
  readLatch,
  readPosition,
  readSth,
  sthFile,
} from "../../src/engine/merge/files.ts";
import { ORDER_LINE_BYTES, orderFileSize, orderLines, readOrderLine } from "../../src/engine/merge/order-file.ts";
import { queueFile, queueHeader, queueLines, readQueueLines, readQueueStart } from "../../src/engine/merge/queue-file.ts";
import { DiskSnapshot, emptyDisk, setFile } from "../../src/engine/sim/disk.ts";
import { configOf, P } from "./fixture.ts";

const config = configOf(P);
const hash = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);
const hex = (fill: number): string => hash(fill).toHex();
const snapWith = (file: string, bytes: Uint8Array) => new DiskSnapshot(setFile(emptyDisk, file, bytes), "test");
const bytesOf = (change: FileChange): Uint8Array => (change.change === "rename" ? new Uint8Array(0) : change.bytes);
const textOf = (change: FileChange): string => fromUtf8(bytesOf(change));
const scope = { epoch: 3, size: 4242, root: hash(2), timeMs: 1_700_000_000_000 };
const current = { ...scope, last: { index: 4241, hash: hash(1) } };

describe("replaced files", () => {
  test("currentsize is the line of section 3, keys in its order", () => {
    const change = currentSizeFile(config, current);
    expect(change).toMatchObject({ change: "replace", file: "merge/currentsize" });
    expect(textOf(change)).toBe(
      `{"format":1,"log":"example.org/log","epoch":3,"size":4242,"last":{"index":4241,"hash":"${hex(1)}"},"root":"${hex(2)}","timeMs":1700000000000}\n`,
    );
    expect(readCurrentSize(snapWith("merge/currentsize", bytesOf(change)), config)).toEqual({ kind: "ok", value: current });
  });

  test("an empty log has no last entry, and only an empty one", () => {
    const empty = { ...current, size: 0, last: null };
    expect(textOf(currentSizeFile(config, empty))).toContain(`"size":0,"last":null,`);
    expect(readCurrentSize(snapWith("merge/currentsize", bytesOf(currentSizeFile(config, empty))), config).kind).toBe("ok");
    for (const wrong of [
      { ...current, last: null },
      { ...current, size: 4241 },
      { ...empty, last: current.last },
    ])
      expect(readCurrentSize(snapWith("merge/currentsize", bytesOf(currentSizeFile(config, wrong))), config).kind).toBe("torn");
  });

  test("position, sth and latch come back as they were written", () => {
    const position = { ...scope, secondary: "s1" };
    expect(textOf(positionFile(config, position))).toBe(
      `{"format":1,"log":"example.org/log","epoch":3,"secondary":"s1","size":4242,"root":"${hex(2)}","timeMs":1700000000000}\n`,
    );
    expect(readPosition(snapWith("merge/position.s1", bytesOf(positionFile(config, position))), config, "s1")).toEqual({ kind: "ok", value: position });
    const sth = { ...scope, counted: ["s1", "s2"], note: "example.org/log\n4242\nroot\n\n— example.org/log sig\n" };
    expect(textOf(sthFile(config, sth))).toContain(`"counted":["s1","s2"],"timeMs":1700000000000,"note":"example.org/log\\n4242`);
    expect(readSth(snapWith("merge/sth", bytesOf(sthFile(config, sth))), config)).toEqual({ kind: "ok", value: sth });
    const latch = { code: "STORE_SYNC_FAILED", detail: `fsync of "merge/sth"`, timeMs: 5 };
    expect(textOf(latchFile(config, latch))).toBe(`{"format":1,"code":"STORE_SYNC_FAILED","detail":"fsync of \\"merge/sth\\"","timeMs":5}\n`);
    expect(readLatch(snapWith("merge/latch", bytesOf(latchFile(config, latch))), config)).toEqual({ kind: "ok", value: latch });
  });

  test("a position of another secondary, and a file of another log, are not ours", () => {
    expect(readPosition(snapWith("merge/position.s2", bytesOf(positionFile(config, { ...scope, secondary: "s1" }))), config, "s2").kind).toBe("torn");
    const other = configOf(P, { origin: "example.org/other" });
    const read = readCurrentSize(snapWith("merge/currentsize", bytesOf(currentSizeFile(other, current))), config) as FileRead<unknown> & { why: string };
    expect(read.kind).toBe("foreign");
    expect(read.why).toContain("example.org/other");
    expect(readCurrentSize(new DiskSnapshot(emptyDisk, "test"), config).kind).toBe("missing");
  });

  test("every proper prefix and every changed byte is torn or foreign, never a value", () => {
    const bytes = bytesOf(currentSizeFile(config, { ...current, timeMs: 7 }));
    for (let length = 0; length < bytes.length; length++)
      expect(readCurrentSize(snapWith("merge/currentsize", bytes.subarray(0, length)), config).kind).toBe("torn");
    for (const text of [` ${fromUtf8(bytes)}`, `${fromUtf8(bytes)}\n`, fromUtf8(bytes).replace("7}", "07}"), fromUtf8(bytes).replace("01", "0A")])
      expect(readCurrentSize(snapWith("merge/currentsize", utf8(text)), config).kind).toBe("torn");
  });
});

describe("logorder", () => {
  test("line i starts at 96·i and reads as documented", () => {
    const lines = orderLines(4241, new Uint8Array([...hash(7), ...hash(8)]));
    expect(fromUtf8(lines)).toBe(`{"index":       4241,"hash":"${hex(7)}"}\n{"index":       4242,"hash":"${hex(8)}"}\n`);
    expect(lines.length).toBe(2 * ORDER_LINE_BYTES);
    const snap = snapWith("merge/logorder", new Uint8Array([...orderLines(0, hash(5)), ...orderLines(1, hash(6)), 0x7b]));
    expect(orderFileSize(snap, config)).toEqual({ count: 2, torn: 1 });
    expect(readOrderLine(snap, config, 1)).toEqual(hash(6));
    expect(readOrderLine(snap, config, 2)).toBeNull();
    expect(readOrderLine(snapWith("merge/logorder", orderLines(3, hash(5))), config, 0)).toBeNull();
  });
});

describe("queue lines", () => {
  const file = queueFile(config, "a");
  const header = queueHeader(config, { storage: "a", born: "a.1", generation: 5, firstSeq: 120 });
  const items = { firstSeq: 120, hashes: new Uint8Array([...hash(1), ...hash(2)]), bytes: [200, 0] };
  const readAll = (bytes: Uint8Array, countMax = 100) => readQueueLines(snapWith(file, bytes), config, "a", { offset: 0, limit: bytes.length, countMax });

  test("header and line are those of section 3, the CRC that of the line before it", () => {
    expect(fromUtf8(header)).toBe(`{"format":1,"log":"example.org/log","storage":"a","born":"a.1","generation":5,"firstSeq":120}\n`);
    const [line, second] = fromUtf8(queueLines("a", items)).split("\n") as [string, string];
    const before = `{"seq":120,"storage":"a","hash":"${hex(1)}","bytes":200`;
    expect(line).toBe(`${before},"crc":"${crc32(before).toString(16).padStart(8, "0")}"}`);
    expect(second).toStartWith(`{"seq":121,"storage":"a","hash":"${hex(2)}","bytes":0,`);
    expect(readQueueStart(snapWith(file, header), config, "a")).toEqual({
      kind: "ok",
      value: { header: { storage: "a", born: "a.1", generation: 5, firstSeq: 120 }, end: header.length },
    });
  });

  const listing = fc.record({
    firstSeq: fc.oneof(fc.nat(1_200), fc.nat(2 ** 31), fc.constant(2 ** 53 - 1 - 40)),
    entries: fc.array(fc.tuple(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.nat(65_535)), { maxLength: 30 }),
  });

  test("what was written is read, in steps of any size", () => {
    fc.assert(
      fc.property(listing, fc.integer({ min: 1, max: 7 }), ({ firstSeq, entries }, countMax) => {
        const hashes = new Uint8Array(entries.flatMap(([each]) => [...each]));
        const bytes = entries.map(([, each]) => each);
        const raw = queueLines("a", { firstSeq, hashes, bytes });
        const snap = snapWith(file, raw);
        const seen: [number, string, number][] = [];
        for (let offset = 0; ; ) {
          const lines = readQueueLines(snap, config, "a", { offset, limit: raw.length, countMax });
          expect(lines.badAt).toBeNull();
          for (let i = 0; i < lines.count; i++) seen.push([lines.seqs[i]!, lines.hashes.subarray(i * 32, i * 32 + 32).toHex(), lines.bytes[i]!]);
          if (lines.count === 0) break;
          offset = lines.end;
        }
        expect(seen).toEqual(entries.map(([each, size], i) => [firstSeq + i, each.toHex(), size]));
      }),
    );
  });

  test("a changed byte makes its line bad, and no line behind it is read", () => {
    const raw = queueLines("a", items);
    const second = raw.indexOf(0x0a) + 1;
    fc.assert(
      fc.property(fc.nat(raw.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = raw.slice();
        bytes[at] = bytes[at]! ^ flip;
        const lines = readAll(bytes);
        const isInSecond = at >= second;
        expect(lines.count).toBe(isInSecond ? 1 : 0);
        if (at !== raw.length - 1) expect(lines.badAt).toBe(isInSecond ? second : 0);
      }),
    );
  });

  test("spellings that say the same are bad lines all the same", () => {
    const line = fromUtf8(queueLines("a", { ...items, bytes: [200], hashes: hash(0xab) }));
    const withCrc = (before: string): string => `${before},"crc":"${crc32(before).toString(16).padStart(8, "0")}"}\n`;
    const before = line.slice(0, line.indexOf(`,"crc"`));
    expect(readAll(utf8(withCrc(before))).count).toBe(1);
    const others = [
      before.replace(":120", ":0120"),
      before.replace(":120", ": 120"),
      before.replace(":200", ":65536"),
      before.replace(":120", ":9007199254740992"),
      before.replace(/ab/g, "AB"),
      before.replace(`"a"`, `"b"`),
      `${before} `,
    ];
    for (const other of others) expect(readAll(utf8(withCrc(other)))).toMatchObject({ count: 0, badAt: 0, end: 0 });
    expect(readAll(utf8(line.toUpperCase())).badAt).toBe(0);
  });

  test("what lies behind the last LF is torn: not read, not bad", () => {
    const raw = queueLines("a", items);
    const second = raw.indexOf(0x0a) + 1;
    for (let length = second; length < raw.length; length++) expect(readAll(raw.subarray(0, length))).toMatchObject({ count: 1, end: second, badAt: null });
    setMutant("merge.torn-line-accepted");
    expect(readAll(raw.subarray(0, second + 20))).toMatchObject({ count: 2, end: second + 20 });
    setMutant(null);
  });
});
