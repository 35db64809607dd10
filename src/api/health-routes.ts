import type { Health } from '../ops/health.ts';
import type { HttpRoutes } from './http.ts';

/** What `/metrics` shows. */
export interface MetricsText {
  text(): Promise<string>;
  readonly contentType: string;
}

/**
 * `/livez`: the event loop turns, and nothing else is asked, because a restart cures no dependency. `/readyz`: 200 when the
 * process takes work, else 503 with what it waits for; `?verbose` lists every check. `/metrics`: for Prometheus.
 */
export function healthRoutes(health: Health, metrics: MetricsText): HttpRoutes {
  return {
    '/livez': () => ({ status: 200, body: { status: 'ok' } }),
    '/readyz': async (query) => {
      const { isReady, waitingFor, degraded, checks } = await health.readiness();
      const summary = {
        status: isReady ? (degraded.length > 0 ? 'degraded' : 'ready') : 'not ready',
        waiting_for: waitingFor,
        degraded,
      };
      const list = checks.map(({ name, isRequired, isOk, detail }) => ({
        name,
        required: isRequired,
        ok: isOk,
        detail,
      }));
      return {
        status: isReady ? 200 : 503,
        body: query.has('verbose') ? { ...summary, checks: list } : summary,
      };
    },
    '/metrics': async () => ({ status: 200, body: await metrics.text(), contentType: metrics.contentType }),
  };
}
