"""How an adapter is made: the plan, its inputs and costs, the run, sweeps, and making it again."""
