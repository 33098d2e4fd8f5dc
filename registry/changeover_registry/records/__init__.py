"""All records of Changeover, as frozen values with one canonical byte form each."""
