/** One package of a package-lock.json. */
export interface LockEntry {
  readonly license?: string;
  readonly hasInstallScript?: boolean;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** Licenses that ask for no more than to be named. */
const ALLOWED = new Set(['MIT', 'Apache-2.0', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'BlueOak-1.0.0']);

/** Is an SPDX expression fulfilled by allowed licenses alone? Of those joined by OR one is enough; brackets are not nested. */
function isAllowed(expression: string): boolean {
  const parts = expression.split(/\s+AND\s+(?![^(]*\))/);
  return parts.every((part) => {
    const names = part.replace(/^\((.*)\)$/, '$1').split(/\s+OR\s+/);
    return names.some((name) => ALLOWED.has(name));
  });
}

/** What a user must not get: packages that run a script when they are installed, and such as have another license or none. */
export const faultsOfTree = (packages: readonly (readonly [path: string, entry: LockEntry])[]): string[] =>
  packages.flatMap(([path, { license, hasInstallScript, link }]) => {
    if (link === true) return [];
    const script = hasInstallScript === true ? [`${path} has an install script`] : [];
    return isAllowed(license ?? '') ? script : [...script, `${path} has the license ${license ?? '(none)'}`];
  });
