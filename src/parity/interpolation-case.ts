import type { Tensor2D } from '@tensorflow/tfjs-core';
import { tensor2d } from '@tensorflow/tfjs-core';
import { interpolatePositions } from '../layers/position-interpolation.js';
import type { CaseFile } from './case-file.js';
import { needTensor } from './case-file.js';
import type { HostTensor } from './compare.js';
import { compareTensor } from './compare.js';
import { outputNames } from './forward-case.js';
import type { ParityRow } from './parity-row.js';
import { notRun } from './parity-row.js';

const INPUT = 'position_embedding';

/** A position table, `position_embedding`, resized to the grids that the names `table.ROWSxCOLUMNS` give. Needs no model. */
export async function* runInterpolation(file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
  const table = needTensor(file, INPUT);
  for (const name of outputNames(file).filter((name) => name !== INPUT)) {
    const [, rows, columns] = /^table\.(\d{1,3})x(\d{1,3})$/.exec(name) ?? [];
    yield rows === undefined
      ? notRun(caseName, name, 'not a table.ROWSxCOLUMNS')
      : compareTensor(caseName, name, await resized(table, Number(rows), Number(columns)), file);
  }
}

async function resized(table: HostTensor, rows: number, columns: number): Promise<HostTensor> {
  const x = tensor2d(table.values as Float32Array, table.shape as [number, number], 'float32');
  let y: Tensor2D | undefined;
  try {
    y = interpolatePositions(x, rows, columns);
    return { shape: y.shape, values: await y.data() };
  } finally {
    x.dispose();
    y?.dispose();
  }
}
