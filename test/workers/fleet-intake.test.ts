import { generateKeyPairSync, sign } from 'node:crypto';
import t from 'tap';
import type { Delivery } from '../../src/broker/types.ts';
import type { FleetMessage } from '../../src/contracts/fleet.ts';
import { helloBytes } from '../../src/contracts/signed-bytes.ts';
import { FleetIntake, type FleetRefusal, type RegisteredNode } from '../../src/workers/fleet-intake.ts';
import type { Teardown } from '../support/servers.ts';
import { type TestFleet, testFleet } from './fleet-fixture.ts';

const keys = generateKeyPairSync('ed25519');
const rawKey = keys.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);

const NODES: Readonly<Record<string, RegisteredNode>> = {
  'n-1': { publicKey: rawKey, models: new Set(['m', 'k']), lifecycle: 'active', admission: 'open', poolsOf },
  old: { publicKey: rawKey, models: new Set(['m']), lifecycle: 'retired', admission: 'closed', poolsOf },
};

function poolsOf(model: string): string[] {
  return [model, `${model}~r.eu`];
}

function signed(message: FleetMessage, privateKey = keys.privateKey): FleetMessage {
  return { ...message, signature: sign(null, helloBytes(message), privateKey).toString('base64') };
}

/** A fleet, its intake, and what the intake told. `take` delivers a message as `userId` and says how it ended. */
async function startIntake(t: Teardown) {
  const fleet: TestFleet = await testFleet(t);
  const refused: FleetRefusal[] = [];
  const old: string[] = [];
  const counted: string[] = [];
  const codes: string[] = [];
  let acknowledged = 0;
  const intake = new FleetIntake(
    (id) => NODES[id],
    fleet.registry,
    { fleetMessage: (outcome) => counted.push(outcome), fleetRefused: (code) => codes.push(code) },
    {
      onRefused: (one) => refused.push(one),
      onOldSession: (node, session) => old.push(`${node} ${session}`),
    },
  );
  const take = async (message: FleetMessage | Buffer, userId: string | null = 'n-n-1') => {
    const body = Buffer.isBuffer(message) ? message : Buffer.from(JSON.stringify(message));
    const before = acknowledged;
    const outcome = await intake.take(deliveryOf(body, userId, () => acknowledged++));
    if (acknowledged !== before + 1 || counted.at(-1) !== outcome) throw new Error('not answered or counted');
    return outcome;
  };
  return { fleet, refused, codes, old, take };
}

function deliveryOf(body: Buffer, userId: string | null, acknowledge: () => void): Delivery {
  return {
    queue: 'fleet',
    body,
    redelivered: false,
    userId,
    messageId: null,
    correlationId: null,
    replyTo: null,
    expiration: null,
    routingKey: 'hello',
    exchange: 'fleet',
    deathReason: null,
    deathRoutingKey: null,
    deathExchange: null,
    traceparent: null,
    receivedMs: 0,
    isLive: true,
    acknowledge,
    requeue: () => {},
  };
}

await t.test(
  'a signed hello brings a worker into the pools its node is registered for, and into no other',
  async (t) => {
    const { fleet, refused, codes, take } = await startIntake(t);
    const hello = signed(fleet.message('n-1', 'hello', { pools: ['m', 'foreign'], warm_models: ['m'] }));
    t.equal(await take(hello), 'applied');
    t.match(await fleet.registry.list(), [{ node: 'n-1', pools: ['m'], warmModels: ['m'] }]);
    t.match(
      refused,
      [{ code: 'TG_FLEET_MODEL', field: 'pools', node: 'n-1', userId: 'n-n-1' }],
      'and no other',
    );
    t.equal(await take(hello), 'ignored', 'the same message again');
    t.same(codes, ['TG_FLEET_MODEL', 'TG_FLEET_MODEL']);
  },
);

await t.test('a hello that its key did not sign is refused and leaves an event', async (t) => {
  const { fleet, refused, take } = await startIntake(t);
  const stranger = generateKeyPairSync('ed25519').privateKey;
  t.equal(await take(signed(fleet.message('n-1'), stranger)), 'signature');
  t.equal(await take({ ...signed(fleet.message('n-1')), slots_total: 99 }), 'signature');
  t.equal(await take(fleet.message('n-1')), 'signature', 'none at all');
  t.equal(await take({ ...fleet.message('n-1'), signature: '%%%' }), 'signature');
  t.match(refused[0], { code: 'TG_FLEET_SIGNATURE', field: 'signature', node: 'n-1', userId: 'n-n-1' });
  t.equal(refused.length, 4);
  t.same(await fleet.registry.list(), []);
});

await t.test('a heartbeat of a session whose hello was forgotten is taken', async (t) => {
  const { fleet, take } = await startIntake(t);
  t.equal(await take(fleet.message('n-1', 'heartbeat')), 'applied');
  t.equal((await fleet.registry.list()).length, 1);
});

await t.test('who speaks for another node, or for none that may work, is refused', async (t) => {
  const { fleet, refused, take } = await startIntake(t);
  for (const userId of [null, 'n-n-2', 'p-n-1', 'n-1']) {
    t.equal(await take(fleet.message('n-1', 'heartbeat'), userId), 'sender');
  }
  t.equal(await take(fleet.message('nobody', 'heartbeat'), 'n-nobody'), 'sender');
  t.equal(await take(fleet.message('old', 'heartbeat'), 'n-old'), 'sender');
  t.same(new Set(refused.map(({ code }) => code)), new Set(['TG_FLEET_SENDER']));
  t.match(refused.at(-1)?.message, /retired/);
  t.match(refused.at(-2)?.message, /not registered/);
  t.same(await fleet.registry.list(), []);
});

await t.test('a malformed message is refused, names its field and is acknowledged', async (t) => {
  const { fleet, refused, take } = await startIntake(t);
  const { seq: _, ...noSeq } = fleet.message('n-1', 'heartbeat');
  const bodies = [
    'no JSON',
    '{"__proto__":{}}',
    JSON.stringify(noSeq),
    JSON.stringify({ ...noSeq, seq: 1, more: 1 }),
  ];
  for (const body of bodies) t.equal(await take(Buffer.from(body)), 'invalid');
  t.same(
    refused.map(({ code, field, node }) => [code, field, node]),
    ['body', '__proto__', 'seq', 'more'].map((field) => ['TG_FLEET_INVALID', field, null]),
  );
});

await t.test('of two sessions the older one is told', async (t) => {
  const { fleet, refused, old, take } = await startIntake(t);
  await take(fleet.message('n-1', 'heartbeat', { session: 5 }));
  t.equal(await take(signed(fleet.message('n-1', 'hello', { session: 6 }))), 'superseded');
  t.equal(await take(fleet.message('n-1', 'heartbeat', { session: 5 })), 'stale_session');
  t.same(old, ['n-1 5', 'n-1 5']);
  t.match(refused, [{ code: 'TG_FLEET_STALE_SESSION', field: 'session', node: 'n-1' }]);
});

await t.test('while Redis is away messages are let go: the next heartbeat says it all again', async (t) => {
  const { fleet, refused, take } = await startIntake(t);
  await fleet.redis.stop();
  t.equal(await take(fleet.message('n-1', 'heartbeat')), 'away');
  t.same(refused, []);
});
