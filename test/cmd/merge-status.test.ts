/** `merge status` and `merge explain`: pictures, words, and what is made of answers that are not as expected. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { burn, burnText } from "../../src/cmd/burn.ts";
import type { NodeAnswer } from "../../src/cmd/cluster.ts";
import { LiveBlock } from "../../src/cmd/live-block.ts";
import { explain, explainText } from "../../src/cmd/merge-status.ts";
import { type MergeView, viewOf } from "../../src/cmd/merge-view.ts";
import { bar, colours, drawMerge } from "../../src/cmd/picture.ts";
import { EngineError } from "../../src/engine/base/errors.ts";

const NOW_MS = 1_700_000_000_000;
const answer = (id: string, log: object | null): NodeAnswer => {
  const node = { id, admin: `http://${id}.example.org`, log: null, dir: null, token: null };
  if (log === null) return { node, value: null, error: new EngineError("UNAVAILABLE", `${id} is silent`) };
  return { node, value: { id, roles: ["frontend"], log: { origin: "example.org/log", primary: "p", epoch: 1, ...log } }, error: null };
};
const standing = (secondary: string, size: number, ageMs = 0): object => ({ secondary, size, timeMs: NOW_MS - ageMs, why: null });
const merge = {
  currentSize: 100,
  signedSize: 70,
  k: 2,
  standings: [standing("s1", 90), standing("s2", 70), standing("s3", 40, 31_000)],
  latch: null,
  gate: { open: true, floor: 0 },
  notes: [],
};
const view = viewOf([answer("p", { publishedSize: 70, merge }), answer("s1", { publishedSize: 70 }), answer("s2", { publishedSize: 60 }), answer("s3", null)]);
const primary = (of: MergeView) => {
  if (of.merge === null) throw new Error("no primary");
  return of.merge;
};

describe("bar", () => {
  test("is as wide as asked, full exactly where nothing is missing, and never shrinks", () => {
    fc.assert(
      fc.property(fc.nat(1_000), fc.nat(1_000), fc.integer({ min: 2, max: 80 }), (a, b, columns) => {
        const [value, max] = [Math.min(a, b), Math.max(a, b)];
        const cells = bar({ value, max, columns, mark: null });
        expect(cells).toHaveLength(columns);
        const filled = cells.replaceAll("·", "").length;
        if (max > 0) expect([filled === columns, filled === 0]).toEqual([value === max, value === 0]);
        if (value < max) expect(bar({ value: value + 1, max, columns, mark: null }).replaceAll("·", "").length).toBeGreaterThanOrEqual(filled);
      }),
    );
  });

  test("the mark of a size stands in the last cell of that size", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000 }), fc.nat(1_000), fc.integer({ min: 2, max: 80 }), (max, more, columns) => {
        const mark = 1 + (more % max);
        const cells = bar({ value: mark, max, columns, mark });
        expect(cells).toMatch(/^█*│·*$/);
        expect(cells.indexOf("│")).toBe(bar({ value: mark, max, columns, mark: null }).lastIndexOf("█"));
      }),
    );
    expect(bar({ value: 0, max: 0, columns: 4, mark: 0 })).toBe("····");
  });
});

describe("picture", () => {
  test("a bar for the primary and each secondary, then the quorum line and who is waited for", () => {
    expect(drawMerge(view, { columns: 68 })).toEqual([
      "p current   ███████████████│████████ 100  serves 70",
      "s1 position ███████████████│█████···  90  serves 70, 10 to go",
      "s2 position ███████████████│········  70  serves 60, 30 to go",
      "s3 position █████████······│········  40  does not answer, 60 to go",
      "quorum  desc([100, 90, 70, 40])[2] = 70   verified by s1, s2",
      "signed  70   To sign 90, s2 must verify 20 more (or s3 50).",
    ]);
  });

  test("fits the columns for any sizes, and colours change no letter", () => {
    fc.assert(
      fc.property(fc.nat(10_000_000), fc.nat(10_000_000), fc.integer({ min: 80, max: 200 }), (a, b, columns) => {
        const sizes = { currentSize: Math.max(a, b), signedSize: Math.min(a, b), standings: [standing("s1", Math.min(a, b)), standing("s2", 0)] };
        const drawn = viewOf([answer("p", { publishedSize: Math.min(a, b), merge: { ...merge, ...sizes, k: 1 } }), answer("s1", {}), answer("s2", null)]);
        const lines = drawMerge(drawn, { columns });
        for (const line of lines.slice(0, 3)) expect(Bun.stringWidth(line)).toBeLessThan(columns);
        const painted = drawMerge(drawn, { columns, paint: colours });
        expect(painted.map((line) => Bun.stripANSI(line).trimEnd())).toEqual(lines.map((line) => line.trimEnd()));
      }),
    );
  });

  test("without the primary there are no positions to show, only what each node serves", () => {
    expect(drawMerge(viewOf([answer("p", null), answer("s1", { publishedSize: 3 })]), { columns: 80 })).toEqual([
      "p does not answer: positions are not known",
      "p: UNAVAILABLE",
      "s1: serves 3",
    ]);
  });
});

describe("explain", () => {
  test("the page of merge.md section 1: both readings, and what is missing for the next size", () => {
    expect(explainText(explain("p", primary(view), 2), NOW_MS).split("\n")).toEqual([
      "currentsize 100 p     position.s1 90     position.s2 70     position.s3 40 (31 s old)     backupquorum = 2",
      "  in force       desc([100, 90, 70, 40])[2]  = 70   2 secondaries verified it: s1, s2",
      "  other reading  desc([90, 70, 40])[2]       = 40   list without the primary: one copy more than the knob says; not used",
      "signed 70. To sign 90, s2 must verify 20 more (or s3 50). To sign 100, s1 must verify 10 more and s2 must verify 30 more (or s3 60).",
      "",
      "K    SIGNS NOW  OTHER READING  WAITS FOR, TO SIGN ALL",
      "0    100        90             nobody",
      "1    90         70             1 of s1 (10 to go), s2 (30 to go), s3 (60 to go)",
      "2 *  70         40             2 of s1 (10 to go), s2 (30 to go), s3 (60 to go)",
      "3    40         -              3 of s1 (10 to go), s2 (30 to go), s3 (60 to go)",
    ]);
  });

  test("another k is said to be one, and a file that counts for nothing is named", () => {
    const noted = { ...primary(view), notes: ["position.s3 is not one whole line of format 1"] };
    const lines = explainText(explain("p", noted, 3), NOW_MS).split("\n");
    expect(lines[0]).toEndWith("backupquorum = 3 (in force: 2)");
    expect(lines[1]).toContain("if it were so");
    expect(lines.at(-1)).toBe("note: position.s3 is not one whole line of format 1");
  });
});

describe("burn", () => {
  const three = (signedSize: number, sizes: readonly [number, number, number], storagequorum = 2): MergeView => {
    const [currentSize, b, c] = sizes;
    const roles = (id: string) => ({ id, roles: ["storage", "frontend"] });
    const answers = [
      answer("a", {
        primary: "a",
        storagequorum,
        publishedSize: 0,
        merge: { ...merge, currentSize, signedSize, standings: [standing("b", b), standing("c", c)] },
      }),
      answer("b", { publishedSize: 0 }),
      answer("c", null),
    ];
    return viewOf(
      answers.map((each) => (each.value === null ? each : { ...each, value: { ...each.value, members: ["a", "b", "c"].map(roles), roles: ["storage"] } })),
    );
  };

  test("nothing signed is lost while one copy of it is left; the rest comes again from the storage nodes", () => {
    const view = three(70, [100, 70, 40]);
    expect(burnText(burn(view, primary(view), ["a"]), "a").split("\n")).toEqual([
      "If the disks of a were lost:",
      "  signed    nothing is lost, b has it all",
      "  unsigned  entries 70 to 99 are in no order any more, and are merged again from the storage nodes",
      "  receipts  none is broken: each is on 2 storage nodes, 1 of them lost",
      "  signing   stops: a is the primary, and the log's key was in its folder",
      "Something signed is lost only with all of: a, b.",
    ]);
    expect(burnText(burn(view, primary(view), ["a", "b"]), "a")).toContain("  signed    entries 40 to 69 are lost\n");
    expect(burnText(burn(view, primary(view), []), "a")).toBe("Something signed is lost only with all of: a, b.");
  });

  test("against every set of nodes, entry by entry", () => {
    const sets = [[], ["a"], ["b"], ["c"], ["a", "b"], ["a", "c"], ["b", "c"], ["a", "b", "c"]];
    fc.assert(
      fc.property(fc.nat(12), fc.nat(12), fc.nat(12), fc.nat(12), fc.integer({ min: 1, max: 3 }), (current, b, c, signed, storagequorum) => {
        const sizes = [current, Math.min(b, current), Math.min(c, current)] as const;
        const signedSize = Math.min(signed, current);
        const view = three(signedSize, sizes, storagequorum);
        const [, , third] = view.nodes;
        expect(third).toMatchObject({ id: "c", roles: ["storage", "frontend"], error: { code: "UNAVAILABLE" } });
        let smallest: readonly string[] | null = null;
        for (const set of sets) {
          const kept = (entry: number): boolean => ["a", "b", "c"].some((id, at) => !set.includes(id) && entry < (sizes[at] as number));
          const lost = Array.from({ length: current }, (_, entry) => entry).filter((entry) => !kept(entry));
          const told = burn(view, primary(view), set);
          const within = (range: { from: number; to: number } | null, entry: number): boolean => range !== null && entry >= range.from && entry < range.to;
          for (let entry = 0; entry < current; entry++)
            expect(within(entry < signedSize ? told.signedLost : told.unsignedLost, entry)).toBe(lost.includes(entry));
          expect(told.receiptsBroken).toBe(set.length >= storagequorum);
          if (told.signedLost !== null && (smallest === null || set.length < smallest.length)) smallest = set;
        }
        expect(burn(view, primary(view), []).smallest).toEqual(smallest ?? []);
      }),
    );
  });
});

describe("answers", () => {
  test("whatever a node says, a view is made of it, and only checked values are in it", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (log, standings) => {
        const node = { id: "x", admin: "http://x.example.org", log: null, dir: null, token: null };
        const odd = viewOf([
          { node, value: { log } as Readonly<Record<string, unknown>>, error: null },
          answer("p", { merge: { ...merge, standings, latch: log, gate: standings } }),
        ]);
        expect(() => drawMerge(odd, { columns: 80 })).not.toThrow();
        for (const { size, secondary } of primary(odd).standings) expect([Number.isSafeInteger(size) && size >= 0, typeof secondary]).toEqual([true, "string"]);
      }),
    );
  });
});

describe("live block", () => {
  const open = (columns: number | null) => {
    let text = "";
    const write = (part: string): void => {
      text += part;
    };
    const stream = { write, ...(columns === null ? {} : { isTTY: true, columns }) };
    return { block: new LiveBlock(stream), read: () => text };
  };

  test("in a pipe only the ordinary lines are written, without an escape", () => {
    const { block, read } = open(null);
    block.show(["a", "b"]);
    block.say("line");
    block.end();
    expect(read()).toBe("line\n");
  });

  test("on a terminal the block is taken back and drawn again below each line, never wider than it", () => {
    const { block, read } = open(6);
    block.show(["abcdefgh", "x"]);
    block.say("line");
    block.end();
    block.say("after");
    expect(read().replaceAll("\u001b", "^")).toBe("^[?25labcde\nx\n^[2A\r^[Jline\nabcde\nx\n^[?25hafter\n");
  });
});
