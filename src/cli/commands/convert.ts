import { InvalidArgumentError, Option } from 'commander';
import type { NodeBackend } from '../../node.js';
import type { Conversion, ConvertDtype, ModelComparison } from '../../tools/index.js';
import type { Context } from '../context.js';
import { addBackend, addExamples } from '../describe/options.js';
import type { Page } from '../describe/page.js';
import { startBytes } from '../bytes-progress.js';
import { DEMO_MODEL } from '../demo.js';
