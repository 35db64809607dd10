import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Management } from '../../src/broker/management.ts';
import { ModelServer } from '../../src/demo/model-server.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { cliEnvironment } from '../support/cli-environment.ts';
import { CliProcess } from '../support/cli-process.ts';
import { runCli } from '../support/run-cli.ts';
import { isolatedServers } from '../support/servers.ts';
import { until } from '../support/until.ts';

/**
 * What docs/commands.md calls "From nothing to an answer", typed by a test. All that starts `tollgate dev` is in this file: its user at the
 * broker has one name, whatever the vhost, so two at once would change each other's password.
 */
const servers = await isolatedServers(t, { postgres: true, redis: true, amqp: true, mongo: true });
const env = cliEnvironment(servers);
const node = `w${newUuidV7().slice(-12)}`;
const folder = t.testdir();
const management = new Management({ url: servers.amqpAdminUrl, vhost: servers.vhost, requestMsMax: 5_000 });

async function ok(...args: string[]): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await runCli([...args, '--json'], { env });
  t.equal(status, 0, `${args.join(' ')}: ${stderr}`);
  return JSON.parse(stdout);
}

await t.test('dev on given servers prints all URLs and ends on Ctrl-C', async (t) => {
  const given = await isolatedServers(t, { postgres: true, redis: true, amqp: true, mongo: true });
  const file = join(t.testdir(), 'urls.json');
  const dev = CliProcess.start(t, ['dev', '--json', file], {
    ...cliEnvironment(given),
    TOLLGATE_HTTP_PORT: '0',
  });
  await dev.says(/Ctrl-C stops everything/);
  t.ok(existsSync(file));
  const urls: Record<string, string> = JSON.parse(readFileSync(file, 'utf8'));
  t.same(Object.keys(urls), [
    'postgres',
    'postgres_admin',
    'redis',
    'amqp',
    'amqp_admin',
    'amqp_client',
    'mongo',
    'http',
  ]);
  t.match(urls, { redis: given.redisUrl, amqp_client: /^amqp:\/\/p-dev:[0-9a-f]+@/ });
  t.equal((await fetch(`${urls['http']}/livez`)).status, 200);
  t.match(dev.stdout, /export TOLLGATE_AMQP_CLIENT_URL='amqp:/);

  // Nobody has added the model: the answer is a refusal, and it comes all the way back.
  const refused = await runCli(['submit', '--account', 'dev', '--model', 'none', 'hello', '--json'], {
    env: { TOLLGATE_AMQP_CLIENT_URL: urls['amqp_client'] ?? '' },
  });
  t.match(refused, { status: 4, stderr: /^TG_MODEL_UNKNOWN/ });
  const { job }: { job: string } = JSON.parse(refused.stdout);
  const story = await until(async () => {
    const shown = await runCli(['job', 'show', job], { env: cliEnvironment(given) });
    return shown.status === 0 ? shown.stdout : null;
  }, 'the story of the refused job');
  t.match(story, /refused/);

  dev.signal('SIGINT');
  t.equal(await dev.ended, 0, dev.stderr);
  await management.deleteUser('p-dev');
});

await t.test('from nothing to an answer', async (t) => {
  const model = new ModelServer({ models: ['tiny'] });
  await model.start();
  const dev = CliProcess.start(t, ['dev', '--json', join(folder, 'urls.json')], env);
  await dev.says(/Ctrl-C stops everything/);
  const urls: Record<string, string> = JSON.parse(readFileSync(join(folder, 'urls.json'), 'utf8'));
  const client = { ...env, TOLLGATE_AMQP_CLIENT_URL: urls['amqp_client'] ?? '' };

  await ok('model', 'add', 'tiny', '--input-price', '0.5', '--output-price', '1.5');
  const key = join(folder, 'node.pem');
  const registered = await ok('node', 'register', node, '--owner', 'acme', '--models', 'tiny', '--key', key);
  const workLog = join(folder, 'work.jsonl');
  const agent = ['worker', '--node', node, '--key', key, '--slots', '2', '--work-log', workLog];
  agent.push('--model', `tiny=${model.url}`, '--amqp', String(registered['amqp_url']));
  const worker = CliProcess.start(t, agent, { TOLLGATE_FLEET_HEARTBEAT_MS: '500' });

  const submit = ['submit', '--account', 'dev', '--model', 'tiny', '--output-tokens', '20'];
  const answered = await runCli([...submit, 'Tell me of the sea.', '--json'], { env: client });
  t.equal(answered.status, 0, answered.stderr);
  const reply: Record<string, unknown> = JSON.parse(answered.stdout);
  t.match(reply, { state: 'succeeded', output: { text: String }, charged_micro: Number, error: null });
  const id = String(reply['job']);

  const http = ['--http', urls['http'] ?? ''];
  const asked = await runCli([...submit, ...http, 'Tell me of the sky.', '--json'], { env: client });
  t.match(asked, {
    status: 0,
    stderr: /^queued: 1 node registered, 1 of 1 serves tiny, .*, 1 of 1 has a free slot$/m,
  });
  const explained = await runCli(['job', 'explain', id, ...http], { env });
  t.match(explained, { status: 0, stdout: /: it ended, succeeded; tollgate job show tells how$/m });

  const again = await runCli([...submit, 'Tell me of the sea.', '--id', id, '--json'], { env: client });
  t.same(JSON.parse(again.stdout), reply, 'the same job again gets the same answer');
  const other = await runCli([...submit, 'Something else.', '--id', id], { env: client });
  t.match(other, { status: 4, stdout: '', stderr: /^TG_JOB_ID_REUSED: .*\n {2}→ tollgate job show /m });

  const credit = await ok('account', 'show', 'dev');
  const charged = [answered, asked].map(({ stdout }) => Number(JSON.parse(stdout).charged_micro));
  t.equal(
    credit['captured_micro'],
    charged.reduce((sum, micro) => sum + micro, 0),
    'two were charged, once each',
  );
  t.equal(credit['held_micro'], 0);

  const story = await runCli(['job', 'show', id], { env });
  t.match(story, { status: 0, stdout: /succeeded/ });
  t.ok(story.stdout.split('\n').length <= 41 && story.stdout.split('\n').every((line) => line.length <= 100));
  const known = await ok('job', 'show', id);
  t.match(known, { record: { state: 'succeeded', node }, trace: { attempts: [{ result: { text: null } }] } });
  t.notMatch(JSON.stringify(known), 'Tell me of the sea', 'no prompt unless it is asked for');

  const nodes: unknown = await ok('node', 'list');
  t.match(nodes, [{ node, worker: { slots_total: 2, is_draining: false } }]);

  worker.signal('SIGTERM');
  t.equal(await worker.ended, 0, worker.stdout);
  t.match(JSON.parse(readFileSync(workLog, 'utf8').split('\n')[0] ?? ''), { job: id, attempt: 1, node });
  const metrics = await (await fetch(`${urls['http']}/metrics`)).text();
  t.match(
    metrics,
    /^tollgate_jobs_received_total 4$/m,
    'the job, another, the same again, the same id with another prompt',
  );
  t.match(metrics, /^tollgate_jobs_dispatched_total 2$/m);
  t.match(metrics, /^tollgate_jobs_ended_total\{state="succeeded"\} 2$/m);
  t.notMatch(metrics, /sea/);

  const audit = await ok('audit', '--worker-log', workLog);
  t.match(audit, { verdict: /^(ok|not_provable)$/, invariants: Array });
  dev.signal('SIGINT');
  t.equal(await dev.ended, 0, dev.stderr);
  await model.stop();
  await Promise.all([`n-${node}`, 'p-dev'].map((user) => management.deleteUser(user)));
});
