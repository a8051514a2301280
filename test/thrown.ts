/** What a call throws: one that ends well, or with anything but an EngineError, fails the test. */
import { EngineError, type ErrorCode } from "../src/engine/base/errors.ts";

export function failure(run: () => unknown): EngineError {
  try {
    run();
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
  throw new Error("no error was thrown");
}

export const codeOf = (run: () => unknown): ErrorCode => failure(run).code;
