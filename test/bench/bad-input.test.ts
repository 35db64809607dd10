import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { BenchError } from '../../bench/bench-error.ts';
import { type Room, shortcomings } from '../../bench/measure/requirements.ts';
import { requireStrong } from '../../bench/measure/warm-up.ts';
import { runAll } from '../../bench/process/endings.ts';
import { explained, goneError, requireGiven, silentServers } from '../../bench/process/reachable.ts';
import { disturbancesOf, figure, isDisturbed, lateness } from '../../bench/report/findings.ts';

const MAIN = fileURLToPath(new URL('../../bench/main.ts', import.meta.url));
const GIB = 2 ** 30;
const ROOM: Room = { cores: 2, memoryBytes: 3 * GIB, diskBytes: 3 * GIB, folder: 'the folder' };

await t.test('a machine that is too small is told by all that it lacks', async (t) => {
  t.same(shortcomings(ROOM), []);
  t.same(shortcomings({ ...ROOM, cores: 1, memoryBytes: 2.5 * GIB, diskBytes: GIB }), [
    '1 core, and at least 2 are needed',
    '2.5 GiB of memory available, and at least 3.0 GiB are needed',
    '1.0 GiB free in the folder, and at least 3.0 GiB are needed',
  ]);
});

/** A port where something listens, and one where nothing does any more. */
async function ports(t: Tap): Promise<{ open: number; closed: number }> {
  const servers = [createServer((socket) => socket.destroy()), createServer()];
  const numbers: number[] = [];
  for (const server of servers) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    numbers.push(typeof address === 'object' && address !== null ? address.port : 0);
  }
  const [listening, gone] = servers;
  gone?.close();
  t.after(() => listening?.close());
  const [open = 0, closed = 0] = numbers;
  return { open, closed };
}
type Tap = { after(end: () => unknown): void };

await t.test(
  'a server that was named and is not there is told by its address, without its password',
  async (t) => {
    const { open, closed } = await ports(t);
    await requireGiven({});
    await requireGiven({ TOLLGATE_REDIS_URL: `redis://127.0.0.1:${open}/0` });
    const error: unknown = await requireGiven({
      TOLLGATE_REDIS_URL: `redis://me:secret@127.0.0.1:${closed}/0`,
    }).then(
      () => null,
      (reason: unknown) => reason,
    );
    t.type(error, BenchError);
    const { message } = error instanceof Error ? error : new Error('none');
    t.match(message, `Redis does not answer at 127.0.0.1:${closed}, where TOLLGATE_REDIS_URL says it is.`);
    t.match(message, /unset TOLLGATE_REDIS_URL/);
    t.notMatch(message, /secret/);
    t.equal(message.split('\n').length, 2);
  },
);

await t.test('of a broker both addresses are looked at', async (t) => {
  const { open, closed } = await ports(t);
  const environment = {
    TOLLGATE_AMQP_URL: `amqp://guest:guest@127.0.0.1:${open}/`,
    TOLLGATE_AMQP_ADMIN_URL: `http://guest:guest@127.0.0.1:${closed}`,
  };
  const silent = await silentServers(['rabbitmq'], environment);
  t.same(silent, [{ name: 'rabbitmq', title: 'RabbitMQ', address: `127.0.0.1:${closed}` }]);
});

await t.test('a failure is explained by the server that is gone, a lost connection, or itself', async (t) => {
  const { open, closed } = await ports(t);
  const oops = new Error('oops');
  const there = { TOLLGATE_REDIS_URL: `redis://127.0.0.1:${open}` };
  t.equal(await explained(oops, there), oops);
  const reset = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
  t.match(await explained(new Error('a stage', { cause: reset }), there), {
    name: 'BenchError',
    cause: { cause: reset },
  });
  const gone = await explained(oops, { TOLLGATE_REDIS_URL: `redis://127.0.0.1:${closed}` });
  t.match(gone, {
    name: 'BenchError',
    message: `Redis at 127.0.0.1:${closed} went away while the bench ran`,
  });
  t.match(
    goneError({ name: 'postgres', title: 'PostgreSQL', address: 'a:1' }).message,
    /^PostgreSQL at a:1 went away/,
  );
});

await t.test('a setting that is weaker than stated stops the suite', async (t) => {
  const strong = { server: 'postgres', name: 'fsync', value: 'on', needed: 'on' } as const;
  requireStrong([strong]);
  t.throws(() => requireStrong([strong, { ...strong, value: 'off' }]), {
    name: 'WeakSettingError',
    message: /postgres: fsync is off and has to be on/,
  });
});

