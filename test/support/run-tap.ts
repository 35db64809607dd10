import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { stackEnvironment } from '../../src/stack/environment.ts';
import { ensureTools } from '../../src/stack/tools.ts';
import { withStack } from '../../src/stack/with-stack.ts';

/**
 * `npm test [-- arguments of "tap run"]`: starts the servers, tells their addresses to the tests by the environment, gets the tools
 * that judge `deploy/`, runs tap, stops the servers, and exits as tap did. Servers whose URLs the environment gives are used where they are.
 */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TAP = `${ROOT}/node_modules/.bin/tap`;

const tell = (line: string) => void process.stderr.write(`${line}\n`);

process.exitCode = await withStack(async (stack) => {
  // Without a tool its tests are left out, and say so.
  const setup = { onProgress: tell, signal: undefined, spent: { downloadMs: 0, installMs: 0 } };
  for (const reason of await ensureTools(setup)) tell(`setup: ${reason}`);
  const env = { ...process.env, ...stackEnvironment(stack.urls) };
  const args = [TAP, 'run', ...process.argv.slice(2)];
  const tap = spawn(process.execPath, args, { cwd: ROOT, env, stdio: 'inherit' });
  if (tap.pid !== undefined) stack.adopt(tap.pid);
  const [code] = await once(tap, 'exit');
  return typeof code === 'number' ? code : 1;
});
