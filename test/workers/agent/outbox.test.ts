import t from 'tap';
import { systemClock } from '../../../src/clock.ts';
import type { DispatchMessage } from '../../../src/contracts/dispatch.ts';
import { newUuidV7 } from '../../../src/ids.ts';
import { ResultOutbox } from '../../../src/workers/agent/outbox.ts';
import { failureOf } from '../../../src/workers/agent/result.ts';
import { until } from '../../support/until.ts';
import { rig } from './rig.ts';

function result(node: string): ReturnType<typeof failureOf> {
  const dispatch: DispatchMessage = {
    v: 1,
    job: newUuidV7(systemClock),
    attempt: 1,
    node,
    session: 1,
    model: 'tiny',
    model_version: 1,
    kind: 'chat',
    input: { messages: [{ role: 'user', content: 'x' }] },
    limits: { input_tokens_max: 1, output_tokens_max: 1 },
    start_ms: 1,
    remaining_ms: 1,
    first_token_ms: 60_000,
  };
  return failureOf(dispatch, 'model_error', 'none');
}

const kept = { isWanted: () => true, confirmed: () => {} };

await t.test('results of one turn are signed together, sixteen to a signature', async (t) => {
  const rigged = await rig(t, []);
  const outbox = new ResultOutbox(rigged.privateKey, rigged.log, rigged.coordinator, () => {});
  t.after(() => outbox.close());
  for (let i = 0; i < 20; i++) outbox.add(result(rigged.node), kept);
  t.notOk(outbox.isEmpty);
  await rigged.result(20);
  t.same(
    rigged.results.map(({ value }) => value.flush.digests.length),
    [...Array.from({ length: 16 }, () => 16), 4, 4, 4, 4],
  );
  await until(() => outbox.isEmpty, 'the confirms');
});

await t.test('what nobody wants any more is not sent again', async (t) => {
  const rigged = await rig(t, []);
  const outcomes: string[] = [];
  const outbox = new ResultOutbox(rigged.privateKey, rigged.log, rigged.coordinator, (_key, outcome) =>
    outcomes.push(outcome),
  );
  t.after(() => outbox.close());
  await rigged.room.admin.deleteQueue('results');
  outbox.add(result(rigged.node), { isWanted: () => false, confirmed: () => t.fail('nobody took it') });
  await until(() => outcomes.length > 0 && outbox.isEmpty, 'the result to be dropped');
  t.same(outcomes, ['returned']);
});
