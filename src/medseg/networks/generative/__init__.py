"""Networks that generate masks."""
