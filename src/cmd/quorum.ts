/**
 * What the merge's quorum line says, in words (merge.md sections 1 and 9): both readings of the seed's formula, what each
 * backupquorum would sign, and which secondary the next head waits for. Pure; the formula itself is `quorumSize` of the signer.
 */
import { quorumSize } from "../engine/merge/choose.ts";

export type Sizes = { readonly currentSize: number; readonly positions: readonly { readonly secondary: string; readonly size: number }[] };

export type Reading = {
  readonly k: number;
  /** `desc([currentsize, …positions])[k]`: null where k is above the number of secondaries. */
  readonly size: number | null;
  readonly formula: string;
  /** Secondaries that verified this size. */
  readonly counted: readonly string[];
  /** `desc([…positions])[k]`: the list without the primary, one copy more than the knob says. Never used. */
  readonly otherReading: number | null;
  readonly otherFormula: string;
};

export type Wait = {
  readonly size: number;
  /** Nearest first: so many of these must verify so many entries more. */
  readonly missingCount: number;
  readonly behind: readonly { readonly secondary: string; readonly toGo: number }[];
};

const desc = (sizes: readonly number[]): number[] => [...sizes].sort((a, b) => b - a);

export function readingOf({ currentSize, positions }: Sizes, k: number): Reading {
  const sizes = positions.map((each) => each.size);
  const size = quorumSize(currentSize, sizes, k);
  const otherReading = desc(sizes)[k] ?? null;
  return {
    k,
    size,
    formula: `desc([${desc([currentSize, ...sizes]).join(", ")}])[${k}]`,
    counted: size === null || size === 0 ? [] : positions.filter((each) => each.size >= size).map(({ secondary }) => secondary),
    otherReading,
    otherFormula: `desc([${desc(sizes).join(", ")}])[${k}]`,
  };
}

/** What must happen before `wanted` entries can be signed; null where nothing must, or nothing can. */
export function waitFor({ currentSize, positions }: Sizes, k: number, wanted: number): Wait | null {
  if (k > positions.length || wanted > currentSize) return null;
  const behind = positions.filter(({ size }) => size < wanted).map(({ secondary, size }) => ({ secondary, toGo: wanted - size }));
  const missingCount = k - (positions.length - behind.length);
  return missingCount <= 0 ? null : { size: wanted, missingCount, behind: behind.sort((a, b) => a.toGo - b.toGo || (a.secondary < b.secondary ? -1 : 1)) };
}

/** The next size that one more secondary would make signable: the smallest one above what can be signed now. */
export function nextSize({ currentSize, positions }: Sizes, signable: number): number | null {
  const above = [currentSize, ...positions.map(({ size }) => size)].filter((size) => size > signable);
  return above.length === 0 ? null : Math.min(...above);
}

/** `To sign 90, s2 must verify 20 more.` */
export function waitText({ size, missingCount, behind }: Wait): string {
  const nearest = behind.slice(0, missingCount);
  const names = nearest.map(({ secondary, toGo }) => `${secondary} must verify ${toGo} more`).join(" and ");
  const others = behind.slice(missingCount).map(({ secondary, toGo }) => `${secondary} ${toGo}`);
  return `To sign ${size}, ${names}${others.length === 0 ? "" : ` (or ${others.join(", or ")})`}.`;
}
