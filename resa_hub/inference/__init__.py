"""How an adapter is used: attached with proof of effect, verified, exchanged with other formats."""
