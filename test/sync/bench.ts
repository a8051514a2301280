/** By hand: `bun test/sync/bench.ts [rows] [bytes] [changed share]`: one copy over LMDB with the real driver, in this process; with a share, of differences. */
import { RealPair } from "./real-pair.ts";

const [rows = "200000", bytes = "1024", share] = process.argv.slice(2);
await using pair = await RealPair.make(false, share === undefined ? "full" : "delta");
if (share === undefined) await pair.fill(Number(rows), Number(bytes));
else await pair.fillAlike(Number(rows), Number(bytes), Number(share));
const before = process.memoryUsage().rss;
let peak = before;
const watch = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage().rss);
}, 20);
const ms = await pair.run(300_000);
clearInterval(watch);
const mib = (n: number): string => (n / 1_024 / 1_024).toFixed(1);
console.log(
  `${rows} rows of ${bytes} bytes: ${ms.toFixed(0)} ms, ${mib((pair.chunkBytes / ms) * 1_000)} MiB/s of chunks; resident ${mib(before)} MiB, at most ${mib(peak)} (both sides and the page cache); ${mib(pair.wireBytes)} MiB on the wire`,
);
