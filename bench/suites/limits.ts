import { tmpdir } from 'node:os';
import { until } from '../../test/support/until.ts';
import { groundOf } from '../measure/ground.ts';
import { type Ground, saturatedRun, startMeter } from '../measure/runs.ts';
import { readSettings, readVersions, type Setting, startWitness } from '../measure/settings.ts';
import { alternating } from '../measure/statistics.ts';
import { requireStrong } from '../measure/warm-up.ts';
import { disturbancesOf, type Findings } from '../report/findings.ts';
import { relaySubject, type Subject } from '../subjects/subject.ts';
import { connectClient } from '../world/load.ts';
import { makePeopledWorld, startFleet } from '../world/peopled.ts';
import { NODES } from '../world/names.ts';
import { startRegistrar } from '../world/registrar.ts';
import type { World } from '../world/world.ts';
import { flushRate } from './limits-disk.ts';
import { COMPARED, type LimitRun, limitFigures } from './limits-figures.ts';
import { ledgerLoads } from './limits-ledger.ts';
import { LIMITS_USAGE, type LimitsOptions, limitsOptions } from './limits-options.ts';
import { type Load, rateOf } from './limits-rate.ts';
import { MONGO_CONNECTIONS, slotLoads, traceLoads } from './limits-stores.ts';
import { type Bench, headOf, type Suite, tell, withBench } from './suite.ts';

/**
 * What does this machine allow, each alone: the broker moving messages, PostgreSQL committing locks and settlements, Redis
 * giving slots, MongoDB taking traces, the disk flushing pages? Load and method: bench/README.md.
 */
export const limits: Suite = {
  asks: 'what this machine allows, each server alone',
  usage: LIMITS_USAGE,
  run: (argv) => {
    const options = limitsOptions(argv);
    return withBench((bench) => measure(bench, options, argv));
  },
};

/** What is measured, ready to begin. */
interface Limits {
  readonly ground: Ground;
  readonly relay: Subject;
  readonly world: World;
  readonly loads: readonly Load[];
  /** The two that the design compares. */
  readonly compared: readonly Load[];
}

/** Of the relay's backlog, its warm-up gets this share. */
const WARM_UP_SHARE = 0.25;
/** Every load runs this long before it is measured: compilers, caches and plans are warm. */
const WARM_UP_MS = 100;

async function measure(bench: Bench, options: LimitsOptions, argv: readonly string[]): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const found = await setUp(bench);
  const { world } = found;
  const settings = await warmUp(found, Math.ceil(options.jobs * WARM_UP_SHARE));
  const runs: LimitRun[] = [];
  for (let pair = 0; pair < options.pairs; pair++) {
    tell(`pair ${pair + 1} of ${options.pairs}`);
    runs.push(await diskRun(bench, pair), await relayRun(found, pair, options.jobs));
    for (const load of [...found.loads, ...alternating(found.compared, pair)])
      runs.push(await loadRun(found, load, pair, options.windowMs));
  }
  return {
    ...headOf('limits', argv, startedAt),
    versions: await readVersions(world),
    settings,
    figures: limitFigures(runs),
    notes: ['each alone, the others idle; a batch of 1 is one thing per call or commit'],
    disturbances: disturbancesOf(runs),
    runs,
  };
}

async function relayRun({ ground, relay }: Limits, pair: number, jobs: number): Promise<LimitRun> {
  const { perSecond, foreignShare } = await saturatedRun(ground, relay, 'dispatch', pair, jobs);
  tell(`  bare AMQP relay: ${perSecond.toFixed(0)}/s`);
  return { id: 'relay', name: 'bare AMQP relay', pair, perSecond, foreignShare };
}

async function loadRun({ ground }: Limits, load: Load, pair: number, windowMs: number): Promise<LimitRun> {
  const { id, name } = load;
  const meter = startMeter(ground);
  const perSecond = await rateOf(load, windowMs);
  const { foreignShare } = meter();
  tell(`  ${name}: ${perSecond.toFixed(0)}/s`);
  return { id, name, pair, perSecond, foreignShare };
}

async function diskRun({ stack, owner }: Bench, pair: number): Promise<LimitRun> {
  const isOurs = stack.started.includes('postgres');
  // The folder of our own PostgreSQL is on the same disk as its log.
  const { perSecond, by } = await flushRate(isOurs ? stack.folder : tmpdir(), owner);
  tell(`  flushes of the disk: ${perSecond.toFixed(0)}/s`);
  // PostgreSQL's tool is none of the processes that count as ours.
  return { id: 'flush', name: `fdatasync of one page, ${by}`, pair, perSecond, foreignShare: null };
}

async function setUp(bench: Bench): Promise<Limits> {
  const { t, stack, owner } = bench;
  const fleet = startFleet(bench);
  const relayWorld = await makePeopledWorld(t, fleet, 'relay', false);
  const relay = await relaySubject('relay', await connectClient(t, relayWorld), owner);
  t.after(() => relay.stop());
  const world = await makePeopledWorld(t, fleet, 'limits', true);
  const registrar = await startRegistrar(t, world, MONGO_CONNECTIONS);
  await fleet.call('hello', world.name);
  await until(async () => (await registrar.workers()) === NODES.length, 'the workers to be known');
  const ledger = ledgerLoads(t, world, registrar.directory);
  return {
    ground: groundOf(stack, fleet, [relay]),
    relay,
    world,
    loads: [...ledger.all, ...slotLoads(registrar), ...traceLoads(registrar)],
    compared: [
      { ...ledger.batched, id: COMPARED.batched, name: `${ledger.batched.name}, in pairs` },
      { ...ledger.single, id: COMPARED.single, name: `${ledger.single.name}, in pairs` },
    ],
  };
}

/** Every load once, watched: what the figures stand on has been seen. */
async function warmUp({ ground, relay, world, loads }: Limits, jobs: number): Promise<Setting[]> {
  tell('warm-up');
  const relayWitness = await startWitness(relay.client.world, false, true);
  await saturatedRun(ground, relay, 'life', 0, jobs);
  const relayed = await relayWitness.read();
  const witness = await startWitness(world, true);
  for (const load of loads) await rateOf(load, WARM_UP_MS);
  const stored = (await witness.read()).filter(({ name }) => name.endsWith('write concern of requests'));
  const settings = [
    ...relayed,
    ...stored,
    ...(await readSettings(relay.client.world, false)),
    ...(await readSettings(world, true)),
  ];
  requireStrong(settings);
  return settings;
}
