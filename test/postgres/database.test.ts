import { connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import { Client } from 'pg';
import { StoreError } from '../../src/errors.ts';
import { Database, type DatabaseOptions } from '../../src/postgres/database.ts';
import { SqlRejection } from '../../src/postgres/failures.ts';
import { databaseOptions, migratedDatabase, quietLog, testLedger } from '../support/ledger.ts';
import type { Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** Hands bytes on until `silence`, then holds them: the connection stays open and nothing comes. */
async function silencableProxy(
  t: Teardown,
  target: URL,
): Promise<{ port: number; silence(): void; speak(): void }> {
  const sockets = new Set<Socket>();
  let isSilent = false;
  const server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('data', (bytes) => to.write(bytes));
      from.on('error', () => undefined);
      from.on('close', () => to.destroy());
    }
    if (isSilent) near.pause();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const each = (act: (socket: Socket) => void) => {
    for (const socket of sockets) act(socket);
  };
  return {
    port,
    silence: () => {
      isSilent = true;
      each((socket) => socket.pause());
    },
    speak: () => {
      isSilent = false;
      each((socket) => socket.resume());
    },
  };
}

await t.test('a database', async (t) => {
  const url = await migratedDatabase(t);
  const admin = new Client({ connectionString: url });
  await admin.connect();
  t.after(() => admin.end());
  const open = (t: Teardown, change: Partial<DatabaseOptions> = {}): Database => {
    const db = new Database({ ...databaseOptions(url, null, 2), ...change }, quietLog);
    t.after(() => db.close());
    return db;
  };
  const terminate = () =>
    admin.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name like 'tollgate%'`,
    );

  await t.test('gives int8 as bigint, without losing a digit', async (t) => {
    await admin.query('update network.revision set last = 9007199254740993');
    t.same(await open(t).query('read_revision'), [{ last: 9_007_199_254_740_993n }]);
    await admin.query('update network.revision set last = 0');
  });

  await t.test('is down until the first answer, and tells every move', async (t) => {
    const db = open(t);
    const moves: boolean[] = [];
    const unsubscribe = db.onChange((dependency) => moves.push(dependency.isUp));
    t.notOk(db.isUp);
    await db.query('ping');
    t.ok(db.isUp);
    await terminate();
    await until(() => moves.length === 3, 'the loss and the return');
    t.same(moves, [true, false, true], 'it came back by itself');
    t.match(db.dependency, { name: 'postgres', isUp: true });
    unsubscribe();
  });

  await t.test('outlives a lost connection in the middle of a statement', async (t) => {
    const db = open(t);
    await admin.query('begin; lock network.revision in access exclusive mode');
    const waiting = db.query('read_revision').catch((error: unknown) => error);
    await until(
      async () => (await admin.query(`select from pg_locks where not granted`)).rowCount,
      'it to wait',
    );
    await terminate();
    t.ok((await waiting) instanceof StoreError);
    await admin.query('rollback');
    t.same(await db.query('ping'), [{ one: 1 }]);
  });

  await t.test('gives up a statement that takes too long, and a lock that does not come', async (t) => {
    await admin.query('begin; lock network.revision in access exclusive mode');
    await t.rejects(open(t, { statementMsMax: 100, lockWaitMsMax: 5_000 }).query('read_revision'), {
      name: 'StoreError',
      message: /57014/,
    });
    await t.rejects(open(t, { lockWaitMsMax: 100 }).query('read_revision'), {
      name: 'StoreError',
      message: /55P03/,
    });
    await admin.query('rollback');
  });

  await t.test(
    'throws StoreError where nobody answers, and SqlRejection where the server says no',
    async (t) => {
      const nowhere = open(t, { url: 'postgres://nobody@127.0.0.1:1/none', connectTimeoutMs: 200 });
      await t.rejects(nowhere.query('ping'), {
        name: 'StoreError',
        store: 'postgres',
        code: 'TG_STORE_UNAVAILABLE',
      });
      t.match(nowhere.dependency, { isUp: false, detail: /ECONNREFUSED/ });
      const db = open(t);
      const rejection = await db.query('top_up', ['no-uuid', 'x', 1]).catch((error: unknown) => error);
      t.ok(rejection instanceof SqlRejection && rejection.isAboutValues);
      t.match(rejection, { code: 'TG_STORE_REJECTED', sqlState: '22P02' });
      t.same(await db.query('ping'), [{ one: 1 }], 'the connection is used again');
      await t.rejects(open(t, { url: databaseOptions(url, 'tollgate_settler').url }).query('read_revision'), {
        name: 'SqlRejection',
        sqlState: '42501',
      });
    },
  );

  await t.test('gives up on a server that goes silent, and comes back to it', async (t) => {
    const proxy = await silencableProxy(t, new URL(url));
    const address = Object.assign(new URL(url), { host: `127.0.0.1:${proxy.port}` });
    const db = open(t, { url: address.href, statementMsMax: 100, connectTimeoutMs: 300 });
    await db.query('ping');
    proxy.silence();
    await t.rejects(db.query('ping'), { name: 'StoreError' });
    t.notOk(db.isUp);
    proxy.speak();
    await until(() => db.isUp, 'it to answer again');
  });

  await t.test('waits for a connection no longer than its timeout', async (t) => {
    const db = open(t, { connectionsMax: 1, connectTimeoutMs: 100 });
    await admin.query('begin; lock network.revision in access exclusive mode');
    const held = db.query('read_revision');
    await t.rejects(db.query('ping'), { name: 'StoreError' });
    await admin.query('rollback');
    await held;
  });

  await t.test('closes twice, and a query after it is a StoreError', async (t) => {
    const db = open(t);
    await db.query('ping');
    await db.close();
    await db.close();
    await t.rejects(db.query('ping'), { name: 'StoreError' });
  });
});

await t.test('listen', async (t) => {
  const ledger = await testLedger(t);
  let heard = 0;
  const unlisten = ledger.dispatcher.listen('listen_directory', () => {
    heard++;
  });
  await until(() => heard === 1, 'the first LISTEN');

  await t.test('hears every committed change of the directory, and none that was rolled back', async (t) => {
    await ledger.sql('begin');
    await ledger.sql(`select identity.create_account('undone')`);
    await ledger.sql('rollback');
    await ledger.accounts.create('done');
    await until(() => heard === 2, 'the notification');
    t.equal(heard, 2);
  });

  await t.test('listens again after its connection is lost, and says so', async () => {
    await ledger.sql(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
                       and application_name = 'tollgate-listen'`);
    await until(() => heard === 3, 'the LISTEN after the loss');
    await ledger.accounts.create('later');
    await until(() => heard === 4, 'a notification after it');
  });

  await t.test('ends', async (t) => {
    await unlisten();
    await unlisten();
    const rows = await ledger.sql(`select from pg_stat_activity where datname = current_database()
                                     and application_name = 'tollgate-listen'`);
    t.equal(rows.length, 0);
  });
});

await t.test('a listener whose server fell silent stops all the same', async (t) => {
  const url = new URL(await migratedDatabase(t));
  const proxy = await silencableProxy(t, url);
  const address = Object.assign(new URL(url), { host: `127.0.0.1:${proxy.port}` });
  const db = new Database({ ...databaseOptions(address.href, null, 2), connectTimeoutMs: 200 }, quietLog);
  t.teardown(() => db.close());
  let heard = 0;
  const unlisten = db.listen('listen_directory', () => {
    heard++;
  });
  await until(() => heard === 1, 'the first LISTEN');
  proxy.silence();
  await unlisten();
  proxy.speak();
});
