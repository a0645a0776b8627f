"""From a site's traffic to the next adapter: steps, gate, experiment, and a record of them."""
