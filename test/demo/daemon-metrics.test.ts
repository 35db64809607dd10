import t from 'tap';
import { parseMetrics } from '../../src/demo/daemon-metrics.ts';

const TEXT = `# HELP tollgate_slots Slots of live workers per pool.
# TYPE tollgate_slots gauge
tollgate_slots{pool="ngram-small",state="free"} 30
tollgate_slots{pool="ngram-small",state="used"} 10
tollgate_slots{pool="ngram-large",state="used"} 24
tollgate_slots{pool="ngram-large",state="free"} 0
tollgate_slots{pool="ngram-broken",state="used"} 5
tollgate_pool_workers{pool="ngram-small"} 5
tollgate_jobs_waiting 1
tollgate_jobs_in_flight 2
tollgate_results_waiting 3
tollgate_replies_pending 4
process_cpu_seconds_total 1.25
`;

await t.test('slots of the pools asked for are summed; what is in hand is one number', async (t) => {
  const metrics = parseMetrics(TEXT, ['ngram-small', 'ngram-large']);
  t.match(metrics, { slotsUsed: 34, slotsTotal: 64, inHand: 10, cpuSeconds: 1.25 });
  t.same([...metrics.workers], [['ngram-small', 5]]);
});

await t.test('a text without any of it is all zero', async (t) => {
  t.match(parseMetrics('', []), { slotsUsed: 0, slotsTotal: 0, inHand: 0, cpuSeconds: 0 });
});
