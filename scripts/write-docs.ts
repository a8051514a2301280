/**
 * `npm run docs`: writes what the documents take from the code, which is the README's table of commands.
 */
import { registry } from "../src/cmd/registry.ts";
import { withCommandTable } from "./command-table.ts";

const readme = Bun.file(`${import.meta.dir}/../README.md`);
await Bun.write(readme, withCommandTable(await readme.text(), registry));
