/** What to do where something does not exist on the broker: completes "…; ". */
export const DECLARE_IT = 'create it with declare: "create" at start, or with "anybroker topology create"';
