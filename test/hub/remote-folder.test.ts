import assert from 'node:assert/strict';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { readBytes } from '../../src/checkpoint/byte-source.js';
import { HubError } from '../../src/errors.js';
import { fetchFolder } from '../../src/hub/remote-files.js';
import type { LoadEvent } from '../../src/load-events.js';
import { hubErrorOf, IMPATIENT, seededBytes } from './support.js';

describe('hub: a folder on a web server', () => {
  const content = Buffer.from(seededBytes(300_000, 6));
  const asked: string[] = [];
  let handler: RequestListener;
  let server: Server;
  let url = '';
  before(async () => {
    server = createServer((request, response) => {
      asked.push(request.url!);
      handler(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  beforeEach(() => void asked.splice(0));
  after(() => void server.closeAllConnections());
  after(() => void server.close());

  it('fetches what is opened, with progress; what the server lacks is undefined', async () => {
    handler = ({ url: path }, response) => {
      if (path === '/a%20b/model.safetensors?key=1') return void response.end(content);
      response.writeHead(404).end();
    };
    const events: LoadEvent[] = [];
    const files = fetchFolder(`${url}/a b?key=1#x`, { onProgress: (event) => events.push(event) });
    assert.deepEqual([files.label, asked], [`${url}/a%20b/`, []]);
    const source = (await files.open('model.safetensors'))!;
    assert.deepEqual(Buffer.from(await readBytes(source, 1000, 2000)), content.subarray(1000, 2000));
    assert.equal(source.size, content.length);
    assert.equal(await files.open('pytorch_model.bin'), undefined);
    const loaded = events.flatMap((event) => (event.status === 'progress' ? [event.loaded] : []));
    assert.equal(loaded.at(-1), content.length);
    assert.deepEqual([events[0]?.status, events.at(-1)?.status], ['initiate', 'done']);
    assert.equal(asked.length, 2);
  });

  it('takes an application that answers every address with its page for what it is', async () => {
    handler = (_, response) =>
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<!doctype html>');
    assert.equal(await fetchFolder(url).open('config.json'), undefined);
  });

  it('reads the files of a package by its own scheme, where a missing one is an error of fetch and sizes are not said', async () => {
    const calls: string[] = [];
    const fetchFile = async (address: string): Promise<Response> => {
      calls.push(address);
      if (!address.endsWith('/vocab.txt')) throw new TypeError('Failed to fetch');
      const halves = [content.subarray(0, 100_000), content.subarray(100_000)];
      return new Response(
        new ReadableStream({ pull: (out) => (halves.length > 0 ? out.enqueue(halves.shift()) : out.close()) }),
      );
    };
    const events: LoadEvent[] = [];
    const files = fetchFolder('app://bundle/model', { fetch: fetchFile, onProgress: (event) => events.push(event) });
    assert.equal(await files.open('tokenizer.json'), undefined);
    assert.equal((await files.open('vocab.txt'))?.size, content.length);
    assert.deepEqual(
      calls,
      ['app://bundle/model/tokenizer.json', 'app://bundle/model/vocab.txt'],
      'none is asked for twice',
    );
    const progress = events.flatMap((event) => (event.status === 'progress' ? [[event.loaded, event.progress]] : []));
    assert.deepEqual(progress, [
      [100_000, 100],
      [content.length, 100],
    ]);
  });

  it("reads all of an extension's file, of which it sends parts without saying so", async () => {
    const large = Buffer.from(seededBytes(5_000_000, 7));
    const ranges: (string | null)[] = [];
    const fetchFile = async (_: string, init: RequestInit): Promise<Response> => {
      const range = new Headers(init.headers).get('range');
      ranges.push(range);
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
      return new Response(range === null ? large : large.subarray(Number(first), Number(last) + 1));
    };
    const events: LoadEvent[] = [];
    const options = { fetch: fetchFile, onProgress: (event: LoadEvent) => void events.push(event) };
    const source = (await fetchFolder('chrome-extension://id/model', options).open('model.safetensors'))!;
    assert.deepEqual(Buffer.from(await readBytes(source, 0, source.size)), large);
    assert.deepEqual(ranges, [`bytes=0-${2 ** 22 - 1}`, null]);
    const loaded = events.flatMap((event) => (event.status === 'progress' ? [event.loaded] : []));
    assert.deepEqual(
      loaded,
      [...loaded].sort((a, b) => a - b),
    );
    assert.equal(loaded.at(-1), large.length);
  });

  it('reads compressed bodies', async () => {
    handler = (_, response) => {
      const body = gzipSync(content);
      response.writeHead(200, { 'content-encoding': 'gzip', 'content-length': body.length }).end(body);
    };
    assert.equal((await fetchFolder(url).open('vocab.txt'))?.size, content.length);
  });

  it('tries again when a body breaks off, and then gives up', async () => {
    let tries = 0;
    handler = (_, response) => {
      response.writeHead(200, { 'content-length': content.length });
      if (++tries % 3 === 0) return void response.end(content);
      response.write(content.subarray(0, 1000), () => response.destroy());
    };
    const files = fetchFolder(url, { limits: IMPATIENT });
    assert.equal((await files.open('model.safetensors'))?.size, content.length);
    // With a page for people, as most servers and proxies send it.
    handler = (_, response) => void response.writeHead(503, { 'content-type': 'text/html' }).end('<h1>busy</h1>');
    assert.equal((await hubErrorOf(files.open('model.safetensors'))).code, 'server-error');
    assert.equal(asked.length, 6);
  });

  it('refuses other addresses and names that leave the folder; an abort throws its reason', async () => {
    for (const folder of ['file:///etc', 'weights/demo', 'data:,x', '']) {
      assert.throws(
        () => fetchFolder(folder),
        (error) => error instanceof HubError && error.code === 'address',
      );
    }
    handler = (_, response) => void response.end('{}');
    const signal = AbortSignal.abort(new Error('enough'));
    await assert.rejects(async () => fetchFolder(url, { signal }).open('config.json'), /enough/);
    for (const name of ['../secret', '/etc/passwd', 'a//b', 'http://x']) {
      await assert.rejects(
        async () => fetchFolder(url).open(name),
        (error) => error instanceof HubError && error.code === 'file-name',
      );
    }
    assert.deepEqual(asked, []);
  });
});
