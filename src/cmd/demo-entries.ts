/**
 * What the demo logs: the certificates of the authorities that this machine trusts, each as its DER bytes and each once;
 * where the machine has none, those of the project's own fixtures, which the binary carries. Only reads.
 */
import { readFile } from "node:fs/promises";
import fixture from "../../fixtures/certificates.pem" with { type: "text" };
import { toHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { ENTRY_BYTES_MAX } from "../engine/log/entry.ts";
import { leafHash } from "../engine/log/merkle.ts";
import { certificatesOf } from "../engine/log/pem.ts";

/** Where systems keep all of them in one file: Debian, Fedora, openSUSE, Alpine and the BSDs, Homebrew, FreeBSD's package. */
const BUNDLES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
  "/usr/local/etc/openssl/cert.pem",
  "/usr/local/share/certs/ca-root-nss.crt",
];
/** A machine trusts some 150; a bundle of thousands would make the demo long, not better. */
const COUNT_MAX = 400;
/** Fewer would leave nothing to do while a node is dead. */
const COUNT_MIN = 4;

export type DemoEntries = { readonly source: string; readonly entries: readonly Uint8Array[] };

/** `file` in place of the usual ones: it must be readable then. */
export async function demoEntries(file: string | undefined): Promise<DemoEntries> {
  if (file !== undefined) {
    const text = await readFile(file, "latin1").catch((cause) => {
      throw new EngineError("NOT_FOUND", `--pem ${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    });
    const entries = uniqueEntries(text);
    if (entries.length < COUNT_MIN) throw new EngineError("BAD_OPTION", `--pem ${file} holds ${entries.length} certificates, want at least ${COUNT_MIN}`);
    return { source: file, entries };
  }
  for (const source of BUNDLES) {
    const entries = await readFile(source, "latin1").then(uniqueEntries, () => []); // not there, or none of ours to read
    if (entries.length >= COUNT_MIN) return { source, entries };
  }
  return { source: "the fixtures", entries: uniqueEntries(fixture) };
}

function uniqueEntries(pem: string): Uint8Array[] {
  const found = new Map<string, Uint8Array>();
  for (const der of certificatesOf(pem)) {
    if (found.size === COUNT_MAX) break;
    if (der.length <= ENTRY_BYTES_MAX) found.set(toHex(leafHash(der)), der);
  }
  return [...found.values()];
}
