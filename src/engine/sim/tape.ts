/**
 * The deeds of a seed's run and the dice that each drew from: played again, some can be left out and every other one stays
 * what it was (sync.md section 5.5). So a failure that took hundreds of deeds shrinks to the few that matter. A seed may make
 * several runs, one after the other; their deeds are numbered through. The links' and disks' own dice are not on the tape.
 */
import type { Prng } from "../base/prng.ts";

type Deed = { readonly before: Prng; readonly after: Prng };
type Run = { readonly deeds: Deed[]; end: Prng };

/** One run's safety phase. */
export type Deeds = {
  readonly dice: Prng;
  /** Whether there is time for another deed; a broken invariant ends any run. */
  readonly isOpen: () => boolean;
  readonly isBroken: () => boolean;
  act(): void;
  /** Time goes on. */
  drift(): void;
};

/** Deed after deed, as the dice have it, or as the tape does. */
export function doDeeds(deeds: Deeds, tape: Tape | undefined): void {
  if (tape !== undefined) {
    tape.run(deeds);
    return;
  }
  while (deeds.isOpen() && !deeds.isBroken()) {
    deeds.act();
    deeds.drift();
  }
}

export class Tape {
  private readonly runs: Run[] = [];
  /** Null while it records. */
  private kept: ReadonlySet<number> | null = null;
  private runNumber = 0;
  private deedNumber = 0;

  get deedCount(): number {
    return this.runs.reduce((sum, { deeds }) => sum + deeds.length, 0);
  }

  /** From here on it plays: these deeds and no others. */
  rewind(kept: Iterable<number>): this {
    this.kept = new Set(kept);
    this.runNumber = 0;
    this.deedNumber = 0;
    return this;
  }

  run(deeds: Deeds): void {
    if (this.kept === null) this.record(deeds);
    else this.play(deeds, this.kept, this.runs[this.runNumber++]);
  }

  private record({ dice, isOpen, isBroken, act, drift }: Deeds): void {
    const run: Run = { deeds: [], end: dice };
    this.runs.push(run);
    while (isOpen() && !isBroken()) {
      const before = { ...dice };
      act();
      run.deeds.push({ before, after: { ...dice } });
      drift();
    }
    run.end = { ...dice };
  }

  /** A run that the recording never came to has no deeds. */
  private play({ dice, isBroken, act, drift }: Deeds, kept: ReadonlySet<number>, run: Run | undefined): void {
    if (run === undefined) return;
    for (const { before, after } of run.deeds) {
      const number = this.deedNumber++;
      if (isBroken()) continue;
      Object.assign(dice, before);
      if (kept.has(number)) act();
      Object.assign(dice, after);
      drift();
    }
    Object.assign(dice, run.end);
  }
}
