/**
 * Assertions about our own facts. They stay on in the shipped binary; a broken one stops the node and is never
 * caught and retried. What a peer, a disk or a user got wrong is an EngineError, never an invariant.
 */
export class BrokenInvariant extends Error {
  override readonly name = "BrokenInvariant";
}

export function invariant(holds: boolean, what: string): asserts holds {
  if (!holds) throw new BrokenInvariant(`broken invariant: ${what}`);
}

/** The end of a switch over a closed union. */
export function unreachable(value: never): never {
  throw new BrokenInvariant(`broken invariant: unexpected ${JSON.stringify(value)}`);
}
