import { appendFileSync, copyFileSync } from 'node:fs';
import { UUID } from 'mongodb';
import t from 'tap';
import { INVARIANTS, type InvariantId } from '../../src/audit/catalogue.ts';
import { auditBounds, openAuditStores } from '../../src/audit/open-stores.ts';
import type { AttemptRow } from '../../src/audit/rows.ts';
import { runAudit } from '../../src/audit/run.ts';
import type { AuditOptions, AuditReport, AuditStores } from '../../src/audit/types.ts';
import { connectBroker } from '../../src/broker/connection.ts';
import { systemClock } from '../../src/clock.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { TraceSpool } from '../../src/traces/spool.ts';
import { FleetRedis } from '../../src/workers/redis.ts';
import { RedisSlotLeases } from '../../src/workers/slot-leases.ts';
import { quietLog } from '../support/ledger.ts';
import { runCli } from '../support/run-cli.ts';
import { until } from '../support/until.ts';
import { auditorUrl, scene } from './scene.ts';

/** What is neither well nor broken: on its way, without the evidence, or not asked for. */
t.setTimeout(90_000);
await t.test('the audit', async (t) => {
  const stage = await scene(t);
  await stage.world.stopDaemon();
  const { jobs, mongo, world, workLog } = stage;
  const config = {
    ...world.config,
    servers: { ...world.config.servers, postgresAuditorUrl: auditorUrl(world) },
  };
  const { stores, close } = await openAuditStores(config, quietLog);
  t.after(close);
  const bounds = auditBounds(config);
  const audit = (change: Partial<AuditOptions> = {}, otherStores: Partial<AuditStores> = {}) =>
    runAudit({ ...stores, ...otherStores }, { bounds, workerLogs: [], clockSkewMs: 0, ...change });

  await t.test('leaves out what only the workers can prove, when their logs are not given', async (t) => {
    const report = await audit();
    t.equal(report.verdict, 'ok');
    for (const id of ['dispatch.locked', 'dispatch.lock_first', 'dispatch.once'] as const)
      t.match(found(report, id), { verdict: 'not_checked', checked: 0, note: /--worker-log/ });
  });

  await t.test('cannot prove the order where commit times are not kept', async (t) => {
    // The shared server keeps them: here it says that it does not.
    const database: AuditStores['database'] = {
      query: async <Row extends object>(name: string, params?: readonly unknown[]) => {
        const rows = await stores.database.query<Row & Partial<AttemptRow>>(name, params);
        return rows.map((row) => ({ ...row, is_tracked: false, lock_committed_at_ms: null }));
      },
    };
    const report = await audit({ workerLogs: [workLog] }, { database });
    t.equal(report.verdict, 'not_provable');
    t.match(found(report, 'dispatch.lock_first'), {
      verdict: 'not_provable',
      note: /track_commit_timestamp/,
    });
    t.match(found(report, 'dispatch.locked'), { verdict: 'ok', checked: 1 });
  });

  await t.test('cannot prove an order that is closer than the clocks', async (t) => {
    const log = `${workLog}.skewed`;
    copyFileSync(workLog, log);
    const [row] = await stores.database.query<AttemptRow>('audit_attempts', [[jobs.failed]]);
    const early = Math.floor(row?.lock_committed_at_ms ?? 0) - 40;
    const line = { received_at_ms: early, started_at_ms: early, finished_at_ms: early, job: jobs.failed };
    const place = { attempt: 1, node: row?.node, session: Number(row?.session) };
    appendFileSync(log, `${JSON.stringify({ ...line, ...place })}\n`);
    const [same, apart] = await Promise.all([
      audit({ workerLogs: [log] }),
      audit({ workerLogs: [log], clockSkewMs: 50 }),
    ]);
    t.match(found(same, 'dispatch.lock_first'), { verdict: 'broken', broken: 1 });
    t.match(found(apart, 'dispatch.lock_first'), { verdict: 'not_provable', note: /50 ms apart/ });
  });

  await t.test('cannot vouch for a log that it cannot read', async (t) => {
    const log = `${workLog}.torn`;
    copyFileSync(workLog, log);
    appendFileSync(log, 'what is this\n{"job":');
    const report = await audit({ workerLogs: [log] });
    t.match(found(report, 'dispatch.locked'), {
      verdict: 'not_provable',
      examples: [{ id: `${log}:2` }],
    });
  });

  await t.test('says which server is away, and that a schema is missing', async (t) => {
    const nobody = '127.0.0.1:1';
    const elsewhere = new URL(auditorUrl(world));
    elsewhere.pathname = '/template1';
    const cases: [string, number, RegExp][] = [
      [`servers.postgresAuditorUrl=postgres://x@${nobody}/x`, 3, /^TG_STORE_UNAVAILABLE: postgres/],
      [`servers.redisUrl=redis://${nobody}/0`, 3, /^TG_STORE_UNAVAILABLE: redis/],
      [`servers.mongoUrl=mongodb://${nobody}/x`, 3, /^TG_STORE_UNAVAILABLE: mongodb/],
      [
        `servers.postgresAuditorUrl=${elsewhere.href}`,
        1,
        /^TG_SCHEMA_MISMATCH: .*\n {2}→ run tollgate migrate/,
      ],
    ];
    for (const [setting, status, stderr] of cases) {
      const args = ['audit', ...stage.settings, '--set', 'servers.connectTimeoutMs=1000', '--set', setting];
      t.match(await runCli(args), { status, stderr }, setting);
    }
    const missing = await runCli(['audit', ...stage.settings, '--worker-log', `${workLog}.gone`]);
    t.match(missing, { status: 2, stderr: /^TG_CLI_USAGE: --worker-log: / });
  });

  await t.test('shows people one line per invariant', async (t) => {
    const { status, stdout } = await runCli(['audit', ...stage.settings, '--worker-log', workLog]);
    t.equal(status, 0);
    for (const id of Object.keys(INVARIANTS)) t.match(stdout, new RegExp(`^ok +${id} +\\d+ +\\w`, 'm'));
  });

  await t.test('lets a lease run down whose coordinator died before the lock', async (t) => {
    const redis = new FleetRedis(config.servers, config.fleet, quietLog);
    t.after(() => redis.stop());
    await redis.start();
    const leases = new RedisSlotLeases(redis);
    const jobId = newUuidV7();
    const [answer] = await leases.reserveBatch([{ jobId, attempt: 1, pool: 'held' }]);
    t.match(answer, { kind: 'got' });
    const report = await audit();
    t.match(found(report, 'slots.not_leaked'), { verdict: 'waiting', examples: [{ id: jobId }] });
    t.match(found(report, 'slots.counted'), { verdict: 'ok' });
    if (answer?.kind === 'got') await leases.releaseBatch([{ jobId, attempt: 1, ...answer }]);
    t.match(found(await audit(), 'slots.not_leaked'), { verdict: 'ok' });
  });

  await t.test('waits for a trace of a job that has only just moved', async (t) => {
    const requests = mongo.collection<{ _id: UUID }>('requests');
    const kept = await requests.findOneAndDelete({ _id: new UUID(jobs.open) });
    const report = await audit();
    t.match(found(report, 'traces.requests'), { verdict: 'waiting', examples: [{ id: jobs.open }] });
    const late = await audit({ bounds: { ...bounds, traceGraceMs: 0 } });
    t.match(found(late, 'traces.requests'), { verdict: 'broken', examples: [{ id: jobs.open }] });

    if (kept !== null) await requests.insertOne(kept);
  });

  await t.test('finds a trace that arrives while it looks', async (t) => {
    const attempts = mongo.collection<{ _id: string }>('attempts');
    let kept = await attempts.findOneAndDelete({ _id: `${jobs.lost}.1` });
    let looks = 0;
    const traces: AuditStores['traces'] = {
      findMissingRequests: (ids) => stores.traces.findMissingRequests(ids),
      findMissingAttempts: async (asked) => {
        const missing = await stores.traces.findMissingAttempts(asked);
        looks += 1;
        if (kept !== null) await attempts.insertOne(kept);
        kept = null;
        return missing;
      },
      findPoisoned: (ids) => stores.traces.findPoisoned(ids),
    };
    const report = await audit({ bounds: { ...bounds, traceGraceMs: 0 } }, { traces });
    t.match(found(report, 'traces.attempts'), { verdict: 'ok' });
    t.equal(looks, 2);
  });

  await t.test('a trace whose message was dead-lettered as poison is noted, not broken', async (t) => {
    const attempts = mongo.collection<{ _id: string }>('attempts');
    const events = mongo.collection<{ _id: string; job: UUID; code: string }>('events');
    const kept = await attempts.findOneAndDelete({ _id: `${jobs.lost}.1` });
    const young = { bounds: { ...bounds, traceGraceMs: 0 } };
    t.match(found(await audit(young), 'traces.attempts'), { verdict: 'broken' });

    await events.insertOne({ _id: 'poison', job: new UUID(jobs.lost), code: 'TG_MESSAGE_POISON' });
    const report = await audit(young);
    t.match(found(report, 'traces.attempts'), {
      verdict: 'ok',
      note: /dead-lettered/,
      examples: [{ id: jobs.lost }],
    });

    await events.deleteOne({ _id: 'poison' });
    if (kept !== null) await attempts.insertOne(kept);
  });

  await t.test('waits for every trace while the spool queue is not empty', async (t) => {
    const { servers, broker, traces } = config;
    const coordinator = await connectBroker({
      ...broker,
      ...servers,
      url: servers.amqpUrl,
      name: 'test',
      bounds: broker,
      log: quietLog,
      clock: systemClock,
    });
    t.after(() => coordinator.stop());
    const requests = mongo.collection<{ _id: UUID }>('requests');
    const kept = await requests.findOneAndDelete({ _id: new UUID(jobs.refused) });
    t.ok(kept);
    await new TraceSpool(traces, coordinator.publisher).append('requests', kept === null ? [] : [kept]);
    const report = await audit({ bounds: { ...bounds, traceGraceMs: 0 } });
    t.match(found(report, 'traces.requests'), { verdict: 'waiting', note: /spool queue: 1$/ });
    t.equal(report.verdict, 'not_provable');
    await world.startDaemon();
    await until(async () => (await audit()).verdict === 'ok', 'the spool to be drained');
  });
});

function found(report: AuditReport, id: InvariantId) {
  return report.invariants.find((one) => one.id === id);
}
