/**
 * A Hub on 127.0.0.1 for tests: repositories with branches and commits, the info and tree API, resolve with etags, redirects to a
 * storage path, Range and If-Range; pacing, faults, and counts of all that went in and out.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** Content of a file; `lfs` says whether the Hub keeps it as a large file, named by its sha256. */
export interface HubFile {
  readonly content: Uint8Array;
  readonly lfs?: boolean;
}

/** Takes a request before the repositories do; false leaves it to them. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

export interface LocalHub {
  readonly url: string;
  readonly port: number;
  /** Every request: method, path, headers. */
  readonly requests: { method: string; path: string; headers: IncomingMessage['headers'] }[];
  /** Bytes of file bodies handed to the network so far. */
  bytesSent: number;
  /** Bodies are sent in pieces of `bytes`, with a pause of `ms` after each. */
  pace: { bytes: number; ms: number } | undefined;
  handler: Handler | undefined;
  /** Called, and waited for, after each piece of a body, with all bytes sent so far. */
  onSent: ((bytesSent: number) => void | Promise<void>) | undefined;
  /** Adds a commit with these files and lets `branch` point to it. */
  commit(repo: string, files: Readonly<Record<string, HubFile | string>>, branch?: string): string;
  /** What the server does for a repository: demand a token, or omit sizes and hashes from its listing as old mirrors do. */
  readonly rules: { gated?: string; bareListing?: boolean; ignoreRange?: boolean };
  /** Connections that are open now. */
  openConnections(): number;
  close(): Promise<void>;
}

export const sha256 = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex');
export const gitSha1 = (content: Uint8Array): string =>
  createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
export const etagOf = (file: HubFile): string => (file.lfs ? sha256(file.content) : gitSha1(file.content));

interface Repo {
  readonly branches: Map<string, string>;
  readonly commits: Map<string, Map<string, HubFile>>;
}

/** Starts a Hub on a free port; with `tls` it speaks https. */
export async function startHub(tls?: { key: string; cert: string }): Promise<LocalHub> {
  const repos = new Map<string, Repo>();
  const sockets = new Set<Socket>();
  const listener: RequestListener = (request, response) => {
    hub.requests.push({ method: request.method!, path: request.url!, headers: request.headers });
    answer(hub, repos, request, response).catch(() => response.destroy());
  };
  const server = tls === undefined ? createServer(listener) : createSecureServer(tls, listener);
  server.keepAliveTimeout = 0; // however busy the machine: no connection is closed in the moment that the client uses it again
  server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const hub: LocalHub = {
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    port,
    requests: [],
    bytesSent: 0,
    pace: undefined,
    handler: undefined,
    onSent: undefined,
    rules: {},
    commit(repo, files, branch = 'main') {
      const entries = Object.entries(files).map(([name, file]): [string, HubFile] => [
        name,
        typeof file === 'string' ? { content: Buffer.from(file) } : file,
      ]);
      const known = repos.get(repo) ?? { branches: new Map(), commits: new Map() };
      const summary = entries.map(([name, file]) => `${name} ${etagOf(file)}`).join('\n');
      const commit = createHash('sha1').update(`${repo}\n${known.commits.size}\n${summary}`).digest('hex');
      known.commits.set(commit, new Map(entries));
      known.branches.set(branch, commit);
      repos.set(repo, known);
      return commit;
    },
    openConnections: () => sockets.size,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return hub;
}

async function answer(
  hub: LocalHub,
  repos: ReadonlyMap<string, Repo>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if ((await hub.handler?.(request, response)) === true) return;
  const { pathname } = new URL(request.url!, hub.url);
  const parts = pathname.slice(1).split('/').map(decodeURIComponent);
  const api = parts[0] === 'api' && parts[1] === 'models';
  const rest = api ? parts.slice(2) : parts;
  const at = rest.findIndex((part) => /^(?:resolve|revision|tree|paths-info|storage)$/.test(part));
  const name = rest.slice(0, at).join('/');
  const repo = repos.get(name);
  if (repo === undefined) return refuse(response, 404, 'RepoNotFound');
  const [verb = '', revision = '', ...path] = rest.slice(at);
  if (verb === 'storage') {
    const file = [...repo.commits.values()].flatMap((f) => [...f.values()]).find((f) => etagOf(f) === revision);
    return file === undefined ? refuse(response, 404, '') : sendFile(hub, file, request, response, {});
  }
  const { gated } = hub.rules;
  if (gated !== undefined && request.headers.authorization === undefined) return refuse(response, 401, 'GatedRepo');
  if (gated !== undefined && request.headers.authorization !== `Bearer ${gated}`)
    return refuse(response, 403, 'GatedRepo');
  const commit = repo.branches.get(revision === 'HEAD' ? 'main' : revision) ?? revision;
  const files = repo.commits.get(commit);
  if (files === undefined) return refuse(response, 404, 'RevisionNotFound');
  if (verb === 'tree') return sendJson(response, tree(files));
  if (verb === 'paths-info') return sendJson(response, await pathsInfo(files, request));
  if (api) return sendJson(response, info(hub, name, commit, files));
  const file = files.get(path.join('/'));
  if (file === undefined) return refuse(response, 404, 'EntryNotFound', { 'x-repo-commit': commit });
  if (!file.lfs) return sendFile(hub, file, request, response, { 'x-repo-commit': commit });
  sendToStorage(response, name, commit, file);
}

/** Large files lie elsewhere, at an address whose query is a secret. */
function sendToStorage(response: ServerResponse, repo: string, commit: string, file: HubFile): void {
  response.writeHead(302, {
    'x-repo-commit': commit,
    'x-linked-etag': `"${etagOf(file)}"`,
    'x-linked-size': `${file.content.length}`,
    etag: '"pointer"',
    location: `/${repo}/storage/${etagOf(file)}?signature=secret-${commit.slice(0, 6)}`,
  });
  response.end();
}

function refuse(response: ServerResponse, status: number, code: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { ...headers, 'x-error-code': code, 'content-length': '0' }).end();
}

