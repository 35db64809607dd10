import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { isAlive } from '../../src/stack/processes.ts';
import { until } from '../support/until.ts';
import type { Owned } from './owner.ts';

const OWNER = fileURLToPath(new URL('owner.ts', import.meta.url));

async function startOwner(mode: 'start' | 'with', servers: string): Promise<[ChildProcess, Owned]> {
  const owner = spawn(process.execPath, [OWNER, mode, servers], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface({ input: owner.stdout }), 'line');
  const owned: Owned = JSON.parse(String(line));
  return [owner, owned];
}

/** Processes that live and belong to a stack: known by identity, or by the stack's folder on their command line. */
function left({ folder, processes }: Owned): readonly string[] {
  const known = processes.filter(isAlive).map(({ pid }) => String(pid));
  const named = readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder);
    } catch {
      return false;
    }
  });
  return [...known, ...named];
}

await t.test('kill -9 of the owner leaves no process and no folder', async (t) => {
  const [owner, owned] = await startOwner('start', 'postgres,redis,rabbitmq');
  t.ok(owned.processes.length > 12, 'the owner, its helpers, the reaper and three servers with children');
  owner.kill('SIGKILL');
  await until(() => left(owned).length === 0, 'every process to end');
  await until(() => !existsSync(owned.folder), 'the folder to be removed');
});

await t.test('kill -9 of the owner and the reaper at once leaves no server', async (t) => {
  const [owner, owned] = await startOwner('start', 'redis');
  const reaper = owned.processes.find(({ pid }) =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('stack/reaper'),
  );
  t.ok(reaper);
  const redis = owned.processes.find(({ pid }) =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('redis-server'),
  );
  t.ok(redis);
  if (reaper) process.kill(reaper.pid, 'SIGKILL');
  owner.kill('SIGKILL');
  await until(() => redis && !isAlive(redis), 'Redis to end by the death signal');
  // Nobody is left to do these.
  for (const { pid } of owned.processes.filter(isAlive)) process.kill(pid, 'SIGKILL');
  rmSync(owned.folder, { recursive: true, force: true });
});

for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  await t.test(`${signal} ends owner, helpers and servers before the owner exits ${status}`, async (t) => {
    const [owner, owned] = await startOwner('with', 'redis');
    owner.kill(signal);
    const [code] = await once(owner, 'exit');
    t.equal(code, status);
    t.same(left(owned), []);
    t.notOk(existsSync(owned.folder));
  });
}

await t.test('a signal while the servers start leaves nothing', async (t) => {
  const owner = spawn(process.execPath, [OWNER, 'with', 'rabbitmq'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const pid = String(owner.pid);
  const childrenOf = () => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
  // The reaper, epmd and the broker.
  await until(() => childrenOf().length === 3, 'the broker to be started');
  const started = childrenOf();
  owner.kill('SIGINT');
  const [code] = await once(owner, 'exit');
  t.equal(code, 130);
  t.same(
    started.filter((child) => existsSync(`/proc/${child}`)),
    [],
  );
});

await t.test('two stacks started at once share no port and no folder', async (t) => {
  const [[one, first], [two, second]] = await Promise.all([
    startOwner('start', 'redis,postgres'),
    startOwner('start', 'redis,postgres'),
  ]);
  t.not(first.folder, second.folder);
  one.kill('SIGKILL');
  await until(() => left(first).length === 0 && !existsSync(first.folder), 'the first to end');
  t.ok(second.processes.every(isAlive), 'the second is untouched');
  two.kill('SIGKILL');
  await until(() => left(second).length === 0 && !existsSync(second.folder), 'the second to end');
});
