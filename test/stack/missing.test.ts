import t from 'tap';
import { isDebianLike } from '../../src/stack/apt.ts';
import { setupMissing, waysOut } from '../../src/stack/missing.ts';

await t.test('one message names all that is missing, a line to type, and what was tried', (t) => {
  const error = setupMissing(
    [
      { name: 'redis', found: undefined, unfit: [{ path: '/usr/bin/redis-server', reason: 'is 6.0.16' }] },
      { name: 'mongodb', found: undefined, unfit: [] },
      { name: 'postgres', found: { path: '/usr/bin/postgres', version: '15.1' }, unfit: [] },
    ],
    ['mongod: there is no pip to fetch it with'],
  );
  t.equal(error.code, 'TG_SETUP_MISSING');
  t.match(error.message, /Redis, MongoDB \(mongod\): not found/);
  t.match(error.message, /export TOLLGATE_REDIS_URL=… TOLLGATE_MONGO_URL=…/);
  t.match(error.message, '/usr/bin/redis-server is 6.0.16');
  t.match(error.message, 'there is no pip');
  t.notMatch(error.message, 'PostgreSQL');
  t.end();
});

await t.test('where there is apt, the line to type installs all of them', (t) => {
  const line = 'sudo apt-get install postgresql redis-server rabbitmq-server python3-pip libcurl4';
  const [first] = waysOut(['postgres', 'redis', 'rabbitmq', 'mongodb']);
  if (isDebianLike()) t.match(first, line);
  else t.notMatch(first, 'apt-get');
  t.end();
});
