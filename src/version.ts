import { readFileSync } from 'node:fs';

/** This package's version, from package.json; the same path holds in `src` and in `dist`. */
export const VERSION: string = (() => {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  const isManifest = typeof manifest === 'object' && manifest !== null && 'version' in manifest;
  return isManifest ? String(manifest.version) : 'unknown';
})();
