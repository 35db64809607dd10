import { WAIT_MS_MAX } from '../contracts/job.ts';
import { invariant } from '../errors.ts';
import { SMALL_SHARE } from './default-load.ts';
import { generatorOf } from './ngram.ts';
import { PROMPT_TOKENS_MAX } from './prompts.ts';
import { arranged, type Draft, type Scenario, sendersOf, SUCCEEDED } from './scenario.ts';
import type { TraceArrival } from './trace-file.ts';
import type { World } from './world.ts';

/** Lays out the arrivals of a trace as ordinary jobs of the stated sizes. `speed` 60 makes a minute of an hour. */
export function scenarioOfTrace(
  world: World,
  arrivals: readonly TraceArrival[],
  speed: number,
  seed: number,
): Scenario {
  const random = generatorOf(seed);
  const senders = sendersOf(world);
  const drafts = arrivals.map(({ atMs, contextTokens, generatedTokens }, job): Draft => {
    const sender = senders[job % senders.length];
    invariant(sender !== undefined, 'the world has senders');
    return {
      job,
      kind: 'plain',
      flaw: null,
      atMs: Math.round(atMs / speed),
      afterJob: null,
      ...sender,
      model: random() < SMALL_SHARE ? world.small.name : world.large.name,
      priority: 'interactive',
      promptStart: Math.floor(random() * 1_000_000),
      promptTokens: Math.min(contextTokens, PROMPT_TOKENS_MAX),
      inputTokensMax: Math.max(1, contextTokens),
      outputTokensMax: Math.max(1, generatedTokens),
      waitMs: WAIT_MS_MAX.interactive,
      expected: SUCCEEDED,
    };
  });
  return arranged(world, drafts);
}
