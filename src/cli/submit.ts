import { text as readAll } from 'node:stream/consumers';
import type { Command } from 'commander';
import { type JobMessage, WAIT_MS_MAX } from '../contracts/job.ts';
import { VRAM_GB_MAX } from '../contracts/names.ts';
import type { ReplyMessage } from '../contracts/reply.ts';
import { creditsText } from '../credits.ts';
import { TollgateError } from '../errors.ts';
import { MODEL_PATTERN, NAME_PATTERN, newUuidV7, UUID_V7_PATTERN } from '../ids.ts';
import { command, integer, matching, withAction } from './command.ts';
import { askCoordinator, coordinatorUrl, explainQuery } from './coordinator.ts';
import { EXIT, usageFault } from './failure.ts';

interface SubmitOptions {
  readonly account: string;
  readonly namespace?: string;
  readonly model: string;
  readonly region?: string;
  readonly vramGbMin?: number;
  readonly amqp?: string;
  readonly http?: string;
  readonly id?: string;
  readonly priority: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly timeoutMs: number;
  readonly waitMs: number;
  readonly attempts: number;
  readonly fallback?: string[];
}

/** Longest wait for what a coordinator says of a job before it is sent, in milliseconds. */
const OUTLOOK_MS_MAX = 1_000;

/** `tollgate submit`: one chat job, and its answer. */
export function submitCommand(): Command {
  const submit = command({
    name: 'submit',
    summary: 'send one chat job as a publisher and print its answer',
    examples: [
      'tollgate submit --account acme --model tiny "Tell me of the sea."',
      'echo "Tell me of the sea." | tollgate submit --account acme --model tiny --wait-ms 5000 --json',
      'tollgate submit --account acme --model tiny --id "$ID" "The same again."',
      'tollgate submit --account acme --model tiny --region eu-west --vram-gb-min 24 "Tell me of the sea."',
    ],
  })
    .argument('[prompt]', 'the prompt; standard input if there is none')
    .requiredOption('--account <name>', 'who pays', matching(NAME_PATTERN, 'a name like acme'))
    .requiredOption('--model <name>', 'which model answers', matching(MODEL_PATTERN, 'a model name'))
    .option('--namespace <name>', 'where the trace belongs, e.g. acme/prod (default: <account>/default)')
    .option('--region <name>', 'only nodes of this region', matching(NAME_PATTERN, 'a name'))
    .option('--vram-gb-min <n>', 'only nodes with so many GB of memory', integer(1, VRAM_GB_MAX))
    .option(
      '--http <url>',
      'a coordinator to ask first whether the job can run (default: http.host and http.port)',
    )
    .option('--amqp <url>', "the publisher's broker URL (TOLLGATE_AMQP_CLIENT_URL, else TOLLGATE_AMQP_URL)")
    .option(
      '--id <uuid>',
      'the job id, a UUIDv7 of today; the same id is never charged twice',
      matching(UUID_V7_PATTERN, 'a UUIDv7'),
    )
    .option(
      '--priority <name>',
      'interactive or batch',
      matching('^(interactive|batch)$', 'interactive or batch'),
      'interactive',
    )
    .option('--input-tokens <n>', 'most input tokens to pay for', integer(1, 10_000_000), 1_024)
    .option('--output-tokens <n>', 'most output tokens to pay for', integer(1, 10_000_000), 256)
    .option('--timeout-ms <n>', 'from the credit lock to the answer', integer(1_000, 3_600_000), 60_000)
    .option('--wait-ms <n>', 'longest wait for a free worker', integer(1, WAIT_MS_MAX.batch), 60_000)
    .option('--attempts <n>', 'tries before the job fails', integer(1, 10), 3)
    .option('--fallback <model...>', 'models that may run it when its own has no node left to try');
  return withAction<SubmitOptions>(submit, async ({ args, options, output, loadConfig }) => {
    if (options.priority === 'interactive' && options.waitMs > WAIT_MS_MAX.interactive)
      usageFault('--wait-ms', `is at most ${WAIT_MS_MAX.interactive} for priority interactive`);
    const config = await loadConfig([]);
    const url = options.amqp ?? config.servers.amqpClientUrl ?? config.servers.amqpUrl;
    const user = userOf(url);
    const job = jobOf(options, await promptOf(args[0]));
    const [{ sendJob }, { createLog }] = await Promise.all([
      import('./job-client.ts'),
      import('../ops/log.ts'),
    ]);
    const outlook = await outlookOf(coordinatorUrl(options.http, config), job);
    if (outlook !== null) output.progress(outlook);
    const sentMs = performance.now();
    const reply = await sendJob({ config, url, user, log: createLog({ level: 'error' }, 2) }, job);
    output.result({ ...reply, job: job.id }, reply.output?.text ?? '');
    output.progress(summary(reply, job.id, performance.now() - sentMs));
    if (reply.state === 'succeeded') return EXIT.ok;
    return reply.state === 'refused' ? EXIT.refused : EXIT.failed;
  });
}

