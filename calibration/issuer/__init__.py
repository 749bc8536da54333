"""The issuer's decision, fitted: approval by comparable payments, shared states, codes and recovery."""
