"""From attempt logs to metrics, from metrics to comparisons, from comparisons to tables, figures and the page."""
