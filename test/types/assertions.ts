/** True only for two types that are the same, `any` and `unknown` told apart. */
export type Same<One, Other> = (<T>() => T extends One ? 1 : 2) extends <T>() => T extends Other ? 1 : 2 ? true : false;

/** Does not compile unless the type is `true`: `check<Same<typeof value, string>>()`. */
export function check<_Holds extends true>(): void {}
