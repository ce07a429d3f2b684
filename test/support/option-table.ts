import { expectation, type OptionDeclaration, type OptionTable, takersOf } from '../../src/options.js';

/** The options of a table as a Markdown table: what docs/ shows. */
export function optionTable(table: OptionTable): string {
  const takers = [...new Set(Object.values(table).flatMap(takersOf))];
  const rows = Object.entries(table).map(([name, declaration]) =>
    line([
      `\`${name}\``,
      expectation(declaration).replaceAll('|', '\\|'),
      defaultsOf(declaration, takers),
      code(declaration.flag),
      code(declaration.huggingFace),
      declaration.help,
    ]),
  );
  const head = ['option', 'value', 'default', 'command', 'Hugging Face', 'what it does'];
  return [line(head), line(head.map(() => '---')), ...rows].join('\n');
}

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const code = (name: string | undefined): string => (name === undefined ? '' : `\`${name}\``);

/** `1`, or `0.6 (original), 1 (beam)`; takers are named where not all take the option, or not with one default. */
function defaultsOf(declaration: OptionDeclaration<never>, takers: readonly string[]): string {
  const byValue = new Map<string, string[]>();
  for (const [taker, value] of Object.entries(declaration.defaults)) {
    const shown = value === undefined ? 'none' : `\`${JSON.stringify(value)}\``;
    byValue.set(shown, [...(byValue.get(shown) ?? []), taker]);
  }
  const all = byValue.size === 1 && takersOf(declaration).length === takers.length;
  return [...byValue].map(([value, names]) => (all ? value : `${value} (${names.join(', ')})`)).join(', ');
}
