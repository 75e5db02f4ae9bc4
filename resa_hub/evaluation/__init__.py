"""From answers to a verdict: the arms of a comparison, their samples, the statistics and the report. No torch here."""
