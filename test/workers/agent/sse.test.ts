import * as fc from 'fast-check';
import t from 'tap';
import { SseParser } from '../../../src/workers/agent/sse.ts';

/** Everything the parser finds in `text` when its bytes come in pieces that end at `cuts`. */
function parse(text: string, cuts: readonly number[] = []): string[] {
  const bytes = Buffer.from(text);
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b);
  const parser = new SseParser();
  let from = 0;
  return ends.flatMap((end) => {
    const events = parser.push(bytes.subarray(from, end));
    from = end;
    return events;
  });
}

await t.test('an event is its data lines joined; all else is skipped', async (t) => {
  t.same(parse('data: one\n\n'), ['one']);
  t.same(parse('data:one\n\ndata:  two\n\n'), ['one', ' two'], 'one space after the colon belongs to it');
  t.same(parse('data: a\ndata: b\n\n'), ['a\nb']);
  t.same(parse(': comment\nevent: x\nid: 7\nretry: 1\ndata: a\n\n'), ['a']);
  t.same(parse('data\n\n'), ['']);
  t.same(parse('\n\n: only a comment\n\n'), []);
  t.same(parse('database: no\n\n'), []);
  t.same(parse('\uFEFFdata: after a byte order mark\n\n'), ['after a byte order mark']);
});

await t.test('an event that is not ended is dropped', async (t) => {
  t.same(parse('data: whole\n\ndata: cut\n'), ['whole']);
  t.same(parse('data: whole\n\ndata: c'), ['whole']);
});

await t.test('lines end with LF, CR or both, also cut between the two', async (t) => {
  t.same(parse('data: a\r\n\r\ndata: b\r\rdata: c\n\n'), ['a', 'b', 'c']);
  const text = 'data: a\r\n\r\ndata: b\r\n\r\n';
  for (let cut = 0; cut <= text.length; cut++) t.same(parse(text, [cut]), ['a', 'b'], `cut at ${cut}`);
});

await t.test('an event without end is refused before it fills the memory', async (t) => {
  const parser = new SseParser();
  const chunk = Buffer.alloc(65_536, 'x');
  parser.push(Buffer.from('data: '));
  t.throws(() => {
    for (let i = 0; i < 20; i++) parser.push(chunk);
  }, RangeError);
  const lines = new SseParser();
  t.throws(() => {
    for (let i = 0; i < 20; i++) lines.push(Buffer.from(`data: ${'x'.repeat(65_536)}\n`));
  }, RangeError);
});

const text = fc.string({ unit: fc.constantFrom('a', 'é', '世', '🚀', ' ', ':', '{', '"') });
const line = fc.oneof(
  text.map((value) => `data: ${value}`),
  text.map((value) => `data:${value}`),
  text.map((value) => `: ${value}`),
  text.map((value) => `event: ${value}`),
  fc.constant(''),
);
const stream = fc
  .array(fc.tuple(line, fc.constantFrom('\n', '\r\n', '\r')), { maxLength: 20 })
  .map((lines) => lines.map(([content, end]) => content + end).join(''));

await t.test('however the bytes are cut, the events are the same', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(stream, fc.array(fc.nat(1_000), { maxLength: 30 }), (source, cuts) => {
        const [whole, cut] = [parse(source), parse(source, cuts)];
        return JSON.stringify(whole) === JSON.stringify(cut);
      }),
      { numRuns: 500 },
    ),
  );
});
