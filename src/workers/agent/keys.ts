import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { ConfigError, TollgateError } from '../../errors.ts';

/** Length of a raw Ed25519 public key, in bytes. Source: RFC 8032. */
const PUBLIC_KEY_BYTES = 32;

/** Makes the identity key of a node (Ed25519, private). */
export function generateNodeKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey;
}

/**
 * Writes `key` as PKCS #8 PEM, readable by its owner only. Never overwrites: throws `TG_ALREADY_EXISTS` where there is a file,
 * because a node whose key is lost must be registered anew.
 */
export async function writeNodeKey(path: string, key: KeyObject): Promise<void> {
  try {
    await writeFile(path, key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if (hasCode(error, 'EEXIST')) throw new TollgateError('TG_ALREADY_EXISTS', `key file ${path}`);
    throw new ConfigError([`key file ${path} cannot be written: ${codeOf(error)}`]);
  }
}

/** Reads what `writeNodeKey` wrote. Throws ConfigError if it is missing, open to others, or no Ed25519 private key. */
export async function readNodeKey(path: string): Promise<KeyObject> {
  let pem: string;
  let mode: number;
  try {
    pem = await readFile(path, 'utf8');
    mode = (await stat(path)).mode;
  } catch (error) {
    throw new ConfigError([`key file ${path} cannot be read: ${codeOf(error)}`]);
  }
  if ((mode & 0o077) !== 0) throw new ConfigError([`key file ${path} is open to others: chmod 600 ${path}`]);
  return parseNodeKey(pem, `key file ${path}`);
}

/** Takes an Ed25519 private key from PEM; `where` names it in the ConfigError that anything else throws. */
export function parseNodeKey(pem: string, where: string): KeyObject {
  let key: KeyObject | null = null;
  try {
    key = createPrivateKey(pem);
  } catch {
    // Said below, without the reason: OpenSSL's words would not help, and the key itself must not be quoted.
  }
  if (key?.asymmetricKeyType !== 'ed25519')
    throw new ConfigError([`${where} holds no Ed25519 private key in PEM`]);
  return key;
}

/** The raw 32 bytes of the public key, as `identity` and `network` store it. Takes the private or the public key. */
export function rawPublicKey(key: KeyObject): Buffer {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
}

/** The key object of a raw public key. Throws ConfigError unless it has 32 bytes. */
export function publicKeyFromRaw(raw: Buffer): KeyObject {
  if (raw.length !== PUBLIC_KEY_BYTES)
    throw new ConfigError([`a raw Ed25519 public key has ${PUBLIC_KEY_BYTES} bytes, not ${raw.length}`]);
  return createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') },
    format: 'jwk',
  });
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
}

function hasCode(error: unknown, code: string): boolean {
  return codeOf(error) === code;
}
