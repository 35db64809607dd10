import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { healthRoutes } from '../../src/api/health-routes.ts';
import { HttpServer } from '../../src/api/http.ts';
import { systemClock } from '../../src/clock.ts';
import { loadConfig } from '../../src/config.ts';
import { Health } from '../../src/ops/health.ts';
import { createLog } from '../../src/ops/log.ts';
import { PrometheusMetrics } from '../../src/ops/metrics.ts';
import type { Teardown } from '../support/servers.ts';

const quiet = createLog({ level: 'silent' });
const config = { ...loadConfig({ env: {}, needs: [] }).http, port: 0, readyCacheMs: 0 };

/** A handler with a fault. */
const broken = () => Promise.reject(new Error('x'));

/** A running server on a free port with `/livez`, `/readyz`, `/metrics` and one path that fails. */
async function running(t: Teardown, overrides: Partial<typeof config> = {}) {
  const state = { isOk: true };
  const all = { ...config, ...overrides };
  const health = new Health(all, systemClock, [
    { name: 'postgres', isRequired: true, check: () => ({ isOk: state.isOk, detail: 'no connection' }) },
  ]);
  const routes = { ...healthRoutes(health, new PrometheusMetrics()), '/broken': broken };
  const server = new HttpServer(all, quiet, routes);
  await server.start();
  t.after(() => server.stop());
  return { server, health, state, url: server.url };
}

async function getJson(
  url: string,
  method = 'GET',
): Promise<{ status: number; body: unknown; headers: Headers }> {
  const response = await fetch(url, { method });
  const body = await response.text();
  return { status: response.status, headers: response.headers, body: body === '' ? null : JSON.parse(body) };
}

/** Sends raw bytes and returns all that comes back until the server closes. */
async function raw(url: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.write(bytes);
  return text(socket);
}

await t.test('livez answers while the process turns, whatever the servers do', async (t) => {
  const { url, state } = await running(t);
  state.isOk = false;
  t.match(await getJson(`${url}/livez`), { status: 200, body: { status: 'ok' } });
});

await t.test('readyz says 503 and what it waits for, and lists the checks when asked', async (t) => {
  const { url, state, health } = await running(t);
  t.match(await getJson(`${url}/readyz`), { status: 200, body: { status: 'ready', waiting_for: [] } });
  state.isOk = false;
  t.match(await getJson(`${url}/readyz`), {
    status: 503,
    body: { status: 'not ready', waiting_for: ['postgres'] },
  });
  t.match(await getJson(`${url}/readyz?verbose`), {
    status: 503,
    body: { checks: [{ name: 'postgres', required: true, ok: false, detail: 'no connection' }] },
  });
  state.isOk = true;
  health.drain();
  t.match(await getJson(`${url}/readyz`), { status: 503, body: { waiting_for: ['drain'] } });
});

await t.test('metrics come in the text format of Prometheus', async (t) => {
  const { url } = await running(t);
  const response = await fetch(`${url}/metrics`);
  t.equal(response.status, 200);
  t.match(response.headers.get('content-type'), 'text/plain; version=0.0.4');
  t.match(await response.text(), /^tollgate_jobs_received_total 0$/m);
});

await t.test('what is not there is refused with a code', async (t) => {
  const { url } = await running(t);
  for (const path of ['/', '/metrics/', '/toString', '/__proto__', '/..%2fetc%2fpasswd'])
    t.match(
      await getJson(url + path),
      { status: 404, body: { code: 'TG_NOT_FOUND', message: String } },
      path,
    );
  const refused = await getJson(`${url}/metrics`, 'POST');
  t.match(refused, { status: 405, body: { code: 'TG_HTTP_METHOD' } });
  t.equal(refused.headers.get('allow'), 'GET, HEAD');
  t.match(await getJson(`${url}/broken`), { status: 500, body: { code: 'TG_INTERNAL_ERROR' } });
});

await t.test('HEAD answers the head of GET', async (t) => {
  const { url } = await running(t);
  const response = await fetch(`${url}/livez`, { method: 'HEAD' });
  t.equal(response.status, 200);
  t.equal(await response.text(), '');
  t.ok(Number(response.headers.get('content-length')) > 0);
});

await t.test('a head that is too long or no HTTP at all is answered and closed', async (t) => {
  const { url } = await running(t, { headerBytesMax: 1_024 });
  t.match(
    await raw(url, `GET /livez HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(4_096)}\r\n\r\n`),
    /^HTTP\/1\.1 431 /,
  );
  t.match(await raw(url, 'nonsense\r\n\r\n'), /^HTTP\/1\.1 400 /);
  t.match(await getJson(`${url}/livez`), { status: 200 }, 'and the server goes on');
});

await t.test('a request that never ends is cut', async (t) => {
  const { url } = await running(t, { requestMsMax: 100 });
  const begunMs = performance.now();
  t.match(await raw(url, 'GET /livez HTTP/1.1\r\nhost:'), /^(HTTP\/1\.1 4|$)/);
  t.ok(performance.now() - begunMs < 5_000);
});

await t.test('stopping twice, or before the start, is allowed, and a taken port is an error', async (t) => {
  const { server, url } = await running(t);
  const second = new HttpServer({ ...config, port: Number(new URL(url).port) }, quiet, {});
  await t.rejects(second.start(), { code: 'EADDRINUSE' });
  await second.stop();
  await server.stop();
  await server.stop();
  await t.rejects(fetch(`${url}/livez`));
  const never = new HttpServer(config, quiet, {});
  await never.stop();
});
