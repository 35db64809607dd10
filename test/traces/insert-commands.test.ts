import * as fc from 'fast-check';
import { Binary, BSON, type Document } from 'mongodb';
import t from 'tap';
import { commandsOf, isTooLarge } from '../../src/traces/insert-commands.ts';

/** What a command may be with all its documents, and what the driver's buffer holds. Source: MongoDB's limits and thresholds. */
const COMMAND_BYTES_MAX = 16 * 1_048_576;

await t.test('what fits goes in one durable, unordered command', async (t) => {
  const documents = [{ _id: 1 }, { _id: 2 }];
  t.same(
    [...commandsOf('requests', documents)].map(({ from, command }) => ({ from, command })),
    [
      {
        from: 0,
        command: {
          insert: 'requests',
          ordered: false,
          writeConcern: { w: 'majority', j: true },
          documents,
        },
      },
    ],
  );
  t.same([...commandsOf('requests', [])], []);
});

await t.test('more goes in as many as it needs, each with the place of its first document', async (t) => {
  const megabyte = new Binary(Buffer.alloc(1_000_000));
  const documents = Array.from({ length: 40 }, (_, place) => ({ _id: place, body: megabyte }));
  const commands = [...commandsOf('requests', documents)];
  t.ok(commands.length >= 3 && commands.length <= 4, `${commands.length} commands`);
  const placed: unknown[] = [];
  for (const { from, command } of commands) {
    t.equal(from, placed.length);
    placed.push(...command['documents']);
    t.ok(BSON.calculateObjectSize(command) <= COMMAND_BYTES_MAX);
  }
  t.same(placed, documents);
});

await t.test('one that is too large by itself goes alone, to be refused', async (t) => {
  const huge = { _id: 'huge', text: 'x'.repeat(17_000_000) };
  const commands = [...commandsOf('attempts', [{ _id: 1 }, huge, { _id: 2 }])];
  t.same(
    commands.map((one) => [one.from, one.documents.length, isTooLarge(one)]),
    [
      [0, 1, false],
      [1, 1, true],
      [2, 1, false],
    ],
  );
});

await t.test('no command is larger than what it is taken for', async (t) => {
  const leaf = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 50 }),
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    fc.date({ noInvalidDate: true }),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.uint8Array({ maxLength: 50 }).map((bytes) => new Binary(bytes)),
  );
  const { document } = fc.letrec<{ value: unknown; document: Document }>((tie) => ({
    value: fc.oneof({ maxDepth: 4 }, leaf, fc.array(tie('value'), { maxLength: 5 }), tie('document')),
    document: fc.dictionary(
      fc.string({ maxLength: 8 }).filter((key) => !key.includes('\0')),
      tie('value'),
      { maxKeys: 6 },
    ),
  }));
  const filler = { _id: 0, body: new Binary(Buffer.alloc(15_999_900)) };
  fc.assert(
    fc.property(document, (one) => {
      for (const { command } of commandsOf('events', [filler, one]))
        t.ok(BSON.calculateObjectSize(command) <= COMMAND_BYTES_MAX);
    }),
    { numRuns: 200 },
  );
});
