import t from 'tap';
import { InFlight } from '../../src/dispatcher/in-flight.ts';
import { arrivalOf, jobMessage } from './samples.ts';

function parsedArrival(id: string) {
  const job = jobMessage({ id });
  const arrival = arrivalOf(job);
  arrival.jobId = id;
  arrival.parsed = { ...job, kind: 'chat', input: { messages: [] } };
  return arrival;
}

await t.test('a twin waits until the first delivery of its id is through', async (t) => {
  const inFlight = new InFlight();
  const [first, twin] = [parsedArrival('a'), parsedArrival('a')];
  t.equal(inFlight.claim(first), true);
  t.equal(inFlight.claim(twin), false);
  t.equal(inFlight.isParked(twin), true);
  t.same(inFlight.free(twin), [], 'only the owner frees');
  t.same(inFlight.free(first), [twin]);
  t.equal(inFlight.size, 0);
  t.equal(inFlight.claim(twin), true);
});

await t.test('freeing twice, or what was never claimed, changes nothing', async (t) => {
  const inFlight = new InFlight();
  const [first, other] = [parsedArrival('a'), parsedArrival('a')];
  inFlight.claim(first);
  inFlight.free(first);
  inFlight.claim(other);
  t.same(inFlight.free(first), []);
  t.equal(inFlight.size, 1);
});
