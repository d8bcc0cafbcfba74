"""Questions and yes/no examples: readers, sources, splits, wrong answers, and judging."""
