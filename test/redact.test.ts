import t from 'tap';
import { redactUrls } from '../src/redact.ts';

await t.test('passwords in URLs are hidden, the rest stays', async (t) => {
  const cases: [string, string][] = [
    ['postgres://user:pa@ss@host:5432/db', 'postgres://user:***@host:5432/db'],
    ['amqps://n-one:secret@h/ and redis://:hunter2@h:1/0', 'amqps://n-one:***@h/ and redis://:***@h:1/0'],
    ['postgres://host/db?password=secret&x=1', 'postgres://host/db?password=***&x=1'],
    ['mongodb://a:1,b:2/db', 'mongodb://a:1,b:2/db'],
    ['http://127.0.0.1:9464/readyz', 'http://127.0.0.1:9464/readyz'],
    ['redis://host:6379/0', 'redis://host:6379/0'],
    ['no url', 'no url'],
  ];
  for (const [from, to] of cases) t.equal(redactUrls(from), to);
});
