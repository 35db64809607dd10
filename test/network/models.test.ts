import t from 'tap';
import { Models } from '../../src/network/models.ts';
import { testLedger } from '../support/ledger.ts';

await t.test('models', async (t) => {
  const ledger = await testLedger(t);
  const models = new Models(ledger.admin);
  const limits = { inputTokensMax: 100, outputTokensMax: 200, timeoutMsMax: 60_000 };

  await t.test('are added once, with or without a price', async (t) => {
    const id = await models.add({
      name: 'm.1',
      inputPriceMicro: 0n,
      outputPriceMicro: 10_000_000_000n,
      ...limits,
    });
    t.match(await models.list(), [{ model: 'tiny-chat' }, { id, model: 'm.1', version: 1, ...limits }]);
    await t.rejects(models.add({ name: 'm.1', inputPriceMicro: 1n, outputPriceMicro: 1n, ...limits }), {
      code: 'TG_ALREADY_EXISTS',
    });
  });

  await t.test('have bounds on prices, limits and names', async (t) => {
    const price = { inputPriceMicro: 1n, outputPriceMicro: 1n };
    const beyond = [
      { name: 'Big' },
      { inputPriceMicro: 10_000_000_001n },
      { outputPriceMicro: -1n },
      { inputTokensMax: 10_000_001 },
      { outputTokensMax: 0 },
      { timeoutMsMax: 999 },
    ];
    for (const change of beyond)
      await t.rejects(
        models.add({ name: 'bounded', ...price, ...limits, ...change }),
        { code: 'TG_STORE_REJECTED' },
        Object.keys(change)[0] ?? '',
      );
  });

  await t.test('list the active version only', async (t) => {
    await models.setPrice('m.1', { inputPriceMicro: 1n, outputPriceMicro: 1n });
    t.match((await models.list())[1], { model: 'm.1', version: 2, inputPriceMicro: 1n, ...limits });
    await t.rejects(models.setPrice('none', { inputPriceMicro: 1n, outputPriceMicro: 1n }), {
      code: 'TG_NOT_FOUND',
    });
  });

  await t.test('priced by two operators at once keep one active version', async (t) => {
    await Promise.all(
      [1n, 2n, 3n].map((price) =>
        models.setPrice('m.1', { inputPriceMicro: price, outputPriceMicro: price }),
      ),
    );
    t.equal((await models.list()).length, 2);
    t.equal((await models.list())[1]?.version, 5);
  });
});
