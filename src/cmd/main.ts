/**
 * The binary's entry: argv → command → exit status. Compiled or from source, the words begin at index 2.
 */
import { registry } from "./registry.ts";
import { runWords } from "./run.ts";

await runWords(process.argv.slice(2), registry);