function sendJson(response: ServerResponse, value: unknown): void {
  const text = JSON.stringify(value);
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text);
}

const lfsOf = (file: HubFile) => ({
  sha256: sha256(file.content),
  oid: sha256(file.content),
  size: file.content.length,
});

function info(hub: LocalHub, repo: string, sha: string, files: ReadonlyMap<string, HubFile>): unknown {
  const siblings = [...files].map(([rfilename, file]) =>
    hub.rules.bareListing
      ? { rfilename }
      : {
          rfilename,
          size: file.content.length,
          blobId: gitSha1(file.content),
          ...(file.lfs ? { lfs: { ...lfsOf(file), pointerSize: 134 } } : {}),
        },
  );
  return {
    _id: '1',
    id: repo,
    sha,
    private: false,
    gated: false,
    downloads: 0,
    likes: 0,
    lastModified: '2026-01-01',
    siblings,
  };
}

async function pathsInfo(files: ReadonlyMap<string, HubFile>, request: IncomingMessage): Promise<unknown> {
  let body = '';
  for await (const piece of request) body += String(piece);
  const { paths } = JSON.parse(body) as { paths: string[] };
  return tree(files).filter(({ path }) => paths.includes(path));
}

function tree(files: ReadonlyMap<string, HubFile>): { path: string }[] {
  return [...files].map(([path, file]) => ({
    type: 'file',
    path,
    size: file.content.length,
    oid: gitSha1(file.content),
    ...(file.lfs ? { lfs: { ...lfsOf(file), pointerSize: 134 } } : {}),
  }));
}

async function sendFile(
  hub: LocalHub,
  file: HubFile,
  request: IncomingMessage,
  response: ServerResponse,
  headers: Record<string, string>,
): Promise<void> {
  const etag = `"${etagOf(file)}"`;
  const { length } = file.content;
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const guard = request.headers['if-range'];
  const partial = first !== undefined && !hub.rules.ignoreRange && (guard === undefined || guard === etag);
  if (partial && Number(first) >= length) {
    return void response.writeHead(416, { ...headers, etag, 'content-range': `bytes */${length}` }).end();
  }
  const start = partial ? Number(first) : 0;
  const end = partial && last ? Math.min(Number(last) + 1, length) : length;
  response.writeHead(partial ? 206 : 200, {
    ...headers,
    etag,
    'accept-ranges': 'bytes',
    'content-length': `${end - start}`,
    ...(partial ? { 'content-range': `bytes ${start}-${end - 1}/${length}` } : {}),
  });
  if (request.method === 'HEAD') return void response.end();
  await sendPieces(hub, file.content.subarray(start, end), response);
  response.end();
}

/** Counts a piece once the network has taken it. */
async function sendPieces(hub: LocalHub, content: Uint8Array, response: ServerResponse): Promise<void> {
  const { bytes, ms } = hub.pace ?? { bytes: 1 << 16, ms: 0 };
  const closed = new Promise<false>((resolve) => response.once('close', () => resolve(false)));
  for (let at = 0; at < content.length && !response.destroyed; at += bytes) {
    const piece = content.subarray(at, at + bytes);
    const taken = new Promise<boolean>((resolve) => {
      response.write(piece, (error) => resolve(error == null));
    });
    if (!(await Promise.race([taken, closed]))) return;
    hub.bytesSent += piece.length;
    await hub.onSent?.(hub.bytesSent);
    if (ms > 0) await sleep(ms);
  }
}
