import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { DirectoryPg } from '../../src/network/directory.ts';
import { Models } from '../../src/network/models.ts';
import { Database } from '../../src/postgres/database.ts';
import { databaseOptions, quietLog, testLedger } from '../support/ledger.ts';
import { until } from '../support/until.ts';

/** A poll so rare that what a test sees came by NOTIFY or by `refresh`. */
const byNotify = { pollMs: 60_000, refreshMsMin: 0 };
const byPoll = { pollMs: 50, refreshMsMin: 0 };

await t.test('the directory', async (t) => {
  const ledger = await testLedger(t);
  const directory = new DirectoryPg(byNotify, systemClock, quietLog, ledger.dispatcher);
  t.equal(directory.version, 0);
  t.equal(directory.account('acme'), undefined, 'nothing before start');
  await directory.start();
  await directory.start();
  t.after(() => directory.stop());

  await t.test('holds accounts, publishers, models and nodes after start', (t) => {
    t.same(directory.account('acme'), {
      id: ledger.accountId,
      name: 'acme',
      namespaces: new Map([['acme/prod', ledger.namespaceId]]),
      limits: { jobsPerSecond: null, burstJobs: null, openLocksMax: null, queuedMax: null },
    });
    t.same(directory.publisher('acme-app'), {
      id: ledger.publisherId,
      name: 'acme-app',
      accountIds: new Set([ledger.accountId]),
      bannedUntilMs: Number.NEGATIVE_INFINITY,
    });
    t.match(directory.model('tiny-chat'), {
      id: ledger.modelVersionId,
      model: 'tiny-chat',
      version: 1,
      inputPriceMicro: 1_000_000n,
      outputPriceMicro: 2_000_000n,
      inputTokensMax: 4_096,
      outputTokensMax: 4_096,
      timeoutMsMax: 600_000,
    });
    t.match(directory.node('node-1'), {
      id: 'node-1',
      owner: 'nodes-inc',
      lifecycle: 'active',
      models: new Set(['tiny-chat']),
    });
    t.equal(directory.node('node-1')?.publicKey.length, 32);
    t.same(directory.models(), [directory.model('tiny-chat')]);
    t.same(directory.modelVersion(ledger.modelVersionId), directory.model('tiny-chat'));
    t.ok(directory.version > 0);
    t.end();
  });

  await t.test('follows each kind of change without being asked', async () => {
    await ledger.accounts.create('beta');
    await until(() => directory.account('beta'), 'the account');
    await ledger.accounts.addNamespace('beta/prod');
    await until(() => directory.account('beta')?.namespaces.has('beta/prod'), 'its namespace');
    await ledger.accounts.addPublisher('beta-app');
    await until(() => directory.publisher('beta-app'), 'the publisher');
    await ledger.accounts.entitle('beta-app', 'beta');
    await until(() => directory.publisher('beta-app')?.accountIds.size === 1, 'its entitlement');
  });

  await t.test('puts a new price in place and still knows the old version', async (t) => {
    const models = new Models(ledger.admin);
    const id = await models.setPrice('tiny-chat', { inputPriceMicro: 5n, outputPriceMicro: null });
    await until(() => directory.model('tiny-chat')?.id === id, 'the new version');
    t.match(directory.model('tiny-chat'), { version: 2, inputPriceMicro: 5n, outputPriceMicro: null });
    t.match(directory.modelVersion(ledger.modelVersionId), { version: 1, inputPriceMicro: 1_000_000n });
    t.equal(directory.models().length, 1);
  });

  await t.test('tells its listeners of a change, and of nothing else', async (t) => {
    let changes = 0;
    const unsubscribe = directory.onChange(() => {
      changes++;
    });
    await directory.refresh();
    t.equal(changes, 0);
    await ledger.accounts.create('gamma');
    await until(() => changes === 1, 'the change');
    unsubscribe();
  });

  await t.test('keeps its last copy while PostgreSQL is away', async (t) => {
    const gone = new Database(
      { ...databaseOptions(ledger.adminUrl, null, 1), connectTimeoutMs: 100 },
      quietLog,
    );
    const lonely = new DirectoryPg(byPoll, systemClock, quietLog, gone);
    await lonely.start();
    await gone.close();
    await t.rejects(lonely.refresh(), { name: 'StoreError' });
    t.ok(lonely.account('acme'));
    await lonely.stop();
    await lonely.stop();
  });

  await t.test('cannot start while PostgreSQL is away', async (t) => {
    const nowhere = new Database(
      { ...databaseOptions('postgres://nobody@127.0.0.1:1/none', null), connectTimeoutMs: 100 },
      quietLog,
    );
    t.after(() => nowhere.close());
    await t.rejects(new DirectoryPg(byPoll, systemClock, quietLog, nowhere).start(), { name: 'StoreError' });
  });
});

await t.test('a refresh', async (t) => {
  const ledger = await testLedger(t);

  await t.test('finds a record made a moment before it', async (t) => {
    const directory = new DirectoryPg(
      { pollMs: 60_000, refreshMsMin: 100 },
      systemClock,
      quietLog,
      ledger.dispatcher,
    );
    for (const name of ['one', 'two', 'three']) {
      await ledger.accounts.create(name);
      await directory.refresh();
      t.ok(directory.account(name), name);
    }
  });

  await t.test('is shared by all who ask while one waits, and rate-limited', async (t) => {
    const directory = new DirectoryPg(
      { pollMs: 60_000, refreshMsMin: 150 },
      systemClock,
      quietLog,
      ledger.dispatcher,
    );
    await directory.refresh();
    const began = performance.now();
    const first = directory.refresh();
    t.equal(directory.refresh(), first);
    await first;
    t.ok(performance.now() - began >= 100, 'the second read kept its distance from the first');
  });

  await t.test('by the poll alone, where no notification arrives', async (t) => {
    const directory = new DirectoryPg(byPoll, systemClock, quietLog, ledger.dispatcher);
    await directory.start();
    t.after(() => directory.stop());
    await ledger.sql(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
                       and application_name = 'tollgate-listen'`);
    await ledger.accounts.create('polled');
    await until(() => directory.account('polled'), 'the account');
  });
});
