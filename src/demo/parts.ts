import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../clock.ts';
import { type Child, type Nursery, startDaemon, startProgram } from './child.ts';
import { fetchMetrics } from './daemon-metrics.ts';
import type { FleetNode } from './programs.ts';
import type { NodeLogin } from './provision.ts';
import type { DemoSettings } from './settings.ts';
import type { World } from './world.ts';

/** The processes of a run. */
export interface Parts {
  readonly daemon: Child;
  readonly fleet: Child;
  readonly model: Child;
  /** Where the coordinator's HTTP answers. */
  readonly httpUrl: string;
  /** The workers' own logs, for the audit. */
  readonly workerLogs: readonly string[];
}

/** Answers of the model server: tokens per second, and milliseconds to the first one. Quick, and not at once. */
const TOKENS_PER_SECOND = 300;
const FIRST_TOKEN_MS = 40;

const FLEET_MS_MAX = 20_000;
const POLL_MS = 50;

/**
 * Starts the coordinator (`tollgate serve`), the model server and the workers, each in a process of its own; resolves when every
 * worker is known to the coordinator. `defer` is told how to end each.
 */
export async function startParts(
  world: World,
  { config, environment }: DemoSettings,
  nodes: readonly NodeLogin[],
  nursery: Nursery,
  defer: (end: () => Promise<unknown>) => void,
): Promise<Parts> {
  const { small, large, unpriced } = world;
  const begun = <T extends { readonly child: Child }>(started: T): T => {
    defer(() => started.child.stop());
    return started;
  };
  const models = [small, large, unpriced].map(({ name }) => name);
  const concurrency = world.nodes.reduce((slots, node) => slots + node.slots, 0);
  const options = { models, tokensPerSecond: TOKENS_PER_SECOND, firstTokenMs: FIRST_TOKEN_MS, concurrency };
  const [daemon, model] = await Promise.all([
    startDaemon(environment, nursery).then(begun),
    startProgram('model-process.ts', options, nursery).then(begun),
  ]);
  const fleetNodes = nodes.map((login) => fleetNodeOf(login, world, model.answer.url, nursery.folder));
  const { connectTimeoutMs, reconnectDelayMsMax } = config.servers;
  const { heartbeatMs } = config.fleet;
  const input = {
    nodes: fleetNodes,
    broker: config.broker,
    connectTimeoutMs,
    reconnectDelayMsMax,
    heartbeatMs,
  };
  const fleet = await startProgram('fleet.ts', input, nursery).then(begun);
  await allKnown(world, daemon.httpUrl);
  return {
    daemon: daemon.child,
    fleet: fleet.child,
    model: model.child,
    httpUrl: daemon.httpUrl,
    workerLogs: fleetNodes.map(({ logFile }) => logFile),
  };
}

function fleetNodeOf(login: NodeLogin, world: World, url: string, folder: string): FleetNode {
  const node = world.nodes.find(({ id }) => id === login.id);
  return {
    ...login,
    slots: node?.slots ?? 1,
    models: (node?.models ?? []).map((name) => ({ name, url })),
    logFile: join(folder, `worker-${login.id}.log`),
  };
}

/** Waits until every pool has as many workers as nodes were registered for it. */
async function allKnown({ nodes }: World, httpUrl: string): Promise<void> {
  const wanted = Map.groupBy(
    nodes.flatMap(({ models }) => models),
    (model) => model,
  );
  const endMs = systemClock.monotonicMs() + FLEET_MS_MAX;
  for (;;) {
    const { workers } = await fetchMetrics(httpUrl, []);
    if ([...wanted].every(([model, all]) => workers.get(model) === all.length)) return;
    if (systemClock.monotonicMs() > endMs)
      throw new Error(`the workers are not known to the coordinator after ${FLEET_MS_MAX} ms`);
    await sleep(POLL_MS);
  }
}
