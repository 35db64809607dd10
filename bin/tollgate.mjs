#!/usr/bin/env node
/** `tollgate`: from the sources in a checkout, where packages may have to be installed first; else from `dist`. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from '../scripts/launch.mjs';
import { ensureDependencies, ROOT } from '../scripts/setup.mjs';

const args = process.argv.slice(2);
const isCheckout = existsSync(join(ROOT, 'src/cli/main.ts'));
const downloadMs = isCheckout ? await ensureDependencies() : 0;
const program = isCheckout ? 'src/cli/main.ts' : 'dist/cli/main.js';
process.exitCode = await launch(program, args, { TOLLGATE_SETUP_TIMINGS: JSON.stringify({ downloadMs }) });
