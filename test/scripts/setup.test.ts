import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A checkout with the scripts, a lock that wants one package, and an npm that only pretends. */
function checkout(folder: string): { root: string; env: NodeJS.ProcessEnv } {
  cpSync(join(ROOT, 'scripts'), join(folder, 'scripts'), { recursive: true });
  const lock = {
    packages: { '': {}, 'node_modules/one': { version: '1.0.0' }, 'node_modules/two': { optional: true } },
  };
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify(lock));
  mkdirSync(join(folder, 'bin'));
  const npm = `#!/bin/sh
    echo "npm $*" >> calls
    sleep 0.3
    mkdir -p node_modules
    cp package-lock.json node_modules/.package-lock.json
  `;
  writeFileSync(join(folder, 'bin/npm'), npm, { mode: 0o755 });
  const { npm_execpath: _, ...env } = process.env;
  return { root: folder, env: { ...env, PATH: `${join(folder, 'bin')}:${env['PATH']}` } };
}

async function ensure({ root, env }: { root: string; env: NodeJS.ProcessEnv }): Promise<string> {
  const setup = pathToFileURL(join(root, 'scripts/setup.mjs')).href;
  const program = `import { ensureDependencies } from '${setup}'; await ensureDependencies();`;
  const { stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
    env,
  });
  return stderr;
}

const calls = (root: string) => readFileSync(join(root, 'calls'), 'utf8').trim().split('\n');

await t.test('npm ci runs when packages are missing, and not again', async (t) => {
  const place = checkout(t.testdir());
  t.match(await ensure(place), /setup: npm ci, 2 packages/);
  t.equal(await ensure(place), '');
  t.match(calls(place.root), [/^npm ci/]);
});

await t.test('npm ci runs again when the lock wants another version', async (t) => {
  const place = checkout(t.testdir());
  await ensure(place);
  writeFileSync(
    join(place.root, 'package-lock.json'),
    JSON.stringify({ packages: { 'node_modules/one': { version: '1.0.1' } } }),
  );
  await ensure(place);
  t.equal(calls(place.root).length, 2);
});

await t.test('two runs at once install once, and the second says that it waits', async (t) => {
  const place = checkout(t.testdir());
  const told = await Promise.all([ensure(place), ensure(place)]);
  t.equal(calls(place.root).length, 1);
  t.match(told.join(''), /another run is at it; waiting/);
});

await t.test('the scripts need nothing but what Node 20 has', (t) => {
  const scripts = [
    'scripts/run.mjs',
    'scripts/setup.mjs',
    'scripts/launch.mjs',
    'scripts/launched.mjs',
    'bin/tollgate.mjs',
  ];
  for (const script of scripts) {
    const imports = [...readFileSync(join(ROOT, script), 'utf8').matchAll(/\bfrom '([^']+)'/g)].map(
      (match) => match[1],
    );
    t.same(
      imports.filter((name) => !/^(node:|\.\.?\/)/.test(name ?? '')),
      [],
      script,
    );
  }
  t.end();
});

await t.test('an unknown verb is told which there are', (t) => {
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'scripts/run.mjs'), 'demmo'], {
    encoding: 'utf8',
  });
  t.equal(status, 2);
  t.match(stderr, /demo\|test\|bench/);
  t.end();
});

await t.test('the shell script for apt is correct shell', (t) => {
  t.doesNotThrow(() => execFileSync('sh', ['-n', join(ROOT, 'scripts/apt-install.sh')]));
  t.end();
});
