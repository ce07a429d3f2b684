/**
 * A token trie as a sorted list: a node is the run of sequences that share its prefix. It costs two numbers a sequence, however
 * long the sequences are, and tens of thousands of class names are one sort.
 */
export interface Trie {
  /** The sequences in lexicographic order of their ids; a prefix of another comes before it. */
  readonly sorted: readonly (readonly number[])[];
  /** `places[i]`: where `sorted[i]` was in the caller's list. */
  readonly places: readonly number[];
  /** `shared[i]`: how many leading ids `sorted[i]` has in common with `sorted[i - 1]`; 0 for the first. */
  readonly shared: readonly number[];
}

/** The sequences `from` to `to` (exclusive) of the sorted list, which share their first `depth` ids. */
export interface TrieNode {
  readonly from: number;
  readonly to: number;
  readonly depth: number;
}

/** Sorts `sequences` (any order, duplicates and prefixes of each other allowed, none empty) into a trie. */
export function buildTrie(sequences: readonly (readonly number[])[]): Trie {
  const places = sequences.map((_, place) => place).sort((a, b) => compare(sequences[a]!, sequences[b]!) || a - b);
  const sorted = places.map((place) => sequences[place]!);
  const shared = sorted.map((sequence, i) => (i === 0 ? 0 : commonPrefix(sorted[i - 1]!, sequence)));
  return { sorted, places, shared };
}

export const rootOf = (trie: Trie): TrieNode => ({ from: 0, to: trie.sorted.length, depth: 0 });

/** The nodes one token further, with that token, in ascending order of ids; sequences that end at `node` are in none of them. */
export function childrenOf(trie: Trie, node: TrieNode): { readonly id: number; readonly node: TrieNode }[] {
  const { sorted, shared } = trie;
  const depth = node.depth + 1;
  const children: { id: number; node: TrieNode }[] = [];
  let from = node.from;
  while (from < node.to && sorted[from]!.length === node.depth) from++; // those that end here come first
  while (from < node.to) {
    let to = from + 1;
    while (to < node.to && shared[to]! >= depth) to++;
    children.push({ id: sorted[from]![node.depth]!, node: { from, to, depth } });
    from = to;
  }
  return children;
}

/** Does any sequence go on behind this node? */
export const goesOn = (trie: Trie, node: TrieNode): boolean => trie.sorted[node.to - 1]!.length > node.depth;

/**
 * Cuts the sorted list into runs that can be walked level by level with at most `most` nodes at once (not counting nodes
 * behind which nothing follows). Runs are as long as they can be, so little of a prefix is walked twice.
 */
export function groupsOf(trie: Trie, most: number): TrieNode[] {
  const groups: TrieNode[] = [];
  let from = 0;
  let widths: number[] = []; // widths[d]: nodes at depth d of the group so far that go on
  trie.sorted.forEach((sequence, i) => {
    const known = i === from ? 0 : Math.min(trie.shared[i]!, trie.sorted[i - 1]!.length - 1);
    const fits = widths.slice(known + 1, sequence.length).every((width) => width < most);
    if (!fits) {
      groups.push({ from, to: i, depth: 0 });
      from = i;
      widths = [];
    }
    for (let depth = fits ? known + 1 : 1; depth < sequence.length; depth++) widths[depth] = (widths[depth] ?? 0) + 1;
  });
  if (trie.sorted.length > 0) groups.push({ from, to: trie.sorted.length, depth: 0 });
  return groups;
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = commonPrefix(a, b);
  return (a[at] ?? -1) - (b[at] ?? -1);
}

function commonPrefix(a: readonly number[], b: readonly number[]): number {
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at++;
  return at;
}
