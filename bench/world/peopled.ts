import type { Teardown } from '../../test/support/servers.ts';
import { Child } from '../process/child.ts';
import type { Owner } from '../process/owner.ts';
import type { FleetMethods } from './fleet.ts';
import { makeWorld, nodesOf, type World, type WorldOptions } from './world.ts';

/** Starts the process that plays the workers of all worlds; it ends with `t`. */
export function startFleet({
  t,
  owner,
}: {
  readonly t: Teardown;
  readonly owner: Owner;
}): Child<FleetMethods> {
  const fleet = new Child<FleetMethods>('world/fleet.ts', owner);
  t.after(() => fleet.stop());
  return fleet;
}

/** Makes a world as `makeWorld` does, with its workers: they consume, and have said nothing yet. */
export async function makePeopledWorld(
  t: Teardown,
  fleet: Child<FleetMethods>,
  name: string,
  hasStores: boolean,
  options: WorldOptions = {},
): Promise<World> {
  const world = await makeWorld(t, name, hasStores, options);
  await fleet.call('start', { world: name, nodes: nodesOf(world), config: world.config });
  return world;
}
