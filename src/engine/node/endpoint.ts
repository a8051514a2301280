/**
 * Addresses as `host:port`. An IPv6 host stands in brackets. Loopback is decided by the text alone: a name other than
 * `localhost` is never trusted to be local.
 */
export type Endpoint = { readonly host: string; readonly port: number };

export const LOOPBACK_HOST = "127.0.0.1";

export function parseEndpoint(text: string): Endpoint | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(0|[1-9][0-9]{0,4})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port > 65_535 ? null : { host, port };
}

export const endpointText = ({ host, port }: Endpoint): string => `${host.includes(":") ? `[${host}]` : host}:${port}`;

export const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || /^127(?:\.[0-9]{1,3}){3}$/.test(host);
