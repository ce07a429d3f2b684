/** What the environment says about the Hub, with the names and meanings that Python's huggingface_hub gave them. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { HubError } from '../errors.js';
import { DEFAULT_LIMITS, type HubLimits } from './client.js';
import { checkEndpoint, DEFAULT_ENDPOINT } from './names.js';

/** Environment variables; `process.env` fits. */
export type EnvironmentVariables = Readonly<Record<string, string | undefined>>;

const isSet = (value: string | undefined): value is string => value !== undefined && value !== '';
const isTrue = (value: string | undefined): boolean => /^(?:1|on|yes|true)$/i.test(value ?? '');

/**
 * A path as Python's `os.path.expandvars(os.path.expanduser(path))` reads it, made absolute: a leading `~` is the home folder, `$NAME` and
 * `${NAME}` are variables (on Windows `%NAME%` too), and a variable that is not set stays as it is written.
 */
export function expandPath(path: string, env: EnvironmentVariables): string {
  const home = isSet(env['HOME']) && process.platform !== 'win32' ? env['HOME'] : homedir();
  const value = (written: string, name: string): string => env[name] ?? written;
  const expanded = path
    .replace(/^~(?=$|[/\\])/, () => home)
    .replace(/\$(?:(\w+)|\{([^}]*)\})/g, (written, bare, braced) => value(written, bare ?? braced));
  return resolve(
    process.platform === 'win32' ? expanded.replace(/%([^%]+)%/g, (written, name) => value(written, name)) : expanded,
  );
}

/** `HF_HOME`, else `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`: the token is here. */
export function hubHome(env: EnvironmentVariables): string {
  const cache = isSet(env['XDG_CACHE_HOME']) ? env['XDG_CACHE_HOME'] : join('~', '.cache');
  return expandPath(isSet(env['HF_HOME']) ? env['HF_HOME'] : join(cache, 'huggingface'), env);
}

/** `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `hub` below `hubHome`. */
export function hubCache(env: EnvironmentVariables): string {
  const named = [env['HF_HUB_CACHE'], env['HUGGINGFACE_HUB_CACHE']].find(isSet);
  return named === undefined ? join(hubHome(env), 'hub') : expandPath(named, env);
}

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
  const path = isSet(env['HF_TOKEN_PATH']) ? expandPath(env['HF_TOKEN_PATH'], env) : join(hubHome(env), 'token');
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
