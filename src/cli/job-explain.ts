import type { Command } from 'commander';
import { VRAM_GB_MAX } from '../contracts/names.ts';
import { MODEL_PATTERN, NAME_PATTERN, UUID_V7_PATTERN } from '../ids.ts';
import { command, integer, matching, withAction } from './command.ts';
import { askCoordinator, coordinatorUrl, explainQuery } from './coordinator.ts';
import { usageFault } from './failure.ts';

interface ExplainOptions {
  readonly http?: string;
  readonly model?: string;
  readonly region?: string;
  readonly vramGbMin?: number;
  readonly priority?: string;
}

/** `tollgate job explain`: a coordinator is asked, because only it knows what it has in its hands. */
export function explainCommand(): Command {
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
