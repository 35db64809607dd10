import type { Command } from 'commander';
import { snakeCase } from '../api/snake-case.ts';
import type { Config } from '../config-schema.ts';
import { TollgateError } from '../errors.ts';
import { VRAM_GB_MAX } from '../contracts/names.ts';
import { MODEL_PATTERN, NAME_PATTERN, UUID_V7_PATTERN } from '../ids.ts';
import type { JobRecord } from '../ledger/job-records.ts';
import type { EventDocument, Trace } from '../traces/types.ts';
import { command, commandGroup, integer, matching, withAction } from './command.ts';
import { askCoordinator, coordinatorUrl, explainQuery } from './coordinator.ts';
import { usageFault } from './failure.ts';

/** `tollgate job`: what became of one. */
export function jobCommand(): Command {
  return commandGroup(
    {
      name: 'job',
      summary: "jobs: tell one job's story, or why it waits",
      examples: ['tollgate job show "$ID"', 'tollgate job explain "$ID"'],
    },
    [showCommand(), explainCommand()],
  );
}

/** What the stores know of one job. */
interface Known {
  readonly record: JobRecord | null;
  readonly trace: Trace | null;
  readonly events: readonly EventDocument[];
}

function showCommand(): Command {
  const show = command({
    name: 'show',
    summary: 'states with times, the lock and its resolution, the node and why, tokens, cost',
    examples: [
      'tollgate job show "$ID"',
      'tollgate job show "$ID" --content',
      'tollgate job show "$ID" --json',
    ],
  })
    .argument('<id>', 'the job id', matching(UUID_V7_PATTERN, 'a UUIDv7 in lower case'))
    .option('--content', 'the first lines of the answer too');
  return withAction<{ content?: true }>(show, async ({ args, options, output, loadConfig }) => {
    const [jobId = ''] = args;
    const config = await loadConfig(['servers.postgresAdminUrl', 'servers.mongoUrl']);
    const known = await findJob(config, jobId);
    if (known.record === null && known.trace === null && known.events.length === 0)
      throw new TollgateError('TG_NOT_FOUND', `job ${jobId}`);
    const { renderJobStory } = await import('../api/job-story.ts');
    const { record, trace, events } = known;
    const text = renderJobStory(record, trace, { jobId, events, showsContent: options.content ?? false });
    const shown = shownTrace(trace, options.content ?? false);
    output.result(snakeCase({ record, trace: shown, events }), text);
  });
}

interface ExplainOptions {
  readonly http?: string;
  readonly model?: string;
  readonly region?: string;
  readonly vramGbMin?: number;
  readonly priority?: string;
}

function explainCommand(): Command {
  const target = command({
    name: 'explain',
    summary: 'where a job is, and what keeps each node from running it',
    examples: [
      'tollgate job explain "$ID"',
      'tollgate job explain "$ID" --model tiny --region eu-west --http http://127.0.0.1:9464',
    ],
  })
    .argument('<id>', 'the job id', matching(UUID_V7_PATTERN, 'a UUIDv7 in lower case'))
    .option('--http <url>', 'a coordinator (default: http.host and http.port)')
    .option(
      '--model <name>',
      'what the job asks for, where no coordinator has seen it: a job that waits in its queue has no record',
      matching(MODEL_PATTERN, 'a model name'),
    )
    .option('--region <name>', 'its region', matching(NAME_PATTERN, 'a name'))
    .option('--vram-gb-min <n>', 'its memory, in GB', integer(1, VRAM_GB_MAX))
    .option('--priority <name>', 'its priority', matching('^(interactive|batch)$', 'interactive or batch'));
  return withAction<ExplainOptions>(target, async ({ args, options, output, loadConfig }) => {
    const [jobId = ''] = args;
    const { http, model, region, vramGbMin, priority } = options;
    if (model === undefined && (region ?? vramGbMin ?? priority) !== undefined)
      usageFault('--model', 'is needed with what the job asks for');
    const url = coordinatorUrl(http, await loadConfig([]));
    const query = explainQuery({ model, region, vram_gb_min: vramGbMin, priority });
    const told = await askCoordinator(url, `/v1/jobs/${jobId}/explain${query}`);
    output.result(told, told.text);
  });
}

async function findJob(config: Config, jobId: string): Promise<Known> {
  const [{ withDatabase }, { JobRecords }, { MongoConnection }, { MongoTraceStore }, { createLog }] =
    await Promise.all([
      import('./stores.ts'),
      import('../ledger/job-records.ts'),
      import('../traces/mongo.ts'),
      import('../traces/store.ts'),
      import('../ops/log.ts'),
    ]);
  const mongo = new MongoConnection(config, createLog({ level: 'silent' }));
  try {
    await mongo.start();
    const store = new MongoTraceStore(mongo);
    const [record, trace, events] = await Promise.all([
      withDatabase(config, (db) => new JobRecords(db).find(jobId)),
      store.findJob(jobId),
      store.findEvents(jobId),
    ]);
    return { record, trace, events };
  } finally {
    await mongo.stop();
  }
}

/** The trace without prompt and answer, unless they were asked for. */
function shownTrace(trace: Trace | null, showsContent: boolean): unknown {
  if (trace === null) return null;
  const { request, attempts } = trace;
  if (showsContent) return { ...trace, request: { ...request, body: request.body.toString() } };
  const { body: _body, ...rest } = request;
  const silent = attempts.map((attempt) => ({
    ...attempt,
    result: attempt.result && { ...attempt.result, text: null },
  }));
  return { ...trace, request: rest, attempts: silent };
}
