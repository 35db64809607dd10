import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { scenarioOf } from '../../src/demo/default-load.ts';
import { runDemo } from '../../src/demo/run.ts';
import { renderSummary } from '../../src/demo/summary.ts';
import { isolatedServers } from '../support/servers.ts';

await t.test(
  'the smallest demo ends as predicted on servers that were given, and leaves its logs',
  async (t) => {
    const servers = await isolatedServers(t, { postgres: true, redis: true, amqp: true, mongo: true });
    const folder = mkdtempSync(join(tmpdir(), 'tollgate-test-demo-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const told: string[] = [];
    const report = await runDemo(
      {
        urls: {
          postgresAdmin: servers.postgresAdminUrl,
          redis: servers.redisUrl,
          amqp: servers.amqpUrl,
          amqpAdmin: servers.amqpAdminUrl,
          mongo: servers.mongoUrl,
        },
        started: [],
        timings: { downloadMs: 0, installMs: 0, startMs: 0 },
        adopt: () => undefined,
      },
      folder,
      (world) => scenarioOf(world, 200, 3),
      'seed 3',
      { write: (text) => told.push(text) },
    );
    t.same(report.differences, []);
    if (!report.isGood) t.comment(renderSummary(report));
    t.ok(report.isGood);
    t.equal(report.load.jobs, 200);
    t.match(told[0], /servers that were given/);
    t.match(told.at(-1), /205 of 205 done/);
    const predicted = readFileSync(join(folder, 'generator.log'), 'utf8').trimEnd().split('\n');
    t.equal(predicted.length, report.load.messages);
    t.match(report.story, /^Job .*: succeeded/);
  },
);
