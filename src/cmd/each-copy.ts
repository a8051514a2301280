/**
 * A check of several copies of one thing: a damaged one does not hide what the others are. One copy fails with its own
 * error; of several, each failure is a row of the answer, and the first one's code is the command's.
 */
import { EngineError } from "../engine/base/errors.ts";
import type { AnyContext } from "./spec.ts";

export async function eachCopy<Copy>(ctx: Pick<AnyContext, "answer">, copies: readonly Copy[], check: (copy: Copy) => Promise<void>): Promise<void> {
  const failures: EngineError[] = [];
  for (const copy of copies) {
    try {
      await check(copy);
    } catch (error) {
      if (!(error instanceof EngineError) || copies.length === 1) throw error;
      failures.push(error);
      const { code, message } = error;
      await ctx.answer({ ok: false, error: { code, message } }, `error[${code}]: ${message}`);
    }
  }
  const [first] = failures;
  if (first !== undefined)
    throw new EngineError(first.code, `${failures.length} of ${copies.length} copies failed, the first: ${first.message}`, { cause: first });
}
