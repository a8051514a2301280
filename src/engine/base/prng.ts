/**
 * Seeded randomness (xoshiro128**, seeded through splitmix32): the only source of chance in the simulator.
 * State is plain data, so a world can be copied and forked.
 */
export type Prng = { a: number; b: number; c: number; d: number };

export function prng(seed: number): Prng {
  let s = seed >>> 0;
  const next = (): number => {
    s = (s + 0x9e3779b9) >>> 0;
    let z = s;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  return { a: next(), b: next(), c: next(), d: next() };
}

/** A uniform 32-bit integer. */
export function nextU32(state: Prng): number {
  const rotl = (x: number, k: number): number => ((x << k) | (x >>> (32 - k))) >>> 0;
  const result = Math.imul(rotl(Math.imul(state.b, 5), 7), 9) >>> 0;
  const t = state.b << 9;
  state.c ^= state.a;
  state.d ^= state.b;
  state.b ^= state.c;
  state.a ^= state.d;
  state.c ^= t;
  state.d = rotl(state.d, 11);
  return result;
}

/** A uniform integer in `[0, limit)`, limit at most 2^32. */
export const nextBelow = (state: Prng, limit: number): number => Math.floor((nextU32(state) / 0x1_0000_0000) * limit);

/** True with the given probability. */
export const nextChance = (state: Prng, probability: number): boolean => nextU32(state) < probability * 0x1_0000_0000;

/** One element of a non-empty list. */
export function nextOf<T>(state: Prng, list: readonly T[]): T {
  return list[nextBelow(state, list.length)] as T;
}

/** `length` random bytes. */
export function nextBytes(state: Prng, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = nextU32(state) & 0xff;
  return bytes;
}
