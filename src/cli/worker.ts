import type { Command } from 'commander';
import type { Config } from '../config-schema.ts';
import { nodeUser } from '../contracts/names.ts';
import { NAME_PATTERN } from '../ids.ts';
import type { ServedModel } from '../workers/agent/model-client.ts';
import { command, integer, matching, withAction } from './command.ts';
import { EXIT, usageFault } from './failure.ts';

interface WorkerOptions {
  readonly node: string;
  readonly key: string;
  readonly model: readonly ServedModel[];
  readonly slots: number;
  readonly amqp?: string;
  readonly apiKeyFile?: string;
  readonly workLog?: string;
}

/** `tollgate worker`: the agent on a node, in front of an OpenAI-compatible model server. */
export function workerCommand(): Command {
  const worker = command({
    name: 'worker',
    summary: 'run the worker of a node until SIGTERM; it finishes what it holds',
    examples: [
      'tollgate worker --node gpu-1 --key gpu-1.pem --model tiny=http://127.0.0.1:8000/v1',
      'tollgate worker --node gpu-1 --key gpu-1.pem --slots 8 --model llama=http://127.0.0.1:8000/v1,meta-llama/Llama-3.1-8B',
    ],
  })
    .requiredOption('--node <id>', 'the node, as it was registered', matching(NAME_PATTERN, 'a node id'))
    .requiredOption('--key <file>', "the node's private key, as node register wrote it")
    .requiredOption('--model <name=url[,served-as]>', 'a model and its server; may be repeated', servedModel)
    .option('--slots <n>', 'how many jobs at a time', integer(1, 4_096), 4)
    .option('--amqp <url>', "the node's broker URL (TOLLGATE_AMQP_URL)")
    .option('--api-key-file <file>', 'file with the API key of the model servers')
    .option('--work-log <file>', 'append one JSON line per job it ran, for tollgate audit');
  return withAction<WorkerOptions>(worker, async ({ options, loadConfig }) => {
    const config = await loadConfig(options.amqp === undefined ? ['servers.amqpUrl'] : []);
    return (await runWorker(config, options)) === 'superseded' ? EXIT.failed : EXIT.ok;
  });
}

/** `name=url` or `name=url,served-as`. */
function servedModel(text: string, before: readonly ServedModel[] = []): readonly ServedModel[] {
  const [, name = '', url = '', servedAs] = /^([^=]+)=([^,]+)(?:,(.+))?$/.exec(text) ?? [];
  if (!URL.canParse(url)) usageFault('--model', `expects name=url, got ${JSON.stringify(text)}`);
  return [...before, servedAs === undefined ? { name, url } : { name, url, servedAs }];
}

/** Runs the agent until a signal comes, or until a newer session of the node takes over. */
async function runWorker(config: Config, options: WorkerOptions): Promise<'stopped' | 'superseded'> {
  const [
    { WorkerAgent },
    { readNodeKey },
    { clientBroker },
    { createLog },
    { runUntilSignal },
    { systemClock },
  ] = await Promise.all([
    import('../workers/agent/agent.ts'),
    import('../workers/agent/keys.ts'),
    import('./client-broker.ts'),
    import('../ops/log.ts'),
    import('../ops/lifecycle.ts'),
    import('../clock.ts'),
  ]);
  const log = createLog(config.log);
  const user = nodeUser(options.node);
  const url = options.amqp ?? config.servers.amqpUrl;
  const broker = clientBroker(config, { url, name: `tollgate worker ${options.node}`, userId: user, log });
  const apiKey = await apiKeyOf(options.apiKeyFile);
  const agent = new WorkerAgent(
    {
      node: options.node,
      privateKey: await readNodeKey(options.key),
      slots: options.slots,
      models: options.model.map((model) => ({ ...model, ...(apiKey === null ? {} : { apiKey }) })),
      heartbeatMs: config.fleet.heartbeatMs,
      drainMs: config.line.drainMs,
      ...(options.workLog === undefined ? {} : { logFile: options.workLog }),
    },
    systemClock,
    log,
    broker,
  );
  await broker.start();
  const ended = new AbortController();
  void agent.ended.then(() => ended.abort());
  // It waits for its queues as long as it takes, so a signal must be able to end it meanwhile.
  void agent.start();
  await runUntilSignal(
    async () => {
      await agent.stop();
      await broker.stop();
    },
    log,
    { signal: ended.signal },
  );
  return agent.ended;
}

async function apiKeyOf(file: string | undefined): Promise<string | null> {
  if (file === undefined) return null;
  const { readFile } = await import('node:fs/promises');
  const text = await readFile(file, 'utf8').catch(() => usageFault('--api-key-file', `cannot read ${file}`));
  return text.trim();
}
