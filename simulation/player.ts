import { type Block, playBlock } from './block.ts';

/** A process that plays the blocks its parent sends, one at a time, and ends with it. */
process.on('message', (block: Block) => {
  void playBlock(block).then((played) => process.send?.(played));
});
