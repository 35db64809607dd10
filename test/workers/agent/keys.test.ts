import { sign, verify } from 'node:crypto';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import {
  generateNodeKey,
  parseNodeKey,
  publicKeyFromRaw,
  rawPublicKey,
  readNodeKey,
  writeNodeKey,
} from '../../../src/workers/agent/keys.ts';

await t.test('a key that was written is read again, and its public half verifies', async (t) => {
  const path = join(t.testdir(), 'node.pem');
  const key = generateNodeKey();
  await writeNodeKey(path, key);
  t.equal((await stat(path)).mode & 0o777, 0o600);
  const again = await readNodeKey(path);
  const raw = rawPublicKey(again);
  t.equal(raw.length, 32);
  t.same(raw, rawPublicKey(key));
  const bytes = Buffer.from('a flush');
  t.ok(verify(null, bytes, publicKeyFromRaw(raw), sign(null, bytes, key)));
  t.notOk(verify(null, bytes, publicKeyFromRaw(rawPublicKey(generateNodeKey())), sign(null, bytes, key)));
  t.same(rawPublicKey(publicKeyFromRaw(raw)), raw);
});

await t.test('the raw form is that of RFC 8032, test 1', async (t) => {
  // The PKCS #8 envelope of RFC 8410 around the secret key of the vector.
  const secret = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
  const der = Buffer.from(`302e020100300506032b657004220420${secret}`, 'hex').toString('base64');
  const key = parseNodeKey(`-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`, 'the vector');
  t.equal(
    rawPublicKey(key).toString('hex'),
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
  );
});

await t.test('a key file is never overwritten', async (t) => {
  const path = join(t.testdir({ 'node.pem': 'the only copy' }), 'node.pem');
  await t.rejects(writeNodeKey(path, generateNodeKey()), { code: 'TG_ALREADY_EXISTS' });
  t.equal(await readFile(path, 'utf8'), 'the only copy');
  await t.rejects(writeNodeKey(join(path, 'x'), generateNodeKey()), { code: 'TG_CONFIG_INVALID' });
});

await t.test('a key file that is missing, open to others or something else is refused', async (t) => {
  const folder = t.testdir({
    'open.pem': '',
    'rsa.pem': '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
  });
  await chmod(join(folder, 'rsa.pem'), 0o600);
  await writeFile(join(folder, 'open.pem'), '', { mode: 0o644 });
  await chmod(join(folder, 'open.pem'), 0o644);
  await t.rejects(readNodeKey(join(folder, 'none.pem')), { message: /cannot be read: ENOENT/ });
  await t.rejects(readNodeKey(join(folder, 'open.pem')), { message: /chmod 600/ });
  await t.rejects(readNodeKey(join(folder, 'rsa.pem')), { message: /no Ed25519 private key/ });
  t.throws(() => publicKeyFromRaw(Buffer.alloc(31)), { code: 'TG_CONFIG_INVALID' });
});
