/** RFC 8032 signatures on the built-in library, held against tweetnacl, which shares nothing with it. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import nacl from "tweetnacl";
import { publicKeyOf, signEd25519, verifyEd25519 } from "../../src/engine/base/ed25519.ts";
import { seedOf } from "./note-vectors.ts";

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const hex = (text: string): Uint8Array => Uint8Array.fromHex(text);

test("RFC 8032 section 7.1, tests 1 and 2", () => {
  const cases = [
    {
      seed: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
      publicKey: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
      message: "",
      signature: "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    },
    {
      seed: "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
      publicKey: "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
      message: "72",
      signature: "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    },
  ];
  for (const each of cases) {
    expect(publicKeyOf(hex(each.seed)).toHex()).toBe(each.publicKey);
    expect(signEd25519(hex(each.seed), hex(each.message)).toHex()).toBe(each.signature);
    expect(verifyEd25519(hex(each.publicKey), hex(each.message), hex(each.signature))).toBe(true);
  }
});

test("keys and signatures are tweetnacl's, byte for byte, and each verifies the other's", () => {
  fc.assert(
    fc.property(bytes(32), fc.uint8Array({ maxLength: 300 }), (seed, message) => {
      const theirs = nacl.sign.keyPair.fromSeed(seed);
      const signature = signEd25519(seed, message);
      expect(publicKeyOf(seed)).toEqual(theirs.publicKey);
      expect(signature).toEqual(nacl.sign.detached(message, theirs.secretKey));
      expect(verifyEd25519(theirs.publicKey, message, nacl.sign.detached(message, theirs.secretKey))).toBe(true);
      expect(nacl.sign.detached.verify(message, signature, publicKeyOf(seed))).toBe(true);
    }),
    { numRuns: 30 },
  );
});

test("one bit changed anywhere in key, message or signature does not verify", () => {
  const seed = seedOf(9);
  const [publicKey, message] = [publicKeyOf(seed), new Uint8Array(40).fill(1)];
  const signature = signEd25519(seed, message);
  const all = [publicKey, message, signature];
  for (const [part, original] of all.entries()) {
    for (let bit = 0; bit < original.length * 8; bit += 3) {
      const changed = original.slice();
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
      const [k, m, s] = all.map((each, i) => (i === part ? changed : each)) as [Uint8Array, Uint8Array, Uint8Array];
      expect(verifyEd25519(k, m, s)).toBe(false);
    }
  }
});

test("what is no key or no signature is an answer, not an exception", () => {
  const message = new Uint8Array(1);
  const signature = signEd25519(seedOf(1), message);
  for (const length of [0, 31, 33]) expect(verifyEd25519(new Uint8Array(length), message, signature)).toBe(false);
  for (const length of [0, 63, 65]) expect(verifyEd25519(publicKeyOf(seedOf(1)), message, new Uint8Array(length))).toBe(false);
  for (const filling of [0x00, 0x7f, 0xff]) expect(verifyEd25519(new Uint8Array(32).fill(filling), message, signature)).toBe(false);
});

test("a signature has one form: S above the group order is refused (RFC 8032 section 5.1.7)", () => {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const message = Uint8Array.of(1, 2, 3);
  const signature = signEd25519(seedOf(2), message);
  const s = BigInt(`0x${signature.slice(32).reverse().toHex()}`) + order;
  const other = signature.slice();
  other.set(hex(s.toString(16).padStart(64, "0")).reverse(), 32);
  expect(verifyEd25519(publicKeyOf(seedOf(2)), message, other)).toBe(false);
});

test("more keys than are kept still sign and verify, and a result belongs to its caller", () => {
  const message = Uint8Array.of(7);
  const made = Array.from({ length: 200 }, (_, i) => ({ seed: seedOf(i), signature: signEd25519(seedOf(i), message) }));
  for (const { seed, signature } of [...made, ...made]) expect(verifyEd25519(publicKeyOf(seed), message, signature)).toBe(true);
  const first = publicKeyOf(seedOf(1));
  first.fill(0);
  expect(publicKeyOf(seedOf(1))).not.toEqual(first);
});
