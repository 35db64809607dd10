/**
 * Loaded first into every program that scripts/launch.mjs starts. The launcher holds the other end of our channel: when it
 * is gone, killed perhaps, this program ends as if it had been asked to, and by force if that takes too long.
 */
const END_MS_MAX = 60_000;

process.once('disconnect', () => {
  process.kill(process.pid, 'SIGTERM');
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), END_MS_MAX).unref();
});
// The channel is no reason to go on.
process.channel?.unref();
