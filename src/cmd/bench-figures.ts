/**
 * What the benches make of their measurements: a median, percentiles, a readable number of digits. Not a command itself,
 * and never a judgement: whether a figure is good is said where it is compared.
 */

export const hundredths = (value: number): number => Math.round(value * 100) / 100;

/** Zero of no values; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2;
}

export type Waits = { readonly p50Ms: number; readonly p99Ms: number };

/** Of milliseconds, to the thousandth: the least value that so large a share of all does not exceed. */
export function waitsOf(valuesMs: readonly number[]): Waits {
  const sorted = valuesMs.toSorted((a, b) => a - b);
  const at = (share: number): number => Math.round((sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0) * 1_000) / 1_000;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}
