import t from 'tap';
import {
  controlQueue,
  isOwnReplyQueue,
  jobKey,
  jobQueue,
  nodeQueue,
  nodeUser,
  PRIORITIES,
  publisherUser,
} from '../../src/contracts/names.ts';

await t.test('a reply queue is its owner’s by its whole name, not by a beginning of it', async (t) => {
  const user = publisherUser('acme');
  t.ok(isOwnReplyQueue('reply.p-acme', user));
  t.ok(isOwnReplyQueue('reply.p-acme.worker-1', user));
  for (const foreign of [
    'reply.p-acme2',
    'reply.p-acm',
    'reply.p-acme2.x',
    'p-acme',
    'jobs',
    '',
    'xreply.p-acme',
  ])
    t.notOk(isOwnReplyQueue(foreign, user), foreign);
});

await t.test('names are spelt as the contract has them', async (t) => {
  t.same(
    PRIORITIES.map((priority) => [jobKey('tiny', priority), jobQueue('tiny', priority)]),
    [
      ['tiny.interactive', 'jobs.tiny.interactive'],
      ['tiny.batch', 'jobs.tiny.batch'],
    ],
  );
  t.same([nodeQueue('a'), controlQueue('a'), nodeUser('a')], ['node.a', 'node.a.control', 'n-a']);
});
