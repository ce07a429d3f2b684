import type { CliCommand } from './context.js';
import { UsageError } from './context.js';
import type { Terminal } from './terminal.js';

const PACKAGE = 'generative-image2text-server';

/** What the package of the server has for this command. */
interface ServerPackage {
  run(args: readonly string[], terminal: Terminal): Promise<number>;
}

/** Brings the package of the server, which is installed apart. */
type LoadServer = () => Promise<ServerPackage>;
const loadServer: LoadServer = () => import(PACKAGE) as Promise<ServerPackage>;

/** Runs a command of the server's package, which reads its own options. @throws UsageError with how to install it where it is not. */
export async function runServer(
  args: readonly string[],
  terminal: Terminal = process,
  load: LoadServer = loadServer,
): Promise<number> {
  const server = await load().catch((error: { readonly code?: string }) => {
    if (error.code !== 'ERR_MODULE_NOT_FOUND' || !String(error).includes(PACKAGE)) throw error;
    throw new UsageError(`${args[0]} is in a package of its own: npm install ${PACKAGE}`);
  });
  return server.run(args, terminal);
}

const serverCommand = (name: string, description: string): CliCommand => ({
  name,
  describe(command) {
    command.description(description).argument('[args...]', 'see --help').allowUnknownOption().helpOption(false);
  },
  run: (args, _flags, { terminal }) => runServer([name, ...args], terminal),
});

/** `image2text serve`. */
export const serveCommand = serverCommand('serve', `Serve a model over HTTP (needs ${PACKAGE}).`);

/** `image2text queue`. */
export const queueCommand = serverCommand('queue', `Caption a dataset on many machines (needs ${PACKAGE}).`);
