/** Which proxy a request goes through, by the customary variables, and the tunnel to an https server through it. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { HubError, quote } from '../errors.js';
import { publicUrl } from './address.js';
import type { EnvironmentVariables } from './cache-paths.js';

const bare = (hostname: string): string => hostname.replace(/^\[|\]$/g, '');

/**
 * The proxy for `url`: `HTTPS_PROXY` or `HTTP_PROXY` by its scheme, else `ALL_PROXY`, small letters first, unless `NO_PROXY`
 * names the host (`*`, `host`, `.domain`, `host:port`). Throws HubError `proxy` for anything but an http or https proxy.
 */
export function proxyFor(url: URL, env: EnvironmentVariables): URL | undefined {
  const read = (name: string) => env[name.toLowerCase()] || env[name] || '';
  const text = (read(url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY') || read('ALL_PROXY')).trim();
  if (text === '' || isExempt(url, read('NO_PROXY'))) return undefined;
  const address = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(address) || !/^https?:$/.test(new URL(address).protocol)) {
    const shown = quote(text.replace(/\/\/[^@/]*@/, '//'));
    throw new HubError({ path: 'proxy', code: 'proxy', detail: `${shown} is not an http or https proxy` });
  }
  return new URL(address);
}

function isExempt(url: URL, noProxy: string): boolean {
  const host = bare(url.hostname).toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((code) => code !== '')
    .some((code) => {
      const [, name = code, rulePort = port] = isIP(bare(code))
        ? ['', bare(code)]
        : (/^(.*?)(?::(\d+))?$/.exec(code) ?? []);
      const domain = name.replace(/^\*?\./, '');
      return rulePort === port && (name === '*' || host === domain || host.endsWith(`.${domain}`));
    });
}

/** The header that a proxy with user and password in its address wants. */
export function proxyHeaders(proxy: URL): Record<string, string> {
  if (proxy.username === '' && proxy.password === '') return {};
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { 'proxy-authorization': `Basic ${Buffer.from(user).toString('base64')}` };
}

/** Host and port of an address as `node:http` wants them. */
export function hostAndPort(url: URL): { hostname: string; port: string | number } {
  return { hostname: bare(url.hostname), port: url.port || (url.protocol === 'https:' ? 443 : 80) };
}

/** Asks `proxy` for a connection to the host of `url` (CONNECT), and speaks TLS with that host inside it. */
export async function openTunnel(proxy: URL, url: URL, signal: AbortSignal, ca: string | undefined): Promise<Socket> {
  const socket = await connectThrough(proxy, url, signal);
  const host = bare(url.hostname);
  return new Promise((resolve, reject) => {
    const secure = tlsConnect({
      socket,
      host,
      ALPNProtocols: ['http/1.1'],
      ...(isIP(host) ? {} : { servername: host }),
      ...(ca === undefined ? {} : { ca }),
    });
    secure.once('secureConnect', () => {
      secure.off('error', reject);
      resolve(secure);
    });
    secure.once('error', reject);
    signal.addEventListener('abort', () => secure.destroy(signal.reason), { once: true });
  });
}

function connectThrough(proxy: URL, url: URL, signal: AbortSignal): Promise<Socket> {
  const request = proxy.protocol === 'https:' ? httpsRequest : httpRequest;
  const { hostname, port } = hostAndPort(url);
  const target = `${isIP(hostname) === 6 ? `[${hostname}]` : hostname}:${port}`;
  return new Promise((resolve, reject) => {
    const ask = request({
      ...hostAndPort(proxy),
      method: 'CONNECT',
      path: target,
      headers: { host: target, ...proxyHeaders(proxy) },
      agent: false,
      signal,
    });
    ask.once('connect', (answer: IncomingMessage, socket: Socket) => {
      if (answer.statusCode === 200) return resolve(socket);
      socket.destroy();
      reject(refusal(proxy, answer.statusCode));
    });
    ask.once('response', (answer) => {
      answer.destroy();
      reject(refusal(proxy, answer.statusCode));
    });
    ask.once('error', reject);
    ask.end();
  });
}

function refusal(proxy: URL, status: number | undefined): HubError {
  const why =
    status === 407 ? 'it wants a user and password, as in http://user:password@host' : `it answered ${status}`;
  return new HubError({
    file: publicUrl(proxy),
    code: 'proxy-refused',
    detail: `the proxy opened no connection: ${why}`,
  });
}
