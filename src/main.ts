import { explainRoutes } from './api/explain-routes.ts';
import { healthRoutes } from './api/health-routes.ts';
import { HttpServer } from './api/http.ts';
import { systemClock } from './clock.ts';
import type { Config } from './config-schema.ts';
import { type Decorate, onlyStop } from './daemon/base.ts';
import { explaining } from './daemon/explaining.ts';
import { maintenanceOf } from './daemon/maintenance-tasks.ts';
import { assemble } from './daemon/parts.ts';
import { connectStores } from './daemon/stores.ts';
import { exposeGauges, watchOver } from './observe.ts';
import { Lifecycle } from './ops/lifecycle.ts';
import { createLog } from './ops/log.ts';
import { PrometheusMetrics } from './ops/metrics.ts';
import type { ServiceManager } from './ops/service-manager.ts';
import type { Log, Service } from './ops/types.ts';

/** A running coordinator. `stop` drains: nothing new is taken, what is under way ends, the rest goes back to the broker. */
export interface Daemon extends Service {
  /** Where `/metrics`, `/livez` and `/readyz` answer. */
  readonly httpUrl: string;
  /** What is in hand at this moment, for the log of a stop that is cut short; the broker keeps all of it. */
  left(): Readonly<Record<string, number | readonly string[]>>;
}

/** Milliseconds that all parts together may take to stop after the drain. */
const STOP_GRACE_MS = 10_000;

/**
 * Puts one coordinator together and starts it. This is the only place that knows all the parts; read it as the list of them.
 * Resolves when it takes work. Rejects if PostgreSQL or RabbitMQ does not answer or the schema is not the one this version
 * needs; Redis and MongoDB may come later, and `/readyz?verbose` says what is awaited. `signal` aborts the start. Logs to
 * standard output unless `log` is given. `decorate` is for `npm run chaos`, which puts failpoints into the seams; no service has one.
 * `manager` is told when it is ready, that it lives, and that it stops.
 */
export async function runDaemon(
  config: Config,
  options: { signal?: AbortSignal; log?: Log; manager?: ServiceManager | null; decorate?: Decorate } = {},
): Promise<Daemon> {
  const decorate: Decorate = options.decorate ?? ((_name, seam) => seam);
  const clock = decorate('clock', systemClock);
  const log = options.log ?? createLog(config.log);
  const metrics = new PrometheusMetrics();
  const base = { config, clock, log, metrics, decorate };
  const stores = connectStores(base);
  const parts = assemble(base, stores);
  const maintenance = maintenanceOf(base, stores);
  const depths = (queues: readonly string[]) => stores.topology.depths(queues);
  const seen = { ...parts, ...base, manager: options.manager ?? null, depths };
  const { backlog, watch } = watchOver(seen, stopMsMax(config));
  exposeGauges(metrics, stores, { ...parts, maintenance, backlog, watch });
  const http = new HttpServer(config.http, log, {
    ...healthRoutes(parts.health, metrics),
    ...explainRoutes(explaining(base, stores, parts)),
  });

  const lifecycle = new Lifecycle(
    [
      // The last to stop: the watchdog is fed while the others drain.
      { name: 'watch', service: watch },
      { name: 'http', service: http },
      ...stores.services,
      { name: 'replies', service: onlyStop(() => parts.replier.close()) },
      { name: 'retry alarms', service: parts.alarms },
      { name: 'maintenance', service: maintenance },
      { name: 'results', service: parts.results },
      { name: 'node queues', service: parts.nodeQueues },
      { name: 'fleet', service: parts.fleet },
      { name: 'sweeps', service: parts.sweeps },
      { name: 'limits', service: parts.cutOff },
      { name: 'job line', service: onlyStop(() => parts.line.stop()) },
      { name: 'cancellations', service: parts.cancels },
      { name: 'unroutable jobs', service: parts.unroutable },
      { name: 'expired jobs', service: parts.expired },
      { name: 'pools', service: parts.pools },
      { name: 'backlog', service: backlog },
      { name: 'stage patience', service: onlyStop(async () => parts.stages.stopAfter(config.line.drainMs)) },
      { name: 'readiness', service: onlyStop(async () => parts.health.drain()) },
      { name: 'service manager', service: onlyStop(async () => watch.drain()) },
    ],
    log,
    stopMsMax(config),
  );
  options.signal?.addEventListener('abort', () => void lifecycle.stop().catch(() => undefined), {
    once: true,
  });
  await lifecycle.start();
  log.info({ http: http.url }, 'serving');
  watch.serving();
  const left = () => ({
    services: lifecycle.left,
    jobsWaiting: parts.line.waiting,
    jobsInFlight: parts.line.inFlight,
    resultsWaiting: parts.results.waiting,
    replies: parts.replier.pending,
  });
  return { start: () => lifecycle.start(), stop: () => lifecycle.stop(), httpUrl: http.url, left };
}

/** Milliseconds that a stop may take altogether. */
function stopMsMax(config: Config): number {
  return config.line.drainMs + STOP_GRACE_MS;
}
