import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Block, blocksOf, NOTHING_PLAYED, type Played, playBlock, sumOf } from './block.ts';

/** Seeds that a process is given at once: about a second of work, so that none waits long for the last. */
const BLOCK_SEEDS_MAX = 50;

const PLAYER = fileURLToPath(new URL('player.ts', import.meta.url));

/**
 * Plays all seeds in `processes` processes, because seeds of one process must follow one another. A seed is the same in any process.
 * After the first broken seed no new block begins. `onProgress` hears the sum after each block. Rejects when a process ends early.
 */
export async function playAll(
  all: Block,
  processes: number,
  onProgress: (played: Played) => void = () => undefined,
): Promise<Played> {
  const blocks = blocksOf(all, BLOCK_SEEDS_MAX);
  let sum = NOTHING_PLAYED;
  const playRest = async (play: (block: Block) => Promise<Played>) => {
    for (const block of blocks) {
      const played = await play(block);
      sum = sumOf(sum, played);
      onProgress(sum);
      if (sum.broken !== null) return;
    }
  };
  const count = Math.min(processes, Math.ceil(all.seeds / BLOCK_SEEDS_MAX));
  if (count <= 1) {
    await playRest(playBlock);
    return sum;
  }
  const players = Array.from({ length: count }, () => fork(PLAYER));
  try {
    await Promise.all(players.map((player) => playRest((block) => playIn(player, block))));
  } finally {
    for (const player of players) player.kill();
  }
  return sum;
}

/** Rejects, and says how, when the process ends before it answers. */
async function playIn(player: ChildProcess, block: Block): Promise<Played> {
  const answer = Promise.withResolvers<Played>();
  const onExit = (code: number | null, signal: string | null) =>
    answer.reject(
      new Error(
        `a process of the simulation ended early, with ${signal ?? code}, in seeds ${block.firstSeed} to ${block.firstSeed + block.seeds - 1}`,
      ),
    );
  player.once('exit', onExit);
  player.once('message', answer.resolve);
  try {
    player.send(block);
    return await answer.promise;
  } finally {
    player.off('exit', onExit);
    player.off('message', answer.resolve);
  }
}
