import t from 'tap';
import { CODES } from '../src/errors.ts';
import {
  filesBelow,
  functionsOf,
  type Import,
  importsOf,
  readSource,
  type SourceFile,
} from './support/source-files.ts';

/**
 * Guards of what a compiler does not see: layers, cycles, banned calls, growth, words. Each test collects all offenders and
 * compares with none, so that a failure is the list of what to change.
 */
const SRC = filesBelow('src', ['.ts']);
const TESTS = filesBelow('test', ['.ts']);
const IMPORTS = SRC.flatMap(importsOf);

/** Room → layer. A file may import its own room and lower layers, nothing else. Source: design §4. */
const LAYERS: Readonly<Record<string, number>> = {
  leaf: 0,
  contracts: 1,
  ops: 2,
  broker: 2,
  postgres: 2,
  ledger: 3,
  network: 3,
  traces: 3,
  workers: 3,
  agent: 3,
  dispatcher: 4,
  audit: 4,
  api: 4,
  maintenance: 4,
  stack: 4,
  main: 5,
  demo: 6,
  cli: 7,
};

/** The room of a file in `src`: its folder, with the agent apart from `workers`; the files that wire; the leaves. */
function roomOf(path: string): string {
  if (path === 'src/main.ts' || path === 'src/observe.ts' || path.startsWith('src/daemon/')) return 'main';
  if (path.startsWith('src/workers/agent/')) return 'agent';
  const [, folder = '', rest] = path.split('/');
  return rest === undefined ? 'leaf' : folder;
}

/** `ops` is handed in by constructor, so below the top it is imported for its types only. */
const MAY_USE_OPS: ReadonlySet<string> = new Set(['ops', 'main', 'demo', 'cli']);

function breaksLayers({ from, target, isType }: Import): boolean {
  const room = roomOf(from);
  const other = roomOf(target);
  if (room === other) return false;
  if (other === 'ops') return !isType && !MAY_USE_OPS.has(room);
  return (LAYERS[other] ?? 99) >= (LAYERS[room] ?? -1);
}

/** Package → rooms that may import it, types included: a driver's type does not leave the room that owns the connection. */
const OWNERS: Readonly<Record<string, readonly string[]>> = {
  pg: ['postgres', 'stack'],
  ioredis: ['workers', 'maintenance', 'stack'],
  bullmq: ['maintenance'],
  'pg-boss': ['maintenance'],
  amqplib: ['broker', 'stack'],
  mongodb: ['traces', 'stack'],
  pino: ['ops'],
  'prom-client': ['ops'],
  commander: ['cli'],
  'smol-toml': ['leaf'],
};

