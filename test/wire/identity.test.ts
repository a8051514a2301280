/** Key pairs, their text form, derived seeds, and the X25519 image of an Ed25519 key; then the file that holds a seed. */
import { afterAll, describe, expect, test } from "bun:test";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import nacl from "tweetnacl";
import { createSeedFile, readSeedFile } from "../../src/engine/node/identity-file.ts";
import { derivedSeed, exchangeKeyOf, exchangeSecretOf, keyPairOf, parsePublicKey, publicKeyText } from "../../src/engine/wire/identity.ts";
import { codeOf } from "../thrown.ts";
import { hex, vectors } from "./vectors.ts";

const { valid, invalid } = vectors<{
  valid: { comment: string; seed: string; publicKey: string; cosignerSeed: string; receiptSeed: string }[];
  invalid: { comment: string; text: string }[];
}>("identity");
const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 });

describe("keys", () => {
  for (const { comment, seed, publicKey, cosignerSeed, receiptSeed } of valid)
    test(comment, () => {
      expect(publicKeyText(keyPairOf(hex(seed)).publicKey)).toBe(publicKey);
      expect(parsePublicKey(publicKey)).toEqual(keyPairOf(hex(seed)).publicKey);
      expect(derivedSeed(hex(seed), "cosigner").toHex()).toBe(cosignerSeed);
      expect(derivedSeed(hex(seed), "receipt").toHex()).toBe(receiptSeed);
    });
  for (const { comment, text } of invalid) test(`public key refused: ${comment}`, () => expect(codeOf(() => parsePublicKey(text))).toBe("BAD_CONFIG"));

  test("node:crypto makes the same public key of the same seed", () => {
    const wrap = Uint8Array.fromHex("302e020100300506032b657004220420"); // RFC 8410 around 32 raw bytes
    fc.assert(
      fc.property(seeds, (seed) => {
        const key = createPrivateKey({ key: Buffer.concat([wrap, seed]), format: "der", type: "pkcs8" });
        const der = createPublicKey(key).export({ format: "der", type: "spki" });
        expect(der.subarray(-32).toString("hex")).toBe(keyPairOf(seed).publicKey.toHex());
      }),
      { numRuns: 20 },
    );
  });
  test("the X25519 image of the public key belongs to the X25519 secret of the seed", () => {
    fc.assert(
      fc.property(seeds, (seed) => expect(exchangeKeyOf(keyPairOf(seed).publicKey)).toEqual(nacl.scalarMult.base(exchangeSecretOf(seed)))),
      { numRuns: 30 },
    );
  });
  test("the sign of x changes nothing; a y of the field's size or more has no image", () => {
    const { publicKey } = keyPairOf(new Uint8Array(32).fill(5));
    const mirrored = publicKey.with(31, publicKey[31]! ^ 0x80);
    expect(exchangeKeyOf(mirrored)).toEqual(exchangeKeyOf(publicKey));
    expect(exchangeKeyOf(hex(`ed${"ff".repeat(30)}7f`))).toBeNull(); // 2^255 − 19
    expect(exchangeKeyOf(hex(`ec${"ff".repeat(30)}7f`))).toEqual(new Uint8Array(32)); // y = −1 is u = 0
    expect(exchangeKeyOf(hex(`01${"00".repeat(31)}`))).toEqual(new Uint8Array(32)); // y = 1 has no image: refused as u = 0
  });
});

describe("seed file", () => {
  const folder = mkdtempSync(join(tmpdir(), "cairn-identity-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  let count = 0;
  const fresh = () => join(folder, `identity-${++count}`);

  test("is created with mode 0600 and read back", () => {
    const path = fresh();
    const seed = createSeedFile(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readSeedFile(path)).toEqual(seed);
    expect(readFileSync(path, "utf8")).toBe(`${seed.toHex()}\n${publicKeyText(keyPairOf(seed).publicKey)}\n`);
  });
  test("mode 0600 whatever the umask", () => {
    const path = fresh();
    const umask = process.umask(0o277);
    try {
      createSeedFile(path);
    } finally {
      process.umask(umask);
    }
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });
  test("two files hold two seeds", () => expect(createSeedFile(fresh())).not.toEqual(createSeedFile(fresh())));
  test("is never overwritten", () => {
    const path = fresh();
    const seed = createSeedFile(path);
    expect(codeOf(() => createSeedFile(path))).toBe("NODE_EXISTS");
    expect(readSeedFile(path)).toEqual(seed);
  });
  for (const mode of [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o666, 0o777])
    test(`mode 0${mode.toString(8)} is refused`, () => {
      const path = fresh();
      createSeedFile(path);
      chmodSync(path, mode);
      expect(codeOf(() => readSeedFile(path))).toBe("IDENTITY_MODE");
      expect(() => readSeedFile(path)).toThrow(`has mode 0${mode.toString(8)}, want 0600`);
    });
  test("a mode that is narrower than 0600 is read", () => {
    const path = fresh();
    const seed = createSeedFile(path);
    chmodSync(path, 0o400);
    expect(readSeedFile(path)).toEqual(seed);
  });
  test("a missing file, a folder, a link", () => {
    expect(codeOf(() => readSeedFile(fresh()))).toBe("NOT_FOUND");
    expect(codeOf(() => readSeedFile(folder))).toBe("IDENTITY_CORRUPT");
    const path = fresh();
    const link = fresh();
    createSeedFile(path);
    symlinkSync(path, link);
    expect(codeOf(() => readSeedFile(link))).toBe("IDENTITY_CORRUPT");
    expect(codeOf(() => createSeedFile(join(folder, "no", "such")))).toBe("FAILED");
  });
  test("a file with any one bit changed, cut anywhere, or longer, is refused", () => {
    const path = fresh();
    createSeedFile(path);
    const good = new Uint8Array(readFileSync(path));
    const bad: Uint8Array[] = [good.subarray(0, 0), good.subarray(0, 64), good.subarray(0, good.length - 1), new Uint8Array([...good, 10])];
    for (let at = 0; at < good.length; at += 7) bad.push(good.with(at, good[at]! ^ (1 << (at % 8))));
    for (const bytes of bad) {
      writeFileSync(path, bytes);
      expect(codeOf(() => readSeedFile(path))).toBe("IDENTITY_CORRUPT");
    }
  });
});
