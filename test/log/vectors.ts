/** Lines of a file in `fixtures/vectors/log`, split at blanks; comments and empty lines left out. */
import { readFileSync } from "node:fs";

export function vectorLines(file: string): string[] {
  const text = readFileSync(new URL(`../../fixtures/vectors/log/${file}`, import.meta.url), "utf8");
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}
