import t from 'tap';
import { StoreError } from '../../src/errors.ts';
import { createLog } from '../../src/ops/log.ts';

/** A log at `level` and the lines it wrote. */
function recorded(level: 'debug' | 'info' | 'silent' = 'debug') {
  const lines: string[] = [];
  const log = createLog({ level }, { write: (line: string) => void lines.push(line) });
  const last = (): Record<string, unknown> => JSON.parse(lines.at(-1) ?? '{}');
  return { log, lines, last };
}

await t.test('a line is one JSON object with a level name, a time, and the fields', async (t) => {
  const { log, lines, last } = recorded();
  log.info({ pool: 'tiny', jobs: 3, charged: 12n, isWarm: true, at: new Date(0) }, 'dispatched');
  t.match(last(), { level: 'info', msg: 'dispatched', pool: 'tiny', jobs: 3, charged: '12', isWarm: true });
  t.match(last()['time'], /^\d{4}-\d\d-\d\dT/);
  t.equal(last()['at'], '1970-01-01T00:00:00.000Z');
  log.child({ room: 'ledger' }).warn({ list: ['a', 'b'] }, 'slow');
  t.match(last(), { level: 'warn', room: 'ledger', list: ['a', 'b'] });
  t.equal(lines.length, 2);
  t.ok(lines.every((line) => line.endsWith('\n') && line.indexOf('\n') === line.length - 1));
});

await t.test('levels below the configured one are not written', async (t) => {
  const info = recorded('info');
  info.log.debug({}, 'quiet');
  info.log.error({}, 'loud');
  t.equal(info.lines.length, 1);
  const silent = recorded('silent');
  silent.log.error({}, 'nothing');
  t.equal(silent.lines.length, 0);
});

await t.test('content does not reach the log by any road', async (t) => {
  const marker = 'MARK-7c1';
  const { log, lines } = recorded();
  log.info({ prompt: marker, output: { text: marker }, body: Buffer.from(marker) }, 'named');
  log.info({ job: { input: marker, deeper: { still: { deeper: marker } } } }, 'nested');
  log.info({ bytes: Buffer.from(marker) }, 'bytes');
  log.info({ long: 'x'.repeat(300) + marker }, 'long');
  log.info({ many: Array.from({ length: 40 }, (_, i) => (i < 35 ? 'x' : marker)) }, 'many');
  let parseError: unknown;
  try {
    JSON.parse(`${marker} is not JSON`);
  } catch (error) {
    parseError = error;
  }
  t.match(String(parseError), marker, 'the engine does quote what it could not parse');
  log.error({ error: parseError }, 'parse');
  log.error({ error: new Error('outer', { cause: parseError }) }, 'cause');
  log.error({ error: new Error(`first line\nparameters: ${marker}`) }, 'second line');
  t.equal(lines.length, 8);
  t.notMatch(lines.join(''), marker);
});

await t.test('passwords do not reach the log', async (t) => {
  const { log, lines } = recorded();
  const url = 'amqp://user:hunter2@host/';
  log.info({ url }, `to ${url}`);
  log.error({ error: new Error(`cannot connect to ${url}`) }, 'x');
  log.child({ url }).info({ urls: [url] }, 'x');
  t.notMatch(lines.join(''), 'hunter2');
  t.match(lines.join(''), 'amqp://user:***@host/');
});

await t.test(
  'an error keeps its class, code, message, cause and, if nobody expected it, its frames',
  async (t) => {
    const { log, last } = recorded();
    const cause = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    log.error({ error: new StoreError('redis', 'gone', { cause }) }, 'x');
    t.match(last()['error'], {
      name: 'StoreError',
      code: 'TG_STORE_UNAVAILABLE',
      message: 'TG_STORE_UNAVAILABLE: redis: gone',
      cause: { name: 'Error', code: 'ECONNREFUSED', frames: [/^at /] },
    });
    t.notMatch(last(), { error: { frames: Array } });
  },
);
