/**
 * What a merge loop tells people about its steps: one that keeps failing, or that runs for very long, is said once, and
 * once more when it is over. What mends itself within seconds is not worth a line. Reads no clock: the caller does.
 */
import type { StepResult } from "../merge/config.ts";

/** A peer that starts, or starts again, is back within this. */
const LASTS_MS = 3_000;
/** Longer than any run but one that catches up after hours. */
export const LONG_RUN_MS = 30_000;

type Trouble = { readonly sinceMs: number; text: string | null };

export class LoopTrouble {
  private readonly byStep = new Map<string, Trouble>();

  /** A line for people about a run that ended, or null. */
  ended(step: string, result: StepResult, nowMs: number): string | null {
    const known = this.byStep.get(step);
    if (result.error === undefined) {
      this.byStep.delete(step);
      return known === undefined || known.text === null ? null : `merge ${step}: goes on after ${Math.round((nowMs - known.sinceMs) / 1_000)} s`;
    }
    const trouble = known ?? { sinceMs: nowMs, text: null };
    this.byStep.set(step, trouble);
    const text = `error[${result.error.code}]: ${result.error.detail}`;
    if (nowMs - trouble.sinceMs < LASTS_MS || trouble.text === text) return null;
    trouble.text = text;
    return `merge ${step}: ${text}`;
  }

  /** A run has lasted for `LONG_RUN_MS` and goes on. */
  lasts(step: string, nowMs: number): string {
    this.byStep.set(step, { sinceMs: nowMs - LONG_RUN_MS, text: "" });
    return `merge ${step}: its run has lasted for ${LONG_RUN_MS / 1_000} s`;
  }
}
