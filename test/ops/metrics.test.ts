import t from 'tap';
import { CODES } from '../../src/errors.ts';
import { PrometheusMetrics } from '../../src/ops/metrics.ts';
import { STAGES } from '../../src/ops/types.ts';

/** Every sample of the exposition: `name{labels}` → value. */
async function scrape(metrics: PrometheusMetrics): Promise<Map<string, number>> {
  const lines = (await metrics.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]));
}

await t.test('every closed label set is there at 0 before anything happened', async (t) => {
  const samples = await scrape(new PrometheusMetrics());
  for (const stage of STAGES) {
    t.equal(samples.get(`tollgate_stage_jobs_total{stage="${stage}"}`), 0);
    t.equal(samples.get(`tollgate_stage_failures_total{stage="${stage}"}`), 0);
    t.equal(samples.get(`tollgate_stage_duration_seconds_count{stage="${stage}"}`), 0);
    t.equal(samples.get(`tollgate_stage_duration_seconds_bucket{stage="${stage}",le="+Inf"}`), 0);
  }
  for (const code of Object.keys(CODES))
    t.equal(samples.get(`tollgate_jobs_refused_total{code="${code}"}`), 0, code);
  for (const state of ['succeeded', 'failed', 'expired', 'cancelled'])
    t.equal(samples.get(`tollgate_jobs_ended_total{state="${state}"}`), 0);
  for (const answer of ['new', 'exists', 'refused', 'conflict', 'repriced'])
    t.equal(samples.get(`tollgate_credit_locks_total{answer="${answer}"}`), 0);
  t.equal(samples.get('tollgate_jobs_received_total'), 0);
  t.equal(samples.get('tollgate_job_queue_wait_seconds_count'), 0);
});

await t.test('each call counts what it says', async (t) => {
  const metrics = new PrometheusMetrics();
  metrics.jobsReceived(7);
  metrics.redelivered(2);
  metrics.refused('TG_ACCOUNT_UNKNOWN');
  metrics.stageFailed('lock');
  metrics.ended('succeeded');
  metrics.resultRefused('TG_RESULT_STALE');
  metrics.locks('new', 5);
  metrics.fleetMessage('applied');
  metrics.replies('confirmed');
  metrics.spooled(4);
  metrics.dispatched(20, 3);
  const samples = await scrape(metrics);
  const expected: Record<string, number> = {
    tollgate_jobs_received_total: 7,
    tollgate_jobs_redelivered_total: 2,
    'tollgate_jobs_refused_total{code="TG_ACCOUNT_UNKNOWN"}': 1,
    'tollgate_stage_failures_total{stage="lock"}': 1,
    'tollgate_jobs_ended_total{state="succeeded"}': 1,
    'tollgate_results_refused_total{code="TG_RESULT_STALE"}': 1,
    'tollgate_credit_locks_total{answer="new"}': 5,
    'tollgate_fleet_messages_total{outcome="applied"}': 1,
    'tollgate_replies_total{outcome="confirmed"}': 1,
    tollgate_trace_documents_spooled_total: 4,
    tollgate_jobs_dispatched_total: 1,
    tollgate_job_queue_wait_seconds_sum: 0.02,
    tollgate_job_dispatch_duration_seconds_sum: 0.003,
  };
  for (const [name, value] of Object.entries(expected)) t.equal(samples.get(name), value, name);
  t.same(
    await scrape(metrics).then((again) => again.get('tollgate_jobs_received_total')),
    7,
    'a scrape adds nothing',
  );
});

await t.test('a histogram is cumulative, in seconds, and its count is its last bucket', async (t) => {
  const metrics = new PrometheusMetrics();
  for (const ms of [0.4, 5, 5, 40_000]) metrics.stage('settle', 10, ms);
  const samples = await scrape(metrics);
  const bucket = (le: string) =>
    samples.get(`tollgate_stage_duration_seconds_bucket{stage="settle",le="${le}"}`);
  t.equal(bucket('0.0005'), 1);
  t.equal(bucket('0.0025'), 1);
  t.equal(bucket('0.005'), 3, 'a bound includes its own value');
  t.equal(bucket('30'), 3);
  t.equal(bucket('+Inf'), 4);
  t.equal(samples.get('tollgate_stage_duration_seconds_count{stage="settle"}'), 4);
  t.ok(Math.abs((samples.get('tollgate_stage_duration_seconds_sum{stage="settle"}') ?? 0) - 40.0104) < 1e-9);
  t.equal(samples.get('tollgate_stage_jobs_total{stage="settle"}'), 40);
});

