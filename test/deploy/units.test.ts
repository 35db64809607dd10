import { execFile, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { serviceNodeFlags } from '../../bench/process/node-flags.ts';
import { SETTINGS } from '../../src/config-keys.ts';
import { loadConfig } from '../../src/config.ts';
import { findTool } from '../../src/stack/tools.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const DEPLOY = join(ROOT, 'deploy/');
const UNITS = readdirSync(DEPLOY).filter((file) => /\.(service|timer)$/.test(file));
const SERVICES = UNITS.filter((file) => file.endsWith('.service'));

const analyze = findTool('systemd-analyze');
const skip = analyze === undefined && 'systemd-analyze not found';

/** Runs systemd-analyze in `folder`; its status and all it said. */
async function systemdAnalyze(
  folder: string,
  args: readonly string[],
): Promise<{ status: number; said: string }> {
  return new Promise((resolve) => {
    execFile(
      analyze ?? '',
      args,
      { cwd: folder, env: { ...process.env, LC_ALL: 'C.UTF-8' } },
      (error, stdout, stderr) => {
        resolve({ status: error === null ? 0 : Number(error.code ?? 1), said: stdout + stderr });
      },
    );
  });
}

/** A copy of the units that names a program which exists, because Tollgate is not installed here; `change` edits each. */
function copies(folder: string, change = (text: string) => text): string {
  mkdirSync(folder, { recursive: true });
  for (const unit of UNITS) {
    const text = readFileSync(join(DEPLOY, unit), 'utf8').replace(/^ExecStart=.*$/m, 'ExecStart=/bin/true');
    writeFileSync(join(folder, unit), change(text));
  }
  return folder;
}

/** The values of a key in a unit, all of its lines. */
function values(unit: string, key: string): string[] {
  const text = readFileSync(join(DEPLOY, unit), 'utf8');
  return [...text.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map((match) => match[1] ?? '');
}

/** The lines of a unit without comments and without those in which template and unit differ. */
function commonLines(unit: string): string[] {
  return readFileSync(join(DEPLOY, unit), 'utf8')
    .split('\n')
    .filter((line) => !/^(#|Description=|Environment=|EnvironmentFile=|SyslogIdentifier=)/.test(line));
}

/** Seconds of `30s`. */
function seconds(text = ''): number {
  return Number(/^(\d+)s$/.exec(text)?.[1]);
}

await t.test('systemd has nothing to say about the units', { skip }, async (t) => {
  const folder = copies(t.testdir());
  for (const unit of [...UNITS, 'tollgate@9464.service']) {
    if (!existsSync(join(folder, unit))) cpSync(join(folder, 'tollgate@.service'), join(folder, unit));
    t.same(await systemdAnalyze(folder, ['verify', `./${unit}`]), { status: 0, said: '' }, unit);
  }
});

await t.test('a misspelt key would be noticed, though systemd-analyze exits 0', { skip }, async (t) => {
  const folder = copies(t.testdir(), (text) => text.replace('WatchdogSec=', 'WatchdogSecs='));
  const { status, said } = await systemdAnalyze(folder, ['verify', './tollgate.service']);
  t.equal(status, 0);
  t.match(said, /Unknown key/);
});

await t.test('the services are exposed 2.0 at most', { skip }, async (t) => {
  const folder = copies(t.testdir());
  for (const unit of SERVICES) {
    const judged = await systemdAnalyze(folder, [
      'security',
      '--offline=true',
      '--threshold=20',
      `./${unit}`,
    ]);
    t.equal(judged.status, 0, judged.said);
    t.match(judged.said, /Overall exposure level for \S+: [01]\.\d OK|2\.0 OK/);
  }
  const bare = copies(join(t.testdir(), 'bare'), (text) =>
    text.replace(/^(Protect|Private|Restrict|System).*$/gm, ''),
  );
  const judged = await systemdAnalyze(bare, [
    'security',
    '--offline=true',
    '--threshold=20',
    './tollgate.service',
  ]);
  t.not(judged.status, 0, 'and without its restrictions the same unit would not pass');
});

await t.test('the template is the unit, but for what tells the instances apart', async (t) => {
  t.same(commonLines('tollgate@.service'), commonLines('tollgate.service'));
  t.match(values('tollgate@.service', 'Environment')[0], 'TOLLGATE_HTTP_PORT=%i');
});

await t.test(
  'the credentials are settings of ours: all that is required, and nothing of an administrator',
  async (t) => {
    for (const unit of SERVICES)
      for (const credential of values(unit, 'LoadCredential')) {
        const [name = '', path] = credential.split(':');
        const setting = SETTINGS.find(({ credentialNames }) => credentialNames.includes(name));
        t.ok(setting, `${unit}: ${name} is read by the configuration`);
        t.notMatch(name, /admin/);
        t.equal(path, `/etc/tollgate/credentials/${name}`);
      }
    const given = values('tollgate.service', 'LoadCredential').map((credential) => credential.split(':')[0]);
    t.same(
      SETTINGS.filter(({ isRequired }) => isRequired).filter(
        ({ credentialNames }) => !given.includes(credentialNames[0]),
      ),
      [],
      'a coordinator starts with them',
    );
  },
);

await t.test('what the unit waits for is longer than what the coordinator needs', async (t) => {
  const { line, service } = loadConfig({ env: {}, needs: [] });
  const [stop] = values('tollgate.service', 'TimeoutStopSec');
  const [watchdog] = values('tollgate.service', 'WatchdogSec');
  t.ok(seconds(stop) * 1_000 >= line.drainMs + 15_000, 'a drain, the grace behind it, and something');
  t.ok(seconds(watchdog) * 1_000 >= 3 * service.lookEveryMs, 'three signs of life');
});

await t.test('what the units run and name is there', async (t) => {
  for (const unit of SERVICES) {
    const [command = ''] = values(unit, 'ExecStart');
    const [, program = '', name = ''] =
      /^\S+node (?:--\S+ )*\/opt\/tollgate\/dist\/(\S+)\.js (\w+)$/.exec(command) ?? [];
    t.ok(existsSync(new URL(`../../src/${program}.ts`, import.meta.url)), command);
    t.ok(existsSync(new URL(`../../src/cli/${name}.ts`, import.meta.url)), command);
  }
  for (const unit of UNITS)
    for (const page of (values(unit, 'Documentation')[0] ?? '').split(' '))
      t.ok(existsSync(new URL(`../../${page.replace('file:///opt/tollgate/', '')}`, import.meta.url)), page);
});

await t.test(
  'one coordinator and each of several are started alike, as the bench starts its own',
  async (t) => {
    const [one, several] = ['tollgate.service', 'tollgate@.service'].map((unit) => values(unit, 'ExecStart'));
    t.same(one, several);
    const flags = serviceNodeFlags(ROOT);
    t.ok(flags.length > 0 && one?.[0]?.includes(` ${flags.join(' ')} `), String(one));
    t.equal(
      spawnSync(process.execPath, [...flags, '--eval', ''], { encoding: 'utf8' }).stderr,
      '',
      'Node knows them',
    );
    const root = t.testdir({ deploy: { 'tollgate.service': '[Service]\nExecStart=/bin/true\n' } });
    t.throws(() => serviceNodeFlags(root), /does not say how a coordinator is started/);
  },
);

await t.test('the sample of the configuration is one', async (t) => {
  t.equal(loadConfig({ env: {}, needs: [], file: join(DEPLOY, 'tollgate.toml') }).http.port, 9464);
});