await t.test('a generator that could not keep its rate makes the runs worthless', async (t) => {
  const onTime = { latenessMs: { p50: 0.6 } };
  t.same(lateness([]), []);
  t.same(lateness([onTime, onTime, onTime, onTime, { latenessMs: { p50: 30 } }, {}]), []);
  t.match(lateness([onTime, { latenessMs: { p50: 30 } }]), [
    /more than 5 ms late at its median in 1 of 2 runs/,
  ]);
});

await t.test('a judged figure whose values lie too far apart counts as disturbed', async (t) => {
  const restless = [1, 1, 9, 9];
  const shown = figure('a', 'a', '×', restless);
  const judged = figure('b', 'b', '×', restless, { target: { atLeast: 1 } });
  t.notOk(isDisturbed({ disturbances: [], figures: [shown] }));
  t.ok(isDisturbed({ disturbances: [], figures: [shown, judged] }));
  t.ok(isDisturbed({ disturbances: ['others'], figures: [] }));
});

await t.test(
  'the bench itself tells of a missing server without a stack, before it starts one',
  async (t) => {
    const { closed } = await ports(t);
    const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'hotpath', '--quick'], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], TOLLGATE_REDIS_URL: `redis://127.0.0.1:${closed}/0` },
    });
    t.equal(status, 1);
    t.equal(stdout, '');
    t.match(stderr, `Redis does not answer at 127.0.0.1:${closed}`);
    t.equal(stderr.trim().split('\n').length, 2);
  },
);

await t.test(
  'a series of which most runs were disturbed is told, however many others were not',
  async (t) => {
    const quiet = Array.from({ length: 20 }, () => ({ name: 'quiet', foreignShare: 0.01 }));
    const loud = [0.3, 0.2, 0.01].map((foreignShare) => ({ name: 'loud', foreignShare }));
    t.same(disturbancesOf([...quiet, ...loud]), [], 'two of twenty-three');
    const [line, ...others] = disturbancesOf([...quiet, ...loud], ({ name }) => name);
    t.match(
      line,
      /^loud: other processes took more than 10 % of the machine in 2 of 3 runs \(at most 30 %\)$/,
    );
    t.same(others, []);
    const late = [8, 9, 1].map((p50) => ({ name: 'late', foreignShare: null, latenessMs: { p50 } }));
    const onTime = Array.from({ length: 20 }, () => ({
      ...late[2],
      name: 'on time',
      foreignShare: null,
      latenessMs: { p50: 1 },
    }));
    t.match(
      disturbancesOf([...onTime, ...late], ({ name }) => name),
      [/^late: the load generator .* late in 2 of 3 runs$/],
    );
  },
);

const NOT_A_FOLDER = fileURLToPath(import.meta.url);

await t.test('a file that could not be written in the end is told before anything is measured', async (t) => {
  for (const [suite, file] of [
    ['limits', join(NOT_A_FOLDER, 'x.json')],
    ['all', join(NOT_A_FOLDER, 'x.json')],
    ['all', dirname(NOT_A_FOLDER)],
  ] as const) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, suite, '--json', file], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });
    t.equal(status, 2, suite);
    t.equal(stdout, '');
    t.match(stderr, `--json ${file} cannot be written: `);
    t.match(stderr, `usage: npm run bench -- ${suite}`);
    t.notMatch(stderr, /^ {4}at /m);
  }
});

function refuse(): never {
  throw new Error('the broker was too slow');
}

await t.test('what cannot be removed holds up nothing else, and is told', async (t) => {
  const called: number[] = [];
  const reasons = await runAll([() => called.push(1), refuse, () => called.push(2)], 60_000);
  t.same(called, [1, 2]);
  t.same(reasons, ['the broker was too slow']);
  const stuck = await runAll([refuse, () => new Promise(() => {}), () => called.push(3)], 20);
  t.same(stuck, ['the broker was too slow', 'not all was removed within 0.02 s']);
  t.same(called, [1, 2]);
});

await t.test('the bench ends with all of its words, although a driver goes on', async (t) => {
  const endings = new URL('../../bench/process/endings.ts', import.meta.url).href;
  const program = `
    import { endWith } from ${JSON.stringify(endings)};
    setInterval(() => {}, 1_000);
    process.on('uncaughtException', () => {});
    process.stdout.write('x'.repeat(1_000_000));
    endWith(3);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  let bytes = 0;
  child.stdout.on('data', (data: Buffer) => (bytes += data.length));
  const [status] = await once(child, 'close');
  t.equal(status, 3);
  t.equal(bytes, 1_000_000);
});
