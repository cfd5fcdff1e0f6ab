"""NetworkPolicies as typed values, and what they allow: pure, for whoever plans, proves or watches."""
