/**
 * Planted mistakes, for proving that the checkers see them. `mutant(name)` is folded to `false` in a release build
 * (the build defines CAIRN_MUTANTS as false and a test greps the binary); in a source tree the simulator turns one on.
 */
declare const CAIRN_MUTANTS: boolean;

/** Whether this build can plant mistakes at all. */
export const hasMutants: boolean = typeof CAIRN_MUTANTS === "undefined" || CAIRN_MUTANTS;

let active: string | null = null;

/** Turns one planted mistake on, or all off with null. Source tree only. */
export function setMutant(name: string | null): void {
  active = name;
}

export function mutant(name: string): boolean {
  if (active === null) return false;
  if (typeof CAIRN_MUTANTS !== "undefined" && !CAIRN_MUTANTS) return false;
  return active === name;
}
