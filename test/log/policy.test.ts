/** C2SP tlog-policy: the grammar's every refusal, and quorums against counting by hand. */
import { describe, expect, test } from "bun:test";
import { fromUtf8 } from "../../src/engine/base/bytes.ts";
import { signCheckpoint } from "../../src/engine/log/checkpoint.ts";
import { addCosignature, cosign } from "../../src/engine/log/cosignature.ts";
import { signNote, vkeyOf } from "../../src/engine/log/note.ts";
import { checkPolicy, parsePolicy } from "../../src/engine/log/policy.ts";
import { codeOf, failure } from "../thrown.ts";
import { invalid, keyOf, seedOf } from "./note-vectors.ts";

const origin = "example.org/log";
const log = keyOf(origin, 1, 4);
const witnesses = ["x1", "x2", "x3", "y1", "y2"];
const text = ({ name, type, publicKey }: ReturnType<typeof keyOf>): string => vkeyOf(name, type, publicKey);
const witnessKey = (i: number): string => text(keyOf(`witness.example/${witnesses[i]}`, 4, 10 + i));
const filled = (policy: string): string => policy.replaceAll("{log}", text(log)).replaceAll("{w1}", witnessKey(0)).replaceAll("{w2}", witnessKey(1));

const note = fromUtf8(signCheckpoint({ origin, size: 3, root: new Uint8Array(32).fill(2) }, seedOf(4)));
/** The note with cosignatures of the witnesses named. */
const cosigned = (...names: readonly string[]): string =>
  names.reduce((done, name) => {
    const i = witnesses.indexOf(name);
    return addCosignature(done, cosign({ name: `witness.example/${name}`, seed: seedOf(10 + i), note, timeSeconds: 100 + i }));
  }, note);
const defined = witnesses.map((name, i) => `witness ${name} ${witnessKey(i)}\n`).join("");
const policy = (quorum: string): ReturnType<typeof parsePolicy> => parsePolicy(`log ${text(log)}\n${defined}${quorum}`);

describe("what is no policy", () => {
  for (const each of invalid("policy")) test(each.comment, () => expect(codeOf(() => parsePolicy(filled(each.text)))).toBe(each.code));

  test("the error names the line", () => {
    expect(failure(() => parsePolicy("# a comment\n\nquorum w\n")).message).toContain("line 3");
  });
  test("more lines, names or characters a line than the limits", () => {
    expect(codeOf(() => parsePolicy("#\n".repeat(1_025)))).toBe("LOG_ENCODING");
    expect(codeOf(() => parsePolicy(`quorum none${" ".repeat(5_000)}\n`))).toBe("LOG_ENCODING");
  });
});

test("comments, blank lines, tabs, URLs and names of any script are read", () => {
  const read = parsePolicy(filled("  # hello\n\n\tlog\t{log}  https://example.org/\nwitness  Ж {w1} https://w.example \n quorum Ж\n"));
  expect(read.logs).toEqual([{ vkey: log, url: "https://example.org/" }]);
  expect(read.quorum).toMatchObject({ kind: "witness", name: "Ж", url: "https://w.example" });
});

test("32 logs, witnesses and groups are read, as C2SP asks", () => {
  let lines = "";
  for (let i = 0; i < 32; i++) {
    lines += `log ${text(keyOf(`log${i}.example`, 1, 100 + i))}\nwitness w${i} ${text(keyOf(`w${i}.example`, 4, 140 + i))}\n`;
    lines += `group g${i} all w${i}${i > 0 ? ` g${i - 1}` : ""}\n`;
  }
  const read = parsePolicy(`${lines}quorum g31\n`);
  expect([read.logs.length, read.witnesses.length]).toEqual([32, 32]);
});

describe("quorums", () => {
  const groups = "group X 2 x1 x2 x3\ngroup Y any y1 y2\ngroup both all X Y\nquorum both\n";

  test("two levels of groups, for every set of witnesses", () => {
    for (let set = 0; set < 32; set++) {
      const names = witnesses.filter((_, i) => set & (1 << i));
      const enough = names.filter((name) => name.startsWith("x")).length >= 2 && names.some((name) => name.startsWith("y"));
      const check = (): unknown => checkPolicy(cosigned(...names), policy(groups));
      if (enough) check();
      else expect(codeOf(check)).toBe("LOG_SIGNATURE");
    }
  });
  test("a single witness, none, and all", () => {
    expect(codeOf(() => checkPolicy(note, policy("quorum x1\n")))).toBe("LOG_SIGNATURE");
    expect(checkPolicy(cosigned("x1"), policy("quorum x1\n")).cosigned).toEqual([{ name: "witness.example/x1", timeSeconds: 100 }]);
    expect(checkPolicy(note, policy("quorum none\n")).checkpoint.size).toBe(3);
    expect(codeOf(() => checkPolicy(cosigned("x1", "x2"), policy("group g all x1 x2 x3\nquorum g\n")))).toBe("LOG_SIGNATURE");
  });
  test("the error names who is missing", () => {
    expect(failure(() => checkPolicy(cosigned("x1", "y2"), policy(groups))).message).toBe("quorum not reached: both has 1 of 2, missing X");
    expect(failure(() => checkPolicy(note, policy("group g 2 x1 x2\nquorum g\n"))).message).toContain("missing x1, x2");
  });
  test("a forged cosignature is refused although others would do", () => {
    const forged = cosign({ name: "witness.example/x2", seed: seedOf(11), note, timeSeconds: 1 }).replace(/.{8}\n$/, "AAAAAAA=\n");
    expect(codeOf(() => checkPolicy(cosigned("x1") + forged, policy("quorum x1\n")))).toBe("LOG_SIGNATURE");
  });
});

describe("logs", () => {
  test("any listed one will do; another is refused", () => {
    const other = text(keyOf("other.example", 1, 90));
    expect(checkPolicy(note, parsePolicy(`log ${other}\nlog ${text(log)}\nquorum none\n`)).checkpoint.origin).toBe(origin);
    expect(codeOf(() => checkPolicy(note, parsePolicy(`log ${other}\nquorum none\n`)))).toBe("LOG_SIGNATURE");
  });
  test("a signature of another listed log beside its own does no harm", () => {
    const other = keyOf("other.example", 1, 90);
    const body = note.slice(0, note.indexOf("\n\n") + 1);
    const both = note + signNote(body, { name: other.name, type: 1, seed: seedOf(90) }).slice(body.length + 1);
    expect(checkPolicy(both, parsePolicy(`log ${text(other)}\nlog ${text(log)}\nquorum none\n`)).checkpoint.origin).toBe(origin);
  });
  test("two keys of one origin: the one that signed counts", () => {
    const rotated = text(keyOf(origin, 1, 91));
    expect(checkPolicy(note, parsePolicy(`log ${rotated}\nlog ${text(log)}\nquorum none\n`)).checkpoint.size).toBe(3);
  });
  test("a policy without logs leaves the choice to the caller", () => {
    expect(checkPolicy(note, parsePolicy("quorum none\n"), log).checkpoint.size).toBe(3);
    expect(codeOf(() => checkPolicy(note, parsePolicy("quorum none\n")))).toBe("LOG_SIGNATURE");
  });
});
