import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { type TObject, Type } from 'typebox';
import { DispatchMessage } from '../../src/contracts/dispatch.ts';
import { FleetMessage } from '../../src/contracts/fleet.ts';
import { ChatInput, JobMessage } from '../../src/contracts/job.ts';
import { publisherUser } from '../../src/contracts/names.ts';
import { parserOf } from '../../src/contracts/parse.ts';
import type { ReplyMessage } from '../../src/contracts/reply.ts';
import { ResultMessage } from '../../src/contracts/result.ts';
import { CODES } from '../../src/errors.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { readSource } from '../support/source-files.ts';
import { passwordOf, world } from '../support/world.ts';

/** docs/messages.md against the program: its client is run, its messages are parsed, its tables are compared. */
const { text: PAGE } = readSource('docs/messages.md');

const runFile = promisify(execFile);

/** The text below a heading, to the next heading. */
function section(heading: string): string {
  const [, text] = PAGE.split(new RegExp(`^## ${heading}.*$`, 'm'));
  if (text === undefined) throw new Error(`docs/messages.md has no heading "${heading}"`);
  return text.split(/^## /m)[0] ?? '';
}

/** The one fenced block of that language in a text. */
function fenced(language: string, text: string): string {
  const blocks = [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))];
  const [block] = blocks;
  if (block?.[1] === undefined || blocks.length > 1) throw new Error(`not one ${language} block`);
  return block[1];
}

/** The JSON example of a section, with what it leaves out filled in. */
function example(heading: string): Buffer {
  const filled = fenced('json', section(heading))
    .replaceAll('0199f0c2-…', newUuidV7())
    .replaceAll('…64 hex…', 'ab'.repeat(32))
    .replaceAll('…base64…', Buffer.alloc(64).toString('base64'));
  return Buffer.from(filled);
}

/** The cells of the rows of a section's table below its head. */
function table(heading: string): string[][] {
  const lines = section(heading).split('\n');
  // The rule under the head has no blank after its first bar.
  const [, ...rows] = lines.filter((line) => line.startsWith('| '));
  return rows.map((row) => row.split(' | ').map((cell) => cell.replaceAll(/^\| | \|$/g, '')));
}

/** What stands in backticks. */
function words(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word);
}

/** Names of the fields of an object schema, those of the objects in it included, without their path. */
function fieldsOf({ properties }: TObject): string[] {
  return Object.entries(properties).flatMap(([name, field]) => [
    name,
    ...(Type.IsObject(field) ? fieldsOf(field) : []),
  ]);
}

/** The fields of a reply; the compiler keeps the list whole. */
const REPLY = {
  v: true,
  job: true,
  state: true,
  output: true,
  usage: true,
  charged_micro: true,
  model_version: true,
  error: true,
} satisfies Record<keyof ReplyMessage, true>;

await t.test('the client of the page runs as it stands and prints the reply to its job', async (t) => {
  const tollgate = await world(t);
  await tollgate.addPublisher('page');
  await tollgate.addAccount('reader', ['page'], 1_000_000n);
  const user = publisherUser('page');
  const url = new URL(tollgate.servers.amqpUrl);
  url.username = user;
  url.password = passwordOf(user);
  // Inside the repository, or `amqplib` would not be found.
  const folder = t.testdir({ 'client.mjs': fenced('js', PAGE) });
  const env = {
    PATH: process.env['PATH'],
    TOLLGATE_AMQP_URL: url.href,
    TOLLGATE_USER: user,
    TOLLGATE_ACCOUNT: 'reader',
    TOLLGATE_MODEL: 'small',
  };
  const { stdout, stderr } = await runFile(process.execPath, [join(folder, 'client.mjs')], {
    env,
    timeout: 30_000,
  });
  t.equal(stderr, '');

  const reply: ReplyMessage = JSON.parse(stdout);
  t.match(reply, {
    v: 1,
    state: 'succeeded',
    output: { text: /\S/, finish_reason: /^(stop|length)$/ },
    error: null,
  });
  const job = reply.job ?? '';
  t.match(await tollgate.books.job(job), { state: 'succeeded', charged_micro: String(reply.charged_micro) });
  t.same(await tollgate.books.transfersOf(job), ['lock', 'capture']);
  const [request] = await tollgate.books.sql<{ account: string }>(
    'select a.name as account from jobs.jobs j join identity.accounts a on a.id = j.account_id where j.id = $1',
    [job],
  );
  t.same(request, { account: 'reader' });

  const shown: ReplyMessage = JSON.parse(example('Reply').toString());
  for (const part of ['output', 'usage'] as const)
    t.same(Object.keys(reply[part] ?? {}).toSorted(), Object.keys(shown[part] ?? {}).toSorted(), part);
  t.same(Object.keys(reply).toSorted(), Object.keys(shown).toSorted());
});

await t.test('the reply of the page has the fields of a reply', async (t) => {
  t.same(Object.keys(JSON.parse(example('Reply').toString())).toSorted(), Object.keys(REPLY).toSorted());
});

const MESSAGES: readonly (readonly [heading: string, schema: TObject])[] = [
  ['Dispatch', DispatchMessage],
  ['Result', ResultMessage],
  ['Fleet', FleetMessage],
];

for (const [heading, schema] of MESSAGES)
  await t.test(`the ${heading.toLowerCase()} of the page is one, with every field`, async (t) => {
    const body = example(heading);
    const parsed = parserOf(schema)(body);
    t.equal(parsed.ok ? null : parsed.fault, null);
    t.same(Object.keys(JSON.parse(body.toString())).toSorted(), Object.keys(schema.properties).toSorted());
  });

await t.test("the job's table names every field of a job, and no other", async (t) => {
  const fields = [...fieldsOf(JobMessage), ...fieldsOf(ChatInput)].filter(
    // Of a message of the input: they are in the column of types.
    (name) => !['role', 'content'].includes(name),
  );
  const rows = table('Job');
  const named = rows.flatMap(([name = '']) => words(name).flatMap((path) => path.split('.')));
  const typed = rows.flatMap(([, type = '']) => words(type));
  t.same(
    fields.filter((name) => !named.includes(name) && !typed.includes(name)),
    [],
  );
  t.same(
    named.filter((name) => !fields.includes(name)),
    [],
  );
});

await t.test("the codes' table is the program's", async (t) => {
  t.same(
    table('Codes'),
    Object.entries(CODES).map(([name, { text, retryable }]) => [
      `\`${name}\``,
      text,
      retryable ? 'yes' : 'no',
    ]),
  );
});
