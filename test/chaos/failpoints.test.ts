import t from 'tap';
import { type Armed, Failpoints, POINTS, SITES } from '../../chaos/failpoints.ts';
import { StoreError } from '../../src/errors.ts';

/** As much of a death as a test can stand. */
function die(): never {
  throw new Error('dead');
}

function failpoints(): { points: Failpoints; fired: Armed[] } {
  const fired: Armed[] = [];
  return { points: new Failpoints((armed) => fired.push(armed), die), fired };
}

await t.test('names are unique, and those of the two lines are all there', async (t) => {
  const names = POINTS.map(({ name }) => name);
  t.equal(new Set(names).size, names.length);
  for (const name of [
    'lock.committed',
    'dispatch.published_no_confirm',
    'settle.sent_no_reply',
    'in.before_ack',
  ])
    t.ok(names.includes(name), name);
});

await t.test('without anything armed a call is only a call', async (t) => {
  const { points, fired } = failpoints();
  t.equal(await points.around(SITES.lock, async () => 5), 5);
  points.pass('in.delivered');
  t.same(fired, []);
});

await t.test('a call that is to fail before it is not made', async (t) => {
  const { points, fired } = failpoints();
  const armed: Armed = { point: 'lock.before_send', action: 'throw', hits: 1 };
  points.arm(armed);
  let calls = 0;
  const call = async () => ++calls;
  await t.rejects(points.around(SITES.lock, call), StoreError);
  t.equal(calls, 0);
  t.same(fired, [armed]);
  t.equal(await points.around(SITES.lock, call), 1, 'and it goes off once');
});

await t.test('a call that is to fail after it was made, and its caller is told otherwise', async (t) => {
  const { points } = failpoints();
  points.arm({ point: 'lock.committed', action: 'fail_after', hits: 2 });
  let calls = 0;
  const call = async () => ++calls;
  t.equal(await points.around(SITES.lock, call), 1, 'the second hit is meant');
  await t.rejects(points.around(SITES.lock, call), StoreError);
  t.equal(calls, 2);
});

await t.test('a publisher is told unknown, because it never rejects', async (t) => {
  const { points } = failpoints();
  points.arm({ point: 'dispatch.confirmed', action: 'fail_after', hits: 1 });
  const outcome = await points.around(
    SITES.dispatch,
    async () => 'confirmed',
    () => 'unknown',
  );
  t.equal(outcome, 'unknown');
});

await t.test('a kill while the answer is awaited comes after the request has left', async (t) => {
  const { points } = failpoints();
  points.arm({ point: 'settle.sent_no_reply', action: 'kill', hits: 1 });
  let hasLeft = false;
  const call = () => {
    setImmediate(() => (hasLeft = true));
    return new Promise<number>(() => undefined);
  };
  await t.rejects(points.around(SITES.settle, call), /dead/);
  t.ok(hasLeft);
});

await t.test('what was disarmed does not go off', async (t) => {
  const { points } = failpoints();
  points.arm({ point: 'in.delivered', action: 'kill', hits: 1 });
  points.arm(null);
  points.pass('in.delivered');
  points.arm({ point: 'in.delivered', action: 'kill', hits: 1 });
  t.throws(() => points.pass('in.delivered'), /dead/);
});
