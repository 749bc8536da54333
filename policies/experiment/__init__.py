"""Live tests inside a router: who is in which variant, and the policy that sends each payment to its variant's."""
