import t, { type Test } from 'tap';
import type { JobMessage } from '../../src/contracts/job.ts';
import type { HandWorker } from '../support/hand-worker.ts';
import { type Links, proxiedWorld } from '../support/proxied-world.ts';
import { until } from '../support/until.ts';
import type { World } from '../support/world.ts';

/**
 * The daemon is killed between two stages of one job, in turn between each pair of neighbours: a server is made to hang at the
 * second of them, the process gets SIGKILL, the server answers again, and the next process takes over. The job ends once, is
 * charged once, is answered, has its trace, and no slot is left.
 */
interface Scene {
  readonly tollgate: World;
  readonly links: Links;
  readonly worker: HandWorker;
  readonly job: JobMessage;
  /** Holds the accounts' rows: locks and settlements begin and do not commit. They are let go after the death at the latest. */
  readonly holdAccounts: () => Promise<void>;
  readonly letAccountsGo: () => Promise<void>;
  readonly state: (wanted: string) => Promise<unknown>;
}

/** Between which stages, and how the daemon is brought to stand there. */
const POINTS: readonly (readonly [name: string, arrange: (scene: Scene) => Promise<unknown>])[] = [
  [
    'admit and reserve',
    async ({ tollgate, links, job }) => {
      links.redis.freeze();
      await tollgate.send(job);
      await until(
        async () => (await tollgate.metric('tollgate_stage_jobs_total', { stage: 'admit' })) > 0,
        'the job to be admitted',
      );
    },
  ],
  [
    'reserve and lock, whose commit comes after the death',
    async ({ tollgate, job, holdAccounts }) => {
      await holdAccounts();
      await tollgate.send(job);
      await tollgate.books.lockIsAwaited();
    },
  ],
  [
    'lock and dispatch',
    async ({ tollgate, links, job, holdAccounts, letAccountsGo, state }) => {
      await holdAccounts();
      await tollgate.send(job);
      await tollgate.books.lockIsAwaited();
      links.amqp.freeze();
      await letAccountsGo();
      await state('locked');
    },
  ],
  [
    'dispatch and trace',
    async ({ tollgate, links, worker, job }) => {
      links.mongo.swallow();
      await tollgate.send(job);
      await worker.dispatched(job.id);
    },
  ],
  [
    'dispatch and trace, with the result settled before the death',
    async ({ tollgate, links, worker, job, state }) => {
      links.mongo.swallow();
      await tollgate.send(job);
      await worker.finish(await worker.dispatched(job.id));
      await state('succeeded');
    },
  ],
  [
    'verify and settle, whose commit comes after the death',
    async ({ tollgate, worker, job, holdAccounts }) => {
      await tollgate.send(job);
      const held = await worker.dispatched(job.id);
      await holdAccounts();
      await worker.finish(held);
      await tollgate.books.lockIsAwaited();
    },
  ],
  [
    'settle and release',
    async ({ tollgate, links, worker, job, state }) => {
      await tollgate.send(job);
      const held = await worker.dispatched(job.id);
      links.redis.freeze();
      await worker.finish(held);
      await state('succeeded');
    },
  ],
  [
    'release and reply',
    async ({ tollgate, links, worker, job, holdAccounts, letAccountsGo, state }) => {
      await tollgate.send(job);
      const held = await worker.dispatched(job.id);
      await holdAccounts();
      await worker.finish(held);
      await tollgate.books.lockIsAwaited();
      links.amqp.freeze();
      await letAccountsGo();
      await state('succeeded');
      await tollgate.slotsAreFree();
    },
  ],
  [
    'reply and trace',
    async ({ tollgate, links, worker, job }) => {
      await tollgate.send(job);
      const held = await worker.dispatched(job.id);
      await until(async () => (await tollgate.books.traces('requests', job.id)).length === 1, 'the request');
      links.mongo.swallow();
      await worker.finish(held);
      await tollgate.reply(job.id);
    },
  ],
];

/** The same for a job whose first attempt fails: between the stages of giving up and of the next attempt. */
const RETRY_POINTS: typeof POINTS = [
  [
    'verify and give up, whose commit comes after the death',
    async ({ tollgate, worker, job, holdAccounts }) => {
      await tollgate.send(job);
      const held = await worker.dispatched(job.id);
      await holdAccounts();
      await worker.finish(held, FAILURE);
      await tollgate.books.lockIsAwaited();
    },
  ],
  [
    'give up and alarm',
    async ({ tollgate, links, worker, job, holdAccounts, letAccountsGo }) => {
      await tollgate.send(job);
      const held = await worker.dispatched(job.id);
      await holdAccounts();
      await worker.finish(held, FAILURE);
      await tollgate.books.lockIsAwaited();
      links.amqp.freeze();
      await letAccountsGo();
      await isAtAttempt2(tollgate, job);
    },
  ],
  [
    'alarm and input',
    async ({ tollgate, links, worker, job }) => {
      await failWithoutMongo(tollgate, links, worker, job);
    },
  ],
  [
    'place and dispatch',
    async ({ tollgate, links, worker, job, holdAccounts, letAccountsGo }) => {
      await failWithoutMongo(tollgate, links, worker, job);
      await holdAccounts();
      links.mongo.heal();
      await tollgate.books.lockIsAwaited();
      links.amqp.freeze();
      await letAccountsGo();
      await until(async () => (await tollgate.books.job(job.id))?.node !== null, 'the place');
    },
  ],
];

