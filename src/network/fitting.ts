import { poolName } from '../contracts/names.ts';
import { type Refusal, refusal } from '../errors.ts';
import type { Node, Wanted } from './types.ts';

/** What a node's record must say before its worker is asked, in the order in which it is looked at. */
export const RECORD_FILTERS = ['registered', 'model', 'region', 'vram'] as const;
export type RecordFilter = (typeof RECORD_FILTERS)[number];

/** The name of the pool where jobs with this constraint wait. */
export function poolOfWanted({ model, region, vramGb }: Wanted): string {
  return poolName(model, { region, vramGbMin: vramGb });
}

/** The first filter that the node's record does not pass, or null: its worker may be asked. */
export function recordFault(node: Node, wanted: Wanted): RecordFilter | null {
  if (node.lifecycle === 'retired') return 'registered';
  if (!node.models.has(wanted.model)) return 'model';
  if (wanted.region !== null && node.region !== wanted.region) return 'region';
  if (wanted.vramGb !== null && (node.vramGb ?? 0) < wanted.vramGb) return 'vram';
  return null;
}

/** Why none of `nodes` could ever run what is wanted, as a refusal that names the constraint; null if one could. */
export function misfitOf(nodes: readonly Node[], wanted: Wanted): Refusal | null {
  const { model, region, vramGb } = wanted;
  const serving = nodes.filter(
    (node) => recordFault(node, { ...wanted, region: null, vramGb: null }) === null,
  );
  const inRegion = serving.filter((node) => region === null || node.region === region);
  if (inRegion.some((node) => recordFault(node, wanted) === null)) return null;
  if (region !== null && inRegion.length === 0) {
    const isKnown = nodes.some((node) => node.lifecycle !== 'retired' && node.region === region);
    if (!isKnown) return refusal('TG_REGION_UNKNOWN', 'constraints.region', region);
    const detail = `none of the ${serving.length} nodes of ${model} is in ${region}`;
    return refusal('TG_NO_NODE_FITS', 'constraints.region', detail);
  }
  const where = region === null ? '' : ` in ${region}`;
  const detail = `none of the ${inRegion.length} nodes of ${model}${where} has ${vramGb} GB`;
  return refusal('TG_NO_NODE_FITS', 'constraints.vram_gb_min', detail);
}
