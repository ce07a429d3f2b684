import { lookup as resolveName } from 'node:dns';
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { ImageError } from 'generative-image2text';

/** Networks that no address of a stranger may lead into: this machine, its neighbors, the cloud's metadata, and what wraps such addresses. */
const PRIVATE = new BlockList();
for (const [net, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
] as const)
  PRIVATE.addSubnet(net, bits, 'ipv4');

/** Of IPv6 only global unicast is public, and of that not the ranges that carry IPv4 addresses or are for documentation. */
const PUBLIC_V6 = new BlockList();
PUBLIC_V6.addSubnet('2000::', 3, 'ipv6');
const PRIVATE_V6 = new BlockList();
for (const [net, bits] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const)
  PRIVATE_V6.addSubnet(net, bits, 'ipv6');

export const isPrivateAddress = (address: string): boolean =>
  isIP(address) === 4
    ? PRIVATE.check(address, 'ipv4')
    : !PUBLIC_V6.check(address, 'ipv6') || PRIVATE_V6.check(address, 'ipv6');

const MOST_REDIRECTS = 5;
const FETCH_SECONDS = 30;

export interface FetchOptions {
  readonly maxBytes: number;
  /** Lets addresses lead into private networks. */
  readonly allowPrivate?: boolean;
  readonly signal?: AbortSignal;
  /** How names become addresses; default: the system's. */
  readonly lookup?: typeof resolveName;
}

/**
 * Fetches an http address. The addresses that a name resolves to are checked, and exactly those are connected to; every redirect is checked
 * in the same way.
 *
 * @throws ImageError `private-address`, `http-status`, `file-too-large`, `cannot-fetch`; the signal's reason.
 */
export async function fetchPublic(address: string, options: FetchOptions): Promise<Uint8Array> {
  const timeout = AbortSignal.timeout(FETCH_SECONDS * 1000);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
  const file = shown(address);
  try {
    let url = new URL(address);
    for (let redirects = 0; ; redirects++) {
      const response = await get(url, { ...options, signal });
      const { statusCode = 0, headers } = response;
      if (statusCode >= 300 && statusCode < 400 && headers.location !== undefined) {
        response.destroy();
        if (redirects === MOST_REDIRECTS) refuse(file, 'too-many-redirects', `more than ${MOST_REDIRECTS} redirects`);
        url = new URL(headers.location, url);
        continue;
      }
      if (statusCode !== 200) {
        response.destroy();
        refuse(file, 'http-status', `the server answered ${statusCode}`);
      }
      return await readAll(response, options.maxBytes, file);
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof ImageError) throw error;
    const why = timeout.aborted
      ? `no answer in ${FETCH_SECONDS} s`
      : ((error as { code?: string }).code ?? 'no such address');
    return refuse(file, 'cannot-fetch', why);
  }
}

/** Without its query, which may hold a token. */
const shown = (address: string): string => address.replace(/[?#].*$/s, '').replace(/\/\/[^/@]*@/, '//');

function refuse(file: string, code: string, detail: string): never {
  throw new ImageError({ file, path: file, code, detail });
}

function get(url: URL, { allowPrivate = false, signal, lookup = resolveName }: FetchOptions): Promise<IncomingMessage> {
  const file = shown(String(url));
  if (url.protocol !== 'http:' && url.protocol !== 'https:') refuse(file, 'cannot-fetch', 'only http and https');
  if (url.username !== '' || url.password !== '') refuse(file, 'cannot-fetch', 'addresses with a password are refused');
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const check = (address: string): void => {
    if (!allowPrivate && isPrivateAddress(address))
      refuse(file, 'private-address', 'the address leads into a private network');
  };
  if (isIP(host) !== 0) check(host); // a name is checked when it is resolved
  const checkedLookup: LookupFunction = (name, lookupOptions, done) => {
    lookup(name, { ...lookupOptions, all: true }, (error, found) => {
      if (error !== null) return done(error, '', 0);
      const addresses = found as unknown as { address: string; family: number }[];
      try {
        for (const { address } of addresses) check(address);
      } catch (refusal) {
        return done(refusal as Error, '', 0);
      }
      const [first] = addresses;
      if (lookupOptions.all === true) return (done as unknown as (e: null, all: object[]) => void)(null, addresses);
      return first === undefined ? done(new Error('no address'), '', 0) : done(null, first.address, first.family);
    });
  };
  const request = url.protocol === 'https:' ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    request(
      url,
      {
        lookup: checkedLookup,
        ...(signal === undefined ? {} : { signal }),
        agent: false,
        headers: { 'accept-encoding': 'identity', accept: 'image/*', 'user-agent': 'generative-image2text-server' },
      },
      resolve,
    )
      .on('error', reject)
      .end();
  });
}

async function readAll(response: IncomingMessage, maxBytes: number, file: string): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) {
      response.destroy();
      refuse(file, 'file-too-large', `more than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks));
}
