import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { runCli } from '../support/run-cli.ts';

/** A port where nothing listens: 1 is tcpmux, which nobody runs. */
const NOBODY = '127.0.0.1:1';

await t.test('help and version are no faults', async (t) => {
  const help = await runCli(['--help']);
  t.equal(help.status, 0);
  t.match(help.stdout, /Usage: tollgate/);
  t.notMatch(help.stdout, 'docs  ', 'what is hidden is not listed');
  const version = await runCli(['--version']);
  t.match(version, { status: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
});

await t.test('a command whose reader has seen enough ends as it would have', async (t) => {
  t.same(await runCli(['--help'], { isDeaf: true }), { status: 0, stdout: '', stderr: '' });
  t.match(await runCli(['sumbit'], { isDeaf: true }), { status: 2, stderr: /unknown command/ });
});

await t.test('every command explains itself with an example', async (t) => {
  const { stdout } = await runCli(['--help']);
  const names = [...stdout.matchAll(/^ {2}([a-z]+)\b/gm)]
    .map((match) => match[1] ?? '')
    .filter((name) => name !== 'help');
  t.ok(names.length >= 2);
  const helps = await Promise.all(names.map((name) => runCli([name, '--help'])));
  for (const [at, help] of helps.entries())
    t.match(help, { status: 0, stdout: /\nExamples:\n {2}\$ .*tollgate / }, names[at] ?? '');
});

await t.test('a wrong command line exits 2 and names what is wrong', async (t) => {
  const cases: [string[], RegExp][] = [
    [[], /^Usage: tollgate/],
    [['sumbit'], /^TG_CLI_USAGE: unknown command 'sumbit' \(Did you mean submit\?\)/],
    [['submit', '--model', 'tiny', 'x'], /^TG_CLI_USAGE: required option '--account <name>'/],
    [['submit', '--account', 'Acme!', '--model', 'tiny', 'x'], /^TG_CLI_USAGE: option '--account <name>'/],
    [
      ['submit', '--account', 'acme', '--model', 'tiny', '--wait-ms', '1s', 'x'],
      /^TG_CLI_USAGE: option '--wait-ms <n>'/,
    ],
    [
      ['submit', '--account', 'acme', '--model', 'tiny', '--wait-ms', '700000', 'x'],
      /^TG_CLI_USAGE: --wait-ms: /,
    ],
    [
      ['submit', '--account', 'acme', '--model', 'tiny', '--colour', 'x'],
      /^TG_CLI_USAGE: unknown option '--colour'/,
    ],
    [['submit', '--account', 'acme', '--model', 'tiny', 'x'], /^TG_CLI_USAGE: --amqp: /],
    [['serve', '--set', 'nonsense'], /^TG_CLI_USAGE: --set: /],
  ];
  const results = await Promise.all(cases.map(([args]) => runCli(args)));
  for (const [at, [args, pattern]] of cases.entries())
    t.match(results[at], { status: 2, stderr: pattern, stdout: '' }, args.join(' '));
});

await t.test('a wrong configuration exits 2 with all its faults, and repeats no secret', async (t) => {
  const { status, stderr, stdout } = await runCli(['serve', '--set', 'line.prefetchMin=0', '--json'], {
    env: { TOLLGATE_DIGEST_KEY: 'hunter2', TOLLGATE_POSTGRES_URL: 'mysql://root:hunter3@x/y' },
  });
  t.equal(status, 2);
  for (const fault of ['line.prefetchMin', 'secrets.digestKey', 'servers.postgresUrl', 'servers.redisUrl'])
    t.match(stderr, new RegExp(`^ {2}${fault}: `, 'm'));
  t.match(JSON.parse(stdout), { error: { code: 'TG_CONFIG_INVALID', message: /servers\.redisUrl/ } });
  t.notMatch(stderr + stdout, /hunter/);
});

await t.test('what would be used can be looked at, without secrets', async (t) => {
  const env = {
    TOLLGATE_POSTGRES_URL: 'postgres://u:hunter2@h/d',
    TOLLGATE_REDIS_URL: 'redis://h/0',
    TOLLGATE_AMQP_URL: 'amqp://u:hunter2@h/',
    TOLLGATE_MONGO_URL: 'mongodb://h/d',
    TOLLGATE_DIGEST_KEY: 'hunter2hunter2hunter2hunter2hunter2',
  };
  const shown = await runCli(['serve', '--check'], { env });
  t.match(shown, { status: 0, stdout: /^\[secrets\]\ndigestKey = "\[set\]"$/m });
  const json = await runCli(['serve', '--check', '--json'], { env });
  t.match(JSON.parse(json.stdout), {
    servers: { postgresUrl: 'postgres://u:***@h/d' },
    log: { level: 'info' },
  });
  t.notMatch(shown.stdout + json.stdout, /hunter/);
});

await t.test('--json FILE writes the file and keeps the text', async (t) => {
  const file = join(t.testdir(), 'out.json');
  const args = ['submit', '--account', 'acme', '--model', 'tiny', 'x', '--json'];
  const { status, stdout, stderr } = await runCli([...args, file]);
  t.match({ status, stdout }, { status: 2, stdout: '' });
  t.match(stderr, /^TG_CLI_USAGE/);
  t.match(JSON.parse(readFileSync(file, 'utf8')), { error: { code: 'TG_CLI_USAGE', message: /--amqp/ } });
  t.match(await runCli([...args, '/nowhere/at/all']), { status: 2, stderr: /^TG_CLI_USAGE: --amqp/ });
});

await t.test('a server that is away exits 3 within seconds', async (t) => {
  const begunMs = performance.now();
  const result = await runCli(['submit', '--account', 'acme', '--model', 'tiny'], {
    env: { TOLLGATE_AMQP_CLIENT_URL: `amqp://p-acme:hunter2@${NOBODY}/` },
    stdin: 'a prompt',
  });
  t.match(result, { status: 3, stdout: '', stderr: /^TG_STORE_UNAVAILABLE: rabbitmq: .*\n {2}→ / });
  t.notMatch(result.stderr, 'hunter2');
  t.ok(performance.now() - begunMs < 20_000);
});

await t.test('an empty prompt is refused before anything is asked', async (t) => {
  const env = { TOLLGATE_AMQP_CLIENT_URL: `amqp://p-acme:x@${NOBODY}/` };
  const result = await runCli(['submit', '--account', 'acme', '--model', 'tiny'], { env, stdin: ' \n' });
  t.match(result, { status: 2, stderr: /^TG_CLI_USAGE: prompt: / });
});
