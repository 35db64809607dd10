import t from 'tap';
import { cellOf } from '../../src/workers/keys.ts';
import { jobId, leasesOf, nodesOf, requests, SHORT, testFleet } from './fleet-fixture.ts';

const NODES = Array.from({ length: 10 }, (_, i) => `n-${i}`);

await t.test('ten workers fall into all of four cells, and each stays in its own', async (t) => {
  t.equal(new Set(NODES.map((node) => cellOf(node, 4))).size, 4);
  t.same(new Set(NODES.map((node) => cellOf(node, 1))), new Set([0]));
});

for (const cells of [1, 4]) {
  await t.test(`${cells} cell(s): every slot can be had, once, and every release frees one`, async (t) => {
    const fleet = await testFleet(t, { cells });
    for (const node of NODES) await fleet.say(node, 'hello', { slots_total: 3 });
    const asked = requests(1, 35);
    const answers = await fleet.leases.reserveBatch(asked);
    const leases = leasesOf(asked, answers);
    t.equal(leases.length, 30);
    t.same(
      nodesOf(answers.slice(30)),
      Array.from({ length: 5 }, () => 'full'),
    );
    t.same(await fleet.leases.poolSlots(), new Map([['m', { total: 30, free: 0, workers: 10 }]]));
    t.equal((await fleet.allLeases()).length, 30);

    const again = await fleet.leases.reserveBatch(asked);
    t.same(
      again.map((answer) => answer.kind),
      answers.map((answer) => (answer.kind === 'got' ? 'had' : answer.kind)),
    );
    t.same(leasesOf(asked, again), leases);

    t.equal(await fleet.leases.releaseBatch(leases), 30);
    t.same(await fleet.leases.poolSlots(), new Map([['m', { total: 30, free: 30, workers: 10 }]]));
    t.same(nodesOf(await fleet.reserve(99, 1, 'nobody')), ['none']);
  });

  await t.test(
    `${cells} cell(s): the next attempt frees the slot of the last, wherever it was`,
    async (t) => {
      const fleet = await testFleet(t, { cells });
      for (const node of NODES) await fleet.say(node);
      const asked = requests(1, 10);
      await fleet.leases.reserveBatch(asked);
      const next = asked.slice(0, 6).map((one) => ({ ...one, attempt: 2 }));
      const answers = await fleet.leases.reserveBatch(next);
      t.same(
        answers.map((answer) => answer.kind),
        next.map(() => 'got'),
      );
      const attempts = new Map((await fleet.allLeases()).map((lease) => [lease.jobId, lease.attempt]));
      t.equal(attempts.size, 10);
      t.equal(attempts.get(jobId(1)), 2);
      t.equal(attempts.get(jobId(10)), 1);
    },
  );

  await t.test(`${cells} cell(s): silent workers of every cell are found`, async (t) => {
    const fleet = await testFleet(t, { ...SHORT, cells });
    for (const node of NODES) await fleet.say(node);
    const lost = new Set<string>();
    await fleet.sweepUntil(async () => {
      for (const { node, session } of await fleet.registry.takeLost()) {
        lost.add(node);
        await fleet.registry.forget(node, session);
      }
      return lost.size === NODES.length;
    }, 'all workers to be lost');
    t.same(await fleet.registry.list(), []);
    t.equal((await fleet.leases.poolSlots()).size, 0);
  });
}
