import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';
import { program } from '../../src/cli/program.ts';
import { QUEUE } from '../../src/contracts/names.ts';
import { SETTINGS } from '../../src/config-keys.ts';

const PAGES = ['docs/runbooks.md', 'deploy/README.md'] as const;
const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

/** `tollgate a b` and `tollgate a` of every command. */
const COMMANDS = new Set(
  program().commands.flatMap((one) => [
    one.name(),
    ...one.commands.map((sub) => `${one.name()} ${sub.name()}`),
  ]),
);
/** Words after `tollgate` that are other things: units, files, talk. */
const CALL = /(?:`|^|\s)tollgate ([a-z]+(?: [a-z-]+)?)/gm;

await t.test('the commands of an operator exist', async (t) => {
  for (const page of PAGES) {
    const calls = [...read(page).matchAll(CALL)].map((match) => match[1] ?? '');
    t.ok(calls.length > 3, page);
    for (const call of calls)
      t.ok(COMMANDS.has(call) || COMMANDS.has(call.split(' ')[0] ?? ''), `${page}: tollgate ${call}`);
  }
});

await t.test('the settings that are named exist', async (t) => {
  const sections = [...new Set<string>(SETTINGS.map(({ section }) => section))].join('|');
  const setting = new RegExp(`\`((?:${sections})\\.[a-zA-Z]+)\``, 'g');
  // Some queues are called like settings.
  for (const page of PAGES)
    for (const [, path = ''] of read(page).matchAll(setting))
      t.ok(
        Object.values<string>(QUEUE).includes(path) || SETTINGS.some((known) => known.path === path),
        `${page}: ${path}`,
      );
});

await t.test('links lead somewhere', async (t) => {
  for (const page of PAGES)
    for (const [, target = ''] of read(page).matchAll(/\]\(([^)\s]+)\)/g)) {
      const [path = '', anchor] = target.split('#');
      const here = new URL(`../../${page}`, import.meta.url);
      const url = path === '' ? here : new URL(path, here);
      t.ok(existsSync(url), `${page}: ${target}`);
      if (anchor === undefined) continue;
      const heads = [...readFileSync(url, 'utf8').matchAll(/^#+ (.*)$/gm)].map((match) =>
        anchorOf(match[1] ?? ''),
      );
      t.ok(heads.includes(anchor), `${page}: ${target}`);
    }
});

/** As GitHub makes it of a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, '')
    .replaceAll(' ', '-');
}
