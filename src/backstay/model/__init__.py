"""Transport to a provider: requests, streams, refusals. The HTTP library loads on the first use."""