/** Calls with one home, as pattern, what to use, and where they may stand. */
const BANNED: readonly { pattern: RegExp; instead: string; except: RegExp }[] = [
  { pattern: /\bDate\.now\(|new Date\(\)/, instead: 'a Clock', except: /^src\/clock\.ts$/ },
  { pattern: /\bprocess\.env\b/, instead: 'loadConfig', except: /^src\/(config\.ts|stack\/)/ },
  { pattern: /(?<!\.)\bconsole\./, instead: 'the Log', except: /^$/ },
  { pattern: /@ts-(ignore|nocheck|expect-error)/, instead: 'a type', except: /^$/ },
  { pattern: /\bTODO\b(?!\(#\d+\):)/, instead: 'TODO(#issue):', except: /^$/ },
];

const FILE_LINES_MAX = 400;
const FUNCTION_LINES_MAX = 70;

/** Files and functions (`file: head`) that may be longer, each with its reason. */
const MAY_BE_LONG: Readonly<Record<string, string>> = {};

function offenders(
  files: readonly SourceFile[],
  isWrong: (line: string, file: SourceFile) => boolean,
): string[] {
  return files.flatMap((file) =>
    file.lines.flatMap((line, at) => (isWrong(line, file) ? [`${file.path}:${at + 1}: ${line.trim()}`] : [])),
  );
}

/** Codes that nothing says yet, each with what will. */
const RESERVED: Readonly<Record<string, string>> = {
  TG_JOB_OUTPUT_EXPIRED: 'answers a duplicate once the export deletes finished jobs from MongoDB',
};

/** A line without what it says in a trailing or whole-line comment. */
function code(line: string): string {
  return /^\s*(\*|\/\/|\/\*)/.test(line) ? '' : line.replace(/\s\/\/ .*$/, '');
}

await t.test('every room has a layer', async (t) => {
  const rooms = new Set(SRC.map((file) => roomOf(file.path)));
  t.same(
    [...rooms].filter((room) => LAYERS[room] === undefined),
    [],
  );
});

await t.test(
  'imports go down: domain rooms do not know each other, and nobody but the top knows ops',
  async (t) => {
    const ours = IMPORTS.filter(({ target }) => target.startsWith('src/'));
    t.ok(ours.length > 50);
    t.same(
      ours.filter(breaksLayers).map(({ from, target }) => `${from} → ${target}`),
      [],
    );
  },
);

await t.test('there are no import cycles', async (t) => {
  const graph = new Map(
    SRC.map((file) => [file.path, importsOf(file).filter((one) => !one.isLazy && !one.isType)]),
  );
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) cycles.push([...trail.slice(at), path].join(' → '));
    if (at >= 0 || done.has(path)) return;
    for (const { target } of graph.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  t.same(cycles, []);
});

await t.test('a driver is known in its own room only', async (t) => {
  const strangers = IMPORTS.filter(({ from, target }) => {
    const owners = OWNERS[target];
    return owners !== undefined && !owners.includes(roomOf(from));
  });
  t.same(
    strangers.map(({ from, target }) => `${from} → ${target}`),
    [],
  );
});

await t.test('calls with one home stay there', async (t) => {
  for (const { pattern, instead, except } of BANNED)
    t.same(
      offenders(SRC, (line, file) => !except.test(file.path) && pattern.test(code(line))),
      [],
      `use ${instead}`,
    );
});

await t.test('every export says what it is', async (t) => {
  const isExport = /^export (?:async |abstract )*(?:function\*?|class|const|let|interface|type) (\w+)/;
  const bare = SRC.flatMap((file) => {
    const explained = new Set<string>();
    return file.lines.flatMap((line, at) => {
      const name = isExport.exec(line)?.[1];
      if (name === undefined) return [];
      // A type derived from the constant above it, an overload, or the next of a run of constants is explained there.
      const isNext = /^export const \w+ = .*;$/.test(file.lines[at - 1] ?? '');
      const isDerived =
        /^export type \w+ = (?:Static<typeof|\(typeof) /.test(line) || explained.has(name) || isNext;
      if (file.lines[at - 1]?.trimEnd().endsWith('*/') || isDerived) {
        explained.add(name);
        return [];
      }
      return [`${file.path}:${at + 1}: ${name}`];
    });
  });
  t.same(bare, []);
});

await t.test('files and functions stay readable', async (t) => {
  const longFiles = SRC.filter((file) => file.lines.length > FILE_LINES_MAX).map((file) => file.path);
  const longFunctions = SRC.flatMap(functionsOf)
    .filter((span) => span.length > FUNCTION_LINES_MAX)
    .map((span) => `${span.file}: ${span.head}`);
  const long = [...longFiles, ...longFunctions];
  t.same(
    long.filter((name) => MAY_BE_LONG[name] === undefined),
    [],
  );
  t.same(
    Object.keys(MAY_BE_LONG).filter((name) => !long.includes(name)),
    [],
    'no exception outlives its reason',
  );
});

await t.test('tests use tap, because tap skips a file of node:test and stays green', async (t) => {
  t.same(
    offenders(TESTS, (line) => /from 'node:test'[;]/.test(line)),
    [],
  );
});

await t.test('no test is skipped or runs alone without a word why', async (t) => {
  const marked = /\bt\.only\(|\bonly: true|\bskip: true|\btodo: true|\bt\.(skip|todo)\(/;
  t.same(
    offenders(TESTS, (line, file) => file.path !== 'test/tidy.test.ts' && marked.test(line)),
    [],
  );
});

/** Full names of a file's tests, those of the tests around them in front. Biome's indentation tells what is inside what. */
function testNames(file: SourceFile): string[] {
  const around: { indent: number; name: string }[] = [];
  return [...file.text.matchAll(/^( *)(?:await |void )?t\.test\(\s*(['"`])(.*?)\2/gm)].map((match) => {
    const [, { length: indent } = '', , name = ''] = match;
    while ((around.at(-1)?.indent ?? -1) >= indent) around.pop();
    around.push({ indent, name });
    return around.map((one) => one.name).join(' › ');
  });
}

await t.test('the tests of one file have different names', async (t) => {
  const twice = TESTS.flatMap((file) => {
    const names = testNames(file);
    return names.filter((name, at) => names.indexOf(name) !== at).map((name) => `${file.path}: ${name}`);
  });
  t.same(twice, []);
});

await t.test('every code is used', async (t) => {
  const text = SRC.filter((file) => file.path !== 'src/errors.ts')
    .map((file) => file.text)
    .join('\n');
  const sql = filesBelow('sql', ['.sql']).map((file) => file.text);
  const used = new Set([text, ...sql].join('\n').match(/\bTG_[A-Z]+_[A-Z_]*[A-Z]\b/g));
  const thrown =
    readSource('src/errors.ts')
      .text.match(/super\('(TG_\w+)'/g)
      ?.join(' ') ?? '';
  t.same(
    Object.keys(CODES).filter(
      (name) => !used.has(name) && !thrown.includes(name) && RESERVED[name] === undefined,
    ),
    [],
  );
  t.same(
    [...used].filter((name) => !Object.hasOwn(CODES, name)),
    [],
    'and none is used that is not in the table',
  );
});

await t.test('every code is documented', async (t) => {
  const { text } = readSource('docs/messages.md');
  t.same(
    Object.keys(CODES).filter((name) => !text.includes(`\`${name}\``)),
    [],
  );
});

await t.test('no path of a machine of ours is anywhere', async (t) => {
  const folders = ['src', 'test', 'bench', 'chaos', 'simulation', 'scripts', 'bin', 'docs', 'sql', 'deploy'];
  const files = folders.flatMap((folder) =>
    filesBelow(folder, ['.ts', '.mjs', '.md', '.sql', '.lua', '.json']),
  );
  const machine = /(?:^|[\s'"`(=])\/(?:home|root|work|Users)\//;
  t.same(
    offenders(files, (line) => machine.test(line)),
    [],
  );
});
