import { type Block, playBlock } from './block.ts';

/** A process that plays the blocks its parent sends, one at a time, and ends with it. */
process.on('message', (block: Block) => {
  void playBlock(block).then((played) => process.send?.(played));
});
// Its parent's launcher is inherited and lets go of the channel; to this process it is the reason to go on.
process.channel?.ref();
