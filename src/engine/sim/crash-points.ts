/**
 * Places in a simulated run where something crashes: every effect that is performed is a boundary, every flush of a
 * write one of its own. A crash grid walks through all of them; a story names one. Knows what is asked for, crashes nothing.
 */
import type { Boundary, CrashPoint } from "./process.ts";

function atPoint(point: CrashPoint, at: Boundary): boolean {
  return (
    (point.when ?? "after") === at.when &&
    (point.node === undefined || point.node === at.node) &&
    (point.process === undefined || point.process === at.process) &&
    (point.kind === undefined || point.kind === at.kind) &&
    (point.what === undefined || at.what.startsWith(point.what))
  );
}

/** The points that were asked for and not reached yet. */
export class CrashPoints {
  private readonly points: { readonly point: CrashPoint; left: number }[] = [];

  get count(): number {
    return this.points.length;
  }

  add(point: CrashPoint): void {
    this.points.push({ point, left: point.nth ?? 1 });
  }

  /** The point that is reached here, once; null for most boundaries. */
  reach(here: Boundary): CrashPoint | null {
    const at = this.points.findIndex((each) => atPoint(each.point, here) && --each.left === 0);
    return at === -1 ? null : (this.points.splice(at, 1)[0]?.point ?? null);
  }
}
