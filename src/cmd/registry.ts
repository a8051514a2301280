/**
 * Every command of the binary, in the order help shows them. A command group's file exports its specs; adding one is one
 * import and one line here.
 */
import { completeCommand } from "./complete.ts";
import { completion } from "./completion.ts";
import { explain } from "./explain.ts";
import type { CommandSpec } from "./spec.ts";

export const registry: readonly CommandSpec[] = [
  explain, //
  completion,
  completeCommand(() => registry),
];
