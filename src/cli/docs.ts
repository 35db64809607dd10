import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { exposeGauges, WatchedStores } from '../observe.ts';
import { command, withAction } from './command.ts';

/** Gauges are registered with what they read; for their names and meanings nothing has to run. */
const IDLE_PARTS: Parameters<typeof exposeGauges>[2] = {
  line: { waiting: 0, inFlight: 0 },
  results: { waiting: 0 },
  pools: { slots: new Map(), intakes: [] },
  budget: { bytes: 0 },
  replier: { pending: 0 },
  maintenance: { isOwner: false, lastSuccessMs: new Map() },
  sweeps: { openAttempts: 0, overdueMs: 0 },
  backlog: { queues: new Map(), waiting: [] },
  watch: { isReady: false, stillMs: new Map() },
};
const IDLE_STORES: WatchedStores = {
  dispatcherDb: { dependency: { name: 'postgres', isUp: false, detail: '' } },
  broker: { isUp: false },
  redis: { isUp: false },
  mongo: { dependency: { name: 'mongodb', isUp: false, detail: '' } },
};

/** `tollgate docs`: writes the generated pages; hidden, because only a checkout of the repository has use for it. */
export function docsCommand(): Command {
  const docs = command({
    name: 'docs',
    summary: 'write the generated pages and the JSON Schemas under docs/ from the code',
    examples: ['npm run -s tollgate -- docs'],
  });
  return withAction(docs, async ({ output }) => {
    const pages = await generatedPages();
    for (const [path, text] of pages) writeFileSync(new URL(`../../${path}`, import.meta.url), text);
    const paths = [...pages.keys()];
    output.result({ written: paths }, paths.map((path) => `wrote ${path}`).join('\n'));
  });
}

/** The schemas of all messages as JSON Schema, so that a client in any language can check what it sends. */
async function schemaFiles(): Promise<[path: string, text: string][]> {
  const [
    { JobMessage, ChatInput },
    { CancelMessage },
    { RetryMessage },
    { DispatchMessage, ControlMessage },
    { ResultMessage },
    { FleetMessage },
  ] = await Promise.all([
    import('../contracts/job.ts'),
    import('../contracts/cancel.ts'),
    import('../contracts/retry.ts'),
    import('../contracts/dispatch.ts'),
    import('../contracts/result.ts'),
    import('../contracts/fleet.ts'),
  ]);
  const schemas = {
    job: JobMessage,
    'chat-input': ChatInput,
    cancel: CancelMessage,
    retry: RetryMessage,
    dispatch: DispatchMessage,
    control: ControlMessage,
    result: ResultMessage,
    fleet: FleetMessage,
  };
  const $schema = 'https://json-schema.org/draft/2020-12/schema';
  return Object.entries(schemas).map(([title, schema]) => [
    `docs/schemas/${title}.json`,
    `${JSON.stringify({ $schema, title, ...schema }, null, 2)}\n`,
  ]);
}

/** Path in the repository → text of every generated page. */
export async function generatedPages(): Promise<ReadonlyMap<string, string>> {
  const [{ configurationPage, metricsPage }, { PrometheusMetrics }, { exposeGauges }] = await Promise.all([
    import('./docs-pages.ts'),
    import('../ops/metrics.ts'),
    import('../observe.ts'),
  ]);
  const metrics = new PrometheusMetrics();
  exposeGauges(metrics, IDLE_STORES, IDLE_PARTS);
  return new Map([
    ['docs/configuration.md', configurationPage()],
    ['docs/metrics.md', metricsPage(metrics.catalogue)],
    ...(await schemaFiles()),
  ]);
}
