/**
 * The one way to stdout and stderr. `write` resolves when the text has left the process, so nothing is lost when it ends;
 * a reader that went away (`cairn … | head`) is a quiet end, told to the caller by PipeClosed. A full disk is an error.
 * Never calls process.exit: the caller sets process.exitCode and lets the streams drain.
 */
/** Thrown by `write` when nobody reads any more: main ends quietly with what status there is. */
export class PipeClosed extends Error {
  override readonly name = "PipeClosed";
}

export type Out = { write(text: string | Uint8Array): Promise<void>; readonly isTerminal: boolean };

/** EPIPE: the reader closed. ECONNRESET: the same on a socket. EBADF: it was never open. */
const QUIET_CODES: readonly unknown[] = ["EPIPE", "ECONNRESET", "EBADF"];

export function openOut(stream: NodeJS.WriteStream): Out {
  stream.on("error", () => {}); // each write's callback brings it too; without a listener it would kill the process
  return {
    isTerminal: stream.isTTY === true,
    write: (text) =>
      new Promise((resolve, reject) => {
        if (text.length === 0) return resolve();
        stream.write(text, (error) => (error ? reject(QUIET_CODES.includes(codeOf(error)) ? new PipeClosed() : error) : resolve()));
      }),
  };
}

const codeOf = (error: Error): unknown => ("code" in error ? error.code : undefined);
