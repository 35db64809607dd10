import t from 'tap';
import { digestKeyOf } from '../../src/contracts/canonical.ts';
import { jobKey, publisherUser } from '../../src/contracts/names.ts';
import { type Draft, FLAWS, type Flaw, spoiled } from '../../src/demo/flaws.ts';
import { Prompts } from '../../src/demo/prompts.ts';
import { scenarioOf } from '../../src/demo/default-load.ts';
import { jobOf } from '../../src/demo/scenario.ts';
import { modelsOf, worldOf } from '../../src/demo/world.ts';
import { type Admission, admit } from '../../src/dispatcher/admit.ts';
import type { Arrival } from '../../src/dispatcher/types.ts';
import { newUuidV7 } from '../../src/ids.ts';
import type { Directory } from '../../src/network/types.ts';

const NO_LIMITS = { ofPublisher: () => null, ofAccount: () => null };
const world = worldOf();
const accountId = (name: string) => world.accounts.findIndex((account) => account.name === name) + 1;

/** The demo's records, as a coordinator would have them in memory. */
const directory: Directory = {
  account: (name) => {
    const account = world.accounts.find((one) => one.name === name);
    return (
      account && {
        id: accountId(name),
        name,
        namespaces: new Map(account.namespaces.map((full, i) => [full, i])),
        limits: { jobsPerSecond: null, burstJobs: null, openLocksMax: null, queuedMax: null },
      }
    );
  },
  publisher: (name) => {
    const publisher = world.publishers.find((one) => one.name === name);
    const bannedUntilMs = Number.NEGATIVE_INFINITY;
    return (
      publisher && { id: 1, name, accountIds: new Set(publisher.accounts.map(accountId)), bannedUntilMs }
    );
  },
  model: (name) => {
    const model = modelsOf(world).find((one) => one.name === name);
    return model && { ...model, id: 1, model: name, version: 1 };
  },
  publishers: () => [],
  modelVersion: () => undefined,
  node: () => undefined,
  nodes: () => [],
  models: () => [],
  refresh: async () => undefined,
  version: 1,
  pool: () => undefined,
  pools: () => [],
  misfit: () => null,
  onChange: () => () => undefined,
};

const plain = scenarioOf(world, 200, 1).messages.find(
  (message) => message.kind === 'plain' && message.priority === 'interactive',
);
const prompts = new Prompts();

/** What admit says of an ordinary message with this flaw, as code and field. */
function verdictOn(flaw: Flaw | null): { code: string | null; field: string | null; isDead: boolean } {
  if (plain === undefined) throw new Error('the scenario has plain jobs');
  const id = flaw?.id?.(newUuidV7()) ?? newUuidV7();
  const job = jobOf(plain, id, prompts.text(0, 12));
  const draft: Draft = {
    body: Buffer.from(JSON.stringify(job)),
    routingKey: jobKey(job.model, job.priority),
    messageId: id,
    expirationMs: job.limits.wait_ms,
    replyTo: `reply.${publisherUser(plain.publisher)}`,
    sender: 'publisher',
  };
  const sent = spoiled(draft, job, flaw, world);
  const userId = {
    publisher: publisherUser(plain.publisher),
    anonymous: null,
    stranger: publisherUser(world.stranger),
  };
  const arrival: Arrival = {
    delivery: {
      queue: '',
      body: sent.body,
      redelivered: false,
      userId: userId[sent.sender],
      messageId: sent.messageId,
      correlationId: null,
      replyTo: sent.replyTo,
      expiration: String(sent.expirationMs),
      routingKey: sent.routingKey,
      exchange: 'jobs',
      deathReason: null,
      deathRoutingKey: null,
      deathExchange: null,
      traceparent: null,
      receivedMs: 0,
      isLive: true,
      acknowledge: () => undefined,
      requeue: () => undefined,
    },
    source: 'pool',
    priority: 'interactive',
    room: {
      prefetch: 16,
      hold: () => undefined,
      heldBy: () => 0,
      isAwaited: () => false,
      placed: () => undefined,
      left: () => undefined,
    },
    parsed: null,
    jobId: null,
    resumed: null,
    isPoison: false,
    isRefreshed: false,
    asked: 0,
  };
  return said(admit(arrival, { directory, limits: NO_LIMITS, digestKey: digestKeyOf('a key for tests') }));
}

function said(admission: Admission): ReturnType<typeof verdictOn> {
  if (admission.kind === 'admitted') return { code: null, field: null, isDead: false };
  if (admission.kind === 'remember') return { ...admission.refusal, isDead: false };
  if (admission.kind === 'unopened') throw new Error('no flaw has a constraint');
  const { outcome } = admission;
  if (outcome.kind !== 'refused' && outcome.kind !== 'dead') throw new Error(`left as ${outcome.kind}`);
  return { ...outcome.refusal, isDead: outcome.kind === 'dead' };
}

await t.test('a message without a flaw is admitted', async (t) => {
  t.equal(verdictOn(null).code, null);
});

await t.test('each flaw gets the code and the field that are predicted for it', async (t) => {
  for (const [name, flaw] of Object.entries<Flaw>(FLAWS)) {
    const { state, code, field } = flaw.expected;
    // Whether an id is too old is judged by PostgreSQL's clock, later.
    const expected = name === 'id_too_old' ? { code: null, field: null } : { code, field };
    t.match(verdictOn(flaw), { ...expected, isDead: state === 'dead' }, name);
  }
});

await t.test('what is remembered of a refused job is a row, of all others nothing', async (t) => {
  const remembered = Object.entries(FLAWS).filter(([, flaw]) => flaw.expected.row !== null);
  t.same(
    remembered.map(([name]) => name),
    ['unknown_model', 'no_price', 'over_input_limit', 'over_output_limit', 'over_timeout'],
  );
});
