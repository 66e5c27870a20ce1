"""Proof that what the template generates works: every test looks at a baked service."""
