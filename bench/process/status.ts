/**
 * Exit statuses of the bench: it could not be measured; a wrong command line; runs that were disturbed or are missing, so that a
 * figure is not shown; a setting that is weaker than the report would claim.
 */
export const STATUS = { impossible: 1, usage: 2, disturbed: 3, weak: 4 } as const;
