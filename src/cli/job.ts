import type { Command } from 'commander';
import { snakeCase } from '../api/snake-case.ts';
import type { Config } from '../config-schema.ts';
import { TollgateError } from '../errors.ts';
import { NAME_PATTERN, UUID_V7_PATTERN } from '../ids.ts';
import type { JobRecord } from '../ledger/job-records.ts';
import type { EventDocument, Trace } from '../traces/types.ts';
import { command, commandGroup, matching, withAction } from './command.ts';
import { EXIT } from './failure.ts';
import { explainCommand } from './job-explain.ts';
import { userOf } from './submit.ts';

/** `tollgate job`: what became of one. */
export function jobCommand(): Command {
  return commandGroup(
    {
      name: 'job',
      summary: "jobs: tell one job's story, why it waits, or cancel it",
      examples: [
        'tollgate job show "$ID"',
        'tollgate job explain "$ID"',
        'tollgate job cancel "$ID" --account acme',
      ],
    },
    [showCommand(), explainCommand(), cancelCommand()],
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

/** `tollgate job cancel`: as its publisher, before it came, while it waits or while it runs. */
function cancelCommand(): Command {
  const cancel = command({
    name: 'cancel',
    summary: 'cancel a job as its publisher, before it came, while it waits or while it runs',
    examples: ['tollgate job cancel "$ID" --account acme', 'tollgate job cancel "$ID" --account acme --json'],
  })
    .argument('<id>', 'the job id', matching(UUID_V7_PATTERN, 'a UUIDv7 in lower case'))
    .requiredOption('--account <name>', 'who pays for it', matching(NAME_PATTERN, 'a name like acme'))
    .option('--namespace <name>', 'its namespace, e.g. acme/prod (default: <account>/default)')
    .option('--amqp <url>', "the publisher's broker URL (TOLLGATE_AMQP_CLIENT_URL, else TOLLGATE_AMQP_URL)");
  return withAction<{ account: string; namespace?: string; amqp?: string }>(
    cancel,
    async ({ args, options, output, loadConfig }) => {
      const [id = ''] = args;
      const { account, namespace = `${account}/default` } = options;
      const config = await loadConfig([]);
      const url = options.amqp ?? config.servers.amqpClientUrl ?? config.servers.amqpUrl;
      const user = userOf(url);
      const [{ cancelJob }, { createLog }] = await Promise.all([
        import('./job-client.ts'),
        import('../ops/log.ts'),
      ]);
      const login = { config, url, user, log: createLog({ level: 'error' }, 2) };
      const reply = await cancelJob(login, { v: 1, id, account, namespace });
      const why = reply.error === null ? '' : ` (${reply.error.code}: ${reply.error.message})`;
      output.result({ ...reply, job: id }, `${reply.state}${why}`);
      return reply.state === 'cancelled' ? EXIT.ok : EXIT.refused;
    },
  );
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
