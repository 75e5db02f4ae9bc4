"""resa-hub: extract, attach, share and judge reasoning adapters."""
