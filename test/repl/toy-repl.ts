/**
 * `cairn repl` and `cairn sim run` on the toy area, behind the real wrapper, to be run as a process: in a pipe and on a terminal.
 */
import { replOn } from "../../src/cmd/repl.ts";
import { runWords } from "../../src/cmd/run.ts";
import { simRunOn } from "../../src/cmd/sim.ts";
import { toyArea } from "../sim/toy-area.ts";

const areas = async () => [toyArea];
await runWords(process.argv.slice(2), [replOn(areas), simRunOn(areas)]);
