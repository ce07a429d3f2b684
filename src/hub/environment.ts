/** What the environment says about the Hub, with the names and meanings that Python's huggingface_hub gave them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HubError } from '../errors.js';
import { checkEndpoint, DEFAULT_ENDPOINT } from './address.js';
import { type EnvironmentVariables, hubHome } from './cache-paths.js';
import { DEFAULT_LIMITS, type HubLimits } from './client.js';

const isTrue = (value: string | undefined): boolean => /^(?:1|on|yes|true)$/i.test(value ?? '');

/** `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`: no request at all. */
export function isOffline(env: EnvironmentVariables): boolean {
  return isTrue(env['HF_HUB_OFFLINE']) || isTrue(env['TRANSFORMERS_OFFLINE']);
}

/** `HF_HUB_DISABLE_SYMLINKS`: plain copies in the snapshots. */
export function symlinksDisabled(env: EnvironmentVariables): boolean {
  return isTrue(env['HF_HUB_DISABLE_SYMLINKS']);
}

/** The option, else `HF_ENDPOINT`, else the public Hub. Throws HubError `endpoint`. */
export function endpointFrom(env: EnvironmentVariables, option: string | undefined): string {
  return checkEndpoint(option ?? (env['HF_ENDPOINT'] || DEFAULT_ENDPOINT));
}

/**
 * The token to send: the option; else `HF_TOKEN` (or its older name), else the file `HF_TOKEN_PATH` or `token` in the Hub's home, unless
 * `HF_HUB_DISABLE_IMPLICIT_TOKEN`. The option `false` sends none. Throws HubError `token` (which never shows it).
 */
export async function tokenFrom(
  env: EnvironmentVariables,
  option: string | false | undefined,
): Promise<string | undefined> {
  if (option === false) return undefined;
  if (option !== undefined) return checkToken(option, 'the option token');
  if (isTrue(env['HF_HUB_DISABLE_IMPLICIT_TOKEN'])) return undefined;
  const direct = (env['HF_TOKEN'] || env['HUGGING_FACE_HUB_TOKEN'] || '').trim();
  if (direct !== '') return checkToken(direct, 'HF_TOKEN');
  const path = env['HF_TOKEN_PATH'] || join(hubHome(env), 'token');
  const text = (await readFile(path, 'utf8').catch(() => '')).trim();
  return text === '' ? undefined : checkToken(text, path);
}

function checkToken(token: string, from: string): string {
  if (!/^[\x21-\x7e]{1,4096}$/.test(token)) {
    throw new HubError({
      path: from,
      code: 'token',
      detail: 'holds something that cannot be a token (spaces or controls)',
    });
  }
  return token;
}

/** `HF_HUB_ETAG_TIMEOUT` and `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds, over the defaults, and the caller's own over both. */
export function limitsFrom(env: EnvironmentVariables, option: Partial<HubLimits> | undefined): HubLimits {
  const milliseconds = (name: string): number | undefined => {
    const seconds = Number(env[name]);
    return env[name] !== undefined && seconds > 0 && seconds < 86_400 ? seconds * 1000 : undefined;
  };
  return {
    ...DEFAULT_LIMITS,
    headersMs: milliseconds('HF_HUB_ETAG_TIMEOUT') ?? DEFAULT_LIMITS.headersMs,
    idleMs: milliseconds('HF_HUB_DOWNLOAD_TIMEOUT') ?? DEFAULT_LIMITS.idleMs,
    ...option,
  };
}
