"""The heavy wing: here, and only here and in the tiny family's training program, torch is imported at module level."""
