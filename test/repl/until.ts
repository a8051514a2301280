/** Waits for what another process is about to do, and says what was there instead when it does not. */
const UNTIL_MS = 5_000;

export async function until(holds: () => boolean, what: () => string): Promise<void> {
  const deadline = performance.now() + UNTIL_MS;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not within ${UNTIL_MS} ms: ${what()}`);
    await Bun.sleep(5);
  }
}
