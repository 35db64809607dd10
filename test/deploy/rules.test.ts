import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { findTool } from '../../src/stack/tools.ts';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';

const FOLDER = fileURLToPath(new URL('../../deploy/prometheus/', import.meta.url));
const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const RULES = read('deploy/prometheus/rules.yaml');
const CASES = read('deploy/prometheus/rules-test.yaml');
const RUNBOOKS = read('docs/runbooks.md');

/** Series that others bring, and who. */
const FOREIGN: Readonly<Record<string, string>> = {
  up: 'Prometheus itself',
  node_systemd_unit_state: 'the systemd collector of node_exporter',
};

const promtool = findTool('promtool');
const skip = promtool === undefined && 'promtool not found';

async function run(...args: readonly string[]): Promise<{ status: number; said: string }> {
  return new Promise((resolve) => {
    execFile(promtool ?? '', args, { cwd: FOLDER }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code ?? 1), said: stdout + stderr });
    });
  });
}

/** The rules as their file has them, one entry per alert. */
const ALERTS = RULES.split(/^ {6}- alert: /m)
  .slice(1)
  .map((text) => ({ name: /^\w+/.exec(text)?.[0] ?? '', text }));
const RECORDED = [...RULES.matchAll(/^ {6}- record: (\S+)$/gm)].map((match) => match[1] ?? '');
const EXPRESSIONS = RULES.split('\n')
  .filter((line) => !/^ *(#|summary:|description:|runbook_url:|- record:|- alert:|- name:)/.test(line))
  .join('\n');

await t.test('promtool takes the rules and the configuration', { skip }, async (t) => {
  for (const args of [
    ['check', 'rules', 'rules.yaml'],
    ['check', 'config', 'scrape.yaml'],
  ]) {
    const { status, said } = await run(...args);
    t.equal(status, 0, said);
  }
});

await t.test('each alert fires when it should and not otherwise', { skip }, async (t) => {
  const { status, said } = await run('test', 'rules', 'rules-test.yaml');
  t.equal(status, 0, said);
});

await t.test('for each alert there is a case that fires it', async (t) => {
  t.ok(ALERTS.length > 15);
  const fired = new Set([...CASES.matchAll(/alertname: (\w+)\n +exp_alerts:\n/g)].map((match) => match[1]));
  t.same(
    ALERTS.filter(({ name }) => !fired.has(name)).map(({ name }) => name),
    [],
  );
});

await t.test('each alert says whom to wake, what happened, and where to read on', async (t) => {
  for (const { name, text } of ALERTS) {
    t.match(text, /severity: (page|ticket) /, name);
    t.match(text, /summary: \S.*\.["']?$/m, name);
    t.match(text, /description: \S/, name);
    t.match(text, `runbook_url: docs/runbooks.md#${name.toLowerCase()}\n`, name);
  }
});

await t.test(
  'each alert has its runbook, each runbook its alert, and both say the same of whom to wake',
  async (t) => {
    const sections = RUNBOOKS.split(/^## /m).slice(1);
    t.same(
      sections.map((section) => section.split('\n', 1)[0]),
      ALERTS.map(({ name }) => name),
      'in the same order',
    );
    for (const [at, section] of sections.entries()) {
      const { name = '', text = '' } = ALERTS[at] ?? {};
      const severity = /severity: (\w+)/.exec(text)?.[1] ?? '';
      t.match(section.toLowerCase(), `*${severity}.*`, name);
      for (const part of ['**Customers:**', '**Look:**', '**Do:**', '**Wake somebody'])
        t.match(section, part, name);
    }
  },
);

await t.test(
  'every series that a rule reads is in a scrape of a coordinator, with these labels',
  async (t) => {
    const tollgate = await world(t, { settings: { 'service.countEveryMs': 100 } });
    t.equal((await tollgate.run(tollgate.job())).state, 'succeeded');
    const shown = await until(async () => {
      const text = await (await fetch(`${tollgate.daemon?.httpUrl}/metrics`)).text();
      return /^tollgate_queue_messages\{/m.test(text) && /^tollgate_slots\{/m.test(text) ? text : null;
    }, 'the first count and the first look at the slots');
    const names = [
      ...new Set(EXPRESSIONS.match(/(?<![\w:])(?:tollgate|nodejs|process|node|up)(?:_\w+)?(?=[{)\s[])/g)),
    ];
    const metrics = names.filter((name) => FOREIGN[name] === undefined && !/^tollgate$/.test(name));
    t.ok(metrics.length > 15, metrics.join(' '));
    for (const name of metrics) t.match(shown, new RegExp(`^${name}(?:\\{| )`, 'm'), name);
    for (const [, name = '', label = '', value = ''] of EXPRESSIONS.matchAll(/([\w:]+)\{(\w+)="([^"]+)"/g)) {
      // A recorded series has its metric in the middle of its name.
      const metric = name.split(':')[1] ?? name;
      if (FOREIGN[name] === undefined && label !== 'job')
        t.match(
          shown,
          new RegExp(`^${metric}\\w*\\{.*${label}="${value}"`, 'm'),
          `${name} has ${label} ${value}`,
        );
    }
    for (const name of RUNBOOKS.match(/\b\w+:tollgate_\w+:\w+\b/g) ?? []) t.ok(RECORDED.includes(name), name);
    for (const name of EXPRESSIONS.match(/\b\w+:tollgate_\w+:\w+\b/g) ?? [])
      t.ok(RECORDED.includes(name), name);
  },
);
