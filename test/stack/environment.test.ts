import t from 'tap';
import { stackEnvironment } from '../../src/stack/environment.ts';
import { startStack } from '../../src/stack/stack.ts';

const GIVEN = {
  TOLLGATE_POSTGRES_ADMIN_URL: 'postgres://a@h:1/postgres',
  TOLLGATE_REDIS_URL: 'redis://h:2/0',
  TOLLGATE_AMQP_URL: 'amqp://h:3/',
  TOLLGATE_AMQP_ADMIN_URL: 'http://h:4',
  TOLLGATE_MONGO_URL: 'mongodb://h:5/x',
};

await t.test('given servers are used as they are, not started, not stopped', async (t) => {
  const stack = await startStack({ environment: GIVEN });
  t.same(stackEnvironment(stack.urls), GIVEN);
  t.throws(() => stack.server('redis'), /was not started by this stack/);
  await stack.stop();
});

await t.test('a server that was not asked for has no URL and no variable', async (t) => {
  const stack = await startStack({ environment: GIVEN, only: ['redis'] });
  t.teardown(async () => await stack.stop());
  t.equal(stack.urls.mongo, '');
  t.same(stackEnvironment(stack.urls), { TOLLGATE_REDIS_URL: 'redis://h:2/0' });
});

await t.test('half of a given RabbitMQ is a fault that names the other half', async (t) => {
  const environment = { TOLLGATE_AMQP_URL: 'amqp://h:3/' };
  await t.rejects(startStack({ environment }), {
    code: 'TG_SETUP_MISSING',
    message: /set TOLLGATE_AMQP_ADMIN_URL too/,
  });
});
