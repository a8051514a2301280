/**
 * Every command of the binary, in the order help shows them. A command group's file exports its specs; adding one is one
 * import and one line here.
 */
import { benchCommands } from "./bench.ts";
import { completeCommand } from "./complete.ts";
import { completion } from "./completion.ts";
import { configShow } from "./config.ts";
import { demo } from "./demo.ts";
import { explain } from "./explain.ts";
import { kvCommands } from "./kv.ts";
import { logCommands } from "./log.ts";
import { mergeCommands } from "./merge.ts";
import { mergeExplain, mergeStatus } from "./merge-status.ts";
import { nodeCommands } from "./node.ts";
import { paxosCommands } from "./paxos.ts";
import { repl } from "./repl.ts";
import { simRun } from "./sim.ts";
import { simGrid } from "./sim-grid.ts";
import type { CommandSpec } from "./spec.ts";
import { storeCommands } from "./store.ts";
import { syncCommands } from "./sync.ts";
import { up } from "./up.ts";

export const registry: readonly CommandSpec[] = [
  up,
  demo,
  ...nodeCommands,
  ...mergeCommands,
  mergeStatus,
  mergeExplain,
  ...logCommands,
  ...paxosCommands,
  ...syncCommands,
  ...kvCommands,
  ...storeCommands,
  configShow,
  repl,
  simRun,
  simGrid,
  ...benchCommands,
  explain,
  completion,
  completeCommand(() => registry),
];
