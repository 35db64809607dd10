import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ensureTools, findTool, TOOL_NAMES } from '../../src/stack/tools.ts';

await t.test('tools that are here are found, and nothing is done about them', async (t) => {
  const told: string[] = [];
  const setup = { onProgress: (line: string) => void told.push(line), signal: undefined };
  const missing = TOOL_NAMES.filter((tool) => findTool(tool) === undefined);
  if (missing.length > 0) return t.comment(`missing here: ${missing.join(', ')}`);
  t.same(await ensureTools({ ...setup, spent: { downloadMs: 0, installMs: 0 } }), []);
  t.same(told, []);
});

await t.test('our own cache is looked into', async (t) => {
  const { PATH, XDG_CACHE_HOME } = process.env;
  t.teardown(() => {
    process.env['PATH'] = PATH;
    if (XDG_CACHE_HOME === undefined) delete process.env['XDG_CACHE_HOME'];
    else process.env['XDG_CACHE_HOME'] = XDG_CACHE_HOME;
  });
  const folder = t.testdir({ tollgate: { tools: { promtool: '' } } });
  process.env['XDG_CACHE_HOME'] = folder;
  process.env['PATH'] = folder;
  const cached = join(folder, 'tollgate/tools/promtool');
  t.ok(existsSync(cached));
  // One that the system has wins.
  t.ok(['/usr/bin/promtool', '/usr/local/bin/promtool', cached].includes(findTool('promtool') ?? ''));
});
