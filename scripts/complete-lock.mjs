// Completes package-lock.json after `npm install`: npm leaves some optional packages for other platforms out of
// the lock, and `npm ci` then refuses it. Adds a stub entry (version, optional, os, cpu, libc) for each missing one;
// platform and architecture are read from the package's name, as these packages all carry them there.
import { readFileSync, writeFileSync } from "node:fs";

const systems = ["android", "darwin", "freebsd", "linux", "openharmony", "win32"];
const processors = ["arm64", "x64", "arm", "ppc64", "riscv64", "s390x", "ia32"];
const lock = JSON.parse(readFileSync("package-lock.json", "utf8"));
for (const entry of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const place = `node_modules/${name}`;
    if (lock.packages[place] !== undefined) continue;
    const words = name.split(/[/-]/);
    const os = systems.find((word) => words.includes(word));
    const cpu = processors.find((word) => words.includes(word));
    if (os === undefined || cpu === undefined) throw new Error(`${name}: no platform in its name; add it by hand`);
    const libc = name.includes("musl") ? { libc: ["musl"] } : {};
    lock.packages[place] = { version, cpu: [cpu], ...libc, dev: true, optional: true, os: [os] };
    process.stderr.write(`added ${name} ${version}\n`);
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync("package-lock.json", `${JSON.stringify(lock, null, 2)}\n`);
