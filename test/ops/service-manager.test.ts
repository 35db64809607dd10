import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { createLog } from '../../src/ops/log.ts';
import { Systemd } from '../../src/ops/service-manager.ts';
import type { Log } from '../../src/ops/types.ts';
import { findOnPath } from '../../src/stack/binaries.ts';
import { NotifyLog } from '../support/notify-log.ts';
import { until } from '../support/until.ts';

const quiet = createLog({ level: 'silent' });
const path = process.env['PATH'] ?? '';
t.afterEach(() => {
  process.env['PATH'] = path;
  delete process.env['NOTIFY_SOCKET'];
});

await t.test('what is told while a child runs goes together with the next one', async (t) => {
  const notify = new NotifyLog(t.testdir());
  process.env['PATH'] = `${notify.folder}:${path}`;
  const systemd = new Systemd(null, quiet);
  systemd.tell({ STATUS: 'starting' });
  systemd.tell({ STATUS: 'waits for redis' });
  systemd.tell({ READY: '1', STATUS: 'takes work' });
  await systemd.idle();
  t.same(notify.calls, ['STATUS=starting', 'STATUS=takes work READY=1']);
  systemd.tell({ WATCHDOG: '1' });
  await systemd.idle();
  t.same(notify.calls.slice(2), ['WATCHDOG=1'], 'and what was told once is not told again');
});

await t.test('without the tool it is logged once, and nothing else happens', async (t) => {
  process.env['PATH'] = t.testdir();
  const errors: object[] = [];
  const log: Log = { ...quiet, error: (fields) => void errors.push(fields) };
  const systemd = new Systemd(null, log);
  for (const status of ['a', 'b', 'c']) {
    systemd.tell({ STATUS: status });
    await systemd.idle();
  }
  t.same(errors, [{ code: 'ENOENT' }]);
});

/** Prints every datagram that comes to the socket. Node cannot: its sockets of the unix kind are streams. */
const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    print(s.recv(4096).decode().replace("\\n", " "), flush=True)
`;

const missing = ['systemd-notify', 'python3'].filter((program) => findOnPath(program) === undefined);
const skip = missing.length > 0 && `${missing.join(', ')} not found`;

await t.test("systemd's own tool brings it to a real datagram socket", { skip }, async (t) => {
  // Not in the test's own folder: the path of a socket has 107 letters at most.
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-'));
  const socket = join(folder, 'notify');
  const receiver = spawn('python3', ['-c', RECEIVER, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => {
    receiver.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  });
  let heard = '';
  receiver.stdout.on('data', (chunk) => {
    heard += String(chunk);
  });
  await until(() => heard.includes('bound'), 'the receiver to listen');
  process.env['NOTIFY_SOCKET'] = socket;
  const systemd = new Systemd(30_000, quiet);
  systemd.tell({ READY: '1', STATUS: 'takes work, without mongodb' });
  await until(() => heard.includes('READY=1'), 'the notice');
  t.match(heard, 'STATUS=takes work, without mongodb');
  await systemd.idle();
});
