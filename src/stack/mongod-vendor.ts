import { DryMongoBinary, MongoBinary } from 'mongodb-memory-server-core';
import { MongoBinaryDownloadUrl } from 'mongodb-memory-server-core/lib/util/MongoBinaryDownloadUrl.js';

/**
 * Fetches mongod from its vendor into the folder given as argument. A program of its own, because the package prints its
 * progress on standard output and goes on trying a host that nobody can reach for minutes. Exits 1 when the vendor does not
 * answer within 10 s, or when the download fails.
 */
const REACH_MS_MAX = 10_000;

const downloadDir = process.argv[2];
if (downloadDir === undefined) throw new Error('usage: mongod-vendor <folder>');

try {
  const options = { ...(await DryMongoBinary.generateOptions({ downloadDir })), checkMD5: true };
  const url = await new MongoBinaryDownloadUrl(options).getDownloadUrl();
  const signal = AbortSignal.timeout(REACH_MS_MAX);
  const answer = await fetch(url, { method: 'HEAD', signal }).catch((error: unknown) => {
    throw new Error('its vendor cannot be reached from here', { cause: error });
  });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  await MongoBinary.getPath(options);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
