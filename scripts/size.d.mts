export declare function circles(files: readonly string[]): string[][];
export declare function sizeTable(): string;
export declare function printedTable(): string | undefined;
