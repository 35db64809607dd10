import t from 'tap';
import { redisPlace, redisUrlFault } from '../src/redis-place.ts';

await t.test('one URL is one server', async (t) => {
  for (const url of ['redis://h', 'redis://:pw@h:1/3', 'rediss://u:p,w@h:1'])
    t.same(redisPlace(url), { kind: 'server', url }, url);
});

await t.test('several are nodes of a cluster with one login', async (t) => {
  t.same(redisPlace('redis://h1:1,redis://[::1]:2, redis://h3'), {
    kind: 'cluster',
    nodes: [
      { host: 'h1', port: 1 },
      { host: '::1', port: 2 },
      { host: 'h3', port: 6_379 },
    ],
    login: {},
  });
  t.match(redisPlace('rediss://me:p,%40w@h1:1/0,rediss://me:p,%40w@h2:1'), {
    nodes: [{ host: 'h1' }, { host: 'h2' }],
    login: { username: 'me', password: 'p,@w', tls: {} },
  });
});

await t.test('what cannot be a Redis is refused, without its password', async (t) => {
  for (const good of ['redis://h:1/3', 'redis://h1:1,redis://h2:1', 'redis://:pw@h1:1,redis://:pw@h2:1/0'])
    t.equal(redisUrlFault(good), null, good);
  const faults = {
    'http://h': /^must look like redis:/,
    'redis://': /^must look like redis:/,
    'redis://h1:1,http://h2:1': /^must look like redis:/,
    'redis://h1:1,redis://h2:port': /^must look like redis:/,
    'redis://:secret@h1:1/3,redis://:secret@h2:1/3': /^must not name a database number/,
    'redis://:secret@h1:1,redis://h2:1': /^must have the same scheme, user and password/,
    'redis://h1:1,rediss://h2:1': /^must have the same scheme, user and password/,
  };
  for (const [url, fault] of Object.entries(faults)) {
    t.match(redisUrlFault(url), fault, url);
    t.notMatch(redisUrlFault(url), 'secret');
  }
});
