import { createHash } from "node:crypto";
import type { Script } from "./client.ts";

// A record is a string that expires: `c` (claimed) or `d` (done), and the token. Time is the server's throughout: how
// long is told to it, when that is over it decides. A client that lost the answer sends a command again by itself, so
// each script answers a second call with the same token as it did the first.

/** Answers -1 for claimed, -2 for done, or for how many milliseconds more somebody holds the key. */
export const CLAIM = script(`
local held = redis.call('GET', KEYS[1])
if held and held ~= 'c' .. ARGV[1] then
  if string.sub(held, 1, 1) == 'd' then return -2 end
  return math.max(redis.call('PTTL', KEYS[1]), 0)
end
redis.call('SET', KEYS[1], 'c' .. ARGV[1], 'PX', ARGV[2])
return -1`);

/** Answers 1, or 0 for lost. */
export const RENEW = script(`
if redis.call('GET', KEYS[1]) ~= 'c' .. ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`);

/** Answers 1, or 0 for lost. */
export const COMPLETE = script(`
local held = redis.call('GET', KEYS[1])
if held ~= 'c' .. ARGV[1] and held ~= 'd' .. ARGV[1] then return 0 end
redis.call('SET', KEYS[1], 'd' .. ARGV[1], 'PX', ARGV[2])
return 1`);

/** Answers 1, or 0 for lost. */
export const RELEASE = script(`
if redis.call('GET', KEYS[1]) ~= 'c' .. ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`);

function script(source: string): Script {
  return { source, sha1: createHash("sha1").update(source).digest("hex") };
}
