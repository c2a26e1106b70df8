"""Laws that samples are drawn from, and what is known of a loss before a sample is seen."""