await t.test('a wait before its beginning, after a step of the clock, counts as none', async (t) => {
  const metrics = new PrometheusMetrics();
  metrics.dispatched(-5_000, Number.NaN);
  const samples = await scrape(metrics);
  t.equal(samples.get('tollgate_job_queue_wait_seconds_sum'), 0);
  t.equal(samples.get('tollgate_job_dispatch_duration_seconds_sum'), 0);
  t.equal(samples.get('tollgate_job_queue_wait_seconds_count'), 1);
});

await t.test('no sender can make a series', async (t) => {
  const metrics = new PrometheusMetrics();
  const before = (await scrape(metrics)).size;
  for (let i = 0; i < 50; i++) {
    metrics.refused(`made-up-${i}`);
    metrics.fleetMessage(`made-up-${i}`);
  }
  const samples = await scrape(metrics);
  t.equal(samples.size, before);
  t.equal(samples.get('tollgate_jobs_refused_total{code="other"}'), 50);
});

await t.test('a gauge is read when scraped, and one that throws harms nothing else', async (t) => {
  const metrics = new PrometheusMetrics();
  let slots = 3;
  metrics.gauge('tollgate_slots', 'Slots.', ['state'], () => [{ labels: { state: 'free' }, value: slots }]);
  metrics.gauge('tollgate_broken', 'Broken.', [], () => {
    throw new Error('away');
  });
  t.equal((await scrape(metrics)).get('tollgate_slots{state="free"}'), 3);
  slots = 4;
  t.equal((await scrape(metrics)).get('tollgate_slots{state="free"}'), 4);
  t.throws(() => metrics.gauge('slots', 'No prefix.', [], () => []));
  t.throws(() => metrics.gauge('tollgate_jobs_total', 'A counter by its name.', [], () => []));
});

await t.test('a server that is not named is down', async (t) => {
  const metrics = new PrometheusMetrics();
  metrics.watchDependencies(() => [
    { name: 'redis', isUp: true, detail: '' },
    { name: 'mongodb', isUp: false, detail: '' },
  ]);
  const samples = await scrape(metrics);
  t.equal(samples.get('tollgate_dependency_up{name="redis"}'), 1);
  for (const name of ['postgres', 'rabbitmq', 'mongodb'])
    t.equal(samples.get(`tollgate_dependency_up{name="${name}"}`), 0);
});

await t.test('names, types and labels follow the rules that promtool checks', async (t) => {
  const metrics = new PrometheusMetrics();
  const text = await metrics.text();
  const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => ({
    name,
    type,
  }));
  t.ok(types.length > 30);
  for (const { name, type } of types) {
    t.equal(name.endsWith('_total'), type === 'counter', `${name} is a ${type}`);
    t.match(text, `# HELP ${name} `);
    t.match(name, /^[a-z][a-z0-9_]*$/);
    t.notMatch(name, /_(ms|milliseconds|minutes|hours|mb|kb|micro)(_|$)/, 'base units only');
    t.notMatch(name, /_(counter|gauge|histogram|summary)(_|$)/, 'no type in a name');
    if (type !== 'histogram') t.notMatch(name, /_(count|sum|bucket)$/, 'no suffix of a histogram');
  }
  const ours = types.filter(({ name }) => name.startsWith('tollgate_'));
  t.ok(ours.length >= 16);
  t.notMatch(text, /\{[^}]*(job|account|node_id|session)="/);
  t.match(metrics.contentType, 'text/plain; version=0.0.4');
  t.match(text, /^tollgate_build_info\{version="\d+\.\d+\.\d+",node="24/m);
});
