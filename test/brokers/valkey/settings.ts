/** What differs from the server's defaults: what it answered is on disk, so that a kill loses nothing. */
export const VALKEY_SETTINGS = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"] as const;
