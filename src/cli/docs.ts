import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { command, withAction } from './command.ts';

/** `tollgate docs`: writes the generated pages; hidden, because only a checkout of the repository has use for it. */
export function docsCommand(): Command {
  const docs = command({
    name: 'docs',
    summary: 'write docs/configuration.md and docs/metrics.md from the code',
    examples: ['npm run -s tollgate -- docs'],
  });
  return withAction(docs, async ({ output }) => {
    const pages = await generatedPages();
    for (const [path, text] of pages) writeFileSync(new URL(`../../${path}`, import.meta.url), text);
    const paths = [...pages.keys()];
    output.result({ written: paths }, paths.map((path) => `wrote ${path}`).join('\n'));
  });
}

/** Path in the repository → text of every generated page. */
export async function generatedPages(): Promise<ReadonlyMap<string, string>> {
  const [{ configurationPage, metricsPage }, { PrometheusMetrics }] = await Promise.all([
    import('./docs-pages.ts'),
    import('../ops/metrics.ts'),
  ]);
  return new Map([
    ['docs/configuration.md', configurationPage()],
    ['docs/metrics.md', metricsPage(new PrometheusMetrics().catalogue)],
  ]);
}
