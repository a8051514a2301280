/** PEM bundles as CA stores ship them: RFC 7468 blocks with anything between. */
import { describe, expect, test } from "bun:test";
import { certificatesOf } from "../../src/engine/log/pem.ts";
import { codeOf, failure } from "../thrown.ts";

const der = (i: number): Uint8Array => new Uint8Array(100 + i).map((_, at) => (at * 7 + i) & 0xff);
const block = (i: number, columns = 64): string =>
  `-----BEGIN CERTIFICATE-----\n${der(i)
    .toBase64()
    .replace(new RegExp(`(.{${columns}})(?=.)`, "g"), "$1\n")}\n-----END CERTIFICATE-----\n`;
const read = (text: string): Uint8Array[] => [...certificatesOf(text)];

test("each block gives its bytes, in order", () => {
  expect(read(block(1) + block(2) + block(3))).toEqual([der(1), der(2), der(3)]);
});
test("text, comments and other blocks between are passed over", () => {
  const text = `# Some CA\nSubject: CN=x\n${block(1)}\n\n-----BEGIN RSA PRIVATE KEY-----\nnot base64 at all!\n-----END RSA PRIVATE KEY-----\nmore\n${block(2)}tail`;
  expect(read(text)).toEqual([der(1), der(2)]);
});
test("either line ending, any width, blanks around a line, no line feed at the end", () => {
  expect(read(block(1).replaceAll("\n", "\r\n"))).toEqual([der(1)]);
  expect(read(block(1, 1) + block(2, 10_000))).toEqual([der(1), der(2)]);
  expect(read(block(1).replaceAll("\n", "  \n  ").trim())).toEqual([der(1)]);
});
test("no certificate is no error", () => expect(read("hello\n")).toEqual([]));

describe("what is wrong is named with its line", () => {
  const cases: readonly [string, string, string][] = [
    ["a character that is not base64", "x\n-----BEGIN CERTIFICATE-----\nAAAA\nAA*A\n-----END CERTIFICATE-----\n", "line 4"],
    ["a block that does not end", `${block(1)}\n-----BEGIN CERTIFICATE-----\nAAAA\n`, "line 7"],
    ["a block inside a block", `-----BEGIN CERTIFICATE-----\nAAAA\n${block(1)}`, "line 3"],
    ["the end of another block", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END X509 CRL-----\n", "line 3"],
    ["padding in the middle", "-----BEGIN CERTIFICATE-----\nAA==\nAAAA\n-----END CERTIFICATE-----\n", "line 1"],
    ["a missing character", "-----BEGIN CERTIFICATE-----\nAAAAA\n-----END CERTIFICATE-----\n", "line 1"],
    ["nothing inside", "\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "line 2"],
  ];
  for (const [what, text, place] of cases) {
    test(what, () => {
      expect(codeOf(() => read(text))).toBe("LOG_ENCODING");
      expect(failure(() => read(text)).message).toContain(place);
    });
  }
});
test("certificates before the damage were already given", () => {
  const got: Uint8Array[] = [];
  expect(
    codeOf(() => {
      for (const each of certificatesOf(`${block(1)}-----BEGIN CERTIFICATE-----\n?\n`)) got.push(each);
    }),
  ).toBe("LOG_ENCODING");
  expect(got).toEqual([der(1)]);
});
