// Counts the source: files, lines, the longest file and import circles (types included), for each module of the main package and for each
// workspace. `npm run size` prints the table; `npm run size -- --write` puts it into docs/architecture.md, where a test holds it true.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path/posix';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const PAGE = `${root}docs/architecture.md`;
const [BEGIN, END] = ['<!-- size: begin -->', '<!-- size: end -->'];

/** Every file of TypeScript or AssemblyScript below `folder`, as written by hand. */
const sourcesIn = (folder) =>
  readdirSync(root + folder, { recursive: true, encoding: 'utf8' })
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
    .filter((name) => name.endsWith('.ts') && !name.includes('/generated/'))
    .sort();

const IMPORT = /(?:^|\n)\s*(?:import|export)\b[^'";]*?from\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/g;

/** The files that `file` imports, types included. */
function importsOf(file, known) {
  const names = [...readFileSync(root + file, 'utf8').matchAll(IMPORT)].map((match) => match[1] ?? match[2]);
  return names
    .filter((name) => name.startsWith('.'))
    .map((name) => join(dirname(file), name).replace(/\.js$/, ''))
    .map((path) => [`${path}.ts`, `${path}/index.ts`].find((candidate) => known.has(candidate)))
    .filter((path) => path !== undefined);
}

/** Groups of files that import each other in a circle (strongly connected components of more than one file; Tarjan, 1972). */
export function circles(files) {
  const known = new Set(files);
  const state = new Map();
  const stack = [];
  const found = [];
  const visit = (file) => {
    const own = { index: state.size, low: state.size, open: true };
    state.set(file, own);
    stack.push(file);
    for (const next of importsOf(file, known)) {
      if (!state.has(next)) visit(next);
      const other = state.get(next);
      if (other.open) own.low = Math.min(own.low, other.low);
    }
    if (own.low !== own.index) return;
    const group = stack.splice(stack.indexOf(file));
    for (const member of group) state.get(member).open = false;
    if (group.length > 1) found.push(group.sort());
  };
  for (const file of files) if (!state.has(file)) visit(file);
  return found;
}

const linesOf = (file) => readFileSync(root + file, 'utf8').split('\n').length - 1;

/** One row of the table. */
function row(name, files) {
  const sizes = files.map((file) => [linesOf(file), file]).sort(([a], [b]) => b - a);
  const [longest, where] = sizes[0];
  const total = sizes.reduce((sum, [lines]) => sum + lines, 0);
  const median = sizes[Math.floor(sizes.length / 2)][0];
  return [
    name,
    files.length,
    total,
    median,
    `${longest} (${where.split('/').slice(-2).join('/')})`,
    circles(files).length,
  ];
}

/** The whole table in Markdown. */
export function sizeTable() {
  const source = sourcesIn('src');
  const modules = [...new Set(source.map((file) => (file.split('/').length > 2 ? file.split('/')[1] : '')))];
  const rows = [row('**generative-image2text**', source)];
  for (const name of modules.filter((module) => module !== '').sort())
    rows.push(
      row(
        `src/${name}`,
        source.filter((file) => file.startsWith(`src/${name}/`)),
      ),
    );
  for (const name of readdirSync(`${root}packages`).sort()) {
    rows.push(row(`**${name}**`, sourcesIn(`packages/${name}/src`)));
    const assembly = sourcesIn(`packages/${name}`).filter((file) => file.startsWith(`packages/${name}/assembly/`));
    if (assembly.length > 0) rows.push(row(`packages/${name}/assembly`, assembly));
  }
  const head = ['', 'files', 'lines', 'median', 'longest', 'circles'];
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** The table as docs/architecture.md has it now. */
export const printedTable = () => readFileSync(PAGE, 'utf8').split(BEGIN)[1]?.split(END)[0]?.trim();

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  console.log(sizeTable());
  for (const group of circles(sourcesIn('src'))) console.log(`circle: ${group.join(' <-> ')}`);
  if (process.argv.includes('--write')) {
    const page = readFileSync(PAGE, 'utf8');
    writeFileSync(PAGE, `${page.split(BEGIN)[0]}${BEGIN}\n${sizeTable()}\n${END}${page.split(END)[1]}`);
  }
}
