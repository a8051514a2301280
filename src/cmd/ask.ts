/**
 * Asking a person before something that cannot be taken back. The plan and the question go to stderr, so stdout stays
 * the answer; where stdin or stderr is no terminal nothing is asked, and the error names the flag that answers.
 */
import { EngineError } from "../engine/base/errors.ts";

export async function confirmPlan(plan: string, yes: boolean): Promise<boolean> {
  if (plan !== "") process.stderr.write(`${plan}\n`);
  if (yes) return true;
  if (!process.stdin.isTTY || !process.stderr.isTTY) throw new EngineError("NEEDS_ANSWER", "nobody can be asked here: look at the plan above, then pass --yes");
  const { confirm } = await import("@clack/prompts");
  return (await confirm({ message: "Go on?", initialValue: false, output: process.stderr })) === true;
}
