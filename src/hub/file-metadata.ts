/** What a Hub says about one file before it is downloaded: a HEAD request, answered in headers. */
import { HubError, quote } from '../errors.js';
import { resolveUrl } from './address.js';
import { discard } from './body.js';
import { type HubClient, send } from './client.js';
import { statusError } from './failures.js';
import { checkCommit, checkEtag, checkPinned, fileLabel } from './names.js';
import { withRetries } from './retry.js';

/** Commit that the revision stands for, name of the content (its hash, for all that the Hub itself stores), and bytes. */
export interface FileMetadata {
  readonly commit: string;
  readonly etag: string;
  readonly size: number;
}

/**
 * Asks for the metadata of a file. A redirect that carries them is the answer (it leads to the storage, whose own headers say
 * something else); one that does not, of a renamed repository, is followed.
 * Throws HubError `commit-header`, `etag-header`, `size-header`, those of `statusError` and of `send`.
 */
export async function fileMetadata(
  client: HubClient,
  repo: string,
  revision: string,
  file: string,
): Promise<FileMetadata> {
  const label = fileLabel(repo, revision, file);
  const address = resolveUrl(client.endpoint, repo, revision, file);
  return withRetries(client, async () => {
    const { response } = await send(client, 'HEAD', address, { 'accept-encoding': 'identity' }, describesFile);
    await discard(response);
    if (response.status >= 400) throw statusError(response, label, client.endpoint, client.token);
    const metadata = readHeaders(response.headers, label);
    checkPinned(revision, metadata.commit, label);
    return metadata;
  });
}

const describesFile = (response: Response): boolean =>
  response.headers.has('x-repo-commit') && response.headers.has('x-linked-etag');

function readHeaders(headers: Headers, label: string): FileMetadata {
  const commit = checkCommit(headers.get('x-repo-commit'), label);
  const etag = checkEtag(headers.get('x-linked-etag') ?? headers.get('etag'), label);
  const size = headers.get('x-linked-size') ?? headers.get('content-length') ?? '';
  if (!/^\d{1,16}$/.test(size) || !Number.isSafeInteger(Number(size))) {
    throw new HubError({ file: label, code: 'size-header', detail: `${quote(size)} is not a size in bytes` });
  }
  return { commit, etag, size: Number(size) };
}
