import { randomBytes } from 'node:crypto';
import t from 'tap';
import { Models } from '../../src/network/models.ts';
import { Nodes } from '../../src/network/nodes.ts';
import { testLedger } from '../support/ledger.ts';

await t.test('nodes', async (t) => {
  const ledger = await testLedger(t);
  const nodes = new Nodes(ledger.admin);
  await new Models(ledger.admin).add({
    name: 'other-chat',
    inputPriceMicro: null,
    outputPriceMicro: null,
    inputTokensMax: 1,
    outputTokensMax: 1,
    timeoutMsMax: 1_000,
  });
  const node = { id: 'node-2', owner: 'nodes-inc', publicKey: randomBytes(32), models: ['tiny-chat'] };

  await t.test('begin on probation unless said otherwise', async (t) => {
    await nodes.register(node);
    t.match(await nodes.list(), [
      { id: 'node-1', lifecycle: 'active' },
      { id: 'node-2', lifecycle: 'probation', models: new Set(['tiny-chat']) },
    ]);
  });

  await t.test('are registered again only to change their models', async (t) => {
    await nodes.register({ ...node, models: ['other-chat'] });
    t.same((await nodes.list())[1]?.models, new Set(['other-chat']));
    const exists = { code: 'TG_ALREADY_EXISTS' };
    await t.rejects(nodes.register({ ...node, owner: 'somebody-else' }), exists);
    await t.rejects(nodes.register({ ...node, publicKey: randomBytes(32) }), exists);
    await t.rejects(nodes.register({ ...node, id: 'node-3' }), exists, 'one key, one node');
    await t.rejects(nodes.register({ ...node, models: ['no-such-model'] }), { code: 'TG_NOT_FOUND' });
    await t.rejects(nodes.register({ ...node, id: 'node-4', publicKey: randomBytes(31) }), {
      code: 'TG_STORE_REJECTED',
    });
  });

  await t.test('are retired for good', async (t) => {
    await nodes.setLifecycle('node-2', 'active');
    t.equal((await nodes.list())[1]?.lifecycle, 'active');
    await nodes.retire('node-2');
    await nodes.retire('node-2');
    t.equal((await nodes.list())[1]?.lifecycle, 'retired');
    await t.rejects(nodes.setLifecycle('node-2', 'active'), { code: 'TG_NOT_FOUND' });
    await t.rejects(nodes.register(node), { code: 'TG_ALREADY_EXISTS' });
    await t.rejects(nodes.retire('nobody'), { code: 'TG_NOT_FOUND' });
  });
});