/**
 * What a coordinator says of such a job: `queued`, `not now` or `never`, and why. Null where none answers: the job is sent all the
 * same, and its reply has the last word.
 */
async function outlookOf(url: string, { model, constraints }: JobMessage): Promise<string | null> {
  const { region, vram_gb_min: vram } = constraints;
  const query = explainQuery({ model, region: region ?? undefined, vram_gb_min: vram ?? undefined });
  try {
    return (await askCoordinator(url, `/v1/explain${query}`, OUTLOOK_MS_MAX)).text;
  } catch (error) {
    if (error instanceof TollgateError) return null;
    throw error;
  }
}

/** The publisher that a broker URL logs in as: `p-<name>`. */
export function userOf(url: string): string {
  if (!URL.canParse(url))
    usageFault('--amqp', 'expects amqp://user:password@host:port/vhost, as account create prints it');
  const user = decodeURIComponent(new URL(url).username);
  if (!user.startsWith('p-'))
    usageFault('--amqp', `must log in as a publisher (p-…), not as ${JSON.stringify(user)}`);
  return user;
}

async function promptOf(argument: string | undefined): Promise<string> {
  const prompt = argument ?? (process.stdin.isTTY ? '' : await readAll(process.stdin));
  if (prompt.trim() === '') usageFault('prompt', 'is empty: give it as an argument or on standard input');
  return prompt;
}

function jobOf(options: SubmitOptions, prompt: string): JobMessage {
  return {
    v: 1,
    id: options.id ?? newUuidV7(),
    account: options.account,
    namespace: options.namespace ?? `${options.account}/default`,
    model: options.model,
    kind: 'chat',
    input: { messages: [{ role: 'user', content: prompt }] },
    limits: {
      input_tokens_max: options.inputTokens,
      output_tokens_max: options.outputTokens,
      timeout_ms: options.timeoutMs,
      wait_ms: options.waitMs,
      attempts_max: options.attempts,
    },
    constraints: {
      subcloud: null,
      region: options.region ?? null,
      vram_gb_min: options.vramGbMin ?? null,
    },
    priority: options.priority === 'batch' ? 'batch' : 'interactive',
    stream: false,
    ...(options.fallback === undefined ? {} : { fallbacks: options.fallback }),
  };
}

/** How it went, in one line for standard error. */
function summary(reply: ReplyMessage, jobId: string, tookMs: number): string {
  const { state, usage, error, charged_micro } = reply;
  if (error !== null) {
    const where = error.field === null ? '' : ` (${error.field})`;
    const again = error.retryable ? '; sending it again with a new id may help' : '';
    return `${error.code}: ${error.message}${where}${again}\n  → tollgate job show ${jobId}`;
  }
  const tokens = usage === null ? '' : ` · ${usage.input_tokens} + ${usage.output_tokens} tokens`;
  const cost = creditsText(BigInt(charged_micro));
  return `${state}${tokens} · ${cost} credits · ${Math.round(tookMs)} ms · tollgate job show ${jobId}`;
}
