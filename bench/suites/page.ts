import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parsedWithWords, UsageError } from '../arguments.ts';
import { BenchError } from '../bench-error.ts';
import { capacityPage } from '../page/capacity.ts';
import { performancePage } from '../page/performance.ts';
import { OWN_ROOT } from '../process/checkout.ts';
import { readWhole } from '../report/read-json.ts';
import { readRemarks } from '../report/remarks.ts';
import type { Whole } from '../report/whole.ts';
import type { Command } from './command.ts';

const USAGE = `usage: npm run bench -- page FILE

  FILE            what npm run bench -- all wrote with --json: bench/results/all.json

writes docs/performance.md with its plots, and docs/capacity.md`;

/** Writes the pages of figures. */
export const page: Command = {
  asks: 'docs/performance.md and docs/capacity.md from what all has written',
  usage: USAGE,
  run: async (argv) => {
    const file = fileOf(argv);
    const whole = readWhole(file);
    if (whole === null) throw new BenchError(`${file}: there is no such file`);
    const docs = join(OWN_ROOT, 'docs');
    // The remarks of today: what holds a figure back may have been found after the run.
    for (const [path, text] of Object.entries(pagesOf({ ...whole, remarks: readRemarks() }))) {
      mkdirSync(join(docs, path, '..'), { recursive: true });
      writeFileSync(join(docs, path), text);
      process.stdout.write(`docs/${path}\n`);
    }
    return 0;
  },
};

/** Path under docs/ → text of every file that a result file gives. */
export function pagesOf(whole: Whole): Record<string, string> {
  const { text, pictures } = performancePage(whole);
  const plots = Object.entries(pictures).map(([name, svg]) => [`performance/${name}`, svg]);
  return { 'performance.md': text, 'capacity.md': capacityPage(whole), ...Object.fromEntries(plots) };
}

function fileOf(argv: readonly string[]): string {
  const [file, ...more] = parsedWithWords(argv, {}).positionals;
  if (file === undefined || more.length > 0) throw new UsageError('one FILE is needed');
  return file;
}