/** What a worker says whose model server broke. */
const FAILURE = {
  status: 'failed',
  output: null,
  usage: { input_tokens: 0, output_tokens: 0 },
  error: { code: 'model_error', message: 'as the test says' },
} as const;

async function isAtAttempt2(tollgate: World, job: JobMessage): Promise<void> {
  await until(async () => (await tollgate.books.job(job.id))?.attempt === 2, 'the fence to move');
}

/** The first attempt fails and the second is due, but cannot read its input. */
async function failWithoutMongo(tollgate: World, links: Links, worker: HandWorker, job: JobMessage) {
  await tollgate.send(job);
  const held = await worker.dispatched(job.id);
  await until(async () => (await tollgate.books.traces('requests', job.id)).length === 1, 'the request');
  const before = await tollgate.metric('tollgate_jobs_received_total');
  links.mongo.swallow();
  await worker.finish(held, FAILURE);
  await isAtAttempt2(tollgate, job);
  await until(
    async () => (await tollgate.metric('tollgate_jobs_received_total')) > before,
    'the alarm to ring',
  );
}

/** Lets the worker answer whatever it is given until the job is answered. */
async function letItEnd(tollgate: World, worker: HandWorker, job: JobMessage): Promise<void> {
  await until(
    async () => {
      for (const held of worker.held.splice(0)) await worker.finish(held);
      return tollgate.client.repliesTo(job.id).length > 0;
    },
    'the reply',
    { timeoutMs: 20_000 },
  );
}

/** One job through all stages, so that the intake is open and every connection made before anything is damaged. */
async function warmUp(tollgate: World, worker: HandWorker): Promise<void> {
  const job = tollgate.job();
  await tollgate.send(job);
  await letItEnd(tollgate, worker, job);
}

async function proveOnce(t: Test, { tollgate, worker, job }: Scene, attempts: number): Promise<void> {
  await letItEnd(tollgate, worker, job);
  const states = tollgate.client.repliesTo(job.id).map(({ message }) => message.state);
  t.same([...new Set(states)], ['succeeded']);
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'capture']);
  t.match(await tollgate.books.job(job.id), { state: 'succeeded', charged_micro: '11', attempt: attempts });
  for (const [section, count] of [
    ['requests', 1],
    ['routes', attempts - 1],
    ['attempts', attempts],
  ] as const)
    await until(
      async () => (await tollgate.books.traces(section, job.id)).length === count,
      `its documents in ${section}`,
    );
  await tollgate.slotsAreFree();
}

await t.test('a daemon that dies between', async (all) => {
  const { tollgate, links } = await proxiedWorld(all, {
    workers: 0,
    isDaemonStarted: false,
    settings: { 'traces.writeMsMax': 20_000, 'fleet.commandMsMax': 20_000, 'broker.confirmMsMax': 15_000 },
  });
  const { books } = tollgate;
  await tollgate.addNode('n1');
  let daemon = await tollgate.startChildDaemon(all);
  const worker = await tollgate.startHandWorker('n1', 8);
  let letGo: (() => Promise<void>) | null = null;
  const letAccountsGo = async () => {
    await letGo?.();
    letGo = null;
  };

  const points = [
    ...POINTS.map((point) => [...point, 1] as const),
    ...RETRY_POINTS.map((point) => [...point, 2] as const),
  ];
  for (const [name, arrange, attempts] of points) {
    await all.test(name, async (t) => {
      const job = tollgate.job({ limits: { ...tollgate.job().limits, attempts_max: attempts } });
      const scene: Scene = {
        tollgate,
        links,
        worker,
        job,
        holdAccounts: async () => {
          ({ letGo } = await books.holdAccounts());
        },
        letAccountsGo,
        state: (wanted) =>
          until(async () => (await books.job(job.id))?.state === wanted, `the job to be ${wanted}`),
      };
      await warmUp(tollgate, worker);
      await arrange(scene);
      await daemon.kill();
      await letAccountsGo();
      // What stood in the frozen links dies with the process, instead of arriving after it.
      for (const link of Object.values(links)) link.cut();
      for (const link of Object.values(links)) link.heal();
      daemon = await tollgate.startChildDaemon(all);
      await proveOnce(t, scene, attempts);
    });
  }
  const accounts = await books.accounts();
  all.same(
    accounts.map(({ counted }) => counted),
    accounts.map(({ computed }) => computed),
  );
});
