import { readFileSync } from 'node:fs';
import t from 'tap';
import { cliEnvironment } from '../support/cli-environment.ts';
import { CliProcess } from '../support/cli-process.ts';
import { runCli } from '../support/run-cli.ts';
import { isolatedServers } from '../support/servers.ts';
import { until } from '../support/until.ts';

const servers = await isolatedServers(t, { postgres: true, redis: true, amqp: true, mongo: true });
const env = {
  ...cliEnvironment(servers),
  TOLLGATE_DIGEST_KEY: 'a-digest-key-of-thirty-six-characters',
  TOLLGATE_HTTP_PORT: '0',
};

await t.test('role passwords are set only to one that is given', async (t) => {
  const noPassword = { ...env, TOLLGATE_POSTGRES_URL: 'postgres://tollgate_dispatcher@db/tollgate' };
  const result = await runCli(['migrate', '--set-role-passwords'], { env: noPassword });
  t.match(result, { status: 2, stderr: /^TG_CLI_USAGE: --set-role-passwords: / });
});

await t.test('a database without the schema is refused, with what to type', async (t) => {
  const result = await runCli(['serve'], { env });
  t.match(result, { status: 1, stderr: /^TG_SCHEMA_MISMATCH: .*tollgate migrate/m });
});

await t.test('a server it cannot do without exits 3, in bounded time', async (t) => {
  const away = { TOLLGATE_POSTGRES_URL: 'postgres://x@127.0.0.1:1/x', TOLLGATE_CONNECT_TIMEOUT_MS: '500' };
  const result = await runCli(['serve'], { env: { ...env, ...away } });
  t.match(result, { status: 3, stderr: /^TG_STORE_UNAVAILABLE: postgres/m });
});

await t.test('a coordinator becomes ready, shows what is documented, and drains on SIGTERM', async (t) => {
  t.equal((await runCli(['migrate'], { env })).status, 0);
  const serve = CliProcess.start(t, ['serve'], env);
  const [, url = ''] = await serve.says(/"url":"(http:[^"]+)"/);
  const ready = await until(async () => {
    const response = await fetch(`${url}/readyz?verbose`);
    return response.status === 200 ? response.json() : null;
  }, 'the coordinator to become ready');
  t.match(ready, { waiting_for: [], checks: Array });

  const metrics = await (await fetch(`${url}/metrics`)).text();
  const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  const shown = [...metrics.matchAll(/^# TYPE (tollgate_\S+)/gm)].map((match) => match[1] ?? '');
  t.ok(shown.length > 20);
  t.same(
    shown.filter((name) => !page.includes(`\`${name}\``) && name !== 'tollgate_build_info'),
    [],
  );
  t.match(metrics, /^tollgate_dependency_up\{name="postgres"\} 1$/m);

  serve.signal('SIGTERM');
  t.equal(await serve.ended, 0, serve.stderr);
  t.match(serve.stdout, /"msg":"stopping"/);
  for (const line of serve.stdout.trim().split('\n')) t.ok(JSON.parse(line));
});
