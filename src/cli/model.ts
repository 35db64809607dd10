import type { Command } from 'commander';
import { creditsFromText, creditsText } from '../credits.ts';
import { MODEL_PATTERN } from '../ids.ts';
import type { ModelVersion } from '../network/types.ts';
import { command, commandGroup, integer, matching, withAction } from './command.ts';
import { usageFault } from './failure.ts';
import { table } from './output.ts';

/** `tollgate model`: what can be asked for, and what it costs. */
export function modelCommand(): Command {
  return commandGroup(
    {
      name: 'model',
      summary: 'models: add one with its price and limits, list them',
      examples: ['tollgate model add tiny --input-price 0.5 --output-price 1.5', 'tollgate model list'],
    },
    [addCommand(), listCommand()],
  );
}

interface AddOptions {
  readonly inputPrice?: bigint;
  readonly outputPrice?: bigint;
  readonly inputTokensMax: number;
  readonly outputTokensMax: number;
  readonly timeoutMsMax: number;
}

function addCommand(): Command {
  const add = command({
    name: 'add',
    summary: 'add a model; without both prices it cannot be used',
    examples: [
      'tollgate model add tiny --input-price 0.5 --output-price 1.5',
      'tollgate model add llama-3.1-8b-instruct --input-price 0.05 --output-price 0.08 --input-tokens-max 131072 --json',
    ],
  })
    .argument('<name>', 'name of the model', matching(MODEL_PATTERN, 'a name like llama-3.1-8b-instruct'))
    .option('--input-price <credits>', 'credits per 1,000,000 input tokens', price)
    .option('--output-price <credits>', 'credits per 1,000,000 output tokens', price)
    .option('--input-tokens-max <n>', 'most input tokens of one job', integer(1, 10_000_000), 8_192)
    .option('--output-tokens-max <n>', 'most output tokens of one job', integer(1, 10_000_000), 4_096)
    .option('--timeout-ms-max <n>', 'longest timeout_ms of one job', integer(1_000, 3_600_000), 600_000);
  return withAction<AddOptions>(add, async ({ args, options, output, loadConfig }) => {
    const [name = ''] = args;
    const { withDatabase, NEEDS_DATABASE } = await import('./stores.ts');
    const { Models } = await import('../network/models.ts');
    const { inputPrice = null, outputPrice = null, inputTokensMax, outputTokensMax, timeoutMsMax } = options;
    const prices = { inputPriceMicro: inputPrice, outputPriceMicro: outputPrice };
    const limits = { inputTokensMax, outputTokensMax, timeoutMsMax };
    const id = await withDatabase(await loadConfig(NEEDS_DATABASE), (db) =>
      new Models(db).add({ name, ...prices, ...limits }),
    );
    const isPriced = inputPrice !== null && outputPrice !== null;
    output.result(
      modelData({ id, model: name, version: 1, ...prices, ...limits }),
      `added ${name}${isPriced ? '' : '; it has no price yet, so it cannot be used'}`,
    );
  });
}

function listCommand(): Command {
  const list = command({
    name: 'list',
    summary: 'the models with their active version, prices and limits',
    examples: ['tollgate model list', 'tollgate model list --json'],
  });
  return withAction(list, async ({ output, loadConfig }) => {
    const { withDatabase, NEEDS_DATABASE } = await import('./stores.ts');
    const { Models } = await import('../network/models.ts');
    const models = await withDatabase(await loadConfig(NEEDS_DATABASE), (db) => new Models(db).list());
    const head = [
      'model',
      'version',
      'input price',
      'output price',
      'input max',
      'output max',
      'timeout max',
    ];
    const rows = models.map((model) => [
      model.model,
      String(model.version),
      priceText(model.inputPriceMicro),
      priceText(model.outputPriceMicro),
      String(model.inputTokensMax),
      String(model.outputTokensMax),
      `${model.timeoutMsMax} ms`,
    ]);
    output.result(
      models.map(modelData),
      `${table([head, ...rows])}\nPrices in credits per 1,000,000 tokens.`,
    );
  });
}

/** A parser of prices in credits, to micro-credits; 0 is a price. */
function price(text: string): bigint {
  return (
    creditsFromText(text) ?? usageFault('price', `expects a decimal like 0.5, got ${JSON.stringify(text)}`)
  );
}

function priceText(priceMicro: bigint | null): string {
  return priceMicro === null ? 'none' : creditsText(priceMicro);
}

function modelData(model: ModelVersion): object {
  return {
    model: model.model,
    version: model.version,
    version_id: model.id,
    input_price_micro: model.inputPriceMicro,
    output_price_micro: model.outputPriceMicro,
    input_tokens_max: model.inputTokensMax,
    output_tokens_max: model.outputTokensMax,
    timeout_ms_max: model.timeoutMsMax,
  };
}
