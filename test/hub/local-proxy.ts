/** An http proxy on 127.0.0.1 that sends everything to one port of this machine, whatever host was asked for. */
import { createServer, type IncomingMessage, request } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';

export interface LocalProxy {
  readonly port: number;
  /** `METHOD target` of every request. */
  readonly asked: string[];
  /** Proxy-Authorization of every request. */
  readonly users: (string | undefined)[];
  /** Answer CONNECT with this status instead. */
  refuseWith: number | undefined;
  close(): Promise<void>;
}

export async function startProxy(targetPort: number): Promise<LocalProxy> {
  const sockets = new Set<Socket>();
  const note = (message: IncomingMessage) => {
    proxy.asked.push(`${message.method} ${message.url}`);
    proxy.users.push(message.headers['proxy-authorization']);
  };
  const server = createServer((message, response) => {
    note(message);
    const path = new URL(message.url!).pathname;
    request(
      { port: targetPort, host: '127.0.0.1', method: message.method, path, headers: message.headers },
      (answer) => {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
      },
    ).end();
  });
  server.on('connection', (socket) => sockets.add(socket));
  server.on('connect', (message, client: Socket, head: Buffer) => {
    note(message);
    if (proxy.refuseWith !== undefined)
      return client.end(`HTTP/1.1 ${proxy.refuseWith} No\r\ncontent-length: 0\r\n\r\n`);
    const target = connect(targetPort, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      target.write(head);
      target.pipe(client).pipe(target);
    });
    for (const socket of [client, target]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => [client, target].map((one) => one.destroy()));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy: LocalProxy = {
    port: (server.address() as AddressInfo).port,
    asked: [],
    users: [],
    refuseWith: undefined,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return proxy;
}
