import { randomUUID } from 'node:crypto';
import { link, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type * as S3 from '@aws-sdk/client-s3';
import { Image2TextError } from 'generative-image2text';
import { UsageError } from '../command-line.js';

/** Where results go. Names are paths with `/`. */
export interface ResultStore {
  /** Names below a folder. */
  list(folder: string): Promise<string[]>;
  /** Bytes of `[start, end)`, or all; undefined where there is none of the name. */
  read(name: string, start?: number, end?: number): Promise<Uint8Array | undefined>;
  /** Makes a whole file appear at once, unless one of the name is there: then false, and that one stays. */
  publish(name: string, bytes: Uint8Array): Promise<boolean>;
  /** Removes what killed workers left behind. */
  tidy(folder: string): Promise<void>;
}

/** A folder, or `s3://bucket/prefix`. @throws UsageError. */
export async function openStore(output: string): Promise<ResultStore> {
  const [, bucket, prefix = ''] = /^s3:\/\/([^/]+)\/?(.*)$/.exec(output) ?? [];
  if (bucket !== undefined) return openBucket(bucket, prefix.replace(/\/+$/, ''));
  if (/^[a-z0-9]+:\/\//i.test(output)) throw new UsageError(`${output}: results go into a folder or to s3://`);
  return folderStore(output);
}

const PART = /^\.i2t-.*\.part$/;

/** A folder that all workers see. */
export function folderStore(root: string): ResultStore {
  return {
    async list(folder) {
      const names = await readdir(join(root, folder)).catch(unlessMissing([] as string[]));
      return names.filter((name) => !name.startsWith('.')).map((name) => `${folder}/${name}`);
    },
    async read(name, start = 0, end) {
      const handle = await open(join(root, name), 'r').catch(unlessMissing(undefined));
      if (handle === undefined) return undefined;
      try {
        const until = end ?? (await handle.stat()).size;
        const bytes = new Uint8Array(until - start);
        for (let at = 0; at < bytes.length; ) {
          const { bytesRead } = await handle.read(bytes, at, bytes.length - at, start + at);
          if (bytesRead === 0)
            throw new Image2TextError({ file: name, code: 'file-changed', detail: 'it got shorter while it was read' });
          at += bytesRead;
        }
        return bytes;
      } finally {
        await handle.close();
      }
    },
    async publish(name, bytes) {
      const path = join(root, name);
      await mkdir(dirname(path), { recursive: true });
      if ((await stat(path).catch(() => undefined)) !== undefined) return false;
      const part = join(dirname(path), `.i2t-${process.pid}-${randomUUID()}.part`);
      try {
        const handle = await open(part, 'wx');
        try {
          await handle.writeFile(bytes);
          await handle.sync();
        } finally {
          await handle.close();
        }
        return await giveName(part, path);
      } finally {
        await rm(part, { force: true });
      }
    },
    async tidy(folder) {
      const names = await readdir(join(root, folder)).catch(unlessMissing([] as string[]));
      for (const name of names.filter((name) => PART.test(basename(name))))
        await rm(join(root, folder, name), { force: true });
    },
  };
}

/** A link refuses a name that is taken. Some shared file systems have none: there a rename replaces what is, byte for byte, the same. */
export async function giveName(part: string, path: string): Promise<boolean> {
  try {
    await link(part, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (code === undefined || !['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code)) throw error;
    await rename(part, path);
    return true;
  }
}

const unlessMissing =
  <T>(otherwise: T) =>
  (error: NodeJS.ErrnoException): T => {
    if (error.code === 'ENOENT') return otherwise;
    throw error;
  };

async function openBucket(bucket: string, prefix: string): Promise<ResultStore> {
  const sdk = await import('@aws-sdk/client-s3').catch(() => {
    throw new UsageError('s3:// needs a package more: npm install @aws-sdk/client-s3');
  });
  const endpoint = process.env['AWS_ENDPOINT_URL_S3'] ?? process.env['AWS_ENDPOINT_URL'];
  const client = new sdk.S3Client(endpoint === undefined ? {} : { endpoint, forcePathStyle: true });
  return bucketStore(sdk, client, bucket, prefix);
}

/** A bucket of S3 or of what speaks it, with conditional writes (If-None-Match). Its failures are `Image2TextError` `store`. */
export function bucketStore(sdk: typeof S3, client: S3.S3Client, bucket: string, prefix: string): ResultStore {
  const keyOf = (name: string): string => (prefix === '' ? name : `${prefix}/${name}`);
  const statusOf = (error: unknown): number | undefined =>
    (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
  const failed = (cause: unknown): Image2TextError => {
    const { name, message } = cause as Error;
    const said = name === 'Error' || message.startsWith(name) ? message : `${name}: ${message}`;
    const hint = /region/i.test(said) ? ' (AWS_REGION)' : /credentials/i.test(said) ? ' (AWS_ACCESS_KEY_ID)' : '';
    return new Image2TextError({ file: `s3://${bucket}`, code: 'store', detail: `${said}${hint}`, cause });
  };
  return {
    async list(folder) {
      const found: string[] = [];
      for (let token: string | undefined; ; ) {
        const command = new sdk.ListObjectsV2Command({
          Bucket: bucket,
          Prefix: `${keyOf(folder)}/`,
          ...(token === undefined ? {} : { ContinuationToken: token }),
        });
        const page = await client.send(command).catch((error: unknown) => {
          throw failed(error);
        });
        for (const { Key } of page.Contents ?? []) found.push(`${folder}/${Key!.slice(keyOf(folder).length + 1)}`);
        if (page.IsTruncated !== true) return found;
        token = page.NextContinuationToken;
      }
    },
    async read(name, start, end) {
      try {
        const range = start === undefined || end === undefined ? {} : { Range: `bytes=${start}-${end - 1}` };
        const { Body } = await client.send(new sdk.GetObjectCommand({ Bucket: bucket, Key: keyOf(name), ...range }));
        return await Body!.transformToByteArray();
      } catch (error) {
        if (statusOf(error) === 404) return undefined;
        throw failed(error);
      }
    },
    async publish(name, bytes) {
      const put = new sdk.PutObjectCommand({ Bucket: bucket, Key: keyOf(name), Body: bytes, IfNoneMatch: '*' });
      for (;;) {
        try {
          await client.send(put);
          return true;
        } catch (error) {
          if (statusOf(error) === 412) return false;
          if (statusOf(error) !== 409) throw failed(error); // 409: another write of the name is under way; it may fail yet
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
      }
    },
    async tidy() {}, // an upload that is not finished is no object
  };
}
