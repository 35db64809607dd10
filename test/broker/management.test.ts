import t from 'tap';
import { Management } from '../../src/broker/management.ts';
import { StoreError } from '../../src/errors.ts';
import { until } from '../support/until.ts';
import { brokerRoom, numbered } from './room.ts';

const room = await brokerRoom(t);
const { management } = room;
const { vhost, amqpAdminUrl } = room.servers;

await t.test('ping tells the version, an outage and a wrong password apart', async (t) => {
  t.match(await management.ping(), /^\d+\.\d+/);
  const away = new Management({ url: 'http://guest:guest@127.0.0.1:1', vhost, requestMsMax: 1_000 });
  await t.rejects(away.ping(), StoreError);
  const url = new URL(amqpAdminUrl);
  url.password = 'wrong';
  const stranger = new Management({ url: url.href, vhost, requestMsMax: 5_000 });
  await t.rejects(stranger.ping(), { code: 'TG_STORE_REJECTED', message: /401/ });
  const elsewhere = new Management({ url: amqpAdminUrl, vhost: 'no such vhost', requestMsMax: 5_000 });
  await t.rejects(elsewhere.ping(), { code: 'TG_STORE_REJECTED', message: /404/ });
});

await t.test('a user is made, made again with another password, and removed twice', async (t) => {
  const user = `made-${vhost}`;
  const nothing = { configure: '^$', write: '^$', read: '^$' };
  t.notOk(await management.hasUser(user));
  await management.createUser(user, 'first', nothing);
  await management.createUser(user, 'second', nothing);
  t.ok(await management.hasUser(user));
  const login = (password: string) =>
    room.open({
      url: room.urlOf(user).replace(/:[^:@]*@/, `:${password}@`),
      initialTriesMax: 1,
    });
  await t.rejects(login('first'), /ACCESS_REFUSED/);
  await login('second');
  await management.deleteUser(user);
  await management.deleteUser(user);
  t.notOk(await management.hasUser(user));
});

await t.test('queues are listed page by page, with what waits and what is held', async (t) => {
  const broker = await room.open();
  const names = Array.from({ length: 7 }, (_, i) => `list.${i}`);
  await Promise.all(names.map((name) => room.admin.assertQueue(name)));
  await broker.publisher.publishBatch(numbered('list.3', 5));
  const channel = await broker.openChannel(() => {});
  await channel.consume('list.3', 2, () => {});
  const paged = new Management({ url: amqpAdminUrl, vhost, requestMsMax: 5_000, pageSize: 3 });
  const found: string[] = [];
  for await (const { name } of paged.queues(String.raw`^list\.`)) found.push(name);
  t.strictSame(found.toSorted(), names);
  const held = async () => {
    for await (const queue of paged.queues(String.raw`^list\.3$`)) {
      if (queue.unacknowledged === 2) return queue;
    }
    return null;
  };
  // The broker's statistics are up to 5 s old.
  const queue = await until(held, 'the statistics to show the held messages', { everyMs: 250 });
  t.strictSame(queue, { name: 'list.3', ready: 3, unacknowledged: 2, consumers: 1 });
});

t.end();
