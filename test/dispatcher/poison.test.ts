import { createHash } from 'node:crypto';
import { connect } from 'amqplib';
import t from 'tap';
import { nodeUser, QUEUE } from '../../src/contracts/names.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { RedisSuspectCounts } from '../../src/workers/suspect-counts.ts';
import { collectDeadLetters } from '../support/dead-letters.ts';
import { quietLog } from '../support/ledger.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** A coordinator takes a message of `queue`, counts it, and dies over it, so many times. Returns the body. */
async function dieOver(tollgate: World, queue: string, times: number): Promise<Buffer> {
  const connection = await connect(tollgate.servers.amqpUrl);
  const channel = await connection.createChannel();
  const message = await until(async () => (await channel.get(queue)) || undefined, `a message in ${queue}`);
  const { servers, fleet } = tollgate.config;
  const redis = new FleetRedis({ ...servers, redisUrl: tollgate.servers.redisUrl }, fleet, quietLog);
  await redis.start();
  const counts = new RedisSuspectCounts(redis);
  const digest = createHash('sha256').update(message.content).digest('base64url');
  for (let death = 0; death < times; death++) await counts.count(queue, digest);
  await redis.stop();
  // Unanswered, so it goes back marked as redelivered.
  await connection.close();
  return message.content;
}

await t.test(
  'a result that killed coordinators is kept unread, and an event of its job says so',
  async (t) => {
    const tollgate = await world(t, { workers: 0 });
    await tollgate.addNode('n1');
    const worker = await tollgate.startHandWorker('n1', 4);
    const letters = await collectDeadLetters(tollgate);
    const job = tollgate.job();
    await tollgate.send(job);
    const held = await worker.dispatched(job.id);
    await tollgate.stopDaemon();
    await worker.finish(held);
    const body = await dieOver(tollgate, QUEUE.results, 3);

    await tollgate.startDaemon();

    const letter = await until(() => letters[0], 'the dead letter');
    t.match(letter, { reason: 'TG_MESSAGE_POISON', queue: QUEUE.results, sender: nodeUser('n1') });
    t.ok(letter.body.equals(body), 'its bytes are kept');
    const [event] = await until(async () => {
      const events = await tollgate.books.traces('events', job.id);
      return events.length > 0 ? events : undefined;
    }, 'the event');
    t.match(event, { kind: 'anomaly', code: 'TG_MESSAGE_POISON', sender: nodeUser('n1') });
    t.equal((await tollgate.books.job(job.id))?.state, 'locked', 'nobody read it, so nothing is charged');

    await worker.finish(held, { output: { text: 'again', finish_reason: 'stop' } });
    t.match(
      await tollgate.reply(job.id),
      { state: 'succeeded' },
      'another result of the attempt still counts',
    );
  },
);
