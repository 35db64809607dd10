import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import t from 'tap';
import { EXIT } from '../../src/cli/failure.ts';
import { program } from '../../src/cli/program.ts';

const root = new URL('../../', import.meta.url);
const page = readFileSync(new URL('docs/commands.md', root), 'utf8');

/** Full name → command, for all that can be typed and are not hidden. */
function leaves(command: Command, path: readonly string[] = []): [string, Command][] {
  const visible = command.createHelp().visibleCommands(command);
  const members = visible.filter((member) => member.name() !== 'help');
  if (members.length === 0) return [[path.join(' '), command]];
  return members.flatMap((member) => leaves(member, [...path, member.name()]));
}

const commands = new Map(leaves(program()));

/** Long options of a command, without help. */
function optionsOf(command: Command): string[] {
  return command.options.flatMap((option) => option.long ?? []);
}

await t.test('every command has its place on the page', async (t) => {
  t.ok(commands.size >= 10);
  t.same(
    [...commands.keys()].filter((name) => !page.includes(`\n## tollgate ${name}\n`)),
    [],
  );
});

await t.test('every option is on the page', async (t) => {
  const missing = [...commands].flatMap(([name, command]) =>
    optionsOf(command)
      .filter((option) => !page.includes(option))
      .map((option) => `${name} ${option}`),
  );
  t.same(missing, []);
});

await t.test('every exit status is on the page', async (t) => {
  for (const status of Object.values(EXIT)) t.match(page, new RegExp(`^\\| ${status} \\| `, 'm'));
});

await t.test(
  'every line to type, on any page and in any help, is of a command and options that exist',
  async (t) => {
    const pages = ['README.md', 'docs/commands.md', 'docs/messages.md'].map((path) =>
      readFileSync(new URL(path, root), 'utf8'),
    );
    const helps = [...commands.values()].map((command) => {
      let text = '';
      command.configureOutput({ writeOut: (part) => void (text += part) }).outputHelp();
      return text;
    });
    const lines = [...pages, ...helps]
      .flatMap((text) => text.split('\n'))
      .map(
        (line) =>
          /^(?:tollgate|  \$.*?\stollgate) [a-z].*$/
            .exec(line)?.[0]
            .replace(/^  \$.*?\stollgate/, 'tollgate') ?? '',
      )
      .filter((line) => line !== '');
    t.ok(lines.length > 30);
    for (const line of lines) {
      const name = [...commands.keys()].find((known) => `${line} `.startsWith(`tollgate ${known} `));
      if (name === undefined) {
        t.fail(`no such command: ${line}`);
        continue;
      }
      const options = optionsOf(commands.get(name) ?? program());
      const typed = line.replaceAll(/"[^"]*"/g, '').match(/(?<= )--[a-z-]+/g) ?? [];
      t.same(
        typed.filter((option) => option !== '--help' && !options.includes(option)),
        [],
        line,
      );
    }
  },
);
